"""Where the products of a stack stand in time: as their files say, or it is told."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from daily_products import DAY, HOUR, name, product, serve

from hda_fsspec.emulator import Fault
from hda_fsspec.errors import OrderError, ProductMismatchError, QueryError


def _whole_days(rounding: Callable[[np.ndarray], np.ndarray], month: int) -> xr.Dataset:
    first = np.datetime64("2021-01", "M") + np.timedelta64(month - 1, "M")
    after = first + np.timedelta64(1, "M")
    middle = (first.astype("M8[D]") - after.astype("M8[D]")).astype(int) / -2
    number = (first.astype("M8[D]") - np.datetime64("1850-01-01")).astype(int) + middle
    return xr.Dataset(
        {"v": ("time", [float(month)])},
        coords={
            "time": (
                "time",
                np.asarray([rounding(np.asarray(number))], "i4"),
                {"units": "days since 1850-01-01"},
            )
        },
    )


ROUNDINGS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "to even": np.round,
    "halves up": lambda number: np.floor(number + 0.5),
    "halves down": lambda number: np.ceil(number - 0.5),
    "down": np.floor,
}


@pytest.mark.slow
@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_the_middle_of_months_in_whole_days(stacks: Any, rounding: str) -> None:
    """However the writer has rounded: each month stands where its file says, or is refused."""
    made = {f"m_2021{m:02}.nc": _whole_days(ROUNDINGS[rounding], m) for m in range(1, 7)}
    paths = stacks.serve(made, profile="month")
    wanted = np.concatenate([xr.load_dataset(path)["time"].to_numpy() for path in paths])

    found = stacks.open(chunks={})

    assert stacks.emulator.orders <= 3
    np.testing.assert_array_equal(found["time"], wanted)
    np.testing.assert_array_equal(found["v"].load(), np.arange(1.0, 7))


@pytest.mark.slow
def test_monthly_means_of_the_case(stacks: Any, cases: Path) -> None:
    """Rounded to whole days by numpy: twelve right months, from three headers."""
    paths = sorted((cases / "time-whole-days").glob("*.nc"))
    stacks.serve({path.name: path for path in paths}, profile="month")

    found = stacks.open(chunks={}).load()

    wanted = [xr.load_dataset(path)["time"].to_numpy() for path in paths]
    np.testing.assert_array_equal(found["time"], np.concatenate(wanted))
    assert stacks.emulator.orders == len(paths)


OFF_BY_ONE = {
    "a day in whole days": ("days since 1950-01-01", "i4", DAY),
    "a second in whole seconds": ("seconds since 1981-01-01", "i4", np.timedelta64(1, "s")),
    "a millisecond": ("milliseconds since 1970-01-01", "i8", np.timedelta64(1, "ms")),
    "a float of days": ("days since 1950-01-01", "f4", np.timedelta64(169, "s")),
    "two microseconds in long floats": ("hours since 1950-01-01", "f8", np.timedelta64(2, "us")),
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Times can't be serialized faithfully")
@pytest.mark.parametrize("case", OFF_BY_ONE)
def test_one_unit_off_is_another_time(stacks: Any, case: str) -> None:
    """A product that stands one unit of its file elsewhere is refused, and the others are read."""
    units, dtype, away = OFF_BY_ONE[case]
    unit = {
        "days": DAY,
        "hours": HOUR,
        "seconds": np.timedelta64(1, "s"),
        "milliseconds": np.timedelta64(1, "ms"),
    }[units.split()[0]]
    made = {}
    for day in range(1, 5):
        time = np.datetime64(f"2024-05-{day:02}", "ns") + (away if day == 3 else 0 * DAY)
        number = (time - np.datetime64(units[-10:], "ns")) / unit
        raw = np.array([number]).astype(dtype)
        ds = product(day).drop_vars("time")
        made[day] = ds.assign_coords(time=("time", raw, {"units": units}))
    serve(stacks, made)

    found = stacks.open(chunks={})

    assert found["v"].isel(time=[0, 1, 3], x=0).load().to_numpy().tolist() == [1, 2, 4]
    with pytest.raises(ProductMismatchError, match=rf"{name(3)} .* was predicted.*scan=True"):
        found["v"].isel(time=2).load()
    if case.startswith("a day"):
        with pytest.raises(QueryError, match=f"{name(3)} and {name(4)}"):
            stacks.open(scan=True)
        return
    scanned = stacks.open(scan=True).load()
    assert scanned["v"][:, 0].to_numpy().tolist() == [1, 2, 3, 4]
    assert scanned["time"].to_numpy()[2] != found["time"].to_numpy()[2]


@pytest.mark.slow
def test_hours_that_are_counted_from_one(stacks: Any) -> None:
    """A file of the hours 1 to 24 among files of 0 to 23 is told."""
    made = {}
    for day in range(1, 5):
        first = np.datetime64(f"2024-05-{day:02}", "ns") + (HOUR if day == 3 else 0 * HOUR)
        times = first + np.arange(24) * HOUR
        ds = xr.Dataset({"v": ("time", np.arange(24.0))}, coords={"time": times})
        ds["time"].encoding = {"units": "hours since 1900-01-01", "dtype": "i4"}
        made[day] = ds
    serve(stacks, made)

    found = stacks.open(chunks={})

    with pytest.raises(ProductMismatchError, match=name(3)):
        found["v"].load()


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["f4", "f8", "i8"])
def test_products_that_count_from_their_own_day(stacks: Any, dtype: str) -> None:
    """Each file has units of its own, in whatever numbers: its times are compared by those."""
    made = {}
    for day in range(1, 4):
        hours = np.array([1, 7, 13, 19])
        units = f"hours since 2024-05-{day:02}"
        ds = xr.Dataset({"v": ("time", hours + 100.0 * day)})
        made[day] = ds.assign_coords(time=("time", hours.astype(dtype), {"units": units}))
    serve(stacks, made)
    wanted = xr.concat([xr.decode_cf(ds) for ds in made.values()], "time")

    found = stacks.open(chunks={})

    assert stacks.emulator.orders == 1
    xr.testing.assert_equal(found.load(), wanted)


@pytest.mark.slow
def test_jitter_of_floats_is_that_of_the_files(stacks: Any) -> None:
    """Noon in seconds of four bytes is up to a minute away from noon: as in each file."""
    made, times = {}, []
    for day in range(1, 9):
        number = np.float32(
            (np.datetime64(f"2024-05-{day:02}T12") - np.datetime64("1981-01-01T00"))
            / np.timedelta64(1, "s")
        )
        ds = product(day).drop_vars("time")
        attrs = {"units": "seconds since 1981-01-01"}
        made[day] = ds.assign_coords(time=("time", [number], attrs))
        times.append(xr.decode_cf(made[day])["time"].to_numpy()[0])
    assert len({(time - np.datetime64("2024-05-01T12")) % DAY for time in times}) > 1
    serve(stacks, made)

    found = stacks.open(chunks={})

    assert stacks.emulator.orders <= 2
    np.testing.assert_array_equal(found["time"], np.array(times))
    assert found["v"].load().sizes["time"] == 8


@pytest.mark.slow
def test_products_stand_in_the_order_of_their_own_times(stacks: Any) -> None:
    """The catalogue's order is another one: slices by time work, scanned or read before."""
    order = {1: 3, 2: 1, 3: 2}
    made = {day: product(own).assign(n=("time", [own])) for day, own in order.items()}
    serve(stacks, made)

    found = stacks.open(scan=True, chunks={}, product_coord="product")

    assert found["n"].load().to_numpy().tolist() == [1, 2, 3]
    assert found["product"].to_numpy().tolist() == [name(2), name(3), name(1)]
    assert found["v"].sel(time=slice("2024-05-02", "2024-05-03")).sizes["time"] == 2
    assert stacks.open()["n"].to_numpy().tolist() == [1, 2, 3]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert found["v"].isel(x=0).load().to_numpy().tolist() == [1, 2, 3]


