"""``skip_existing``: complete copies in the target stay as they are, and cost no order."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import xarray as xr
from fsspec.callbacks import Callback

from hda_fsspec import HDAFileSystem
from hda_fsspec.emulator import Catalogue, DatasetEntry, Emulator, ProductEntry

TIMES = ("2024-05-02T00:00:00Z", "2024-05-02T23:59:59Z")
VERBS: dict[str, Callable[..., Any]] = {
    "download": lambda fs, query, folder, **more: fs.download(query, folder, **more),
    "get": lambda fs, query, folder, **more: fs.get(
        f"{query}/", f"{folder}/", recursive=True, **more
    ),
    "get of a list": lambda fs, query, folder, **more: fs.get(
        names := fs.ls(query, detail=False),
        [f"{folder}/{n.rpartition('/')[2]}" for n in names],
        **more,
    ),
}


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    """Return which files are in a folder, each by what changes when it is written anew."""
    return {p.name: (p.stat().st_ino, p.stat().st_mtime_ns) for p in sorted(folder.iterdir())}


def entry(product_id: str, body: bytes | Path, **more: Any) -> ProductEntry:
    """Return a product of the catalogue."""
    return ProductEntry(product_id, body, *TIMES, **more)


@pytest.fixture(scope="module")
def formats(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, bytes]:
    """Return small files of several formats, by the ids under which they are offered."""
    tmp_path = tmp_path_factory.mktemp("formats")
    ds = xr.Dataset({"sst": ("x", [280.0, 281.0])})
    ds.to_netcdf(tmp_path / "3.nc", format="NETCDF3_64BIT", engine="netcdf4")
    ds.to_netcdf(tmp_path / "4.nc", engine="netcdf4")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(tmp_path / "4.nc", "S3A.SEN3/sst.nc")
    return {
        "three.nc": (tmp_path / "3.nc").read_bytes(),
        "four.nc": (tmp_path / "4.nc").read_bytes(),
        "without_suffix": (tmp_path / "4.nc").read_bytes(),
        "S3A.SEN3": (tmp_path / "a.zip").read_bytes(),
    }


@pytest.mark.slow
@pytest.mark.parametrize("verb", VERBS)
def test_complete_copies_are_left_alone(bench: Any, tmp_path: Path, verb: str) -> None:
    """Not ordered, not written; what is missing is fetched; without the option all is written."""
    emulator = bench.start(days=4)
    fs = bench.filesystem(emulator)
    out = tmp_path / "out"
    VERBS[verb](fs, bench.query, out)
    before = stamps(out)
    shutil.rmtree(bench.cache_dir)
    (out / bench.product_id(3)).unlink()

    VERBS[verb](fs, bench.query, out, skip_existing=True)

    assert emulator.downloads == 4 + 1
    assert {p.name: p.read_bytes() for p in out.iterdir()} == {
        bench.product_id(day): bench.body(day) for day in (1, 2, 3, 4)
    }
    after = stamps(out)
    assert [name for name in after if after[name] != before[name]] == [bench.product_id(3)]
    VERBS[verb](fs, bench.query, out)
    assert not set(stamps(out).items()) & set(after.items())


@pytest.mark.slow
@pytest.mark.parametrize("is_known", [True, False], ids=["length known", "length not known"])
@pytest.mark.parametrize(
    ("verb", "cut"),
    [
        *(("download", cut) for cut in (1, 1000, 100_000)),
        *((verb, 1) for verb in VERBS if verb != "download"),
    ],
)
def test_an_incomplete_copy_is_fetched(
    bench: Any, tmp_path: Path, verb: str, is_known: bool, cut: int
) -> None:
    """A file that ends early is none, also where only its format tells."""
    whole = tmp_path / "whole.nc"
    xr.Dataset({"sst": ("x", list(range(500)))}).to_netcdf(whole, engine="netcdf4")
    body = whole.read_bytes()
    emulator = bench.start(products=[entry("p.nc", body)])
    fs = bench.filesystem(emulator)
    out = tmp_path / "out"
    VERBS[verb](fs, bench.query, out)
    if is_known:
        shutil.rmtree(bench.cache_dir / "v1" / "products")
    else:
        shutil.rmtree(bench.cache_dir)
    (out / "p.nc").write_bytes(body[: max(0, len(body) - cut)])

    VERBS[verb](fs, bench.query, out, skip_existing=True)

    assert (out / "p.nc").read_bytes() == body
    assert emulator.downloads == 2


@pytest.mark.slow
@pytest.mark.parametrize("verb", VERBS)
def test_every_format_tells_by_itself_on_another_machine(
    bench: Any, tmp_path: Path, formats: Mapping[str, bytes], verb: str
) -> None:
    """Nothing is known of the lengths, and nothing was noted: names and formats are enough."""
    emulator = bench.start(products=[entry(name, body) for name, body in formats.items()])
    out = tmp_path / "out"
    VERBS[verb](bench.filesystem(emulator), bench.query, out)
    before = stamps(out)
    elsewhere = bench.filesystem(emulator, cache_dir=tmp_path / "other cache")

    VERBS[verb](elsewhere, bench.query, out, skip_existing=True)

    assert stamps(out) == before
    assert emulator.downloads == len(formats)


@pytest.mark.slow
@pytest.mark.parametrize(
    "damage",
    {
        "empty": lambda body: b"",
        "one byte": lambda body: body[:1],
        "half": lambda body: body[: len(body) // 2],
        "a page": lambda body: b"<!doctype html><html>Bad gateway</html>",
        "zeros": lambda body: bytes(len(body)),
    }.items(),
    ids=lambda item: item[0],
)
def test_damaged_files_are_replaced(
    bench: Any, tmp_path: Path, formats: Mapping[str, bytes], damage: Any
) -> None:
    """Whatever is left of a file by another program's end, it is not taken for the product."""
    offered = {name: body for name, body in formats.items() if name != "without_suffix"}
    emulator = bench.start(products=[entry(name, body) for name, body in offered.items()])
    fs = bench.filesystem(emulator)
    paths = [Path(path) for path in fs.download(bench.query, tmp_path / "out")]
    bodies = [path.read_bytes() for path in paths]
    for path, body in zip(paths, bodies, strict=True):
        path.write_bytes(damage[1](body))

    again = fs.download(bench.query, tmp_path / "out", skip_existing=True)

    assert [Path(path).read_bytes() for path in again] == bodies


