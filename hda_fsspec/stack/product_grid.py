"""The pieces of a stack: products on a grid, before any of them was looked at."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import xarray as xr

from hda_fsspec.client import Client
from hda_fsspec.errors import OrderError, QueryError
from hda_fsspec.printable import printable
from hda_fsspec.reading.options import OpenOptions
from hda_fsspec.records import Product, Scalar
from hda_fsspec.stack.stack_axes import NOTHING
from hda_fsspec.subsets.piece_grid import TIME, PieceGrid
from hda_fsspec.timeindex.catalogue_times import CatalogueTimes, Predictor
from hda_fsspec.timeindex.regular_times import RegularTimes

_Array = np.ndarray[Any, Any]

#: What ``datetime64[ns]`` holds, in whole years.
_FIRST_TIME, _END_OF_TIME = np.datetime64("1678-01-01", "us"), np.datetime64("2262-01-01", "us")


@dataclasses.dataclass(frozen=True)
class KeyAxis:
    """A list of values that was asked for in parts, such as levels.

    Attributes
    ----------
    name : str
        The key of the query.
    parts : tuple of tuple
        The values that each part was asked for.
    """

    name: str
    parts: tuple[tuple[Scalar, ...], ...]


class CutFurther(Protocol):
    """A function that opens a product in pieces where the service refuses it as a whole."""

    def __call__(self, client: Client, product: Product, options: OpenOptions) -> xr.Dataset:
        """Return it as a lazy dataset."""


class End(Protocol):
    """The end of the data of a query, as far as it is known; it moves from day to day."""

    def until(self) -> np.datetime64 | None:
        """Return the last moment of which there are data, where that is known."""

    def is_told(self, product: Product, refusal: OrderError) -> bool:
        """Take note of an order that was refused; False where it does not tell where data end."""


@dataclasses.dataclass(frozen=True, eq=False)
class Pieces:
    """Products on a grid of time, kinds and keys, in this order of axes.

    Attributes
    ----------
    products : sequence of Product
        All of them.
    cells : numpy.ndarray
        The number of the product of each cell, ``NOTHING`` where there is none: an array of the
        shape of the grid, of at least the axes of time and kinds.
    predictor : callable
        Returns the predictor of the times of some parts of the axis of time, given the last moment
        of which there are data, where that is known.
    kinds : tuple of str
        What products of each kind are called; one without a name if there is but one.
    keys : tuple of KeyAxis
        The axes of keys.
    provisional : tuple of int
        The parts of the axis of time that may be shorter than they are asked for: one product of
        each is looked at when the data set is opened, so that its end is true.
    end : End or None
        What is known of where the data end by now.
    origin : PieceGrid or None
        How the query was cut that they are pieces of.
    cut_further : callable or None
        Opens a product that the service refuses as too large, in smaller pieces; it is called with
        its client, the product, and how it is opened, and can be pickled.
    """

    products: Sequence[Product]
    cells: _Array
    predictor: Callable[[_Array, np.datetime64 | None], Predictor]
    kinds: tuple[str, ...] = ("",)
    keys: tuple[KeyAxis, ...] = ()
    provisional: tuple[int, ...] = ()
    end: End | None = None
    origin: PieceGrid | None = None
    cut_further: CutFurther | None = None

    @classmethod
    def of_grid(
        cls,
        grid: PieceGrid,
        products: Sequence[Product],
        *,
        provisional: Sequence[int] = (),
        end: End | None = None,
    ) -> Pieces:
        """Lay the pieces of a query, each of which is a product as soon as it is ordered.

        Parameters
        ----------
        grid : PieceGrid
            How the query was cut.
        products : sequence of Product
            The product that each piece stands for, by the number of the piece.
        provisional : sequence of int
            The parts along time that reach near the present.
        end : End, optional
            What is known of where the data end by now.
        """
        has_times = bool(grid.axes) and grid.axes[0].name == TIME
        cut = grid.axes[1:] if has_times else grid.axes
        values: list[tuple[str, Any]] = [(axis.name, grid.index(axis.name)) for axis in cut]
        kinds: tuple[str, ...] = ("",)
        if values and values[0][0].startswith("variable"):
            kinds = tuple(",".join(map(str, part)) for part in values.pop(0)[1])
        keys = tuple(KeyAxis(name, parts) for name, parts in values)
        shape = [grid.axes[0].length if has_times else 1, len(kinds), *(len(k.parts) for k in keys)]
        return cls(
            products,
            np.arange(len(products)).reshape(shape),
            _predictor_of(grid, provisional) if has_times else _of_one_part,
            kinds=kinds,
            keys=keys,
            provisional=tuple(provisional),
            end=end,
            origin=grid,
        )

    @classmethod
    def of_search(cls, found: Sequence[Product], kinds: Mapping[str, Sequence[int]]) -> Pieces:
        """Lay the products of a search, which are in the order of time, by interval and kind.

        Where one kind has several products of one interval each is a part of its own.
        """
        if len(kinds) == 1:
            cells = np.arange(len(found)).reshape(-1, 1)
        else:
            cells = _by_interval(found, list(kinds.values()))
        firsts = np.where(cells == NOTHING, len(found), cells).min(axis=1)
        firsts = np.asarray(firsts, np.int64)
        starts, ends = (
            catalogue_times([found[number] for number in firsts.tolist()], name)
            for name in ("startdate", "enddate")
        )
        return cls(
            found,
            cells,
            lambda parts, _: CatalogueTimes(starts[parts], ends[parts]),
            kinds=tuple(kinds),
        )


def _predictor_of(
    grid: PieceGrid, provisional: Sequence[int]
) -> Callable[[_Array, np.datetime64 | None], Predictor]:
    starts, ends = np.asarray(grid.index(TIME)).T

    def predictor(_: _Array, until: np.datetime64 | None) -> Predictor:
        # All kinds have pieces of all times.
        return RegularTimes(starts, ends, grid.data_step, grid.time_index(), provisional, until)

    return predictor


def _of_one_part(parts: _Array, _: np.datetime64 | None) -> Predictor:
    """Return what tells the times of one product, which is looked at anyway."""
    unknown = np.full(len(parts), "NaT", "datetime64[us]")
    return CatalogueTimes(unknown, unknown)


def _by_interval(found: Sequence[Product], kinds: Sequence[Sequence[int]]) -> _Array:
    rows: dict[tuple[str, str, int], list[int]] = {}
    for kind, numbers in enumerate(kinds):
        seen: collections.Counter[tuple[str, str]] = collections.Counter()
        for number in numbers:
            interval = (found[number].startdate or "", found[number].enddate or "")
            row = rows.setdefault((*interval, seen[interval]), [NOTHING] * len(kinds))
            row[kind] = number
            seen[interval] += 1
    return np.array([rows[key] for key in sorted(rows)], np.int64)


def catalogue_times(products: Sequence[Product], name: str) -> _Array:
    """Return the starts or the ends that the catalogue tells; NaT where it tells none."""
    texts = [(getattr(product, name) or "NaT").removesuffix("Z") for product in products]
    return np.array(texts, dtype="datetime64[us]")


def start_times(starts: Sequence[tuple[str, str | None]]) -> _Array:
    """Return starts that the catalogue tells as ``datetime64[ns]``; NaT where it tells none.

    Parameters
    ----------
    starts : sequence of tuple
        Of each product its id, and its start.

    Raises
    ------
    QueryError
        One is before 1678 or after 2261, which that unit cannot hold.
    """
    texts = [(start or "NaT").removesuffix("Z") for _, start in starts]
    times = np.array(texts, dtype="datetime64[us]")
    is_far = (times < _FIRST_TIME) | (times >= _END_OF_TIME)
    if is_far.any():
        product_id, start = starts[int(np.flatnonzero(is_far)[0])]
        msg = (
            f"The catalogue tells {printable(start or '')} as the start of "
            f"{printable(product_id)}, which a time of datetime64[ns] cannot be (1678 to 2261). "
            "Leave that product out, with startdate and enddate for instance."
        )
        raise QueryError(msg)
    found: _Array = times.astype("datetime64[ns]")
    return found


def asked_for(product: Product) -> tuple[np.datetime64, np.datetime64] | None:
    """Return the first and the last moment that a product was asked for, if it is made so."""
    if not product.request or product.startdate is None or product.enddate is None:
        return None
    first, last = (
        np.datetime64(text.removesuffix("Z")) for text in (product.startdate, product.enddate)
    )
    return first, last