def _run(day: int, steps: int = 4) -> xr.Dataset:
    """Return a run of a forecast: steps of 12 hours from the start of a day."""
    times = np.datetime64(f"2024-05-{day:02}", "ns") + np.arange(steps) * 12 * HOUR
    ds = xr.Dataset({"v": ("time", day * 100.0 + np.arange(steps))}, coords={"time": times})
    ds["time"].encoding = {"units": "hours since 1970-01-01", "dtype": "i4"}
    return ds


RUNS = {
    "latest": [100, 101, 200, 201, 300, 301, 302, 303],
    "earliest": [100, 101, 102, 103, 202, 203, 302, 303],
}


@pytest.mark.slow
@pytest.mark.parametrize(("hours", "scan"), [(24, False), (6, True)])
def test_runs_that_overlap(stacks: Any, hours: int, scan: bool) -> None:
    """Each time is of one run; whether the catalogue's intervals overlap does not matter."""
    shift = {"startdate": lambda i: f"2024-05-{i[8:10]}T00:00:00.000Z"}
    shift["enddate"] = lambda i: f"2024-05-{i[8:10]}T{hours - 1:02}:59:59.999Z"
    serve(stacks, {day: _run(day) for day in (1, 2, 3)}, fields=shift)

    with pytest.raises(QueryError, match=f"{name(1)} and {name(2)} .*on_overlap"):
        stacks.open(scan=scan)
    for on_overlap, values in RUNS.items():
        found = stacks.open(scan=scan, on_overlap=on_overlap, chunks={}, product_coord="product")

        assert found["v"].compute().to_numpy().tolist() == values
        assert (np.diff(found["time"].to_numpy()) == 12 * HOUR).all()
        owners = [f"p_2024050{int(value) // 100}.nc" for value in values]
        assert found["product"].to_numpy().tolist() == owners
        assert found["v"].chunks == (tuple(owners.count(name(day)) for day in (1, 2, 3)),)


