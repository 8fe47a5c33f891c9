"""Lazy variables as recipes: which products, opened how, which variable; never a handle or a path.

A recipe pickles small, fetches again where it is unpickled, and survives the eviction of its
files. What it needs to be read is asked of :mod:`hda_fsspec.lazy.openfiles` at the moment of
reading.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import xarray as xr
from dask.base import normalize_token, tokenize
from xarray.backends import BackendArray
from xarray.core import indexing  # xarray documents this module for writers of backends

from hda_fsspec.lazy import openfiles
from hda_fsspec.lazy.fingerprint import StructureFingerprint
from hda_fsspec.lazy.open_file_pool import FileStamp
from hda_fsspec.lazy.product_table import Source
from hda_fsspec.reading.indexing import Key, as_axis, key_lengths
from hda_fsspec.workers.pickling import add_worker_note, pack, unpack

_Kind = TypeVar("_Kind")

_TOKEN = re.compile(r"-[0-9a-f]{32}\Z")


class Closer:
    """Closes a data set: no file of its products stays open for it.

    Its variables are recipes, so that it can be read again; and data sets that share a file with it
    go on.

    Parameters
    ----------
    source : Source
        Where its values come from.
    """

    def __init__(self, source: Source) -> None:
        self.source = source

    def __call__(self) -> None:
        """Close the files."""
        openfiles.close(self.source)

    def __reduce__(self) -> tuple[Any, ...]:
        return unpack, pack(Reconstruct(type(self), self.__dict__))


class HDABackendArray(BackendArray):
    """A variable of one or more products, read when it is indexed.

    Attributes
    ----------
    source : Source
        Where its values come from.
    name : str
        The variable.
    shape, dtype
        As decoded.
    """

    def __init__(
        self, source: Source, name: str, shape: Sequence[int], dtype: np.dtype[Any]
    ) -> None:
        self.source = source
        self.name = name
        self.shape = tuple(shape)
        self.dtype = dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        try:
            outer = key.tuple
            if openfiles.is_everything(outer) and 0 not in self.shape:
                return self.read(outer)
            return self._part(key, outer)
        except Exception as err:
            settings = self.source.settings
            add_worker_note(err, user=settings.user, cache_dir=settings.cache_dir)
            raise

    def _part(self, key: indexing.ExplicitIndexer, outer: Key) -> Any:
        if isinstance(key, (indexing.BasicIndexer, indexing.OuterIndexer)) and is_empty(
            outer, self.shape
        ):
            # xarray's decomposition fails for an empty selection of a reversed axis.
            lengths = key_lengths(outer, self.shape)
            kept = [
                n for n, indexer in zip(lengths, outer, strict=True) if np.ndim(as_axis(indexer))
            ]
            return np.empty(kept, dtype=self.dtype)
        if isinstance(key, indexing.BasicIndexer) and all(map(is_forward, outer)):
            # What xarray would take the key apart into, at a fifth of the time of a small read.
            return self.read(outer)
        return indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.OUTER, self.read
        )

    def read(self, key: Key) -> Any:
        """Return the values at a key of one integer, slice or 1-D integer array for each axis."""
        raise NotImplementedError

    def product_numbers_at(self, key: Key) -> np.ndarray[Any, Any]:
        """Return the numbers of the products that reading a key would read, sorted, each once."""
        raise NotImplementedError

    def __reduce__(self) -> tuple[Any, ...]:
        return unpack, pack(Reconstruct(type(self), self.__dict__))

    def __deepcopy__(self, _: dict[int, Any]) -> HDABackendArray:
        # Nothing of it ever changes, and a pickled copy would have lost the password.
        return self

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return (type(self).__name__, self.source.__dask_tokenize__(), self.name)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.name} {self.shape} {self.dtype}>"


class Reconstruct:
    """Pickles as the making of a recipe, or of what closes one, from its attributes."""

    __slots__ = ("_kind", "_state")

    def __init__(self, kind: type[Any], state: dict[str, Any]) -> None:
        self._kind = kind
        self._state = state

    def __reduce__(self) -> tuple[Any, ...]:
        return _make, (self._kind, self._state)


def _make(kind: type[_Kind], state: dict[str, Any]) -> _Kind:
    made = kind.__new__(kind)
    made.__dict__.update(state)
    return made


class ProductArray(HDABackendArray):
    """A variable of one product, the first of its source.

    Parameters
    ----------
    source, name, shape, dtype
        As for :class:`HDABackendArray`.
    outline : StructureFingerprint
        What the product was like when it was opened.
    """

    def __init__(
        self,
        source: Source,
        name: str,
        shape: Sequence[int],
        dtype: np.dtype[Any],
        fingerprint: StructureFingerprint,
    ) -> None:
        super().__init__(source, name, shape, dtype)
        self.fingerprint = fingerprint

    def read(self, key: Key) -> Any:
        """Return the values at a key; the product is fetched first if it is not local."""
        return openfiles.read(self.source, 0, self.name, key, check=self._check)

    def _check(self, dataset: xr.Dataset, mark: FileStamp) -> None:
        if mark != self.fingerprint.mark:
            self.fingerprint.check(self.source.pieces[0].product_id, dataset, mark)

    def product_numbers_at(self, key: Key) -> np.ndarray[Any, Any]:
        """Return the number of the product; none if the key selects nothing."""
        return np.zeros(0 if is_empty(key, self.shape) else 1, dtype=np.int64)


#: What xarray wraps arrays in. Other objects that have an "array" may raise when it is named.
ADAPTERS = (indexing.ExplicitlyIndexed, indexing.ImplicitToExplicitIndexingAdapter)


class HDAVariable(xr.Variable):
    """A variable that tells Dask what it is made of.

    xarray names the chunks of an opened dataset by path and options alone. The same path may mean
    other products tomorrow; two data sets opened before and after would then share names, and
    Dask would take the chunks of one for those of the other.
    """

    __slots__ = ()

    def __dask_tokenize__(self) -> Any:
        # xarray's own token is made of the values, so it would fetch and read them all.
        keys = []
        data: Any = self._data
        while isinstance(data, ADAPTERS) and not isinstance(data, HDABackendArray):
            key = getattr(data, "key", None)
            keys.append((type(data).__name__, repr(key)))
            data = getattr(data, "array", None)
        if not isinstance(data, HDABackendArray):
            return super().__dask_tokenize__()
        return normalize_token((type(self), self.dims, data, keys, self._attrs or None))

    def load(self, **kwargs: Any) -> HDAVariable:
        """Load the values into memory, like :meth:`xarray.Variable.load`."""
        if not isinstance(self._data, indexing.MemoryCachedArray):
            return super().load(**kwargs)
        # What xarray does too, once it has found out that this is no Dask array.
        cached: Any = self._data
        self._data = cached.get_duck_array()
        return self

    def chunk(self, chunks: Any = {}, **options: Any) -> xr.Variable:  # type: ignore[override]  # noqa: B006  (xarray's own signature)
        """Coerce into a Dask array, like :meth:`xarray.Variable.chunk`."""
        recipe = recipe_under(self._data)
        given = options.get("from_array_kwargs")
        if recipe is not None and given and isinstance(given.get("name"), str):
            # xarray's token is made of all options, the password among them.
            name = _TOKEN.sub("", given["name"])
            token = tokenize(self, str(chunks))
            options["from_array_kwargs"] = {**given, "name": f"{name}-{token}"}
        chunked = super().chunk(chunks, **options)
        return xr.Variable(chunked.dims, chunked.data, chunked.attrs, chunked.encoding)


def recipe_under(data: Any) -> HDABackendArray | None:
    """Return the recipe below xarray's adapters, if there is one."""
    while isinstance(data, ADAPTERS) and not isinstance(data, HDABackendArray):
        data = getattr(data, "array", None)
    return data if isinstance(data, HDABackendArray) else None


def recipe_of(variable: xr.Variable) -> HDABackendArray | None:
    """Return the recipe of a variable, if its values are lazy."""
    # Variable.data would read them; only the private attribute does not.
    return recipe_under(variable._data)


def is_forward(indexer: Any) -> bool:
    """Whether one part of a key is an integer, or a slice of a positive step."""
    if isinstance(indexer, slice):
        return indexer.step is None or indexer.step > 0
    return isinstance(indexer, int | np.integer)


def is_empty(key: Key, shape: Sequence[int]) -> bool:
    """Whether a key selects nothing along some axis."""
    return any(length == 0 for length in key_lengths(key, shape))