def test_a_format_that_shows_no_end_needs_a_known_length(bench: Any, tmp_path: Path) -> None:
    """A text file is skipped where its length is known, and fetched where it is not."""
    emulator = bench.start(products=[entry("p.csv", b"a,b\n1,2\n", size=None)])
    fs = bench.filesystem(emulator)
    fs.download(bench.query, tmp_path / "out")
    shutil.rmtree(bench.cache_dir / "v1" / "products")

    fs.download(bench.query, tmp_path / "out", skip_existing=True)
    assert emulator.downloads == 1
    elsewhere = bench.filesystem(emulator, cache_dir=tmp_path / "other cache")
    elsewhere.download(bench.query, tmp_path / "out", skip_existing=True)
    assert emulator.downloads == 2


def delivered(names: Mapping[str, str]) -> list[ProductEntry]:
    """Return products of equal length that are delivered under these names."""
    return [entry(one, f"{one:8}".encode(), delivered_name=name) for one, name in names.items()]


def contents(paths: list[str]) -> list[str]:
    """Return what is in files of :func:`delivered`."""
    return [Path(path).read_text().strip() for path in paths]


@pytest.mark.slow
@pytest.mark.parametrize("first", [["a"], ["b"], ["a", "b"], []])
def test_delivered_names_that_tell_nothing(bench: Any, tmp_path: Path, first: list[str]) -> None:
    """A copy under a name that is no id is remembered, and never taken for another product."""
    emulator = bench.start(products=delivered({"a": "data.csv", "b": "data.csv", "c": "x.csv"}))
    fs = bench.filesystem(emulator)
    out = tmp_path / "out"
    done = fs.download([f"{bench.query}/{one}" for one in first], out) if first else []
    fs.prefetch(bench.query)  # all lengths are known, and equal
    shutil.rmtree(bench.cache_dir / "v1" / "products")
    before = stamps(out) if first else {}
    before_that = emulator.downloads

    paths = fs.download(bench.query, out, skip_existing=True)
    again = fs.download(bench.query, out, skip_existing=True)

    assert contents(paths) == ["a", "b", "c"]
    assert len(set(paths)) == 3
    assert again == paths
    assert emulator.downloads == before_that + 3 - len(first)
    assert before.items() <= stamps(out).items()
    assert set(done) <= set(paths)