@pytest.mark.slow
def test_a_run_that_is_covered_is_not_read(stacks: Any) -> None:
    """Of two versions of a product only the preferred one is ordered."""
    served = {name(1): _run(1, 2), "v2_20240501.nc": _run(1, 2), name(2): _run(2, 2)}
    published = {name(1): "2024-06-01", "v2_20240501.nc": "2024-07-01", name(2): "2024-06-01"}
    fields = {"publication": lambda i: f"{published[i]}T00:00:00.000Z"}
    stacks.serve(served, fields=fields)

    found = stacks.open(on_overlap="latest", chunks={}, scan=True)
    stacks.evict()
    downloads = stacks.emulator.downloads

    assert found["v"].compute().sizes["time"] == 4
    assert stacks.emulator.downloads == downloads + 2
    assert [p.product_id for p in found["v"].hda.products] == ["v2_20240501.nc", name(2)]
    assert stacks.open(on_overlap="earliest")["v"].hda.products[0].product_id == name(1)


def test_single_steps_at_one_time(stacks: Any) -> None:
    """Steps of several runs, a file each: the latest run is taken."""
    starts = {"a_20240501.nc": "2024-05-01", "b_20240502.nc": "2024-05-02"}
    made = {key: product(5).assign(n=("time", [n])) for n, key in enumerate(starts)}
    fields = {
        "startdate": lambda i: f"{starts[i]}T00:00:00.000Z",
        "enddate": lambda i: f"{starts[i]}T06:00:00.000Z",
    }
    stacks.serve(made, fields=fields)

    with pytest.raises(QueryError, match=r"a_20240501.nc and b_20240502.nc .*same time"):
        stacks.open(scan=True)
    assert stacks.open(scan=True, on_overlap="latest")["n"].to_numpy().tolist() == [1]
    assert stacks.open(scan=True, on_overlap="earliest")["n"].to_numpy().tolist() == [0]


