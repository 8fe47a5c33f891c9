"""Plans of queries that are cut into pieces: fields, bytes, hours, and other cuts."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cubes import Cubes, cubes_of
from subset_sources import ERA5, MARINE, SMALL, write_era5, write_marine

from hda_fsspec.cli import main
from hda_fsspec.emulator import ecmwf_subset, marine_subset

#: 24 months of one field a day.
YEARS = f"{ERA5}/variable=2m_temperature/startdate=2000-01-01/enddate=2001-12-31/time=00:00"
SPRING = f"{MARINE}/startdate=2024-03-01/enddate=2024-05-31"


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files of two years, and of one."""
    folder = tmp_path_factory.mktemp("sources")
    days = np.arange("2000-01-01", "2002-01-01", dtype="datetime64[D]")
    return {
        ERA5: write_era5(folder / "era5.nc", names=("t2m",), times=days, expver=False, **SMALL),
        MARINE: write_marine(folder / "marine.nc"),
    }


@pytest.fixture
def cubes(sources: dict[str, Path], tmp_path: Path) -> Iterator[Cubes]:
    """Both, served."""
    lists = ("year", "month", "day", "time")
    names = {"2m_temperature": "t2m"}
    era5 = ecmwf_subset(ERA5, sources[ERA5], variables=names, lists=lists)
    with cubes_of(tmp_path, era5, marine_subset(MARINE, sources[MARINE])) as cubes:
        yield cubes


@pytest.mark.slow
def test_a_plan_of_a_selection(cubes: Cubes) -> None:
    """It counts the pieces of the selection, and compares cuts of the whole; it orders nothing."""
    ds = cubes.open(YEARS, split="month", chunks={})

    plan = ds.t2m.sel(valid_time=slice("2000-02-10", "2000-04-20")).hda.plan()

    assert len(cubes.ordered) == 1
    assert (plan.orders_needed, plan.local, plan.fields) == (3, 0, 29 + 31 + 30)
    assert plan.hours_of_quota == 0.03
    # By what January weighs, which is local and no part of it.
    january = cubes.client.sizes(ds.hda.products[:1])[0]
    assert january is not None
    assert plan.bytes_estimated == pytest.approx(january * 90 / 31, abs=2)
    assert plan.split == "month"
    told = {str(each.split): (each.pieces, each.fields) for each in plan.splits}
    assert told == {"None": (1, 731), "year": (2, 731), "day": (731, 731)}
    assert repr(plan).splitlines()[-4:] == [
        '  split  "month" now; the whole query with',
        "           None:    1 order, less than a minute",
        '           "year":  2 orders, 1 minute',
        '           "day":   731 orders, 7 hours',
    ]
    assert max(map(len, repr(plan).splitlines())) <= 100


@pytest.mark.parametrize("left_out", ["time", "month", "day"])
def test_fields_of_lists_that_are_left_out_are_not_known(cubes: Cubes, left_out: str) -> None:
    """How many days or hours the service takes then is not told by the query."""
    given = {
        "variable": "2m_temperature",
        "year": "2000,2001",
        "month": "01,02",
        "day": "01,02,03",
        "time": "00:00",
    }
    query = "/".join(f"{key}={value}" for key, value in given.items() if key != left_out)

    plan = cubes.open(f"{ERA5}/{query}", split=None, chunks={}).hda.plan()

    # Of the hours it offers but one.
    fields = 12 if left_out == "time" else None
    assert (plan.fields, {other.fields for other in plan.splits}) == (fields, {fields})


@pytest.mark.slow
def test_prefetch_makes_pieces_local(cubes: Cubes) -> None:
    """Those of the selection, and no other; then its plan needs no order."""
    ds = cubes.open(SPRING, split="month")
    part = ds.sel(time=slice("2024-04-10", "2024-05-31"))

    fetched = part.hda.prefetch(progress=False)

    assert [str(product.startdate)[:7] for product in fetched] == ["2024-04", "2024-05"]
    assert len(cubes.ordered) == 3
    assert part.hda.plan().orders_needed == 0


@pytest.mark.slow
def test_a_compute_orders_ahead(cubes: Cubes) -> None:
    """All pieces that it reads go out before the first of them is read."""
    ds = cubes.open(SPRING, split={"time": "month", "variables": 1}, chunks={})
    count = len(cubes.ordered)

    ds.adt.mean().compute(scheduler="sync")

    assert (count, len(cubes.ordered)) == (2, 4)


@pytest.fixture
def environment(cubes: Cubes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the command line find the emulator."""
    for name, value in cubes.emulator.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HDA_CACHE_DIR", str(cubes.options["cache_dir"]))
    monkeypatch.setenv("HDA_ACCEPT_TERMS", "true")


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize(
    ("split", "shown", "orders"),
    [
        ("month", "month", 24),
        ("none", None, 1),
        ("time=month,variable=1", {"time": "month", "variable": 1}, 24),
    ],
)
def test_the_command_line_plans_a_split(
    cubes: Cubes, capsys: pytest.CaptureFixture[str], split: str, shown: Any, orders: int
) -> None:
    """Without an order, and without a template."""
    assert main(["plan", "--json", "--split", split, f"hda://{YEARS}"]) == 0

    told = json.loads(capsys.readouterr().out)
    assert (told["split"], told["orders_needed"], told["fields"]) == (shown, orders, 731)
    assert {each["pieces"] for each in told["splits"]} >= {731}
    assert cubes.ordered == []


@pytest.mark.usefixtures("environment")
def test_the_command_line_opens_a_split(cubes: Cubes, capsys: pytest.CaptureFixture[str]) -> None:
    """One order shows it; a split that makes no sense is refused in a line."""
    assert main(["open", "--split", "month", f"hda://{SPRING}"]) == 0
    assert {"time: 92", "latitude: 8"} <= {*re.findall(r"\w+: \d+", capsys.readouterr().out)}
    assert len(cubes.ordered) == 1
    assert main(["plan", "--split", "month", "--sel", "time=2024-03", f"hda://{SPRING}"]) == 0
    assert "1 product of" in capsys.readouterr().out
    assert main(["open", "--split", "fortnight", f"hda://{SPRING}"]) != 0
    assert "fortnight" in capsys.readouterr().err
