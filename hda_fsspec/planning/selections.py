"""Lazily indexed variables: the recipe below xarray's adapters, and the part of it that is read.

Nothing is read here. All that this package knows of xarray's adapter classes stands in this
module, since they change between releases; of a class that is not known, everything is taken.
"""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import xarray as xr
from xarray.core import indexing  # xarray documents this module for writers of backends

from hda_fsspec.lazy.arrays import ADAPTERS, HDABackendArray, is_forward, recipe_under
from hda_fsspec.lazy.openfiles import is_everything

# Indexing these gives another lazy array. Others may read when they are indexed.
_LAZY = (indexing.LazilyIndexedArray, indexing.LazilyVectorizedIndexedArray)

# What indexing raises of a key that it cannot take.
_NOT_UNDERSTOOD = (AttributeError, IndexError, NotImplementedError, TypeError, ValueError)


class LazySelection:
    """An array as xarray or Dask holds it, with the recipe below it.

    Attributes
    ----------
    recipe : HDABackendArray
        The variable that is read in the end.
    """

    def __init__(self, array: Any, recipe: HDABackendArray) -> None:
        self.recipe = recipe
        self._takes = getattr(array, "indexer_cls", indexing.OuterIndexer)
        self._lazy: Any = None
        with contextlib.suppress(*_NOT_UNDERSTOOD):
            self._lazy = _composed(array)
        self._is_whole = self._lazy is not None and _is_whole(self._lazy)

    @classmethod
    def from_array(cls, array: Any) -> LazySelection | None:
        """Look below an array; None if what it holds is in memory, or not ours."""
        recipe = recipe_under(array)
        return None if recipe is None else cls(array, recipe)

    def pieces(self) -> np.ndarray[Any, Any]:
        """Return the numbers of the products that reading all of the array reads."""
        return self._read(self._lazy)

    def product_numbers_at(self, key: Any) -> np.ndarray[Any, Any]:
        """Return the numbers of the products that reading part of the array reads.

        Parameters
        ----------
        key : object
            As it stands between brackets: slices, integers, 1-D arrays, an ellipsis, None for
            a new axis. Of one that is not understood, all are returned.
        """
        try:
            expanded = self._expanded(key)
            if self._is_whole and all(map(is_forward, expanded)):
                # Most tasks are such: their key reaches the recipe as it is.
                return self.recipe.product_numbers_at(expanded)
            narrowed = indexing.apply_indexer(self._lazy, self._takes(expanded))
        except _NOT_UNDERSTOOD:
            return self.pieces()
        return self._read(narrowed)

    def _expanded(self, key: Any) -> tuple[Any, ...]:
        parts = key if isinstance(key, tuple) else (key,)
        known = tuple(
            np.asarray(part) if isinstance(part, list) else part
            for part in parts
            if part is not None
        )
        expanded = indexing.expanded_indexer(known, self._lazy.ndim)  # type: ignore[no-untyped-call]
        return tuple(expanded)

    def _read(self, lazy: Any) -> np.ndarray[Any, Any]:
        shape = self.recipe.shape
        try:
            # The same that BackendArray does with a key before it reads.
            raw, _ = indexing.decompose_indexer(lazy.key, shape, indexing.IndexingSupport.OUTER)
        except _NOT_UNDERSTOOD:
            return self.recipe.product_numbers_at((slice(None),) * len(shape))
        return self.recipe.product_numbers_at(raw.tuple)


def _composed(array: Any) -> Any:
    """Return a lazily indexed array that lies directly upon the recipe and reads the same."""
    if isinstance(array, HDABackendArray):
        return indexing.LazilyIndexedArray(array)
    if isinstance(array, _LAZY) and isinstance(array.array, HDABackendArray):
        return array
    below = _composed(array.array)
    if isinstance(array, _LAZY):
        return indexing.apply_indexer(below, array.key)
    if array.shape == below.shape:
        # A wrapper that changes values, or keeps them, but does not move them.
        return below
    msg = f"{type(array).__name__} changes the shape of what it holds"
    raise TypeError(msg)


def _is_whole(lazy: Any) -> bool:
    return isinstance(lazy, indexing.LazilyIndexedArray) and is_everything(lazy.key.tuple)


def is_lazy(value: Any) -> bool:
    """Whether a value is one of xarray's adapters, with or without a recipe below."""
    return isinstance(value, ADAPTERS)


def arrays_of(variables: xr.Dataset | xr.DataArray | xr.Variable) -> list[Any]:
    """Return what variables hold, coordinates included, without reading it."""
    # Variable.data would read what is lazy; only the private attribute does not.
    if isinstance(variables, xr.Variable):
        return [variables._data]
    if isinstance(variables, xr.DataArray):
        coordinates = [variables.coords[name].variable for name in variables.coords]
        return [variable._data for variable in (variables.variable, *coordinates)]
    return [variable._data for variable in variables.variables.values()]