def test_nothing_tells_which_run_is_later(stacks: Any) -> None:
    """Equal starts and no publication: it is not decided by chance."""
    stacks.serve({"a_20240501.nc": product(1), "b_20240501.nc": product(1)})

    with pytest.raises(QueryError, match="does not tell which is the later"):
        stacks.open(on_overlap="latest")


@pytest.mark.parametrize("value", ["newest", None, 1])
def test_ways_to_treat_overlaps(stacks: Any, value: Any) -> None:
    """Another word is refused with those that there are."""
    serve(stacks, {1: product(1)})

    with pytest.raises(QueryError, match='"raise", "latest" or "earliest"'):
        stacks.open(on_overlap=value)


def test_tiles_at_one_time_are_no_versions(stacks: Any) -> None:
    """Products of one time in different places are told as such, with the ways that exist."""
    boxes = {"a_20240501.nc": (0.0, 0.0, 1.0, 1.0), "b_20240501.nc": (5.0, 5.0, 6.0, 6.0)}
    stacks.serve({key: product(1) for key in boxes}, fields={"bbox": boxes.__getitem__})

    with pytest.raises(QueryError, match="as tiles do") as caught:
        stacks.open()
    assert "versions" not in str(caught.value)
    assert "open_datatree" in str(caught.value)


def _message(step: int, run: int = 1) -> xr.Dataset:
    """Return what one message of a forecast is: all its times are single values."""
    time = np.datetime64(f"2024-05-{run:02}", "ns")
    ds = product(1).isel(time=0, drop=True)
    names = {"time": time, "step": step * HOUR, "valid_time": time + step * HOUR}
    ds = ds.assign_coords({key: ((), value) for key, value in names.items()})
    ds["time"].attrs["standard_name"] = "forecast_reference_time"
    ds["valid_time"].attrs["standard_name"] = "time"
    ds["step"].attrs["standard_name"] = "forecast_period"
    for key in ("time", "valid_time"):
        ds[key].encoding = {"units": "seconds since 1970-01-01", "dtype": "i8"}
    return ds.assign(v=ds["v"] * 0 + step + 1000 * run)


def _at_valid_time(key: str) -> str:
    run, step = (int(part) for part in key[2:-3].split("_"))
    time = np.datetime64(f"2024-05-{run:02}T00", "ms") + np.timedelta64(step, "h")
    return f"{time}Z"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("messages", "dim", "along"),
    [
        ([(1, 0), (1, 6), (1, 12)], "step", {"valid_time"}),
        ([(1, 0), (2, 0), (3, 0)], "time", {"valid_time"}),
        ([(1, 6), (1, 12), (2, 6), (2, 12)], "valid_time", {"time", "step"}),
    ],
    ids=["steps of a run", "analyses", "steps of runs"],
)
def test_single_times_that_differ_are_stacked(
    stacks: Any, messages: list[tuple[int, int]], dim: str, along: set[str]
) -> None:
    """The time that differs is the dimension, and the others that differ lie along it."""
    made = {f"m_{run}_{step:02}.nc": _message(step, run) for run, step in messages}
    fields = {"startdate": _at_valid_time, "enddate": _at_valid_time}
    stacks.serve(made, fields=fields)

    parts = [xr.load_dataset(stacks.folder / key, decode_timedelta=True) for key in made]
    wanted = xr.concat(parts, dim, coords="different", compat="equals")
    for scan in (False, True):
        found = stacks.open(scan=scan, chunks={}, decode_timedelta=True)

        assert scan or stacks.emulator.orders <= 3
        xr.testing.assert_equal(found.load(), wanted)
        for variable in along:
            assert found[variable].dims == (dim,)
        for variable in {"time", "step", "valid_time"} - along - {dim}:
            assert found[variable].dims == ()


@pytest.mark.slow
def test_messages_of_durations_say_hours(stacks: Any) -> None:
    """A step that is not the one predicted is told as people say it."""
    made = {f"m_1_{step:02}.nc": _message(step + 6 * (step == 12)) for step in (0, 6, 12, 24)}
    fields = {"startdate": _at_valid_time, "enddate": _at_valid_time}
    stacks.serve(made, fields=fields)

    with pytest.raises(ProductMismatchError, match="step is 18 hours, where 12 hours was"):
        stacks.open(decode_timedelta=True).load()


