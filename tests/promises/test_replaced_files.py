"""A product's file is replaced by another of the same name: no old header decodes new values."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from hda_fsspec.errors import ProductMismatchError
from hda_fsspec.lazy import openfiles
from hda_fsspec.lazy.open_file_pool import Pool, is_unchanged
from hda_fsspec.stack.header_reuse import AlikeFiles

LON = np.arange(8.0)


def _name(day: int) -> str:
    return f"sst_2024050{day}.nc"


def _day(day: int, *, scale: float = 0.5, lon: float = 0.0) -> xr.Dataset:
    ds = xr.Dataset(
        {
            "sst": (("time", "lon"), 10.0 * day + LON[np.newaxis]),
            "mask": ("lon", 2 * (lon + LON)),
        },
        {"time": [np.datetime64(f"2024-05-0{day}", "ns")], "lon": lon + LON},
    )
    ds["sst"].encoding = {"dtype": "int16", "scale_factor": scale, "_FillValue": -9999}
    ds["time"].encoding = {"units": "hours since 1950-01-01", "dtype": "int32"}
    return ds


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Write three daily products, which a test does not change."""
    folder = tmp_path_factory.mktemp("days")
    for day in (1, 2, 3):
        _day(day).to_netcdf(folder / _name(day))
    return {path.name: path for path in sorted(folder.iterdir())}


@pytest.fixture
def days(stacks: Any, files: dict[str, Path]) -> Any:
    """Three daily products."""
    stacks.serve(files)
    return stacks


def _local_file(days: Any, day: int) -> Path:
    entries = {entry.product.product_id: entry.path for entry in days.client.cache.entries()}
    return Path(entries[_name(day)])


def _replace(days: Any, day: int, ds: xr.Dataset) -> None:
    """Put another file of the same length in the place of a local product, as a process would."""
    path, other = _local_file(days, day), days.folder / "other.nc"
    other.unlink(missing_ok=True)
    ds.to_netcdf(other)
    assert other.stat().st_size == path.stat().st_size
    other.replace(path)


def _lose_a_variable(days: Any, day: int) -> None:
    """Put a file in the place of a local product that lacks a variable."""
    _day(day).rename(sst="abc").to_netcdf(days.folder / "other.nc")
    (days.folder / "other.nc").replace(_local_file(days, day))
    _close_handles(days.folder)


def _after_opening(
    monkeypatch: pytest.MonkeyPatch, day: int, work: Callable[[Any], None]
) -> list[Path]:
    """Do something once, with the variables of a product's file that is open; list it then."""
    get = Pool.get
    done: list[Path] = []

    def get_and_work(pool: Any, key: Any, mark: Any, open_it: Any) -> Any:
        found = get(pool, key, mark, open_it)
        if not done and key[0].name == _name(day):
            done.append(key[0])
            work(found["/"] if isinstance(found, dict) else found)
        return found

    monkeypatch.setattr(Pool, "get", get_and_work)
    return done


