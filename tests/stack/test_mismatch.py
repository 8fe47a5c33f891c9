"""A product that differs from the others is told when it is read; the others read as they are."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from hda_fsspec.errors import ProductMismatchError, QueryError

DAYS, ODD = 3, 2
FIRST = np.datetime64("2024-05-01T12", "ns")
LAT, LON = [10.0, 5.0, 0.0], [1.0, 2.0, 3.0, 4.0]
HOUR, DAY = np.timedelta64(1, "h"), np.timedelta64(1, "D")


def at(day: int) -> np.datetime64:
    """Return the time of a day's product."""
    return FIRST + (day - 1) * DAY


def name(day: int) -> str:
    """Return the id of a day's product."""
    return f"p_{str(at(day))[:10].replace('-', '')}.nc"


def product(day: int) -> xr.Dataset:
    """Return a day's product."""
    values = np.arange(12.0).reshape(1, 3, 4) + 100 * day
    ds = xr.Dataset(
        {
            "sst": (("time", "lat", "lon"), values, {"units": "K"}),
            "count": (("time", "lat"), np.full((1, 3), day, dtype="i2")),
            "mask": (("lat", "lon"), np.eye(3, 4, dtype="i1")),
        },
        coords={
            "time": [at(day)],
            "lat": LAT,
            "lon": LON,
            "run": np.datetime64("2024-01-01", "ns"),
        },
    )
    ds["run"].attrs["standard_name"] = "forecast_reference_time"
    ds["run"].encoding = {"units": "hours since 2024-01-01"}
    ds["time"].encoding = {"units": "hours since 2024-01-01"}
    return ds


def changed_scale(ds: xr.Dataset) -> xr.Dataset:
    """Pack the values with numbers of their own."""
    ds["sst"].encoding = {"dtype": "i4", "scale_factor": 0.25, "_FillValue": -1}
    return ds


def typed(**dtypes: str) -> Callable[[xr.Dataset], xr.Dataset]:
    """Return what gives variables another dtype."""
    return lambda ds: ds.assign({key: ds[key].astype(dtype) for key, dtype in dtypes.items()})


@dataclasses.dataclass(frozen=True)
class Odd:
    """What is odd about one product, and what is said of it; None: nothing, it is allowed."""

    change: Callable[[xr.Dataset], xr.Dataset]
    message: str | None
    step: str = "Narrow the query"


CASES = {
    "another grid": Odd(
        lambda ds: ds.isel(lat=[0, 1]), "dimension 'lat' has 2 elements, not 3", "open_datatree"
    ),
    "shifted longitudes": Odd(
        lambda ds: ds.assign_coords(lon=ds.lon + 360), "coordinate 'lon' has other", "preprocess="
    ),
    "another order of dimensions": Odd(
        lambda ds: ds.transpose("time", "lon", "lat"),
        r"'sst' has dimensions \('time', 'lon', 'lat'\)",
    ),
    "another dtype": Odd(typed(count="f4"), "'count' is of dtype float32, not int16", "scan=True"),
    "texts for numbers": Odd(
        lambda ds: ds.assign(count=(("time", "lat"), [["a", "b", "c"]])), "'count' is of dtype"
    ),
    "other units": Odd(
        lambda ds: ds.assign(sst=ds.sst.assign_attrs(units="degC")), "units of 'sst' are 'degC'"
    ),
    "another time": Odd(
        lambda ds: ds.assign_coords(time=ds.time + 6 * HOUR),
        "time is 2024-.*T18:00:00.* where 2024-.*T12:00:00.* was predicted",
        "scan=True",
    ),
    "a time of the next day": Odd(
        lambda ds: ds.assign_coords(time=ds.time + DAY), "was predicted", "scan=True"
    ),
    "two steps": Odd(
        lambda ds: xr.concat(
            [ds, ds.assign_coords(time=ds.time + HOUR)], "time", data_vars="minimal"
        ),
        "it has 2 steps along 'time', not 1",
        "scan=True",
    ),
    "no step": Odd(lambda ds: ds.isel(time=[]), "it has 0 steps along 'time'", "scan=True"),
    "another scalar coordinate": Odd(
        lambda ds: ds.assign_coords(run=ds.run + DAY),
        "'run', which lacks .* another value .2024-01-02T00.*, not 2024-01-01T00",
        r"concat_variables=\['run'\]",
    ),
    "another static variable": Odd(
        lambda ds: ds.assign(mask=ds.mask + np.int8(1)),
        "'mask', which lacks the dimension 'time', has another value",
        r"concat_variables=\['mask'\]",
    ),
    "a narrower dtype": Odd(typed(sst="f4", count="i1"), None),
    "another width of coordinates": Odd(lambda ds: ds.assign_coords(lat=ds.lat.astype("f4")), None),
    "another scale": Odd(changed_scale, None),
    "other attributes": Odd(lambda ds: ds.assign_attrs(history="reprocessed"), None),
}


