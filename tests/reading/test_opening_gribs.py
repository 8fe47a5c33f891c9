"""GRIB products: no variable dropped unsaid, and an index that is safe to share a disk with."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import pickle
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import xarray as xr
from rows import for_each

from hda_fsspec.errors import ProductFormatError
from hda_fsspec.reading.gribs import grib_parts, open_grib
from hda_fsspec.reading.opening import OpenOptions, open_local

pytest.importorskip("cfgrib")

SPLIT = {
    "ERA5_AN_20100101_0000.grb": 3,
    "cams-egg4-monthly.grib": 2,
    "t_on_different_level_types.grib": 2,
    "tp_on_different_grid_resolutions.grib": 2,
}


@pytest.fixture(scope="module")
def fields(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the first time and level of a real GRIB file: two variables of ten members."""
    eccodes: Any = importlib.import_module("eccodes")  # it has no types
    path = tmp_path_factory.mktemp("fields") / "fields.grib"
    wanted = None
    with (
        (shared_data / "grib/era5-levels-members.grib").open("rb") as source,
        path.open("wb") as target,
    ):
        while (message := eccodes.codes_grib_new_from_file(source)) is not None:
            here = [eccodes.codes_get(message, key) for key in ("dataDate", "dataTime", "level")]
            wanted = wanted or here
            if here == wanted:
                eccodes.codes_write(message, target)
            eccodes.codes_release(message)
    return path


@pytest.fixture
def product(fields: Path, tmp_path: Path) -> Path:
    """Copy the file into a folder of its own."""
    folder = tmp_path / "product {odd} name"
    folder.mkdir()
    return Path(shutil.copy(fields, folder / "data.grib"))


def _open(path: Path, scratch: Path, **options: Any) -> xr.Dataset:
    return open_local(path, OpenOptions.make(**options), name="P1", scratch=scratch)


@pytest.mark.slow
@for_each(("file", "parts"), SPLIT.items())
def test_the_filters_of_the_error_work(
    file: str, parts: int, shared_data: Path, tmp_path: Path
) -> None:
    """Each filter that the message names opens, and together they hold every message."""
    path = shared_data / "grib" / file
    with pytest.raises(ProductFormatError, match=r'product_engine_kwargs=\{"filter_by_keys"') as e:
        _open(path, tmp_path / "scratch")

    filters = grib_parts(path, {})

    assert len(filters) == parts
    found = []
    for each in filters:
        assert str(each) in str(e.value)
        with _open(path, tmp_path / "s", product_engine_kwargs={"filter_by_keys": each}) as ds:
            found += [variable.attrs["GRIB_paramId"] for variable in ds.data_vars.values()]
    import cfgrib

    index = cfgrib.FieldsetIndex.from_fieldset(
        cfgrib.FileStream(str(path)), ["paramId"], cfgrib.COMPUTED_KEYS
    )
    assert set(found) == set(index["paramId"])


def test_dropping_is_possible_when_asked_for(shared_data: Path, tmp_path: Path) -> None:
    """What cfgrib does by default can be had, by name."""
    path = shared_data / "grib/cams-egg4-monthly.grib"

    with _open(path, tmp_path, product_engine_kwargs={"errors": "ignore"}) as ds:
        assert list(ds.data_vars) == ["t2m"]


@pytest.mark.slow
def test_a_filter_that_fits_nothing_is_told(product: Path, tmp_path: Path) -> None:
    """Cfgrib makes an empty dataset of it; here it is an error with the values there are."""
    options = {"filter_by_keys": {"typeOfLevel": "surface"}}

    with pytest.raises(ProductFormatError, match="typeOfLevel: 'isobaricInhPa'"):
        _open(product, tmp_path, product_engine_kwargs=options)


