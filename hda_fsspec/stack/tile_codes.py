"""Positions of tiles, computed from their codes once two tiles are known.

Pure: it knows names and numbers. What it predicts is checked when a tile is read.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

Array = np.ndarray[tuple[int, int], np.dtype[np.float64]]
#: For x and for y the first value, the step, and how many there are.
Grid = tuple[tuple[float, float, int], tuple[float, float, int]]

#: What codes count: degrees or metres, and thousands of these.
_UNITS = (1.0, 1e3, 1e4, 1e5, 1e6)

_BANDS = "CDEFGHJKLMNPQRSTUVWX"
#: What a zone of the military grid calls its columns of 100 km, by the zone's number.
MGRS_COLUMNS = ("STUVWXYZ", "ABCDEFGH", "JKLMNPQR")
_ROWS = "ABCDEFGHJKLMNPQRSTUV"
_MGRS = re.compile(r"T?([0-9]{2})([C-HJ-NP-X])([A-HJ-NP-Z])([A-HJ-NP-V])")
_HALVES = re.compile(r"([NSEW])([0-9]+)|([0-9]+)([NSEW])")
_MINUTES = re.compile(r"(?<=[0-9])_[0-9]{2}(?![0-9])")
#: Pixels of 10, 20 and 60 m of Sentinel-2 begin at the same corner.
_CORNER = 60.0


def corners_of(names: Sequence[str]) -> tuple[Array, bool] | None:
    """Return a corner of each tile: eastwards, northwards.

    Parameters
    ----------
    names : sequence of str
        Codes, all in one manner.

    Returns
    -------
    tuple of (numpy.ndarray, bool), or None
        The corners, a row for each, and whether they are in the units of the coordinates: metres
        of the military grid. Else their unit is whatever the code counts. None for codes that do
        not tell.
    """
    found = [_corner_of_square(name) for name in names]
    if all(corner is not None for corner in found):
        return np.array(found, np.float64), True
    found = [_corner_of_halves(name) for name in names]
    if all(corner is not None for corner in found):
        return np.array(found, np.float64), False
    return None


def _corner_of_halves(name: str) -> tuple[float, float] | None:
    """Return the corner of ``N00_00_E006_00``, ``E43N30``, ``10N_020E``."""
    corner: dict[str, float] = {}
    for letter, number, other_number, other_letter in _HALVES.findall(_MINUTES.sub("", name)):
        side = letter or other_letter
        sign = -1 if side in "SW" else 1
        corner["x" if side in "EW" else "y"] = sign * float(number or other_number)
    return (corner["x"], corner["y"]) if len(corner) == 2 else None


def _corner_of_square(name: str) -> tuple[float, float] | None:
    """Return the upper left corner of the tile of Sentinel-2 for a square of the military grid."""
    match = _MGRS.fullmatch(name)
    if match is None:
        return None
    zone, band, column, row = match.groups()
    columns = MGRS_COLUMNS[int(zone) % 3]
    if column not in columns:
        return None
    east = 100_000.0 * (columns.index(column) + 1)
    first = "AF"[int(zone) % 2 == 0]
    north = 100_000.0 * ((_ROWS.index(row) - _ROWS.index(first)) % len(_ROWS))
    lowest = _northing(-80 + 8 * _BANDS.index(band))
    # Rows are called alike every 2,000 km.
    north += 2_000_000.0 * math.ceil((lowest - 100_000.0 - north) / 2_000_000.0)
    east = math.floor(east / _CORNER) * _CORNER
    return east, math.ceil((north + 100_000.0) / _CORNER) * _CORNER


def _northing(latitude: float) -> float:
    """Return the northing of a latitude on the central meridian of a zone, within some 100 m."""
    angle = math.radians(latitude)
    arc = 111_132.954 * latitude - 16_038.51 * math.sin(2 * angle) + 16.83 * math.sin(4 * angle)
    return 0.9996 * arc + (10_000_000.0 if latitude < 0 else 0.0)


def probe_of(corners: Array) -> int:
    """Return the tile that tells most of where all lie, beside the first: the farthest of them."""
    away = np.abs(corners - corners[0])
    scaled = away / np.maximum(away.max(axis=0), 1e-9)
    return int(np.argmax((away > 0).sum(axis=1) * 10.0 + scaled.sum(axis=1)))


def predict_firsts(
    corners: Array, is_metric: bool, looked_at: Sequence[int], grids: Sequence[Grid]
) -> Array | None:
    """Return the first x and y of all tiles, from the grids of two of them.

    Parameters
    ----------
    corners : numpy.ndarray
        The corner of each tile, as its code tells.
    is_metric : bool
        Whether that is the upper left corner, in the units of the coordinates.
    looked_at : sequence of int
        Which tiles are known.
    grids : sequence of tuple
        Of each of these, for x and for y: the first value, the step, and how many there are.

    Returns
    -------
    numpy.ndarray or None
        None where known tiles do not lie where their codes say: those of others tell nothing then.
    """
    (first_x, step_x, _), (first_y, step_y, _) = grids[0]
    steps = np.array([step_x, step_y])
    for unit in (1.0,) if is_metric else _UNITS:
        if not all(
            _fits(corners[number] * unit, is_metric, grid)
            for number, grid in zip(looked_at, grids, strict=True)
        ):
            continue
        found: Array = np.array([first_x, first_y]) + (corners - corners[looked_at[0]]) * unit
        (other_x, _, _), (other_y, _, _) = grids[1]
        away = np.abs(found[looked_at[1]] - [other_x, other_y])
        pixels = (found - found[looked_at[0]]) / steps
        if (away <= 0.01 * np.abs(steps)).all() and np.allclose(pixels, np.round(pixels), 0, 0.01):
            return found
    return None


def _fits(corner: Sequence[float] | np.ndarray[Any, Any], is_upper: bool, grid: Grid) -> bool:
    """Whether a tile begins at a corner, or half a pixel beside it."""
    (first_x, step_x, _), (first_y, step_y, count) = grid
    left = first_x - step_x / 2
    edges = first_y - step_y / 2, first_y + step_y * (count - 0.5)
    north = max(edges) if is_upper else min(edges)
    return bool(abs(left - corner[0]) <= abs(step_x) and abs(north - corner[1]) <= abs(step_y))
