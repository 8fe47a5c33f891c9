"""Tiles side by side: the grid of the whole, and which tile gives which part of a selection."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rows import for_each

from hda_fsspec.stack.mosaic_placement import MisplacedError, MosaicAxis, Placement


def axis(dim: str, spans: list[tuple[int, int]]) -> MosaicAxis:
    """Return an axis of tiles that begin somewhere and have so many elements."""
    values = [10.0 * np.arange(first, first + count) for first, count in spans]
    return MosaicAxis.of_tiles(dim, values, [10.0] * len(spans))


SPANS = st.lists(st.tuples(st.integers(-3, 9), st.integers(1, 6)), min_size=3, max_size=3)


@pytest.mark.slow
@given(rows=SPANS, columns=SPANS, data=st.data())
def test_each_element_is_given_by_the_first_tile_that_has_it(
    rows: list[tuple[int, int]], columns: list[tuple[int, int]], data: Any
) -> None:
    """As if all tiles were written into one array, the first one last."""
    y, x = axis("y", rows), axis("x", columns)
    steps = np.array(data.draw(st.lists(st.lists(st.booleans(), min_size=2, max_size=2),
                                        min_size=3, max_size=3)))  # fmt: skip
    times = np.where(steps, np.cumsum(steps, axis=1) - 1, -1)
    placement = Placement((y, x), "time", times)
    lengths = placement.lengths()
    expected = np.full((*(lengths[dim] for dim in ("time", "y", "x")), 4), -1)
    for tile in (2, 1, 0):
        for time in np.flatnonzero(steps[tile]):
            block: tuple[Any, ...] = np.ix_(
                [time],
                y.firsts[tile] + np.arange(rows[tile][1]),
                x.firsts[tile] + np.arange(columns[tile][1]),
            )
            own = np.indices((1, rows[tile][1], columns[tile][1]))
            expected[(*block, 0)], expected[(*block, 1)] = tile, times[tile, time]
            expected[(*block, 2)], expected[(*block, 3)] = own[1], own[2]
    chosen = {
        dim: np.array(data.draw(st.lists(st.integers(0, lengths[dim] - 1), min_size=1, max_size=4)))
        for dim in ("time", "y", "x")
    }

    found = np.full((*(len(chosen[dim]) for dim in ("time", "y", "x")), 4), -1)
    for part in placement.parts(chosen):
        target: tuple[Any, ...] = np.ix_(*(part.targets[dim] for dim in ("time", "y", "x")))
        assert (found[(*target, 0)] == -1).all()
        found[(*target, 0)] = part.tile
        for place, values in enumerate(np.ix_(*(part.steps[dim] for dim in ("time", "y", "x")))):
            found[(*target, place + 1)] = values

    np.testing.assert_array_equal(found, expected[np.ix_(chosen["time"], chosen["y"], chosen["x"])])
    assert placement.has_gaps() == bool((expected[..., 0] == -1).any())


def test_coordinates_are_those_of_tiles() -> None:
    """Noise below a hundredth of a pixel is no other grid; between tiles values are filled in."""
    noisy = np.array([0.3, 0.4]) + 1e-6

    found = MosaicAxis.of_tiles(
        "x", [np.array([0.0, 0.1]), noisy, np.array([0.3, 0.4])], [None] * 3
    )

    np.testing.assert_array_equal(found.coordinate[[0, 1, 3, 4]], [0.0, 0.1, *noisy])
    np.testing.assert_allclose(found.coordinate[2], 0.2)
    assert found.firsts.tolist() == [0, 3, 3]


@for_each(
    ("other", "message"),
    [
        ([0.0, 0.2], "resolution along 'x' is 0.1 and 0.2"),
        ([0.55, 0.65], "0.5 of a pixel apart along 'x'"),
        ([0.4, 0.3], "one runs from low 'x' to high"),
    ],
)
def test_grids_that_differ(other: list[float], message: str) -> None:
    """The error names the tiles and what differs."""
    with pytest.raises(MisplacedError, match=message) as caught:
        MosaicAxis.of_tiles("x", [np.array([0.0, 0.1]), np.array(other)], [None, None])

    assert caught.value.tiles == (0, 1)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ([20.0, 34.0, 42.0, 50.0], "their pixels are 4 apart in one place"),
        ([np.nan, 30.0, 40.0, 50.0], "the latter has missing values of 'x'"),
    ],
)
def test_pixels_that_lie_elsewhere_are_refused(other: list[float], said: str) -> None:
    """Of uneven steps those that overlap must be the same; and all must have a place."""
    values = [np.array([0.0, 10.0, 20.0, 30.0]), np.array(other)]

    with pytest.raises(MisplacedError, match=said) as raised:
        MosaicAxis.of_tiles("x", values, [None, None])

    assert raised.value.tiles == (0, 1)


def test_uneven_steps_may_lie_side_by_side() -> None:
    """The coordinate is that of the tiles."""
    values = [np.array([0.0, 12.0, 20.0, 30.0]), np.array([40.0, 54.0, 60.0, 70.0])]

    axis = MosaicAxis.of_tiles("x", values, [None, None])

    assert axis.coordinate.tolist() == [0.0, 12.0, 20.0, 30.0, 40.0, 54.0, 60.0, 70.0]