def _read_by_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let numbers lie where only the library finds them."""
    monkeypatch.setattr(openfiles, "read_stored_directly", lambda *_, **__: None)


def _close_handles(folder: Path) -> None:
    """Let xarray close its oldest handles, as it does when 128 files are open."""
    path = folder / "unrelated.nc"
    xr.Dataset({"v": ("x", [1.0])}).to_netcdf(path)
    options: Any = xr.set_options
    with options(file_cache_maxsize=1), xr.open_dataset(path) as ds:
        ds.load()


@pytest.mark.slow
@pytest.mark.parametrize("way", ["as a dataset", "by itself"])
def test_another_packing(days: Any, way: str) -> None:
    """A handle that is opened again is decoded by the header of the file that it opens."""
    found = days.open()
    found.compute()
    if way == "by itself":
        days.forget()
    found = days.open()
    np.testing.assert_array_equal(found["sst"].values, [10.0 + LON, 20.0 + LON, 30.0 + LON])

    _replace(days, 2, _day(2, scale=0.25))
    _close_handles(days.folder)

    for _ in range(2):
        np.testing.assert_array_equal(found["sst"].isel(time=1).values, 20.0 + LON)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["as a dataset", "as one like others", "by its bytes"])
def test_a_file_that_is_replaced_while_it_is_opened(
    days: Any, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """The header of the old file neither decodes the new one nor is kept as its header."""
    found = days.open()
    found.compute()
    days.forget()
    if way == "as a dataset":
        found = days.open()  # it has not seen yet what others are stored like
    if way == "as one like others":
        monkeypatch.setattr(AlikeFiles, "look_at_bytes", lambda *_: None)
    where, name = {
        "as a dataset": (openfiles, "open_local"),
        "as one like others": (openfiles, "open_variables"),
        "by its bytes": (AlikeFiles, "look_at_bytes"),
    }[way]
    open_it, replaced = getattr(where, name), list[Path]()

    def open_and_replace(*args: Any, **options: Any) -> Any:
        opened = open_it(*args, **options)
        path = Path(args[1].name) if way == "by its bytes" else args[0]
        if path.name == _name(2) and not replaced:
            replaced.append(path)
            _replace(days, 2, _day(2, scale=0.25, lon=100.0))
            _close_handles(days.folder)
        return opened

    monkeypatch.setattr(where, name, open_and_replace)
    # Only touched, so that it is to be checked anew.
    os.utime(_local_file(days, 2), (0, 0))

    for _ in range(2):
        with pytest.raises(ProductMismatchError, match=r"20240502.nc .* coordinate 'lon'"):
            found["sst"].isel(time=1).load()
    assert len(replaced) == 1
    days.forget()
    with pytest.raises(ProductMismatchError, match=r"20240502.nc .* coordinate 'lon'"):
        days.open()["sst"].isel(time=1).load()


@pytest.mark.slow
def test_a_file_that_does_not_fit_any_more(days: Any) -> None:
    """Another process replaced it with one of the same length: it is checked anew when read."""
    found = days.open()
    found.compute()

    _replace(days, 2, _day(2, lon=100.0))

    with pytest.raises(ProductMismatchError, match=r"20240502.nc .* coordinate 'lon'"):
        found["sst"].isel(time=1).load()
    np.testing.assert_array_equal(found["sst"].isel(time=0).values, 10.0 + LON)


@pytest.mark.slow
def test_the_template_does_not_fit_any_more(days: Any) -> None:
    """A variable that all products have in common is not read from a file of another grid."""
    found = days.open()
    np.testing.assert_array_equal(found["mask"].values, 2 * LON)

    _replace(days, 1, _day(1, lon=100.0))

    for name in ("mask", "sst"):
        with pytest.raises(ProductMismatchError, match=r"20240501.nc .* coordinate 'lon'"):
            found[name].load()


@pytest.mark.slow
@pytest.mark.parametrize("is_tree", [False, True], ids=["dataset", "tree"])
def test_a_single_product_that_does_not_fit_any_more(days: Any, is_tree: bool) -> None:
    """Its index is in memory: values of a file with another index do not go with it."""
    path = f"{days.query[:-1]}{_name(2)}"
    found = days.open(path)
    if is_tree:
        options = {"engine": "hda", "storage_options": days.options, "cache": False}
        found = xr.open_datatree(path, **options).to_dataset()

    _replace(days, 2, _day(2, scale=0.25))
    np.testing.assert_array_equal(found["sst"].values[0], 20.0 + LON)

    _replace(days, 2, _day(2, lon=100.0))
    with pytest.raises(ProductMismatchError, match=r"20240502.nc is another .* Open it anew"):
        found["mask"].load()
    np.testing.assert_array_equal(days.open(path)["mask"].values, 200.0 + 2 * LON)


def test_a_file_that_is_replaced_and_evicted_at_once(
    days: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read twice within a moment: the second read is not decoded by what the first one found."""
    found = days.open(f"{days.query[:-1]}{_name(2)}")
    np.testing.assert_array_equal(found["sst"].values[0], 20.0 + LON)
    _replace(days, 2, _day(2, scale=0.25))
    _close_handles(days.folder)
    evicted: list[str] = []

    def evict_and_look(path: str, mark: Any) -> bool:
        if not evicted:
            evicted.append(path)
            shutil.rmtree(Path(path).parent)
        return is_unchanged(path, mark)

    monkeypatch.setattr(openfiles, "is_unchanged", evict_and_look)

    np.testing.assert_array_equal(found["sst"].values[0], 20.0 + LON)
    assert len(evicted) == 1