RUNS_OF_STEPS = [(run, step) for run in (1, 2) for step in (12, 24, 36)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scan", "published", "starts"),
    [
        (False, {"publication": lambda i: f"2024-05-0{i[2]}T03:00:00.000Z"}, _at_valid_time),
        (False, {}, lambda i: f"2024-05-0{i[2]}T00:00:00.000Z"),
        # Each product tells its run, which goes before a publication in the opposite order.
        (
            True,
            {"publication": lambda i: f"2024-05-1{9 - int(i[2])}T03:00:00.000Z"},
            _at_valid_time,
        ),
    ],
    ids=["publication", "start", "product"],
)
def test_runs_of_single_steps(stacks: Any, scan: bool, published: Any, starts: Any) -> None:
    """A file a step, of several runs: each time is of one run, told by what is there to tell it."""
    made = {f"m_{run}_{step:02}.nc": _message(step, run) for run, step in RUNS_OF_STEPS}
    stacks.serve(made, fields={"startdate": starts, "enddate": _at_valid_time, **published})

    wanted = {"latest": [1012, 1024, 2012, 2024, 2036], "earliest": [1012, 1024, 1036, 2024, 2036]}
    for on_overlap, values in wanted.items():
        found = stacks.open(scan=scan, on_overlap=on_overlap, chunks={}, decode_timedelta=True)

        assert found["v"].isel(x=0).to_numpy().tolist() == values
        hours = (found["valid_time"].to_numpy() - np.datetime64("2024-05-01")) / HOUR
        assert hours.tolist() == [12, 24, 36, 48, 60]


@pytest.mark.slow
def test_runs_of_single_steps_that_only_products_tell(stacks: Any) -> None:
    """Without a publication the error says what scan=True would tell."""
    made = {f"m_{run}_{step:02}.nc": _message(step, run) for run, step in RUNS_OF_STEPS}
    stacks.serve(made, fields={"startdate": _at_valid_time, "enddate": _at_valid_time})

    with pytest.raises(QueryError, match=r"does not tell which .*several runs.*scan=True"):
        stacks.open(on_overlap="latest", decode_timedelta=True)
    found = stacks.open(on_overlap="latest", decode_timedelta=True, scan=True)

    assert found["v"].isel(x=0).to_numpy().tolist() == [1012, 1024, 2012, 2024, 2036]


@pytest.mark.slow
def test_two_versions_of_a_product(stacks: Any) -> None:
    """The one that was published last is taken, of each time, and no other one is ordered."""
    made = {
        f"p_2024050{day}_{version}.nc": product(day).assign(n=("time", [10 * day + number]))
        for day in (1, 2, 3)
        for number, version in enumerate(("V1", "V2"))
        if (day, number) != (3, 1)
    }
    published = {"publication": lambda i: f"2024-0{i[-4]}-01T00:00:00.000Z"}
    stacks.serve(made, fields=published)

    latest = stacks.open(on_overlap="latest", chunks={})["n"].to_numpy().tolist()

    assert latest == [11, 21, 30]
    assert set(stacks.ordered) <= {"p_20240501_V1.nc", *(f"p_2024050{d}_V2.nc" for d in (1, 2)),
                                   "p_20240503_V1.nc"}  # fmt: skip
    assert stacks.open(on_overlap="earliest")["n"].to_numpy().tolist() == [10, 20, 30]


GRIB = ("fc_step00.grib", "fc_step12.grib", "fc_step24.grib")


