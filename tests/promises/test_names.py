"""Names from the network are not trusted: nothing is written outside the folder it belongs to."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest

from hda_fsspec.cache.cache import Cache
from hda_fsspec.emulator import Fault, ProductEntry

HOSTILE = [
    "../../../escaped.nc",
    "..",
    ".",
    "/etc/escaped.nc",
    "/",
    "..\\..\\escaped.nc",
    "C:\\escaped.nc",
    "~/escaped.nc",
    "~root",
    "x" * 300,
    "x" * 300 + ".nc",
    "é" * 200 + ".nc",
    ".hidden",
    "...",
    "record.json",
    "RECORD.JSON",
    ".data",
    ".facts.json",
    "a\x00b.nc",
    "a\x07\x1b[31mb.nc",
    " ",
    "%2e%2e%2fescaped.nc",
    "..%2fescaped.nc",
    "a/b/../../../escaped.nc",
    "-rf",
    "$HOME/escaped.nc",
    "a;rm -rf .nc",
    "CON",
    "a\u202egnp.exe",
]
# A header cannot carry these: the library below refuses or cuts the line.
IN_A_HEADER = [name for name in HOSTILE if name.isprintable() and name.strip()]


def tree(folder: Path, *leave_out: Path) -> dict[str, bytes | None]:
    """Return everything below a folder, but in some sub-folders."""
    return {
        str(path): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
        if not any(path == other or path.is_relative_to(other) for other in leave_out)
    }


def is_inside(path: Path, folder: Path) -> bool:
    """Whether a file is really below a folder."""
    return path.resolve().is_relative_to(folder.resolve()) and path.resolve() != folder.resolve()


@pytest.mark.slow
@pytest.mark.parametrize("is_quoted", [True, False])
def test_hostile_delivered_names(is_quoted: bool, bench: Any, tmp_path: Path) -> None:
    """However a delivered file is named, cache and download folder alone are written to."""
    names = [*IN_A_HEADER, ""]
    emulator = bench.start(days=len(names), quoted_names=is_quoted)
    for day, name in enumerate(names, start=1):
        emulator.fault(Fault("name", value=name, times=None, product_id=bench.product_id(day)))
    bodies = [bench.body(day) for day in range(1, len(names) + 1)]
    target = tmp_path / "a" / "b" / "target"
    target.parent.mkdir(parents=True)
    fs = bench.filesystem(emulator)
    before = tree(tmp_path, bench.cache_dir, target)

    fetched = fs.prefetch(bench.query)
    copied = fs.download(bench.query, target)
    fs.get(fs.ls(bench.query, detail=False), f"{target}/got/")

    assert tree(tmp_path, bench.cache_dir, target) == before
    for name, body, local, copy in zip(names, bodies, fetched, copied, strict=True):
        assert is_inside(Path(local), bench.cache_dir / "v1" / "products"), name
        assert Path(copy).parent == target, name
        assert Path(local).read_bytes() == Path(copy).read_bytes() == body, name
        assert not Path(copy).name.startswith("."), name
        assert Path(copy).name.isprintable(), name
    kept = [entry.path.read_bytes() for entry in Cache(bench.cache_dir).entries()]
    assert sorted(kept) == sorted(bodies)


@pytest.mark.slow
def test_hostile_product_ids(bench: Any, tmp_path: Path) -> None:
    """However a product is named, it is one entry of the cache, and opens by its path.

    `fs.get` and `fs.download` write into their target, or refuse; never anywhere else.
    """
    days = [f"2024-05-{number:02}" for number in range(1, len(HOSTILE) + 1)]
    products = [
        ProductEntry(
            product_id, bench.body(1), f"{day}T00:00:00Z", f"{day}T23:59:59Z", delivered_name=""
        )
        for product_id, day in zip(HOSTILE, days, strict=True)
    ]
    fs = bench.filesystem(bench.start(products=products))
    targets = [
        [tmp_path / str(number) / "a" / "b" / f"target{each}" for each in range(3)]
        for number in range(len(HOSTILE))
    ]
    every_target = [target for three in targets for target in three]
    for target in every_target:
        target.mkdir(parents=True)
    before = tree(tmp_path, bench.cache_dir, *every_target)

    for product_id, day, (one, all_of_it, downloaded) in zip(HOSTILE, days, targets, strict=True):
        query = f"hda://{bench.dataset}/enddate={day}/startdate={day}"
        (info,) = fs.ls(query)
        assert info["product_id"] == product_id
        # A name too long for the disk, or one that cannot be a file's, may be refused.
        with contextlib.suppress(OSError, ValueError):
            fs.get(info["name"], f"{one}/")
        with contextlib.suppress(OSError, ValueError):
            fs.get(f"{query}/", f"{all_of_it}/", recursive=True)
        with contextlib.suppress(OSError, ValueError):
            fs.download(query, downloaded)
        (local,) = fs.prefetch(info["name"])
        assert is_inside(Path(local), bench.cache_dir / "v1" / "products"), product_id
        assert Path(local).read_bytes() == fs.cat(info["name"]) == bench.body(1)

    assert tree(tmp_path, bench.cache_dir, *every_target) == before
    assert all(is_inside(Path(path), target) for target in every_target for path in tree(target))


def test_equal_hostile_names_stay_apart(bench: Any, tmp_path: Path) -> None:
    """Products that are all delivered under one hostile name become files of their own."""
    emulator = bench.start(days=4)
    emulator.fault(Fault("name", value="../../same.nc", times=None))

    copied = bench.filesystem(emulator).download(bench.query, tmp_path / "out")

    assert {Path(path).parent for path in copied} == {tmp_path / "out"}
    assert [Path(path).read_bytes() for path in copied] == [bench.body(day) for day in range(1, 5)]


def test_a_target_that_is_a_link_is_not_followed_away(bench: Any, tmp_path: Path) -> None:
    """A file is replaced as a whole: what a link in the target folder points at is not written."""
    emulator = bench.start(days=1)
    (tmp_path / "out").mkdir()
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / "out" / bench.product_id(1)).symlink_to(victim)

    bench.filesystem(emulator).download(bench.query, tmp_path / "out")

    assert victim.read_text() == "mine"