def together(made: Sequence[xr.Dataset]) -> xr.Dataset:
    """Return what products are as one."""
    return xr.concat(made, "time", data_vars="minimal", coords="minimal", compat="override")


# Between two that fit each other stands one of each odd kind.
CROWD = 2 * len(CASES) + 3
ODD_DAYS = {case: 3 + 2 * number for number, case in enumerate(CASES)}


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory, make_stacks: Any) -> Iterator[Any]:
    """Serve all of them, each day one."""
    stacks = make_stacks(tmp_path_factory.mktemp("crowd"))
    made = {day: product(day) for day in range(1, CROWD + 1)}
    for case, day in ODD_DAYS.items():
        made[day] = CASES[case].change(made[day])
    stacks.serve({name(day): ds for day, ds in made.items()})
    yield stacks
    stacks.bench.close()


@pytest.fixture(scope="module")
def opened(crowd: Any) -> dict[str, xr.Dataset]:
    """Open all of them as one, in two ways, before any of them was read."""
    return {"in memory": crowd.open(chunks=None), "chunked": crowd.open(chunks={})}


@pytest.fixture(params=["in memory", "chunked"])
def found(request: pytest.FixtureRequest, opened: dict[str, xr.Dataset]) -> xr.Dataset:
    """All of them, in one of the ways."""
    return opened[request.param]


@pytest.mark.slow
@pytest.mark.parametrize("case", [key for key, odd in CASES.items() if odd.message])
def test_one_product_that_differs(found: xr.Dataset, case: str) -> None:
    """It raises when it is read, and names itself; it is no other product the second time."""
    odd, day = CASES[case], ODD_DAYS[case]
    pattern = rf"(?s)^The product {name(day)} .*{odd.message}.*\. .*{odd.step}"

    with pytest.raises(ProductMismatchError, match=pattern):
        found["sst"].isel(time=slice(day - 2, day)).compute()
    with pytest.raises(ProductMismatchError, match=pattern):
        found["count"].isel(time=day - 1).compute()


@pytest.mark.slow
def test_all_others_have_their_own_values(found: xr.Dataset) -> None:
    """No odd one is in the way of the products that fit, or differ in what is allowed."""
    bad = {day for case, day in ODD_DAYS.items() if CASES[case].message}
    others = [day - 1 for day in range(1, CROWD + 1) if day not in bad]
    assert len(others) == len(CASES) + 3 + sum(odd.message is None for odd in CASES.values())

    wanted = together([product(number + 1) for number in others])

    xr.testing.assert_equal(found.isel(time=others).compute(), wanted)


@dataclasses.dataclass(frozen=True)
class Days:
    """A few products on disk, and what they are together."""

    files: Mapping[str, Path]
    joined: xr.Dataset

    def serve(self, stacks: Any, case: str) -> None:
        """Serve them with an odd one in the middle."""
        odd = CASES[case].change(product(ODD))
        stacks.serve({**self.files, name(ODD): odd})


@pytest.fixture(scope="module")
def days(tmp_path_factory: pytest.TempPathFactory) -> Days:
    """Write a few products that fit each other."""
    folder = tmp_path_factory.mktemp("days")
    made = {name(day): product(day) for day in range(1, DAYS + 1)}
    for key, ds in made.items():
        ds.to_netcdf(folder / key)
    return Days({key: folder / key for key in made}, together(list(made.values())))


#: What all headers together make clear.
CURED = ("another dtype", "two steps", "no step", "another time", "another scalar coordinate")


@pytest.mark.slow
@pytest.mark.parametrize("case", [key for key, odd in CASES.items() if odd.message])
@pytest.mark.usefixtures("opened")  # before any header is known
def test_a_scan_tells_it_at_opening(crowd: Any, case: str) -> None:
    """What differs in more than times, lengths and kinds of numbers is known with all headers."""
    odd, day = CASES[case], ODD_DAYS[case]
    first, last = (str(at(each))[:10] for each in (day - 1, day + 1))
    query = f"hda://{crowd.dataset}/startdate={first}/enddate={last}"

    if case in CURED:
        steps = {"no step": 2, "two steps": 4}.get(case, 3)
        assert crowd.open(query, scan=True).load().sizes["time"] == steps
        return
    if case == "a time of the next day":
        with pytest.raises(QueryError, match=f"{name(day)} and {name(day + 1)} .*on_overlap"):
            crowd.open(query, scan=True)
        return
    with pytest.raises(ProductMismatchError, match=f"The product {name(day)} .*{odd.message}"):
        crowd.open(query, scan=True)


