"""One product handed to a function in a task of its own, and free to be evicted afterwards.

A task is a recipe: it pickles small, and makes the product local where it runs.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
from collections.abc import Callable
from typing import Any

import xarray as xr

from hda_fsspec.errors import HDAError, ProductFunctionError, note_once
from hda_fsspec.lazy import openfiles
from hda_fsspec.lazy.arrays import Closer, Reconstruct
from hda_fsspec.lazy.open_product import ROOT, as_recipes
from hda_fsspec.lazy.product_table import Source
from hda_fsspec.printable import printable
from hda_fsspec.records import Product
from hda_fsspec.workers.pickling import add_worker_note, pack, unpack


class ProductTask:
    """Opens one product, hands it to a function, and returns what that returns, loaded.

    Parameters
    ----------
    source : Source
        The product, the only one of its source.
    path : str
        Its path, for messages and as the source of what is opened.
    function : callable
        What is called with the opened product.
    as_tree : bool or None
        Whether it is opened as a tree. None: where it is no single data set.
    """

    def __init__(
        self, source: Source, path: str, function: Callable[[Any], Any], *, as_tree: bool | None
    ) -> None:
        self.source = source
        self.path = path
        self.function = function
        self.as_tree = as_tree

    @property
    def product(self) -> Product:
        """The product."""
        found: Product = self.source.pieces[0]
        return found

    def __call__(self) -> Any:
        """Make the product local, open it, and call the function.

        Raises
        ------
        ProductFunctionError
            The function failed, with anything but an error of this package.
        HDAError, OSError
            The product cannot be had, or not be opened.
        concurrent.futures.CancelledError
            The computation was cancelled.
        """
        settings = self.source.settings
        try:
            with openfiles.held(self.source, 0):
                opened = self._open()
                try:
                    return self._call(opened)
                finally:
                    Closer(self.source)()
        except Exception as err:
            add_worker_note(err, user=settings.user, cache_dir=settings.cache_dir)
            raise

    def _open(self) -> xr.Dataset | xr.DataTree:
        if self.as_tree is False:
            return openfiles.with_dataset(
                self.source, 0, lambda ds, mark: as_recipes(ds, self.source, self.path, mark)
            )
        source = dataclasses.replace(self.source, node=ROOT)
        nodes = openfiles.with_tree(
            source,
            0,
            lambda tree, mark: {
                node: as_recipes(ds, dataclasses.replace(source, node=node), self.path, mark)
                for node, ds in tree.items()
            },
        )
        root = nodes.get(ROOT)
        if self.as_tree is None and root is not None and (root.data_vars or len(nodes) == 1):
            return root
        found: xr.DataTree = xr.DataTree.from_dict(nodes)
        return found

    def _call(self, opened: xr.Dataset | xr.DataTree) -> Any:
        try:
            # What is read later on would be fetched again, if it was evicted meanwhile.
            return _loaded(self.function(opened))
        except concurrent.futures.CancelledError:
            raise
        except HDAError as err:
            name = name_of(self.function)
            note_once(err, f"Raised while {name} was at work on {self.product.product_id}.")
            raise
        except Exception as err:
            raise self._failed(opened, err) from err

    def _failed(self, opened: object, err: Exception) -> ProductFunctionError:
        name, product_id = name_of(self.function), self.product.product_id
        told = f"{type(err).__name__}: {err}".rstrip(": .")
        opener = "xr.open_datatree" if isinstance(opened, xr.DataTree) else "xr.open_dataset"
        msg = (
            f"The function {printable(name)} failed on the product {printable(product_id)}: "
            f"{printable(told)}. Try it on that product alone: "
            f'{printable(name)}({opener}("{printable(self.path)}", engine="hda")).'
        )
        return ProductFunctionError(msg, product_id=product_id)

    def __reduce__(self) -> tuple[Any, ...]:
        return unpack, pack(Reconstruct(type(self), self.__dict__))

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return (type(self).__name__, self.source, self.function, self.as_tree)

    def __repr__(self) -> str:
        return f"<ProductTask: {name_of(self.function)} of {self.product.product_id}>"


def name_of(function: Callable[..., Any]) -> str:
    """Return what a function is called in messages and names of tasks."""
    while not hasattr(function, "__name__") and hasattr(function, "func"):
        function = function.func  # a partial
    return str(getattr(function, "__name__", type(function).__name__))


def _loaded(result: Any) -> Any:
    """Return a result with the values of all that is lazy in it."""
    if isinstance(result, xr.Dataset | xr.DataArray | xr.Variable | xr.DataTree):
        return result.load()
    if type(result) in {list, tuple, set}:
        return type(result)(map(_loaded, result))
    if type(result) is dict:
        return {key: _loaded(value) for key, value in result.items()}
    return result
