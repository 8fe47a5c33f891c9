"""Names that mean something: copies have safe ones, and replace nothing of anybody else."""

from __future__ import annotations

import datetime
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fsspec.utils import other_paths
from hypothesis import given
from random_inputs import any_text

from hda_fsspec import HDAFileSystem, Location
from hda_fsspec.cache.product_entries import safe_name
from hda_fsspec.emulator import ProductEntry
from hda_fsspec.errors import LocationError
from hda_fsspec.filenames import alike, is_device, is_plain, plain_name

DATASET = "EO:TEST:DAT:DAILY"
DEVICES = ("CON", "nul", "NUL.txt", "aux.tar.gz", "Com1", "LPT9.nc", "prn .x", "COM¹.nc", "CONIN$")
ODD = (
    *(".bashrc", ".ssh", "..", "...", "-rf", "--help", "-", ". x", "a.", "a..", "a ", "a. ."),
    *("a<b", "a>b", "a:b", 'a"b', "a|b", "C:x", "a?b", "a*b", "a\\b", "a\tb", "a\x1bb", "a\u202eb"),
    *("e\u0301.nc", "\u1100\u1161", "CON.aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.nc"),
    *DEVICES,
)
VERBS: dict[str, Callable[..., Any]] = {
    "get": lambda fs, query, folder: fs.get(f"{query}/", f"{folder}/", recursive=True),
    "get one": lambda fs, query, folder: fs.get(fs.ls(query, detail=False)[0], f"{folder}/"),
    "get of a list": lambda fs, query, folder: fs.get(fs.ls(query, detail=False), f"{folder}/"),
    "get pattern": lambda fs, query, folder: fs.get(f"{query}/*", f"{folder}/"),
    "get_file": lambda fs, query, folder: fs.get_file(
        name := fs.ls(query, detail=False)[0], f"{folder}/{name.rpartition('/')[2]}"
    ),
    "download": lambda fs, query, folder: fs.download(query, folder),
}


def entry(
    product_id: str, name: str | None, day: datetime.date = datetime.date(2024, 5, 2)
) -> ProductEntry:
    """Return a product that has its id in it, and the name that it is delivered under."""
    return ProductEntry(
        product_id,
        b"CDF\x01" + bytes(28) + product_id.encode(),
        f"{day}T00:00:00.000Z",
        f"{day}T23:59:59.999Z",
        delivered_name=name,
    )


def serve(bench: Any, names: dict[str, str | None], **more: Any) -> HDAFileSystem:
    """Serve products by their ids, with the names that they are delivered under."""
    entries = [entry(product_id, name) for product_id, name in names.items()]
    fs: HDAFileSystem = bench.filesystem(bench.start(products=entries, **more))
    return fs


def is_harmless(name: str) -> bool:
    """Whether a name means nothing on any system, by rules written down here again."""
    stem = name.partition(".")[0].rstrip(" ").casefold()
    ports = {f"{port}{n}" for port in ("com", "lpt") for n in "0123456789¹²³"}
    return (
        not name.startswith((".", "-", " "))
        and not name.endswith((".", " "))
        and not set(name) & set('<>:"|?*\\/')
        and name.isprintable()
        and stem not in {"con", "prn", "aux", "nul", "conin$", "conout$", *ports}
        and len(name.encode()) <= 255
    )


@pytest.mark.slow
def test_odd_ids_are_copied_under_harmless_names(bench: Any, tmp_path: Path) -> None:
    """Whatever an id is, or the name that the service delivers, the file is called otherwise."""
    days = [datetime.date(2024, 5, 1) + datetime.timedelta(number) for number in range(len(ODD))]
    products = [
        entry(product_id, product_id if product_id.isprintable() else None, day)
        for product_id, day in zip(ODD, days, strict=True)
    ]
    fs = bench.filesystem(bench.start(products=products))
    *ways_to_get, download = VERBS
    for number, (product_id, day) in enumerate(zip(ODD, days, strict=True)):
        query = f"hda://{DATASET}/enddate={day}/startdate={day}"
        # All ways to get make the same names.
        for verb in (ways_to_get[number % 5], ways_to_get[(number + 2) % 5], download):
            folder = tmp_path / str(day) / verb
            folder.mkdir(parents=True)

            VERBS[verb](fs, query, folder)

            (written,) = folder.iterdir()
            assert is_harmless(written.name), (product_id, verb)
            assert written.read_bytes().endswith(product_id.encode()), (product_id, verb)