def test_a_name_that_was_given_to_another_product(bench: Any, tmp_path: Path) -> None:
    """A file that was copied from another product is fetched anew, though all else fits."""
    emulator = bench.start(products=delivered({"a": "b", "b": "b"}))
    fs = bench.filesystem(emulator)
    fs.prefetch(bench.query)
    fs.download([f"{bench.query}/a"], tmp_path)

    paths = fs.download([f"{bench.query}/b"], tmp_path, skip_existing=True)

    assert contents(paths) == ["b"]


def test_ids_with_and_without_suffix(bench: Any, tmp_path: Path) -> None:
    """The file p.zip is a copy of the product of that name, not of p."""
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as made:
        made.writestr("a", b"a")
    zipped = archive.read_bytes()
    emulator = bench.start(products=[entry("p", zipped), entry("p.zip", zipped)])
    out = tmp_path / "out"
    out.mkdir()
    (out / "p.zip").write_bytes(zipped)
    fs = bench.filesystem(emulator)

    paths = fs.download(bench.query, out, skip_existing=True)

    assert emulator.downloads == 1
    assert len(set(paths)) == 2


def test_two_data_sets_with_one_id(tmp_path: Path) -> None:
    """A name says nothing where two of the products have it for their id."""
    bodies = {"EO:A": b"from A", "EO:B": b"from B"}
    offered = Catalogue([DatasetEntry(name, [entry("p", body)]) for name, body in bodies.items()])
    with Emulator(offered) as emulator:
        fs = HDAFileSystem(cache_dir=tmp_path / "cache", **emulator.storage_options)
        fs.prefetch(["hda://EO:A/p", "hda://EO:B/p"])
        fs.download(["hda://EO:A/p"], tmp_path / "out")

        one = fs.download(["hda://EO:B/p"], tmp_path / "out", skip_existing=True)
        assert Path(one[0]).read_bytes() == b"from B"
        both = fs.download(["hda://EO:B/p", "hda://EO:A/p"], tmp_path / "out", skip_existing=True)
        assert [Path(path).read_bytes() for path in both] == [b"from B", b"from A"]


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["get", "download", "get_file"])
def test_a_single_file_is_skipped(bench: Any, tmp_path: Path, verb: str) -> None:
    """The file that is named is looked at, whatever its name."""
    emulator = bench.start(days=2)
    fs = bench.filesystem(emulator)
    target = tmp_path / "mine.nc"
    copy = getattr(fs, verb)
    copy(bench.path(1), str(target))
    before = stamps(tmp_path)["mine.nc"]
    shutil.rmtree(bench.cache_dir / "v1" / "products")

    copy(bench.path(1), str(target), skip_existing=True)
    assert (emulator.downloads, stamps(tmp_path)["mine.nc"]) == (1, before)
    copy(bench.path(2), str(target), skip_existing=True)  # it is a copy of another product
    assert target.read_bytes() == bench.body(2)


def test_skipped_products_are_counted(bench: Any, tmp_path: Path) -> None:
    """The bar of a get ends at its end, also if nothing was to be done."""
    fs = bench.filesystem(bench.start(days=3))
    fs.get(bench.query + "/", f"{tmp_path}/out/", recursive=True)
    callback = Callback()

    fs.get(bench.query + "/", f"{tmp_path}/out/", True, callback, skip_existing=True)

    assert callback.value == callback.size


def test_another_version_is_fetched(bench: Any, tmp_path: Path) -> None:
    """A product that was corrected in the catalogue is not the one that was copied."""
    emulator = bench.start(products=[entry("p.csv", b"old", updated="2024-06-01T00:00:00Z")])
    fs = bench.filesystem(emulator)
    fs.download(bench.query, tmp_path / "out")
    emulator.republish(bench.dataset, "p.csv", b"new", updated="2024-07-01T00:00:00Z")
    fs.invalidate_cache()

    (path,) = fs.download(bench.query, tmp_path / "out", skip_existing=True)

    assert Path(path).read_bytes() == b"new"


def test_garbled_notes_are_no_notes(bench: Any, tmp_path: Path) -> None:
    """What is noted is read tolerantly: names and formats tell what they would tell without."""
    emulator = bench.start(days=1)
    fs = bench.filesystem(emulator)
    fs.download(bench.query, tmp_path / "out")
    notes = list((bench.cache_dir / "v1" / "copies").rglob("*.note"))
    assert len(notes) == 1
    stamp = json.loads(notes[0].read_text())["stamp"]

    for garbled in (b"", b"[]", json.dumps({"stamp": stamp, "product": {"a": 1}}).encode()):
        notes[0].write_bytes(garbled)
        fs.download(bench.query, tmp_path / "out", skip_existing=True)

    assert emulator.downloads == 1