def test_another_file_makes_no_sense_by_the_header_of_the_first(days: Any) -> None:
    """Read twice within a moment, of a file that has lost a variable meanwhile."""
    found = days.open(f"{days.query[:-1]}{_name(2)}")
    np.testing.assert_array_equal(found["sst"].values[0], 20.0 + LON)
    _lose_a_variable(days, 2)

    with pytest.raises(ProductMismatchError, match=r"20240502.nc is another .* Open it anew"):
        found["sst"].load()


@pytest.mark.slow
@pytest.mark.parametrize("way", ["a product", "a stack", "a stack of known headers"])
def test_a_file_that_is_replaced_read_and_evicted(
    days: Any, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """Within one read: its values are not given out by the header of the file before."""
    found = days.open() if way != "a product" else days.open(f"{days.query[:-1]}{_name(2)}")
    if way == "a stack of known headers":
        _read_by_the_library(monkeypatch)
        found.compute()
        days.forget()
        found = days.open()
    days.client.resources.close()

    def replace_and_evict(variables: Any) -> None:
        path = _local_file(days, 2)
        assert variables["sst"].shape == (1, 8)  # decoded by the old header from now on
        _replace(days, 2, _day(2, scale=0.25))
        _close_handles(days.folder)
        assert variables["mask"].to_numpy()[1] == 2.0  # xarray opens the other file
        shutil.rmtree(path.parent)

    replaced = _after_opening(monkeypatch, 2, replace_and_evict)

    np.testing.assert_array_equal(found["sst"].sel(time="2024-05-02").values, 20.0 + LON)
    assert len(replaced) == 1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The product .* has variables")
@pytest.mark.parametrize("way", ["a product", "a stack of known headers"])
def test_a_file_that_loses_a_variable_while_it_is_read(
    days: Any, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """What a library makes of such a mixture is not the error: the other file does not fit."""
    found = days.open(f"{days.query[:-1]}{_name(2)}")
    if way == "a stack of known headers":
        _read_by_the_library(monkeypatch)
        days.open().compute()
        days.forget()
        found = days.open()
    days.client.resources.close()
    replaced = _after_opening(monkeypatch, 2, lambda _: _lose_a_variable(days, 2))

    with pytest.raises(ProductMismatchError, match=r"20240502.nc"):
        found["sst"].sel(time="2024-05-02").load()
    assert len(replaced) == 1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The product .* has variables")
@pytest.mark.parametrize("moment", ["before", "within"])
@pytest.mark.parametrize("is_overwritten", [False, True], ids=["replaced", "overwritten"])
def test_a_file_that_is_replaced_while_it_is_read_where_its_numbers_lie(
    days: Any, monkeypatch: pytest.MonkeyPatch, moment: str, is_overwritten: bool
) -> None:
    """Values are those of one file, which fits: of the one before, or of the other."""
    days.open().compute()
    days.forget()
    found = days.open()
    days.client.resources.close()
    path, done = _local_file(days, 2), []

    def replace() -> None:
        done.append(1)
        _day(2, scale=0.25).rename(sst="abc").to_netcdf(days.folder / "other.nc")
        if is_overwritten:
            path.write_bytes((days.folder / "other.nc").read_bytes())
        else:
            (days.folder / "other.nc").replace(path)
        _close_handles(days.folder)

    name = "read_stored_directly" if moment == "before" else "read_stored"
    read = getattr(openfiles, name)

    def replace_and_read(*given: Any, **how: Any) -> Any:
        if not done:
            replace()
        return read(*given, **how)

    monkeypatch.setattr(openfiles, name, replace_and_read)
    day = found["sst"].sel(time="2024-05-02")
    if moment == "within" and not is_overwritten:
        np.testing.assert_array_equal(day.values, 20.0 + LON)
        return

    with pytest.raises(ProductMismatchError, match=r"20240502.nc"):
        day.load()
    assert done == [1]


def test_a_member_that_is_gone_is_unpacked_again(stacks: Any) -> None:
    """The archive is as it was, but nobody has the file open that was unpacked from it."""
    inside = stacks.folder / "inside.nc"
    _day(2).to_netcdf(inside)
    archive = stacks.folder / "sst_20240502.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.write(inside, "inside.nc")
    stacks.serve({archive.name: archive})
    found = stacks.open(f"{stacks.query[:-1]}{archive.name}")
    found["sst"].load()

    (entry,) = stacks.client.cache.entries()
    shutil.rmtree(entry.folder / ".scratch")
    _close_handles(stacks.folder)

    np.testing.assert_array_equal(found["mask"].values, 2 * LON)


@pytest.mark.slow
def test_a_file_that_is_evicted_while_it_is_open(days: Any) -> None:
    """It is gone and no other is there: it is fetched again, and read."""
    found = days.open()
    found.compute()
    for entry in list(days.client.cache.entries()):
        days.client.cache.remove(entry.key)

    np.testing.assert_array_equal(found["sst"].isel(time=1).values, 20.0 + LON)


@pytest.mark.slow
def test_a_kept_header_is_not_that_of_a_file_that_came_later(days: Any) -> None:
    """Opened anew, the times are those of the file that is local, not those that were kept."""
    days.open(scan=True).load()
    days.forget()
    later = _day(2).assign_coords(time=[np.datetime64("2024-05-02T12", "ns")])
    later["time"].encoding = _day(2)["time"].encoding

    _replace(days, 2, later)

    found = days.open(scan=True)
    assert found["time"].values[1] == np.datetime64("2024-05-02T12", "ns")
    np.testing.assert_array_equal(found["sst"].values[1], 20.0 + LON)


@pytest.mark.slow
def test_headers_of_another_xarray_are_not_taken_up(
    days: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How values are decoded changes between releases; what was decoded is read again."""
    days.open(scan=True)
    days.evict()
    days.forget()
    days.open(scan=True)
    assert not list(days.client.cache.entries())

    monkeypatch.setattr(xr, "__version__", "another")
    days.forget()
    days.open(scan=True)

    assert len(list(days.client.cache.entries())) == 3


@pytest.mark.slow
def test_a_lookup_sees_that_a_file_was_replaced(days: Any) -> None:
    """An entry is remembered with its file: one of the same length has a record of its own."""
    days.open().load()
    cache = days.client.cache
    before = {entry.product.product_id: entry for entry in cache.entries()}[_name(2)]
    assert cache.lookup(before.product) is not None

    record = before.folder / "record.json"
    later = before.fetched_at + 100.0
    record.write_text(record.read_text().replace(repr(before.fetched_at), repr(later)))
    _replace(days, 2, _day(2, lon=100.0))

    found = cache.lookup(before.product)
    assert found is not None
    assert found.fetched_at == later


def test_a_file_that_cannot_be_read_singly_is_tried_once(tmp_path: Path) -> None:
    """What was found out of a file is remembered, also that there is nothing to open."""
    pool: Pool[Path, None] = Pool(2, lambda _, __: True)
    tried: list[int] = []

    for length in (1, 1, 2, 2):
        mark = (0.0, length, 0, "")
        pool.get(tmp_path, mark, lambda length=length: tried.append(length))  # type: ignore[misc]

    assert tried == [1, 2]
