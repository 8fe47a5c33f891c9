"""The placement of tiles beside each other: the grid of a mosaic, and the part of each tile.

Pure numbers: it has never heard of products or files. Where tiles overlap the first one counts.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

#: By how much of a pixel, over the whole of a tile, two grids may be apart.
TOLERANCE = 0.01


class MisplacedError(ValueError):
    """Two tiles do not lie on one grid.

    Attributes
    ----------
    tiles : tuple of int
        Which.
    """

    def __init__(self, message: str, tiles: tuple[int, int]) -> None:
        super().__init__(message)
        self.tiles = tiles


@dataclasses.dataclass(frozen=True, eq=False)
class MosaicAxis:
    """A dimension along which tiles lie beside each other.

    Attributes
    ----------
    dim : str
        The dimension.
    firsts, counts : numpy.ndarray
        Where each tile begins, and how many elements it has.
    coordinate : numpy.ndarray
        The values of the whole: those of tiles, the first one's where several have one.
    step : float
        From one value to the next.
    """

    dim: str
    firsts: Array
    counts: Array
    coordinate: Array
    step: float

    @classmethod
    def of_tiles(
        cls, dim: str, values: Sequence[Array], steps: Sequence[float | None]
    ) -> MosaicAxis:
        """Lay tiles beside each other.

        Parameters
        ----------
        dim : str
            The dimension.
        values : sequence of numpy.ndarray
            The coordinate of each tile, the tiles that count first in front.
        steps : sequence of (float or None)
            The resolution of each, where a tile of one element does not tell; it counts the way
            that the values run.

        Raises
        ------
        MisplacedError
            Two tiles differ in their resolution, or in where their pixels lie; or it is not known
            where those of one lie.
        """
        for number, coordinate in enumerate(values):
            if not np.isfinite(coordinate).all():
                msg = f"the latter has missing values of {dim!r}"
                raise MisplacedError(msg, (0, number))
        told = [_step(coordinate, step) for coordinate, step in zip(values, steps, strict=True)]
        reference = next((n for n, step in enumerate(told) if step is not None), 0)
        step = told[reference]
        if step is None:
            step = _distance(values)
        origin = float(values[reference][0])
        firsts = []
        for number, coordinate in enumerate(values):
            own = told[number]
            if own is not None and abs(own - step) * max(len(coordinate), 2) > TOLERANCE * abs(
                step
            ):
                msg = f"the resolution along {dim!r} is {_short(abs(step))} and {_short(abs(own))}"
                if step * own < 0:
                    msg = f"one runs from low {dim!r} to high, the other from high to low"
                raise MisplacedError(msg, (reference, number))
            away = (float(coordinate[0]) - origin) / step
            if abs(away - round(away)) > TOLERANCE:
                part = abs(away - round(away))
                msg = f"their pixels are {part:.2g} of a pixel apart along {dim!r}"
                raise MisplacedError(msg, (reference, number))
            firsts.append(round(away))
        begins = np.array(firsts, np.int64)
        counts = np.array([len(coordinate) for coordinate in values], np.int64)
        origin += step * int(begins.min())
        begins -= begins.min()
        dtype = np.result_type(*values)
        whole = (origin + step * np.arange(int((begins + counts).max()))).astype(dtype)
        for begin, coordinate in zip(begins[::-1].tolist(), values[::-1], strict=True):
            whole[begin : begin + len(coordinate)] = coordinate
        for number, (begin, coordinate) in enumerate(zip(begins.tolist(), values, strict=True)):
            # Pixels of uneven steps that lie on each other need not lie in the same place.
            shown = whole[begin : begin + len(coordinate)].astype(np.float64)
            apart = np.abs(shown - coordinate)
            if (apart > 2 * TOLERANCE * abs(step) + 2 * np.spacing(np.abs(whole).max())).any():
                place = begin + int(apart.argmax())
                other = int(np.flatnonzero((begins <= place) & (place < begins + counts))[0])
                msg = f"along {dim!r} their pixels are {_short(apart.max())} apart in one place"
                raise MisplacedError(msg, (other, number))
        return cls(dim, begins, counts, whole, step)

    @functools.cached_property
    def edges(self) -> Array:
        """Where tiles begin or end, sorted: between two of them it is the same tiles."""
        return np.unique(np.concatenate([self.firsts, self.firsts + self.counts]))

    @property
    def chunks(self) -> tuple[int, ...]:
        """The chunks that tiles prefer, one for each band: none reads a tile that gives nothing."""
        return tuple(np.diff(self.edges).tolist())

    def bands_at(self, positions: Array) -> dict[int, Array]:
        """Return which of some positions, by their numbers, lie in each band between two edges."""
        bands = np.searchsorted(self.edges, positions, side="right") - 1
        return {int(band): np.flatnonzero(bands == band) for band in np.unique(bands)}

    def tiles_in(self, band: int) -> Array:
        """Return which tiles lie in a band, as flags."""
        begin = self.edges[band]
        found: Array = (self.firsts <= begin) & (begin < self.firsts + self.counts)
        return found


def _step(values: Array, given: float | None) -> float | None:
    if len(values) > 1:
        return (float(values[-1]) - float(values[0])) / (len(values) - 1)
    return given


def _distance(values: Sequence[Array]) -> float:
    """Return the resolution of tiles of one element each, from where they lie."""
    firsts = np.unique([float(coordinate[0]) for coordinate in values])
    return float(np.diff(firsts).min()) if len(firsts) > 1 else 1.0


def _short(value: float) -> str:
    return f"{value:.10g}"


@dataclasses.dataclass(frozen=True, eq=False)
class Part:
    """The part of a selection that one tile gives.

    Attributes
    ----------
    tile : int
        Which.
    targets : mapping of str to numpy.ndarray
        For each dimension which of the selected positions, by their numbers.
    steps : mapping of str to numpy.ndarray
        For each dimension the positions in the tile.
    """

    tile: int
    targets: Mapping[str, Array]
    steps: Mapping[str, Array]


@dataclasses.dataclass(frozen=True, eq=False)
class Placement:
    """The places of the tiles of a variable along its dimensions.

    Attributes
    ----------
    axes : tuple of MosaicAxis
        Its dimensions along which tiles lie beside each other, one or two.
    time : str or None
        The dimension along which they may have other steps, if it has that.
    times : numpy.ndarray or None
        For each tile and step of the whole, which step of the tile it is; -1 for none.
    """

    axes: tuple[MosaicAxis, ...]
    time: str | None = None
    times: Array | None = None

    @property
    def dims(self) -> tuple[str, ...]:
        """The dimensions."""
        dims = tuple(axis.dim for axis in self.axes)
        return dims if self.time is None else (self.time, *dims)

    def lengths(self) -> dict[str, int]:
        """Return the length of each dimension."""
        found = {axis.dim: len(axis.coordinate) for axis in self.axes}
        if self.time is not None and self.times is not None:
            found[self.time] = self.times.shape[1]
        return found

    def has_gaps(self) -> bool:
        """Whether some of the whole lies in no tile."""
        everything = {dim: np.arange(length) for dim, length in self.lengths().items()}
        given = sum(
            int(np.prod([len(target) for target in part.targets.values()]))
            for part in self.parts(everything)
        )
        return given < int(np.prod(list(self.lengths().values())))

    def parts(self, positions: Mapping[str, Array]) -> Iterator[Part]:
        """Yield what each tile gives to a selection; of each element one tile gives it.

        Parameters
        ----------
        positions : mapping of str to numpy.ndarray
            The selected positions along each dimension.
        """
        when = np.zeros(1, np.int64) if self.time is None else positions[self.time]
        bands = [axis.bands_at(positions[axis.dim]) for axis in self.axes]
        rows, columns = bands if len(bands) == 2 else (bands[0], {0: None})
        owned: dict[tuple[int, bytes], dict[int, list[int]]] = {}
        for row in rows:
            in_row = self.axes[0].tiles_in(row)
            for column in columns:
                flags = in_row if len(bands) < 2 else in_row & self.axes[1].tiles_in(column)
                for tile, times in self._owners(np.flatnonzero(flags).tolist(), when):
                    cells = owned.setdefault((tile, times.tobytes()), {})
                    cells.setdefault(row, []).append(column)
        for (tile, packed), cells in sorted(owned.items(), key=lambda item: item[0][0]):
            times = np.frombuffer(packed, np.int64)
            alike: dict[tuple[int, ...], list[int]] = collections.defaultdict(list)
            for row, its_columns in cells.items():
                alike[tuple(its_columns)].append(row)
            for same, its_rows in alike.items():
                yield self._part(tile, times, [its_rows, list(same)], bands, positions)

    def _owners(self, tiles: Sequence[int], when: Array) -> Iterator[tuple[int, Array]]:
        """Yield which of some times each of the tiles in one place gives, by their numbers."""
        left = np.ones(len(when), bool)
        for tile in tiles:
            mine = left if self.times is None else left & (self.times[tile][when] >= 0)
            if mine.any():
                yield tile, np.flatnonzero(mine)
                left = left & ~mine
            if not left.any():
                return

    def _part(
        self,
        tile: int,
        times: Array,
        chosen: Sequence[Sequence[int]],
        bands: Sequence[Mapping[int, Array]],
        positions: Mapping[str, Array],
    ) -> Part:
        targets: dict[str, Array] = {}
        steps: dict[str, Array] = {}
        for axis, its_bands, along in zip(self.axes, chosen, bands, strict=False):
            found = np.sort(np.concatenate([along[band] for band in its_bands]))
            targets[axis.dim] = found
            steps[axis.dim] = positions[axis.dim][found] - axis.firsts[tile]
        if self.time is not None and self.times is not None:
            targets[self.time] = times
            steps[self.time] = self.times[tile][positions[self.time][times]]
        return Part(tile, targets, steps)
