"""Folders where others may write: nothing is followed, nothing is waited for."""

from __future__ import annotations

import contextlib
import errno
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import plants
import pytest
from plants import Victim

from hda_fsspec.errors import ConfigurationError
from hda_fsspec.untrusted_files import SafeFolder, UntrustedFileError, open_regular, reader_of

NOT_FILES = [each for each in plants.PLANTS if each != "file"]
NOT_FOLDERS = [each for each in plants.PLANTS if each != "folder"]


@pytest.fixture
def victim(tmp_path: Path) -> Victim:
    """Return files that must stay as they are."""
    return Victim(tmp_path / "victim")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a folder with ``a/b/file``."""
    (tmp_path / "root" / "a" / "b").mkdir(parents=True)
    (tmp_path / "root" / "a" / "b" / "file").write_bytes(b"content")
    return tmp_path / "root"


ACTS: dict[str, Callable[[SafeFolder, Path], object]] = {
    "read": lambda safe, path: safe.read(path),
    "open": lambda safe, path: safe.open(path, os.O_RDWR),
    "append": lambda safe, path: safe.open(path, os.O_WRONLY | os.O_APPEND),
}


def _write(safe: SafeFolder, path: Path, *, is_first: bool) -> None:
    with safe.writing(path, is_first=is_first) as handle:
        handle.write(b"data")


ACTS_IN_FOLDERS: dict[str, Callable[[SafeFolder, Path], object]] = {
    **ACTS,
    "create": lambda safe, path: safe.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL),
    "stat": lambda safe, path: safe.stat(path),
    "make": lambda safe, path: safe.make(path),
    "unlink": lambda safe, path: safe.unlink(path),
    "rename": lambda safe, path: safe.rename(path, path.with_name("other")),
    "rename into": lambda safe, path: safe.rename(safe.root / "mine", path),
    "write": lambda safe, path: _write(safe, path, is_first=False),
    "write first": lambda safe, path: _write(safe, path, is_first=True),
    "utime": lambda safe, path: safe.utime(path, 1.0),
    "files": lambda safe, path: safe.files(path.parent),
    "folders": lambda safe, path: list(safe.subfolders(path.parent)),
}


@pytest.mark.parametrize("plant", NOT_FILES)
def test_only_regular_files_are_opened(plant: str, root: Path, victim: Victim) -> None:
    """A link, FIFO, socket, device or folder under a file's name is an error that names it."""
    path = root / "a" / "b" / "file"
    plants.put(plant, path, victim)

    for act in ACTS.values():
        with pytest.raises(UntrustedFileError, match="not a file") as caught:
            act(SafeFolder(root), path)
        assert caught.value.path == str(path)
        assert f"`rm -r {path}`" in str(caught.value)
        victim.check()


@pytest.mark.slow
@pytest.mark.parametrize("plant", NOT_FOLDERS)
@pytest.mark.parametrize("where", ["a", "a/b"])
def test_no_step_of_a_path_is_followed(where: str, plant: str, root: Path, victim: Victim) -> None:
    """What is no folder in the middle of a path is an error that names this part of it."""
    (root / "mine").write_bytes(b"")
    plants.put(plant, root / where, victim)

    for act in ACTS_IN_FOLDERS.values():
        with pytest.raises(UntrustedFileError, match="not a folder") as caught:
            act(SafeFolder(root), root / "a" / "b" / "file")
        assert caught.value.path == str(root / where)
        victim.check()


def test_what_is_only_named_is_not_followed(root: Path, victim: Victim) -> None:
    """Times, removal and renaming are of the link itself."""
    safe, path = SafeFolder(root), root / "a" / "b" / "file"
    for plant in ("link to a file", "link to a folder"):
        plants.put(plant, path, victim)
        safe.utime(path, 1.0)
        assert safe.stat(path).st_mtime == 1.0
        safe.rename(path, root / "moved")
        safe.remove(root / "moved")
        assert not (root / "moved").is_symlink()
    victim.check()


def test_a_whole_folder_is_removed_without_leaving_it(root: Path, victim: Victim) -> None:
    """Links in a folder that is removed go, and not what they lead to."""
    for number, plant in enumerate(plants.PLANTS):
        if plant != "device":
            plants.put(plant, root / "a" / "b" / f"x{number}", victim)

    SafeFolder(root).remove(root / "a")

    assert list(root.iterdir()) == []
    victim.check()


def test_walks_see_real_files_and_folders_only(root: Path, victim: Victim) -> None:
    """A walk enters no link, and counts nothing but regular files."""
    safe, folder = SafeFolder(root), root / "a" / "b"
    for number, plant in enumerate(plants.PLANTS):
        if plant not in {"device", "file", "folder"}:
            plants.put(plant, root / "a" / f"x{number}", victim)
            plants.put(plant, folder / f"x{number}", victim)

    assert [name for name, _ in safe.files(folder)] == ["file"]
    assert [path for path, _ in safe.subfolders(root, 2)] == [folder]
    assert list(safe.subfolders(root / "absent")) == []


def test_a_folder_for_everybody_is_refused(root: Path) -> None:
    """Below a folder that is not for all, one that is for all may hold anybody's files."""
    (root / "a").chmod(0o777)

    with pytest.raises(UntrustedFileError, match=f"chmod o-w {root / 'a'}"):
        SafeFolder(root).read(root / "a" / "b" / "file")


def test_the_folder_itself_may_be_a_link(root: Path, tmp_path: Path) -> None:
    """It is where the user said that it is; unless it is one whose name others may replace."""
    (tmp_path / "link").symlink_to(root)
    path = tmp_path / "link" / "a" / "b" / "file"

    assert SafeFolder(tmp_path / "link").read(path) == b"content"
    with pytest.raises(UntrustedFileError, match="not a folder"):
        SafeFolder(tmp_path / "link", is_given=False).read(path)


