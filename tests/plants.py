"""What a neighbour may plant in a folder that they can write to, and what must stay as it was."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

#: Accounts and a group of no name; nothing else runs as them.
ANN, BOB, TEAM = 64001, 64002, 64003


class Victim:
    """Private files beside a cache, three folders deep, as a cache has its products."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "ab" / "secret" / "v1" / "secret.nc"
        self.file.parent.mkdir(parents=True)
        self.file.write_bytes(b"CDF\x01 a private file, which nobody else may read or change")
        self.file.chmod(0o600)
        for each in (folder, folder / "ab", folder / "ab" / "secret", self.file.parent):
            each.chmod(0o700)
        self._before = state_of(folder)

    def check(self) -> None:
        """Fail if anything of it was changed, or anything was added."""
        assert state_of(self.folder) == self._before


def state_of(folder: Path) -> dict[str, object]:
    """Return names, owners, modes, times of change and contents of all that is in a folder."""
    found: dict[str, object] = {}
    for path in [folder, *sorted(folder.rglob("*"))]:
        facts = path.lstat()
        content = path.read_bytes() if stat.S_ISREG(facts.st_mode) else None
        told = (facts.st_mode, facts.st_uid, facts.st_gid, facts.st_mtime_ns, facts.st_nlink)
        found[os.fspath(path.relative_to(folder))] = (told, content)
    return found


def _socket(path: Path, _: Victim) -> None:
    # A path of a socket has at most some 100 characters.
    with socket.socket(socket.AF_UNIX) as made:
        here = Path.cwd()
        os.chdir(path.parent)
        try:
            made.bind(path.name[:50])
            Path(path.name[:50]).rename(path.name)
        finally:
            os.chdir(here)


def _device(path: Path, _: Victim) -> None:
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))  # /dev/zero, which never ends
    except OSError:
        pytest.skip("only root makes devices, and not everywhere")


def _full_folder(path: Path, victim: Victim) -> None:
    path.mkdir()
    (path / "record.json").symlink_to(victim.file)
    os.mkfifo(path / ".data")


#: By what it is: makes it at a path.
PLANTS: dict[str, Callable[[Path, Victim], object]] = {
    "link to a file": lambda path, victim: path.symlink_to(victim.file),
    "link to a folder": lambda path, victim: path.symlink_to(victim.folder),
    "link to nothing": lambda path, victim: path.symlink_to(victim.folder / "new"),
    "link to itself": lambda path, _: path.symlink_to(path),
    "FIFO": lambda path, _: os.mkfifo(path),
    "socket": _socket,
    "device": _device,
    "file": lambda path, _: path.write_bytes(b"{}"),
    "folder": _full_folder,
}


def put(plant: str, path: Path, victim: Victim) -> None:
    """Put something at a path, in place of what is there."""
    remove(path)
    PLANTS[plant](path, victim)


def remove(path: Path) -> None:
    """Remove what is at a path, if anything."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def account(user: int) -> Iterator[None]:
    """Be another user, of the team, for a while; skips where this is not root."""
    if os.geteuid() != 0:
        pytest.skip("only root can be another user")
    before = os.getgroups()
    os.setgroups([TEAM])
    os.setegid(TEAM)
    os.seteuid(user)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(before)