@pytest.mark.slow
@pytest.mark.parametrize("case", [key for key in CURED if CASES[key].step == "scan=True"])
def test_a_scan_after_a_mismatch_opens(stacks: Any, days: Days, case: str) -> None:
    """What the error advises helps, also where the header was kept that did not fit."""
    days.serve(stacks, case)
    with pytest.raises(ProductMismatchError, match="scan=True"):
        stacks.open().load()

    found = stacks.open(scan=True).load()

    odd = CASES[case].change(product(ODD))
    others = [product(day)["time"].values for day in range(1, DAYS + 1) if day != ODD]
    wanted = np.sort(np.concatenate([*others, odd["time"].values]))
    np.testing.assert_array_equal(found["time"], wanted)


@pytest.mark.slow
def test_a_run_that_differs_can_be_stacked(stacks: Any, days: Days) -> None:
    """The advice works: a reference time of each product becomes a coordinate along time."""
    days.serve(stacks, "another scalar coordinate")

    found = stacks.open(concat_variables=["run", "mask"], chunks={}).load()

    assert found["run"].dims == ("time",)
    assert found["mask"].dims == ("time", "lat", "lon")
    shifts = (found["run"].to_numpy() - np.datetime64("2024-01-01")) // DAY
    assert shifts.tolist() == [int(day == ODD) for day in range(1, DAYS + 1)]
    xr.testing.assert_equal(found["sst"].drop_vars("run"), days.joined["sst"].drop_vars("run"))


@pytest.mark.slow
def test_a_variable_that_differs_can_be_dropped(stacks: Any, days: Days) -> None:
    """The other advice works too."""
    days.serve(stacks, "another static variable")

    found = stacks.open(drop_variables=["mask"], chunks={}).load()

    xr.testing.assert_equal(found, days.joined.drop_vars("mask"))


def test_the_template_itself_may_be_the_odd_one(stacks: Any) -> None:
    """Where the first product differs from all others, each of the others says so."""
    made = {name(day): product(day) for day in (1, 2, 3)}
    made[name(1)] = made[name(1)].isel(lat=[0, 1])
    stacks.serve(made)
    found = stacks.open()

    assert found["sst"].isel(time=0).to_numpy().tolist() == product(1)["sst"][0, :2].values.tolist()
    with pytest.raises(ProductMismatchError, match=r"p_20240502.nc .* has 3 elements, not 2"):
        found["sst"].isel(time=1).compute()


TWICE: Mapping[str, Mapping[str, Any]] = {
    "with a time": {},
    "without a time": {"drop_variables": ["time"]},
}


@pytest.mark.parametrize("case", TWICE)
def test_two_versions_of_a_product(stacks: Any, case: str) -> None:
    """Two products at one time, of one day in the catalogue, are told by name."""
    made = {name(day): product(day) for day in (1, 2, 3)}
    stacks.serve({**made, "v2_20240502.nc": product(2)})

    with pytest.raises(QueryError, match=r"p_20240502.nc and v2_20240502.nc .* Narrow the query"):
        stacks.open(**TWICE[case])

    assert stacks.open("hda://EO:TEST:DAT:DAILY/p_*").sizes["time"] == 3


@pytest.mark.slow
def test_equal_times_of_products_that_do_not_overlap(stacks: Any) -> None:
    """An index that is equal in all products, and no time, is kept: it makes no duplicates."""
    made = {
        name(day): product(day)
        .drop_vars("time")
        .rename(time="time_counter")
        .assign_coords(time_counter=[0.0])
        for day in (1, 2, 3, 4)
    }
    stacks.serve(made)

    found = stacks.open(chunks={})

    assert stacks.emulator.orders == 2
    assert found["time_counter"].to_numpy().tolist() == [0.0] * 4
    assert found["sst"].isel(lat=0, lon=0).compute().to_numpy().tolist() == [100.0, 200, 300, 400]


@pytest.mark.slow
def test_a_dimension_that_no_product_has(stacks: Any) -> None:
    """A misspelt dimension is a new one, along which the times of the products differ."""
    stacks.serve({name(day): product(day) for day in (1, 2, 3)})
    found = stacks.open(concat_dim="tme", concat_variables=["run"])

    with pytest.raises(ProductMismatchError, match=r"dimension 'tme' .* concat_dim='time' meant\?"):
        found["sst"].load()


def test_an_empty_query(stacks: Any) -> None:
    """A query that finds nothing is not there."""
    stacks.serve({name(1): product(1)})

    with pytest.raises(FileNotFoundError, match="finds no product"):
        stacks.open("hda://EO:TEST:DAT:DAILY/startdate=2031-01-01/enddate=2031-01-02")
    with pytest.raises(FileNotFoundError, match="finds no product"):
        stacks.open("hda://EO:TEST:DAT:DAILY/q_*")


def test_times_that_are_not_decoded_do_not_compare(stacks: Any) -> None:
    """Files that count from days of their own say the same in other numbers: it is told so."""
    stacks.serve({name(day): product(day).drop_encoding() for day in (1, 2, 3)})

    with pytest.raises(ProductMismatchError, match=r"days since.*Leave decode_times"):
        stacks.open(decode_times=False)