@pytest.mark.slow
@pytest.mark.parametrize("verb", VERBS)
def test_what_somebody_else_wrote_stays(verb: str, bench: Any, tmp_path: Path) -> None:
    """A file, link or folder that has the name of a product is neither replaced nor followed."""
    fs = serve(bench, {"settings": "settings.nc"})
    (tmp_path / "victim").write_text("mine")
    for kind in ("file", "link", "dangling link", "folder", "empty link"):
        folder = tmp_path / kind
        folder.mkdir()
        _check_it_stays(VERBS[verb], kind, fs, bench.query, folder, is_download=verb == "download")


def _check_it_stays(
    copy: Callable[..., Any],
    kind: str,
    fs: HDAFileSystem,
    query: str,
    folder: Path,
    *,
    is_download: bool,
) -> None:
    """Put something of a kind where a copy would go; copy, and see that it is as it was."""
    outside = folder.parent
    for name in ("settings", "settings.nc"):
        place = folder / name
        if kind == "file":
            place.write_text("mine")
        elif kind == "folder":
            place.mkdir()
        else:
            place.symlink_to(outside / ("nowhere" if kind == "dangling link" else "victim"))
    before = {p.name: (p.lstat().st_ino, p.lstat().st_mtime_ns) for p in folder.iterdir()}

    try:
        copy(fs, query, folder)
    except OSError as err:
        assert not is_download, kind
        assert err.errno in {errno.EEXIST, errno.EISDIR}, kind  # noqa: PT017
    assert (outside / "victim").read_text() == "mine", kind
    assert not (outside / "nowhere").exists(), kind
    after = {p.name: (p.lstat().st_ino, p.lstat().st_mtime_ns) for p in folder.iterdir()}
    if kind != "folder":
        assert before.items() <= after.items(), kind
    assert set(after) - set(before) == (
        {"EO_TEST_DAT_DAILY_settings.nc"} if is_download else set()
    ), kind


@pytest.mark.slow
@pytest.mark.parametrize("verb", VERBS)
def test_what_we_wrote_is_replaced(verb: str, bench: Any, tmp_path: Path) -> None:
    """The second copy takes the place of the first; one that was changed since does not."""
    fs = serve(bench, {"a.nc": "a.nc"})
    folder = tmp_path / "out"
    folder.mkdir()
    VERBS[verb](fs, bench.query, folder)
    (written,) = folder.iterdir()
    first = written.stat().st_ino

    VERBS[verb](fs, bench.query, folder)
    assert [path.name for path in folder.iterdir()] == ["a.nc"]
    assert written.stat().st_ino != first

    with written.open("ab") as stream:
        stream.write(b"my own notes")
    if verb == "download":
        VERBS[verb](fs, bench.query, folder)
    else:
        with pytest.raises(FileExistsError, match="left as it is"):
            VERBS[verb](fs, bench.query, folder)
    assert written.read_bytes().endswith(b"my own notes")


@pytest.mark.slow
@pytest.mark.parametrize("verb", VERBS)
def test_a_beginning_of_the_same_file_is_replaced(verb: str, bench: Any, tmp_path: Path) -> None:
    """An empty file, a part of the product, or all of it: nothing is lost."""
    fs = serve(bench, {"a.nc": "a.nc"})
    body = fs.cat(f"{bench.query}/a.nc")
    for cut in (0, 1, 20, None):
        folder = tmp_path / f"up to {cut}"
        folder.mkdir()
        (folder / "a.nc").write_bytes(body[:cut])

        VERBS[verb](fs, bench.query, folder)

        assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"a.nc": body}, cut


def test_who_names_the_file_means_it(bench: Any, tmp_path: Path) -> None:
    """A target with a name of one's own is replaced, as in all of fsspec."""
    fs = serve(bench, {"a.nc": "delivered.nc"})
    target = tmp_path / ".profile"
    for copy in (fs.get, fs.get_file, fs.download):
        target.write_text("old")
        copy(f"{bench.query}/a.nc", str(target))
        assert target.read_bytes().endswith(b"a.nc")