@pytest.mark.parametrize("name", ["../victim/x", "a/../../x", "a//b", "a/./b", ""])
def test_paths_elsewhere_are_a_mistake(name: str, root: Path) -> None:
    """A path that does not lie below the folder is never looked at."""

    class Text:
        def __fspath__(self) -> str:
            return f"{root}/{name}"

    with pytest.raises(ValueError, match="does not lie below"):
        SafeFolder(root)._reach(Text())  # type: ignore[arg-type]  # pathlib would tidy it up


def test_missing_is_missing(root: Path) -> None:
    """What is not there is FileNotFoundError, whichever part it is."""
    for path in (root / "a" / "b" / "x", root / "x" / "b" / "file"):
        with pytest.raises(FileNotFoundError):
            SafeFolder(root).read(path)
    with pytest.raises(FileNotFoundError):
        SafeFolder(root / "absent").read(root / "absent" / "file")


def test_a_new_file_is_private_and_new(root: Path, victim: Victim) -> None:
    """Made for this user alone, and never where something is already, be it a link to nothing."""
    safe, flags = SafeFolder(root), os.O_WRONLY | os.O_CREAT | os.O_EXCL
    before = os.umask(0)
    try:
        os.close(safe.open(root / "a" / "new", flags))
    finally:
        os.umask(before)

    assert (root / "a" / "new").stat().st_mode & 0o777 == 0o600
    plants.put("link to nothing", root / "a" / "planted", victim)
    with pytest.raises(FileExistsError):
        safe.open(root / "a" / "planted", flags)
    victim.check()


def test_another_name_makes_a_file_no_own_one(root: Path, victim: Victim) -> None:
    """A file is one's own if it is regular, of this user, and has one name."""
    safe, path = SafeFolder(root), root / "a" / "b" / "file"

    assert safe.is_own(path.stat(), path.parent)
    os.link(victim.file, root / "hard")
    assert not safe.is_own((root / "hard").stat(), root)
    if os.geteuid() == 0:
        os.chown(path, plants.ANN, -1)
        assert not safe.is_own(path.stat(), path.parent)


def test_a_disk_that_shows_other_owners(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the disk shows one's own files as another user's, it is asked and believed."""
    path = root / "a" / "b" / "file"
    facts = path.stat()
    monkeypatch.setattr(os, "geteuid", lambda: facts.st_uid + 1)

    assert SafeFolder(root).owns(facts, path.parent)
    assert [each.name for each in path.parent.iterdir()] == ["file"]


def test_long_files_are_not_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file without an end does not fill the memory."""
    path = root / "a" / "b" / "file"
    os.truncate(path, 1 << 40)
    monkeypatch.setattr("hda_fsspec.untrusted_files.MAX_BYTES", 1000)

    with pytest.raises(OSError, match="longer than any file of its kind"):
        SafeFolder(root).read(path)


@pytest.mark.parametrize("plant", ["FIFO", "socket", "device", "folder"])
def test_paths_of_the_user_may_be_links_to_files(
    plant: str, tmp_path: Path, victim: Victim
) -> None:
    """A link is followed where the user named it, and what is no file is still not waited for."""
    (tmp_path / "link").symlink_to(victim.file)
    with reader_of(tmp_path / "link") as handle:
        assert handle.name == str(tmp_path / "link")
        assert handle.read() == victim.file.read_bytes()
    with pytest.raises(UntrustedFileError):
        open_regular(tmp_path / "link")

    plants.put(plant, tmp_path / "planted", victim)
    with pytest.raises(OSError, match=r"not a file|Is a directory") as caught:
        reader_of(tmp_path / "planted")
    assert "rm" not in str(caught.value)


def test_the_error_is_of_both_kinds_and_pickles(root: Path, victim: Victim) -> None:
    """It says that the folder cannot be used safely, and is an OSError for who reads files."""
    plants.put("FIFO", root / "fifo", victim)
    with pytest.raises(UntrustedFileError, match="a FIFO and not a file") as caught:
        SafeFolder(root).read(root / "fifo")

    again = pickle.loads(pickle.dumps(caught.value))
    assert isinstance(again, UntrustedFileError)
    assert issubclass(UntrustedFileError, ConfigurationError)
    assert issubclass(UntrustedFileError, OSError)
    assert (str(again), again.path, again.errno) == (
        str(caught.value),
        str(root / "fifo"),
        caught.value.errno,
    )


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    """Until the end others see what was there; of a writer that fails nothing is left."""
    root = tmp_path / "root"
    root.mkdir()
    folder, path = SafeFolder(root), root / "facts"
    path.write_bytes(b"old")

    with folder.writing(path) as handle:
        handle.write(b"new")
        handle.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600

    with contextlib.suppress(EOFError), folder.writing(path) as handle:
        handle.write(b"half")
        raise EOFError
    assert path.read_bytes() == b"new"
    assert [each.name for each in root.iterdir()] == ["facts"]


@pytest.mark.parametrize("can_link", [True, False])
def test_of_two_files_the_first_one_stays(
    can_link: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who writes a file that shall be the first one leaves what is there, and nothing else."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    root = tmp_path / "root"
    root.mkdir()
    folder, path = SafeFolder(root), root / "facts"
    if not can_link:
        monkeypatch.setattr(os, "link", refuse)

    for data in (b"first", b"second"):
        with folder.writing(path, is_first=True) as handle:
            handle.write(data)
        assert path.read_bytes() == b"first"
        assert path.stat().st_nlink == 1
    assert [each.name for each in root.iterdir()] == ["facts"]