@pytest.mark.slow
def test_grib_files_of_one_step(stacks: Any, cases: Path) -> None:
    """The commonest layout of GRIB opens without options, along the step."""
    pytest.importorskip("cfgrib")
    date = {"startdate": lambda i: f"2024-05-{1 + GRIB.index(i):02}T00:00:00.000Z"}
    date["enddate"] = lambda i: f"2024-05-{1 + GRIB.index(i):02}T23:59:59.999Z"
    stacks.serve({key: cases / "grib-one-time" / key for key in GRIB}, fields=date)

    parts = [
        xr.load_dataset(cases / "grib-one-time" / key, engine="cfgrib", indexpath="")
        for key in GRIB
    ]
    for scan in (False, True):
        for dim in (None, "step", "valid_time"):
            found = stacks.open(scan=scan, concat_dim=dim).load()

            assert found["t"].dims == (dim or "step", "latitude", "longitude")
            assert (found["step"].to_numpy() / HOUR).tolist() == [0, 12, 24]
            assert found["time"].dims == ()
            values = np.stack([part["t"].values for part in parts])
            np.testing.assert_array_equal(found["t"], values)
            times = [part["valid_time"].values for part in parts]
            np.testing.assert_array_equal(found["valid_time"], times)


def _steps(first: int, run: int) -> xr.Dataset:
    """Return four steps of a run, whose valid times lie along the steps."""
    time = np.datetime64(f"2024-05-{run:02}", "ns")
    steps = (first + np.arange(4) * 6) * HOUR
    ds = xr.Dataset(
        {"v": ("step", 100.0 * run + first + np.arange(4) * 6)},
        coords={"time": time, "step": steps, "valid_time": ("step", time + steps)},
    )
    ds["time"].attrs["standard_name"] = "forecast_reference_time"
    ds["valid_time"].attrs["standard_name"] = "time"
    ds["step"].encoding = {"units": "hours", "dtype": "i4"}
    for key in ("time", "valid_time"):
        ds[key].encoding = {"units": "seconds since 1970-01-01", "dtype": "i8"}
    return ds


@pytest.mark.slow
@pytest.mark.parametrize(
    ("runs", "dim"),
    [([(0, 1), (0, 2), (0, 3)], "time"), ([(0, 1), (24, 1), (48, 1)], "step")],
    ids=["a run a file", "a run in parts"],
)
def test_runs_of_several_steps(stacks: Any, runs: list[tuple[int, int]], dim: str) -> None:
    """A run a file is stacked by its start, and the parts of one run along its steps."""
    made = {f"m_{run}_{first:02}.nc": _steps(first, run) for first, run in runs}
    stacks.serve(made, fields={"startdate": _at_valid_time, "enddate": _at_valid_time})

    parts = [xr.load_dataset(stacks.folder / key, decode_timedelta=True) for key in made]
    wanted = xr.concat(parts, dim, coords="different", compat="equals", join="outer")
    for scan in (False, True):
        found = stacks.open(scan=scan, chunks={}, decode_timedelta=True)

        assert scan or stacks.emulator.orders <= 2
        xr.testing.assert_equal(found.load(), wanted.transpose(*found.sizes))
        assert found["valid_time"].dims == ((dim, "step") if dim == "time" else ("step",))


def test_two_of_three_runs_that_cannot_be_told_apart(stacks: Any) -> None:
    """Also behind a longer product that covers both, it is not decided by chance."""
    made = {"a_20240501.nc": _run(1, 6), "b_20240502.nc": _run(2, 2), "c_20240502.nc": _run(2, 2)}
    stacks.serve(made)

    with pytest.raises(QueryError, match=r"b_20240502.nc and c_20240502.nc .*does not tell which"):
        stacks.open(on_overlap="latest", scan=True)


def test_a_deciding_product_that_cannot_be_had(stacks: Any) -> None:
    """Where the second product was to decide, it is said how to do without it."""
    made = {f"m_2021{m:02}.nc": _whole_days(np.round, m) for m in range(1, 8)}
    stacks.serve(made, profile="month")
    for key in list(made)[1:]:
        stacks.emulator.fault(Fault("order-failed", product_id=key, times=None))

    with pytest.raises(OrderError) as caught:
        stacks.open(on_missing="nan")
    assert "scan=True" in " ".join(caught.value.__notes__)
