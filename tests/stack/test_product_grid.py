"""Pieces of a query that was cut are put together to what the whole query would have given."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import subset_schemas as s
import xarray as xr

import hda_fsspec.engine.accessor  # noqa: F401  (registers ds.hda)
from hda_fsspec.errors import ProductMismatchError
from hda_fsspec.paths.locations import Location
from hda_fsspec.reading.options import OpenOptions
from hda_fsspec.stack.open_query import StackOptions, open_pieces
from hda_fsspec.stack.product_grid import Pieces
from hda_fsspec.subsets.piece_grid import PieceGrid

NAMES = {"temperature": "t", "geopotential": "z"}


def atmosphere(first: str, last: str, hours: int, levels: tuple[float, ...] = ()) -> xr.Dataset:
    """Return what a query asks for, as one file would hold it."""
    time = np.arange(
        np.datetime64(first, "ns"), np.datetime64(last, "ns"), np.timedelta64(hours, "h")
    )
    shape = (len(time), len(levels) or 1, 2)
    values = np.arange(np.prod(shape), dtype="f8").reshape(shape)
    field = xr.Dataset(
        {
            own: (("valid_time", "pressure_level", "x"), values + n, {"long_name": name})
            for n, (name, own) in enumerate(NAMES.items())
        },
        coords={"valid_time": time, "pressure_level": list(levels) or [0.0], "x": [1.0, 2.0]},
    )
    field.valid_time.encoding = {"units": "seconds since 1970-01-01", "dtype": "i8"}
    return field if levels else field.isel(pressure_level=0, drop=True)


def piece_of(grid: PieceGrid, number: int, whole: xr.Dataset) -> xr.Dataset:
    """Return what the service makes of a piece: files hold levels from below."""
    bounds, body = grid.bounds(number), grid.body(number)
    assert bounds is not None
    first, last = (np.datetime64(at.replace(tzinfo=None), "ns") for at in bounds)
    part = whole.sel(valid_time=slice(first, last))
    if "pressure_level" in body:
        wanted = {float(value) for value in body["pressure_level"]}
        part = part.sel(pressure_level=[n for n in part.pressure_level.values if n in wanted])
    if "variable" in body:
        part = part[[NAMES[name] for name in body["variable"]]]
    part.valid_time.encoding = whole.valid_time.encoding
    return part


def opened(
    stacks: Any,
    grid: PieceGrid,
    whole: xr.Dataset,
    *,
    provisional: tuple[int, ...] = (),
    **more: Any,
) -> xr.Dataset:
    """Serve all pieces, and open them as one data set."""
    ids = [grid.named(number)[0] for number in range(len(grid))]
    change = more.pop("change", lambda number, piece: piece)
    files = {name: change(number, piece_of(grid, number, whole)) for number, name in enumerate(ids)}
    starts = {name: grid.bounds(n)[0] for n, name in enumerate(ids)}  # type: ignore[index]
    fields = {"startdate": lambda name: f"{starts[name]:%Y-%m-%dT%H:%M:%S.000Z}"}
    stacks.serve(files, fields=fields | {"enddate": fields["startdate"]})
    found = {p.product_id: p for p in stacks.client.search(Location.parse(stacks.query))}
    pieces = Pieces.of_grid(grid, [found[name] for name in ids], provisional=provisional)
    return open_pieces(stacks.client, "query", pieces, OpenOptions(), StackOptions(**more))


LEVELS = (1000.0, 500.0, 100.0)
ASKED: dict[str, Any] = {
    "variable": list(NAMES),
    "pressure_level": [str(int(level)) for level in LEVELS],
    "startdate": "2020-01-30",
    "enddate": "2020-03-02",
    "time": ["00:00", "12:00"],
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("split", "templates"),
    [
        ("month", 1),
        ("week", 1),
        ({"time": "month", "pressure_level": 2}, 1),
        ({"time": "month", "variable": 1, "pressure_level": 1}, 2),
        ({"variable": 1}, 2),
    ],
    ids=str,
)
def test_a_query_cut_in_any_way_is_the_whole(stacks: Any, split: Any, templates: int) -> None:
    """By time, variable, level and all of them; one order for each kind shows what it is like."""
    whole = atmosphere("2020-01-30", "2020-03-03", 12, LEVELS)
    grid = s.cut(s.LEVELED, split, **ASKED)

    dataset = opened(stacks, grid, whole)

    assert len(stacks.ordered) == templates
    part = dataset.isel(valid_time=[-1]).drop_vars("z")
    assert len({p.product_id for p in part.hda.products}) == len(part.hda.products) < len(grid)
    values = dataset.load()
    if isinstance(split, dict) and split.get("pressure_level") == 1:
        # One level at a time does not tell in which order a file would hold several.
        values = values.sortby("pressure_level", ascending=False)
    xr.testing.assert_identical(values.drop_encoding(), whole.drop_encoding())


@pytest.mark.slow
@pytest.mark.parametrize("hours", [1, 6, 24])
def test_ranges_are_told_by_the_step(stacks: Any, hours: int) -> None:
    """Where no request names times, one piece tells the step, and months have their own lengths."""
    whole = atmosphere("2023-11-01", "2024-03-11", hours)
    ids = {1: s.MARINE_ID, 6: s.MARINE_ID.replace("PT1H", "PT6H"), 24: s.DAILY_ID}
    grid = s.cut(s.marine(ids[hours]), "month", startdate="2023-11-01", enddate="2024-03-10")

    dataset = opened(stacks, grid, whole)

    assert len(stacks.ordered) == 1
    assert dataset.t.encoding["preferred_chunks"]["valid_time"] == tuple(
        24 // hours * days for days in (30, 31, 31, 29, 10)
    )
    xr.testing.assert_identical(dataset.load().drop_encoding(), whole.drop_encoding())


def test_a_piece_near_the_present_may_be_short(stacks: Any) -> None:
    """It is looked at when the data set is opened, whose end is then true."""
    whole = atmosphere("2024-01-01", "2024-03-11", 24)
    grid = s.cut(s.marine(s.DAILY_ID), "month", startdate="2024-01-01", enddate="2024-03-31")

    dataset = opened(stacks, grid, whole, provisional=(2,))

    assert stacks.ordered == [grid.named(0)[0], grid.named(2)[0]]
    xr.testing.assert_identical(dataset.load().drop_encoding(), whole.drop_encoding())


@pytest.mark.slow
def test_a_piece_that_no_time_lies_in_is_empty(stacks: Any) -> None:
    """Asked for a range without a time the service delivers the nearest: it is never stacked."""
    whole = atmosphere("2024-01-11", "2024-03-01", 24)
    grid = s.cut(s.marine(s.DAILY_ID), "10D", startdate="2024-01-01", enddate="2024-03-10")
    assert len(grid) == 7

    def nearest(number: int, piece: xr.Dataset) -> xr.Dataset:
        return (
            piece if piece.sizes["valid_time"] else whole.isel(valid_time=[0 if not number else -1])
        )

    dataset = opened(stacks, grid, whole, provisional=(6,), change=nearest)

    assert {0, 6} <= {n for n in range(7) if grid.named(n)[0] in stacks.ordered}
    assert grid.named(0)[0] not in {product.product_id for product in dataset.t.hda.products}
    xr.testing.assert_identical(dataset.load().drop_encoding(), whole.drop_encoding())


@pytest.mark.slow
def test_a_piece_of_other_times_is_refused(stacks: Any) -> None:
    """A piece that lacks a step in its middle is told when it is read, and others are read."""
    whole = atmosphere("2024-01-01", "2024-04-01", 24)
    grid = s.cut(s.marine(s.DAILY_ID), "month", startdate="2024-01-01", enddate="2024-03-31")

    dataset = opened(
        stacks,
        grid,
        whole,
        change=lambda n, piece: piece.drop_isel(valid_time=5) if n == 1 else piece,
    )

    assert dataset.t[-1].values.tolist() == whole.t[-1].values.tolist()
    with pytest.raises(ProductMismatchError, match="28 steps along 'valid_time', not 29"):
        dataset.t[31:60].load()
