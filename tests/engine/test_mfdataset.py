"""xarray's classical way of many files: what is opened is fetched, and nothing else."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import hda_fsspec
from hda_fsspec import Location
from hda_fsspec.emulator import dated_product
from hda_fsspec.errors import QueryError
from hda_fsspec.lazy import open_product

DAYS = 6
HINT = "one after another"


def _day(day: int) -> xr.Dataset:
    return xr.Dataset(
        {"sst": (("time", "x"), [[float(day), day + 0.5]]), "mask": ("x", [1.0, 2.0])},
        coords={"time": [np.datetime64(f"2024-05-{day:02}T12:00", "ns")], "x": [1.0, 2.0]},
    )


@pytest.fixture(scope="module")
def bodies(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Daily files."""
    folder: Path = tmp_path_factory.mktemp("daily")
    made = []
    for day in range(1, DAYS + 1):
        _day(day).to_netcdf(folder / "day.nc", engine="netcdf4")
        made.append((folder / "day.nc").read_bytes())
    return made


@pytest.fixture
def emulator(bench: Any, bodies: list[bytes]) -> Any:
    """Serve them, each order prepared for a moment; no hint was given so far."""
    products = [
        dated_product(bench.product_id(day), body) for day, body in enumerate(bodies, start=1)
    ]
    return bench.start(products=products, preparation_seconds=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("parallel", [False, True])
def test_only_what_is_listed_is_fetched(
    bench: Any, emulator: Any, tmp_path: Path, parallel: bool
) -> None:
    """The result is that of the local files; the other products of the query are not touched."""
    chosen = [2, 4, 5]

    def preprocess(ds: xr.Dataset) -> xr.Dataset:
        return ds.drop_vars("mask").assign_attrs(file=ds.encoding["source"][-5:])

    ds = xr.open_mfdataset(
        [bench.path(day) for day in chosen],
        engine="hda",
        parallel=parallel,
        preprocess=preprocess,
        combine="nested",
        concat_dim="time",
        storage_options=bench.settings(emulator),
    )

    assert emulator.order_posts == len(chosen)
    xr.testing.assert_equal(ds, xr.concat([_day(day).drop_vars("mask") for day in chosen], "time"))
    assert ds.attrs == {"file": "02.nc"}
    assert emulator.downloads == len(chosen)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["query", "pattern", "location", "paths", "mixed"])
def test_products_are_fetched_together(
    bench: Any, emulator: Any, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A query, a pattern, a Location and lists of them: all orders go out at one time."""
    days = {"query": range(1, 7), "pattern": [1, 2], "location": range(1, 7)}.get(kind, [3, 5, 6])
    paths: Any = {
        "query": bench.query,
        "pattern": f"{bench.query}/*2024050[12]*",
        "location": Location.parse(bench.query),
        "paths": [bench.path(day) for day in (3, 5, 6)],
        "mixed": [Location.parse(bench.path(3)), f"{bench.query}/*0[56].nc"],
    }[kind]
    emulator.hold_orders(len(days))

    with caplog.at_level(logging.WARNING, "hda_fsspec"):
        ds = hda_fsspec.open_mfdataset(
            paths,
            storage_options=bench.settings(emulator),
            combine="by_coords",
            data_vars="minimal",
            coords="minimal",
            compat="override",
        )

    wanted = xr.concat([_day(day) for day in days], "time", data_vars="minimal")
    xr.testing.assert_equal(ds, wanted)
    assert emulator.order_posts == len(days)
    assert emulator.max_in_preparation == len(days)
    assert HINT not in caplog.text


def test_nothing_to_open(bench: Any, emulator: Any) -> None:
    """A query or pattern that finds nothing is not there; a wrong key is told as ever."""
    options = bench.settings(emulator)
    with pytest.raises(FileNotFoundError, match="finds no product"):
        hda_fsspec.open_mfdataset(f"{bench.query}/*none*", storage_options=options)
    with pytest.raises(FileNotFoundError, match="no path"):
        hda_fsspec.open_mfdataset([], storage_options=options)
    with pytest.raises(QueryError, match="bboxx"):
        hda_fsspec.open_mfdataset(f"{bench.query}/bboxx=1", storage_options=options)
    assert emulator.order_posts == 0


@pytest.mark.slow
def test_waiting_one_after_another_is_told_once(
    bench: Any, emulator: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """At the second wait within a minute, and never again in this process."""
    told = []
    for day in range(1, 5):
        with caplog.at_level(logging.WARNING, "hda_fsspec"):
            xr.open_dataset(bench.path(day), engine="hda", storage_options=bench.settings(emulator))
        told.append(caplog.text.count(HINT))

    assert told == [0, 1, 1, 1]
    assert "fs.prefetch" in caplog.text
    assert "open_mfdataset" in caplog.text


@pytest.mark.slow
def test_what_is_local_is_no_wait(
    bench: Any, emulator: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Products that are local already say nothing, however many there are."""
    bench.filesystem(emulator).prefetch(bench.query)
    with caplog.at_level(logging.WARNING, "hda_fsspec"):
        for day in range(1, 6):
            xr.open_dataset(bench.path(day), engine="hda", storage_options=bench.settings(emulator))

    assert HINT not in caplog.text


@pytest.mark.parametrize(
    ("spans", "told"),
    [
        ([(0, 10), (69, 80)], True),
        ([(0, 10), (71, 80)], False),
        ([(0, 10), (75, 80), (100, 101)], True),
        ([(0, 600)], False),
        ([(0, 100), (1, 100)], False),
    ],
    ids=["soon", "later", "later, then soon", "one", "at the same time"],
)
def test_consecutive_waits(
    spans: list[tuple[int, int]], told: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """What counts is that a wait begins within a minute after another one ended."""
    now = [0.0]
    hints = open_product.SequentialOpenHint(clock=lambda: now[0])
    events = sorted(
        [(begin, 1, n) for n, (begin, _) in enumerate(spans)]
        + [(end, 0, n) for n, (_, end) in enumerate(spans)]
    )
    waits = {n: hints.waiting() for n in range(len(spans))}

    with caplog.at_level(logging.WARNING, "hda_fsspec"):
        for moment, is_begin, number in events:
            now[0] = moment
            if is_begin:
                waits[number].__enter__()
            else:
                waits[number].__exit__(None, None, None)

    assert (HINT in caplog.text) is told
