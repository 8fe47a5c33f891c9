"""User and password in a file of ``key: value`` lines, as the official client reads it too."""

from __future__ import annotations

import logging
from pathlib import Path

from hda_fsspec.errors import ConfigurationError
from hda_fsspec.forks import ForkLock

logger = logging.getLogger("hda_fsspec")

_lock = ForkLock()
_known: dict[Path, tuple[tuple[int, int, int], dict[str, str]]] = {}


def read_rc(path: Path) -> dict[str, str]:
    """Read ``user`` and ``password`` from a ``key: value`` file; none where there is no file.

    A ``url`` line is ignored with one log line, since many such files hold addresses of services
    that are gone. The file is read again when it has changed.

    Raises
    ------
    ConfigurationError
        The file is there but cannot be read.
    """
    try:
        stat = path.stat()
        stamp = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        with _lock:
            known = _known.get(path)
        if known is not None and known[0] == stamp:
            return known[1]
        text = path.read_text(encoding="utf-8-sig")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, UnicodeDecodeError) as err:
        msg = (
            f"Cannot read user and password from {path}: {err}. Correct the file or its mode, or "
            "name another one in HDA_RC."
        )
        raise ConfigurationError(msg) from err
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
    with _lock:
        _known[path] = (stamp, found)
    return found
