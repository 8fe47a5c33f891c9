"""Queries that reach near the present: where their data end, and for how long that is so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from cubes import Cubes, cubes_of
from subset_sources import ERA5, MARINE, SMALL, write_era5, write_marine

from hda_fsspec.emulator import ecmwf_subset, marine_subset
from hda_fsspec.errors import OrderError
from hda_fsspec.paths.locations import Location
from hda_fsspec.reading.options import OpenOptions
from hda_fsspec.records import parse_time
from hda_fsspec.stack.open_query import StackOptions
from hda_fsspec.stack.subset import open_split

SINCE = f"{ERA5}/variable=2m_temperature/time=00:00,06:00,12:00,18:00/startdate=2024-06-01"
FIRST, DAY_AFTER, NEXT_YEAR = "2024-11-27T08:00:00Z", "2024-11-28T08:00:00Z", "2025-04-02T08:00:00Z"


class Time:
    """The present of the service and of who opens its data."""

    def __init__(self) -> None:
        self.now = FIRST

    def __call__(self) -> Any:
        """Return it as the emulator asks for it."""
        return parse_time(self.now)

    def seconds(self) -> float:
        """Return it as a clock does."""
        return parse_time(self.now).timestamp()


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files with more than there is yet."""
    folder = tmp_path_factory.mktemp("sources")
    hours = np.arange("2024-06-01", "2025-01-01", 6, dtype="datetime64[h]")
    days = np.arange("2024-06-01", "2025-01-01", dtype="datetime64[D]")
    return {
        ERA5: write_era5(folder / "era5.nc", names=("t2m",), times=hours, **SMALL),
        MARINE: write_marine(folder / "marine.nc", times=days),
    }


@pytest.fixture
def time() -> Time:
    """Return the present, which a test moves."""
    return Time()


@pytest.fixture
def cubes(sources: dict[str, Path], time: Time, tmp_path: Path) -> Iterator[Cubes]:
    """Fields that come after five days, and are final after sixty; a marine set after three."""
    names = {"2m_temperature": "t2m"}
    more: dict[str, Any] = {"delay": 5, "preliminary": 60, "order_without_search": False}
    era5 = ecmwf_subset(ERA5, sources[ERA5], variables=names, now=time, **more)
    marine = marine_subset(MARINE, sources[MARINE], now=time, delay=3, order_without_search=False)
    with cubes_of(tmp_path, era5, marine) as cubes:
        yield cubes


def opened(cubes: Cubes, time: Time, query: str, split: Any = "month", **more: Any) -> xr.Dataset:
    """Open a query at the present."""
    how = StackOptions(**more)
    location = Location.parse(f"hda://{query}")
    return open_split(cubes.client, location, OpenOptions(), how, split, clock=time.seconds)


@pytest.mark.slow
def test_the_end_is_true(cubes: Cubes, time: Time) -> None:
    """The last piece that has begun is ordered beside the first one; months to come are empty."""
    ds = opened(cubes, time, f"{SINCE}/enddate=2024-12-31")

    assert len(cubes.ordered) == 2
    assert str(ds.valid_time.values[-1]) == "2024-11-22T06:00:00.000000000"
    assert ds.expver[-1] == "0005"
    assert ds.sizes["valid_time"] == ds.load().sizes["valid_time"] == 698
    assert len(cubes.ordered) == 6


@pytest.mark.slow
def test_copies_near_the_present_are_good_for_a_day(cubes: Cubes, time: Time) -> None:
    """The next day there is more, and what was preliminary is fetched anew when it is final."""
    query = f"{SINCE}/enddate=2024-11-30"
    opened(cubes, time, query).load()
    fetched = len(cubes.posted("dataaccess/download", "product_id"))
    opened(cubes, time, query).load()
    assert len(cubes.posted("dataaccess/download", "product_id")) == fetched == 6
    time.now = DAY_AFTER

    next_day = opened(cubes, time, query).load()

    assert str(next_day.valid_time.values[-1]) == "2024-11-23T06:00:00.000000000"
    # Those of a hundred days; June and July are final.
    assert len(cubes.posted("dataaccess/download", "product_id")) == fetched + 4
    time.now = NEXT_YEAR
    final = opened(cubes, time, query).load()
    assert final.sizes["valid_time"] == 732
    assert (final.expver == "0001").all()
    assert next_day.expver[-1] == "0005"


@pytest.mark.slow
def test_an_order_of_what_is_not_there_yet_tells_the_end(cubes: Cubes, time: Time) -> None:
    """It fails once a day; all pieces after what it tells are empty, also for another process."""
    query = f"{SINCE.replace('06-01', '11-15')}/enddate=2024-11-30"

    ds = opened(cubes, time, query, "day")

    assert len(cubes.ordered) == 2
    assert str(ds.valid_time.values[-1]) == "2024-11-22T06:00:00.000000000"
    cubes.forget()
    again = opened(cubes, time, query, "day")
    assert len(cubes.ordered) == 2
    assert again.sizes["valid_time"] == again.load().sizes["valid_time"] == 30
    for note in (cubes.client.cache.root / "v1" / "subsets").rglob("*.note"):
        note.write_text('{"day": "2024-11-27T00:00:00.000Z", "until": "soon"}')
    # What is damaged is asked for again.
    posts = len(cubes.posted("dataaccess/download", "product_id"))
    assert opened(cubes, time, query, "day").sizes["valid_time"] == 30
    assert len(cubes.posted("dataaccess/download", "product_id")) == posts + 1


def test_of_what_is_not_there_at_all_the_error_tells(cubes: Cubes, time: Time) -> None:
    """Where no piece has data there is no data set."""
    query = f"{SINCE.replace('06-01', '11-24')}/enddate=2024-11-30"
    with pytest.raises(OrderError, match="latest date available for this dataset is: 2024-11-22"):
        opened(cubes, time, query)


@pytest.mark.slow
def test_offline_the_end_is_that_of_the_last_look(cubes: Cubes, time: Time) -> None:
    """A copy of yesterday is what there is."""
    query = f"{SINCE}/enddate=2024-11-30"
    seen = opened(cubes, time, query).load()
    cubes.forget()
    time.now = DAY_AFTER
    cubes.options["offline"] = True

    ds = opened(cubes, time, query)

    xr.testing.assert_identical(ds.load(), seen)


@pytest.mark.slow
def test_a_marine_data_set_that_goes_on(cubes: Cubes, time: Time) -> None:
    """It ends where its schema says, and goes on when that does."""
    query = f"{MARINE}/startdate=2024-06-01/enddate=2024-11-24"
    ds = opened(cubes, time, query)
    assert len(cubes.ordered) == 2
    assert str(ds.time.values[-1])[:10] == "2024-11-24"
    time.now = DAY_AFTER

    assert opened(cubes, time, query).load().sizes["time"] == 177