def test_a_disk_without_hard_links(
    bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Copies are made there, too, and nothing is replaced that must stay."""

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EPERM, "no links here")

    fs = serve(bench, {"a.nc": "a.nc", "b.nc": "b.nc"})
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "b.nc").write_text("mine")
    fs.prefetch(bench.query)
    monkeypatch.setattr(os, "link", refuse)

    with pytest.raises(FileExistsError):
        fs.get(f"{bench.query}/", f"{tmp_path}/out/", recursive=True)

    assert (tmp_path / "out" / "a.nc").read_bytes().endswith(b"a.nc")
    assert (tmp_path / "out" / "b.nc").read_text() == "mine"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.nc", "b.nc"]


@pytest.mark.parametrize(
    ("one", "other"), [("A.nc", "a.nc"), ("É.nc", "é.nc"), ("STRASSE", "straße")]
)
def test_ids_that_differ_by_case(one: str, other: str, bench: Any, tmp_path: Path) -> None:
    """``get`` refuses the one that would replace the other; ``download`` tells them apart."""
    fs = serve(bench, {one: "same.nc", other: "same.nc", "third": "Same.NC"})

    with pytest.raises(LocationError, match="case or form"):
        fs.get(f"{bench.query}/", f"{tmp_path}/got/", recursive=True)
    got = [path.name for path in (tmp_path / "got").iterdir()]
    assert len(got) == len({alike(name) for name in got}) == 2

    paths = [Path(path) for path in fs.download(bench.query, tmp_path / "downloaded")]
    assert len({alike(path.name) for path in paths}) == 3
    assert {path.read_bytes()[32:].decode() for path in paths} == {one, other, "third"}


def test_ids_that_differ_by_form_are_two_files(bench: Any, tmp_path: Path) -> None:
    """What is not composed is escaped, so that no disk takes one for the other."""
    fs = serve(bench, {"é.nc": "é.nc", "e\u0301.nc": "e\u0301.nc"})

    fs.get(f"{bench.query}/", f"{tmp_path}/got/", recursive=True)
    paths = fs.download(bench.query, tmp_path / "downloaded")

    assert sorted(path.name for path in (tmp_path / "got").iterdir()) == ["e%CC%81.nc", "é.nc"]
    assert len({alike(Path(path).name) for path in paths}) == 2


def test_an_id_that_is_too_long_is_refused_before_it_is_ordered(bench: Any, tmp_path: Path) -> None:
    """The message says what to do, and what it says works."""
    long = "ü" * 200
    emulator = bench.start(
        products=[
            ProductEntry(one, one.encode(), "2024-05-02T00:00:00Z", "2024-05-02T23:59:59Z")
            for one in (long, "short")
        ]
    )
    fs = bench.filesystem(emulator)

    with pytest.raises(OSError, match=r"fs\.download") as caught:
        fs.get(f"{bench.query}/", f"{tmp_path}/got/", recursive=True)

    assert caught.value.errno == errno.ENAMETOOLONG
    assert [path.name for path in (tmp_path / "got").iterdir()] == ["short"]
    assert emulator.orders == 1
    paths = fs.download(bench.query, tmp_path / "downloaded")
    assert {Path(path).read_bytes().decode() for path in paths} == {long, "short"}


@pytest.mark.slow
@given(any_text(min_size=1))
def test_names_of_any_ids_are_harmless(text: str) -> None:
    """The name of a product in a path, and a name made of what a service delivers."""
    try:
        location = Location(DATASET, product=text)
        path = location.path
    except LocationError:
        return
    (target,) = other_paths([path.removeprefix("hda://")], "/target/", flatten=True)
    name = Path(target).name
    assert Location.parse(path) == location
    if len(name.encode()) <= 255:
        assert is_harmless(name)
    made = safe_name(text, "fallback")
    assert is_harmless(made) or not made.isprintable()  # blanks of other kinds may stay
    assert is_plain(plain_name(text))
    assert plain_name(plain_name(text)) == plain_name(text)


def test_devices() -> None:
    """With any suffix, in any case, with blanks before the suffix."""
    assert all(is_device(name) for name in DEVICES)
    for name in ("console", "com", "com10", "lpt", "nul_", "anul", "x.nul", ""):
        assert not is_device(name)