@pytest.mark.slow
def test_the_index_is_kept_and_used(
    product: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The second opening reads the index; neither says anything in the log."""
    caplog.set_level(logging.INFO)
    scratch = tmp_path / "scratch"
    _open(product, scratch).close()
    (index,) = scratch.rglob("*.idx")
    made = index.stat()

    with _open(product, scratch) as ds:
        assert ds["t"].isel(number=0).mean() > 200

    assert index.stat().st_mtime_ns == made.st_mtime_ns
    assert list(scratch.rglob("*")) == [index.parent, index]
    assert list(product.parent.iterdir()) == [product]
    assert not [each for each in caplog.records if each.name.startswith("cfgrib")]


@pytest.mark.slow
def test_another_product_of_the_same_length_has_its_own_index(
    shared_data: Path, tmp_path: Path
) -> None:
    """An index belongs to what a file holds, not to where it lies."""
    path = tmp_path / "data.grib"
    days = sorted((shared_data / "c3s/era5-2t-uk-2019-03-grib/daily").glob("*.grib"))[:2]
    times = []
    for day in days:
        shutil.copy(day, path)
        with _open(path, tmp_path / "scratch") as ds:
            times.append(str(ds["time"].values[0])[:10])

    assert times == ["2019-03-01", "2019-03-02"]
    assert len(list((tmp_path / "scratch").rglob("*.idx"))) == 2


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to own files as somebody else")
def test_an_index_of_somebody_else_is_not_loaded(product: Path, tmp_path: Path) -> None:
    """An index is a pickle: in a folder that others may write to it is neither read nor made."""
    scratch = tmp_path / "scratch"
    folder = scratch / f"grib-{os.geteuid()}"
    folder.mkdir(parents=True)
    os.chown(folder, 12345, 12345)

    with _open(product, scratch) as ds:
        assert set(ds.data_vars) == {"t", "z"}

    assert list(folder.iterdir()) == []


@pytest.mark.slow
def test_an_index_others_may_write_to_is_not_used(product: Path, tmp_path: Path) -> None:
    """The same for a folder of ours with permissions for the group."""
    scratch = tmp_path / "scratch"
    folder = scratch / f"grib-{os.geteuid()}"
    folder.mkdir(parents=True)
    folder.chmod(0o770)

    _open(product, scratch).close()

    assert list(folder.iterdir()) == []


class _Trap:
    """A pickle that does something when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.slow
@pytest.mark.parametrize(("where", "is_kept"), [("scratch", True), ("grib", True), ("grib", False)])
def test_an_index_that_is_planted_at_the_last_moment(
    where: str, is_kept: bool, product: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who puts a folder of theirs in place of ours before cfgrib opens it has nothing loaded."""
    scratch = tmp_path / "scratch"
    _open(product, scratch).close()
    (index,) = scratch.rglob("*.idx")
    if not is_kept:
        index.unlink()
    sizes = []
    opened = xr.open_dataset

    def swap_and_open(*args: Any, **kwargs: Any) -> xr.Dataset:
        replaced = scratch if where == "scratch" else index.parent
        replaced.rename(replaced.with_name("away"))
        index.parent.mkdir(parents=True, mode=0o700)
        index.write_bytes(pickle.dumps(_Trap(tmp_path / "executed")))
        sizes.append(len(kwargs["indexpath"]))
        return opened(*args, **kwargs)

    monkeypatch.setattr("hda_fsspec.reading.gribs.xr.open_dataset", swap_and_open)
    with _open(product, scratch) as ds:
        assert set(ds.data_vars) == {"t", "z"}

    assert len(sizes) == 1
    assert not (tmp_path / "executed").exists()


@pytest.mark.slow
def test_a_link_in_place_of_the_folder_of_indexes(product: Path, tmp_path: Path) -> None:
    """A link is not followed, to write an index or to load one, be it to a private folder."""
    scratch, elsewhere = tmp_path / "scratch", tmp_path / "elsewhere"
    _open(product, scratch).close()
    (index,) = scratch.rglob("*.idx")
    index.write_bytes(pickle.dumps(_Trap(tmp_path / "executed")))
    index.parent.rename(elsewhere)
    index.parent.symlink_to(elsewhere)

    with _open(product, scratch) as ds:
        assert set(ds.data_vars) == {"t", "z"}

    assert not (tmp_path / "executed").exists()
    assert [path.name for path in elsewhere.iterdir()] == [index.name]


@pytest.mark.slow
def test_no_index_where_nothing_can_be_written(product: Path, tmp_path: Path) -> None:
    """A read-only cache opens without an index and without a word."""
    file = tmp_path / "file"
    file.touch()

    with _open(product, file / "scratch") as ds:
        assert set(ds.data_vars) == {"t", "z"}


@pytest.mark.slow
def test_many_threads_share_one_index(
    product: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody sees an index that is half written, and one of them stays."""
    scratch = tmp_path / "scratch"
    sizes = []

    def run() -> None:
        with open_grib(product, {}, name="P1", scratch=scratch) as ds:
            sizes.append(ds.sizes["number"])

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sizes == [10] * 4
    assert len([path for path in scratch.rglob("*") if path.is_file()]) == 1
    assert not [each for each in caplog.records if each.name.startswith("cfgrib")]


#: Runs each script in a fork of its own, which ends as Python does, and prints their exit codes.
_EACH = """
import gc, json, os, sys
import dask.array, hda_fsspec.client, hda_fsspec.lazy.open_product, pandas, requests, xarray

in_question = {"cfgrib", "eccodes", "netCDF4", "pyproj", "rasterio", "rioxarray"}
assert not in_question & set(sys.modules), "what is to be loaded in some order is there already"
gc.freeze()  # what all share need not be copied for each
forks = []
for code, *arguments in json.loads(sys.argv[1]):
    forks.append(os.fork())
    if not forks[-1]:
        sys.argv[1:] = arguments
        exec(code)
        break
else:
    print([os.waitstatus_to_exitcode(os.waitpid(fork, 0)[1]) for fork in forks])
"""
_OPEN_FILES = """
from pathlib import Path
from hda_fsspec.reading.opening import OpenOptions, open_local

for path in sys.argv[4:]:
    ds = open_local(Path(path), OpenOptions(), name="P1", scratch=Path(sys.argv[3]))
    ds.isel({dim: slice(9) for dim in ds.sizes}).load()
"""
_OPEN_PRODUCT = """
import json, sys
import xarray as xr

options = json.loads(sys.argv[2])
ds = xr.open_dataset(sys.argv[1], engine="hda", storage_options=options)
assert float(ds["sst"].sum()) == 3.0
"""


@pytest.mark.slow
def test_python_ends_well(stacks: Any, shared_data: Path, tmp_path: Path) -> None:
    """It ends with 0 after a product, a GRIB file and a raster, whatever library came first."""
    if not all(map(importlib.util.find_spec, ("cfgrib", "eckitlib", "pyproj", "rioxarray"))):
        pytest.skip("needs the extras grib and geotiff, whose libraries must go together")
    stacks.serve({"sst_20240501.nc": xr.Dataset({"sst": ("x", [1.0, 2.0])})})
    options = json.dumps(stacks.options, default=str)
    product = [f"{stacks.query[:-1]}sst_20240501.nc", options]
    files = ["grib/optical-cams.grib", "sentinel-2/S2_20250602_SCL.jp2"]
    more = [str(tmp_path / "scratch"), *(str(shared_data / file) for file in files)]
    scripts = [
        [_OPEN_PRODUCT + _OPEN_FILES, *product, *more],
        ["import eccodes\n" + _OPEN_PRODUCT, *product],
        ["import rioxarray\n" + _OPEN_PRODUCT, *product],
    ]

    done = subprocess.run(
        [sys.executable, "-c", _EACH, json.dumps(scripts)],
        check=False,
        capture_output=True,
        text=True,
        timeout=100,
    )

    assert (done.returncode, done.stdout) == (0, "[0, 0, 0]\n"), done.stderr
