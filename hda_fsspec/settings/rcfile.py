"""User and password in a file of ``key: value`` lines, as the official client reads it too."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shlex
import stat
from collections.abc import Callable, Mapping
from pathlib import Path

from hda_fsspec.concurrency.forks import ForkLock
from hda_fsspec.errors import ConfigurationError
from hda_fsspec.untrusted_files import UntrustedFileError, read_all, reader_of

logger = logging.getLogger("hda_fsspec")

#: A mode that lets others in.
_OTHERS = 0o077
_PRIVATE_MODE = 0o600
_MOST_LINKS = 20

_lock = ForkLock()
_known: dict[Path, tuple[tuple[int, int, int], dict[str, str]]] = {}
_told: set[Path] = set()


def read_rc(path: Path) -> dict[str, str]:
    """Read ``user`` and ``password`` from a ``key: value`` file; none where there is no file.

    A ``url`` line is ignored with one log line, since many such files hold addresses of services
    that are gone. The file is read again when it has changed. That others can read a password in it
    is told once; see :func:`tell_exposure`.

    Raises
    ------
    ConfigurationError
        The file is there but cannot be read, or is a folder, a FIFO or a device.
    """
    try:
        facts = path.stat()
        stamp = (facts.st_mtime_ns, facts.st_size, facts.st_ino)
        with _lock:
            known = _known.get(path)
        if known is not None and known[0] == stamp:
            return known[1]
        found = _parse(path, _text(path))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except UntrustedFileError as err:
        msg = f"Cannot read user and password from {path}: {err} Or set HDA_USER and HDA_PASSWORD."
        raise ConfigurationError(msg) from err
    except (OSError, UnicodeDecodeError) as err:
        msg = (
            f"Cannot read user and password from {path}: {err}. Correct the file or its mode, or "
            "name another one in HDA_RC."
        )
        raise ConfigurationError(msg) from err
    if "password" in found:
        tell_exposure(path)
    with _lock:
        _known[path] = (stamp, found)
    return found


def write_rc(path: Path, values: Mapping[str, str]) -> Path:
    """Set keys of a ``key: value`` file, keep its other lines, and make it private.

    It is replaced as a whole, never written through. A link of the user's own is followed, since
    many keep such files elsewhere: the file behind it is replaced, if it is one of such lines.

    Returns
    -------
    Path
        The file that was written.

    Raises
    ------
    ConfigurationError
        What lies there cannot be read or is no such file, or it is a link of somebody else's.
    OSError
        It cannot be written.
    """
    try:
        target = _behind_links(path)
        lines = _text(target).splitlines()
    except FileNotFoundError:
        lines = []
    except (OSError, UnicodeDecodeError) as err:
        raise _not_written(path, str(err)) from err
    if target != path and not all(map(_is_of_rc, lines)):
        raise _not_written(path, f"it is a link to {target}, which holds other than such lines")
    text = "".join(f"{line}\n" for line in _with_values(lines, values))
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}.tmp")
    # Private from its first byte on, whatever the umask.
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE_MODE)
    try:
        with open(descriptor, "w", encoding="utf-8") as handle:  # noqa: PTH123  (a descriptor)
            os.fchmod(descriptor, _PRIVATE_MODE)
            handle.write(text)
            handle.flush()
            os.fsync(descriptor)
        temporary.replace(target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        raise
    return target


def _behind_links(path: Path) -> Path:
    """Return the file that a path leads to; ConfigurationError for a link of somebody else's."""
    target = path
    for _ in range(_MOST_LINKS):
        try:
            facts = target.lstat()
        except FileNotFoundError:
            return target
        if not stat.S_ISLNK(facts.st_mode):
            return target
        if facts.st_uid != os.geteuid():
            raise _not_written(path, f"{target} is a link that belongs to another user")
        target = target.parent / target.readlink()
    raise _not_written(path, "it is a link without end")


def _is_of_rc(line: str) -> bool:
    return not line.strip() or ":" in line or line.lstrip().startswith("#")


def _not_written(path: Path, why: str) -> ConfigurationError:
    msg = (
        f"Cannot write user and password into {path}: {why}. Nothing was written. Look at it, and"
        f" remove it (rm {shlex.quote(os.fspath(path))}) or set HDA_RC to another file."
    )
    return ConfigurationError(msg)


def _text(path: Path) -> str:
    with reader_of(path) as handle:
        return read_all(handle, path).decode("utf-8-sig")


def exposure(path: Path) -> str | None:
    """Return what to say of a file that others can read or change, None of one that they cannot.

    Raises OSError if it is not there.
    """
    mode = stat.S_IMODE(path.stat().st_mode)
    if not mode & _OTHERS:
        return None
    return (
        f"{path} holds a password, and others on this machine can read or change it (mode"
        f" {mode:04o}). Run: {chmod_line(path)}"
    )


def chmod_line(path: Path) -> str:
    """Return the line that makes a file private, to be pasted into a shell."""
    return f"chmod 600 {shlex.quote(os.fspath(path))}"


def tell_exposure(path: Path, *, say: Callable[[str], object] = logger.warning) -> None:
    """Say once of each file that others can read it, if they can; in the log, if not elsewhere."""
    if path in _told:
        return
    try:
        message = exposure(path)
    except OSError:
        return  # gone in this moment: there is nothing to read any more
    if message is not None:
        _told.add(path)
        say(message)


def _parse(path: Path, text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        key, value = key.strip(), value.strip()
        if not colon or not value or key.startswith("#"):
            continue
        if key in {"user", "password"}:
            found[key] = value
        elif key == "url":
            logger.info(
                "The url line of %s is ignored: only user and password are read from it. "
                "Give endpoint_url, or set HDA_URL, to use another broker.",
                path,
            )
    return found


def _with_values(lines: list[str], values: Mapping[str, str]) -> list[str]:
    left = dict(values)
    result = []
    for line in lines:
        key = line.partition(":")[0].strip()
        if ":" not in line or key not in values:
            result.append(line)
        elif key in left:
            result.append(f"{key}: {left.pop(key)}")
    return result + [f"{key}: {value}" for key, value in left.items()]
