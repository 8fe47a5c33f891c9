"""What the listing or the installation dooms fails before anything is ordered."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import xarray as xr
from rows import for_each

import hda_fsspec
from hda_fsspec.emulator import Emulator, dated_product
from hda_fsspec.errors import ConfigurationError, QueryError
from hda_fsspec.reading.options import OpenOptions
from hda_fsspec.reading.requirements import check_installed

DATASET = "EO:TEST:DAT:DAILY"
QUERY = f"hda://{DATASET}/enddate=2024-05-31/startdate=2024-05-01"
SAME = {"startdate": "2024-05-03T00:00:00.000Z", "enddate": "2024-05-03T23:59:59.999Z"}


def day(number: int = 1, **more: Any) -> xr.Dataset:
    """Return a day of data."""
    return xr.Dataset(
        {"sst": (("time", "x"), [[1.0, 2.0]])},
        coords={"time": [np.datetime64(f"2024-05-{number:02}T12:00", "ns")], **more},
    )


@pytest.fixture
def nothing_ordered(stacks: Any) -> Iterator[None]:
    """No order may be seen when the test is over."""
    yield
    emulator: Emulator = stacks.emulator
    assert (emulator.order_posts, emulator.downloads) == (0, 0)


def serve(stacks: Any, names: list[str], **fields: Any) -> None:
    """Serve products of these names; what is in them matters to nobody."""
    entries = [dated_product(name, b"CDF\x01" + bytes(28), **fields) for name in names]
    stacks.emulator = stacks.bench.start(products=entries)
    stacks.options = stacks.bench.settings(stacks.emulator)


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 16])
@pytest.mark.parametrize("dim", [None, "time"])
@pytest.mark.usefixtures("nothing_ordered")
def test_products_of_equal_times(stacks: Any, count: int, dim: str | None) -> None:
    """Products that the catalogue shows at equal times are no stack along time."""
    stacks.serve({f"p{n:02}_20240503.nc": day(3) for n in range(count)}, fields=SAME)

    with pytest.raises(QueryError, match="the same times of") as refused:
        stacks.open(concat_dim=dim)

    assert f"{count} of its {count} products" in str(refused.value)
    assert "Nothing was ordered." in refused.value.__notes__
    assert "p00_20240503.nc" in str(refused.value)


@pytest.mark.usefixtures("nothing_ordered")
def test_two_of_many_days(stacks: Any) -> None:
    """One pair among other days is enough, and is named."""
    names = [f"a_2024050{number}.nc" for number in range(1, 6)]
    stacks.serve({name: day() for name in [*names, "b_20240504.nc"]})

    with pytest.raises(QueryError, match=r"2 of its 6 products: a_20240504.*at 2024-05-04"):
        stacks.open()


@pytest.mark.usefixtures("nothing_ordered")
def test_tiles_are_told_from_versions(stacks: Any) -> None:
    """Products of one time and different ground are told as tiles."""
    boxes = {f"t{n}_20240503.nc": (n, 0, n + 1, 1) for n in range(4)}
    stacks.serve(
        {name: day(3) for name in boxes}, fields={**SAME, "bbox": lambda name: boxes[name]}
    )

    with pytest.raises(QueryError, match="in different places, as tiles do"):
        stacks.open()


def test_what_the_products_say_goes_first(stacks: Any) -> None:
    """With the headers read, the times of the products count, not those of the catalogue."""
    fields = {"startdate": "2024-05-01T00:00:00.000Z", "enddate": "2024-05-31T23:59:59.999Z"}
    stacks.serve({f"p{n}_2024050{n}.nc": day(n) for n in (1, 2, 3)}, fields=fields)

    scanned = stacks.open(scan=True)
    again = stacks.open()

    assert scanned.sizes["time"] == again.sizes["time"] == 3
    assert stacks.emulator.orders == 3


@pytest.mark.slow
def test_overlaps_that_may_be(stacks: Any) -> None:
    """Products of one time are no fault where ``on_overlap`` says which of them to take."""
    published = {"a_20240503.nc": "2024-06-01", "b_20240503.nc": "2024-07-01"}
    fields = {**SAME, "publication": lambda name: f"{published[name]}T00:00:00.000Z"}
    stacks.serve({name: day(3) for name in published}, fields=fields)

    dataset = stacks.open(on_overlap="latest")

    assert [each.product_id for each in dataset.sst.hda.products] == ["b_20240503.nc"]


def test_a_dimension_that_is_no_time(stacks: Any) -> None:
    """Products of equal times lie along a dimension of their own where one is named."""
    profiles = {f"p{n}_20240503.nc": xr.Dataset({"t": ("obs", [1.0, n])}) for n in (1, 2)}
    stacks.serve(profiles, fields=SAME)

    assert stacks.open(concat_dim="obs").t.values.tolist() == [1.0, 1.0, 1.0, 2.0]


def without(monkeypatch: pytest.MonkeyPatch, *modules: str) -> None:
    """Let packages look as if they were not installed."""
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, package=None: None if name in modules else real(name, package),
    )
    for module in modules:
        monkeypatch.setitem(sys.modules, module, None)


NEEDS = [
    ("a_20240501.grib", ("cfgrib",), "grib"),
    ("a_20240501.GRB2", ("cfgrib",), "grib"),
    ("a_20240501.tif", ("rioxarray",), "geotiff"),
    ("a_20240501.jp2", ("rioxarray",), "geotiff"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "modules", "extra"), NEEDS)
@pytest.mark.usefixtures("nothing_ordered")
def test_a_missing_extra(
    stacks: Any,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    modules: tuple[str, ...],
    extra: str,
) -> None:
    """A format whose package is not installed is refused with the command that installs it."""
    serve(stacks, [name])
    without(monkeypatch, *modules)
    options = {"engine": "hda", "storage_options": stacks.options}
    ways = {
        "product": lambda: xr.open_dataset(f"{QUERY}/{name}", **options),
        "query": stacks.open,
        "scan": lambda: stacks.open(scan=True),
        "tree": lambda: xr.open_datatree(f"{QUERY}/{name}", **options),
        "tree of a query": lambda: xr.open_datatree(QUERY, **options),
        "classical": lambda: hda_fsspec.open_mfdataset(QUERY, storage_options=stacks.options),
    }

    for way, open_it in ways.items():
        with pytest.raises(ConfigurationError, match=rf"hda-fsspec\[{extra}\]"):
            pytest.fail(f"{way} opens {open_it()}")


@for_each(
    ("query", "says"),
    [
        ({"data_format": ("grib",)}, "cfgrib"),
        ({"format": ("netcdf", "GRIB2")}, "cfgrib"),
        ({"outputFormat": ("GeoTIFF",)}, "outputFormat=GeoTIFF"),
        ({"variable": ("grib",), "data_format": ("netcdf",)}, None),
    ],
)
def test_a_format_that_was_asked_for(
    monkeypatch: pytest.MonkeyPatch, query: dict[str, tuple[str, ...]], says: str | None
) -> None:
    """Where a query names the format, that tells what it needs, too."""
    without(monkeypatch, "cfgrib", "rioxarray")

    if says is None:
        check_installed(OpenOptions(), ["a1b2c3"], query)
        return
    with pytest.raises(ConfigurationError, match=says):
        check_installed(OpenOptions(), ["a1b2c3"], query)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["cfgrip", "zar", "cfgrib"])
@pytest.mark.usefixtures("nothing_ordered")
def test_an_engine_that_is_not_there(
    stacks: Any, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    """An engine that xarray does not have, or that is not complete, is refused."""
    without(monkeypatch, "cfgrib")
    serve(stacks, ["sst_20240501.nc", "sst_20240502.nc"])
    options = {"storage_options": stacks.options, "product_engine": engine}
    path = f"{QUERY}/sst_20240501.nc"
    ways: dict[str, Callable[[], Any]] = {
        "product": lambda: xr.open_dataset(path, engine="hda", **options),
        "query": lambda: xr.open_dataset(QUERY, engine="hda", **options),
        "tree": lambda: xr.open_datatree(path, engine="hda", **options),
        "classical": lambda: hda_fsspec.open_mfdataset(QUERY, **options),
    }

    for way, open_it in ways.items():
        with pytest.raises(ConfigurationError, match=engine):
            pytest.fail(f"{way} opens {open_it()}")


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ({"conbine": "nested"}, "Did you mean 'combine'"),
        ({"engine": "netcdf4"}, "no option 'engine'"),
        ({"nonsense": 1}, "no option 'nonsense'"),
    ],
)
@pytest.mark.usefixtures("nothing_ordered")
def test_an_option_that_nobody_knows(stacks: Any, option: dict[str, Any], says: str) -> None:
    """``open_mfdataset`` refuses a misspelt option before it fetches all products."""
    serve(stacks, ["sst_20240501.nc", "sst_20240502.nc"])

    with pytest.raises(TypeError, match=says):
        hda_fsspec.open_mfdataset(QUERY, storage_options=stacks.options, **option)
