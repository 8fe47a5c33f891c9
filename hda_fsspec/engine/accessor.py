"""``ds.hda``: what computing a data set, or anything made from one, reads, costs, and to fetch it.

It works on any expression, because it reads what computing it would read; it never computes.
Importing this module registers it with xarray, and loads nothing that takes time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import xarray as xr

from hda_fsspec.records import Product
from hda_fsspec.settings import Settings

if TYPE_CHECKING:
    from hda_fsspec.lazy.product_table import ProductTable
    from hda_fsspec.planning.dask_graphs import Numbers
    from hda_fsspec.planning.piece_costs import PieceCosts
    from hda_fsspec.planning.plan import Plan

__all__ = ["HDAAccessor"]


@xr.register_dataset_accessor("hda")  # type: ignore[no-untyped-call]
@xr.register_dataarray_accessor("hda")  # type: ignore[no-untyped-call]
class HDAAccessor:
    """The products behind a Dataset or DataArray.

    Parameters
    ----------
    xarray_object : Dataset or DataArray
        Anything: what is not lazily opened from ``hda://`` paths has no products.
    """

    def __init__(self, xarray_object: xr.Dataset | xr.DataArray) -> None:
        self._object = xarray_object

    @property
    def products(self) -> list[Product]:
        """The products that computing it would read, in the order of the catalogue.

        Values that are loaded have none. Nothing is ordered or read to tell.
        """
        wanted = self._wanted().values()
        return list(dict.fromkeys(product for products, _ in wanted for product in products))

    def plan(self) -> Plan:
        """Return what computing it costs: orders, bytes, time, room. Orders nothing."""
        from hda_fsspec.client import get_client
        from hda_fsspec.planning import plan

        found = [
            plan.plan_of(get_client(settings), wanted, cut)
            for settings, (wanted, cut) in self._wanted().items()
        ]
        return plan.merge_plans(found) if found else plan.Plan()

    def prefetch(self, *, progress: bool = True, allow_partial: bool = False) -> list[Product]:
        """Make its products local: order all at one time, and fetch them in parallel.

        What was fetched is protected from eviction until it is read once, or for a day.

        Parameters
        ----------
        progress : bool
            Whether to say on a terminal or in a notebook what is waited for, after two seconds.
        allow_partial : bool
            Whether to fetch what fits, in the order of the catalogue, if not all of it fits.

        Returns
        -------
        list of Product
            Those that are local and protected now, in the order of the catalogue.

        Raises
        ------
        OSError
            ``ENOSPC``: the cache or its disk cannot hold them all at one time. Nothing was
            ordered, unless sizes were not known before.
        HDAError
            The first fault, when all the others have ended; its notes name the others.
        """
        from hda_fsspec.client import get_client, quietly
        from hda_fsspec.planning.prefetch import prepare

        # All of it is looked at before any of it is ordered.
        prepared = []
        for settings, (wanted, cut) in self._wanted().items():
            given = None if cut is None else cut.sizes
            client = get_client(settings)
            prepared.append(prepare(client, wanted, allow_partial=allow_partial, given=given))
        fetched: list[Product] = []
        for prefetch in prepared:
            with quietly(is_so=not progress):
                fetched += prefetch.run()
        return list(dict.fromkeys(fetched))

    def __repr__(self) -> str:
        return repr(self.plan())

    def _repr_html_(self) -> str:
        return self.plan()._repr_html_()

    def _wanted(self) -> dict[Settings, tuple[Sequence[Product], PieceCosts | None]]:
        """Return the products by the settings that fetch them, and what their pieces cost."""
        from hda_fsspec.client import get_client
        from hda_fsspec.engine.lazy_imports import products_read
        from hda_fsspec.planning.piece_costs import cut_of

        wanted: dict[Settings, list[Product]] = {}
        tables: dict[Settings, list[tuple[ProductTable, Numbers]]] = {}
        for source, numbers in products_read(self._object).items():
            pieces = source.pieces
            wanted.setdefault(source.settings, []).extend(pieces[n] for n in numbers.tolist())
            tables.setdefault(source.settings, []).append((pieces, numbers))
        return {
            settings: (
                list(dict.fromkeys(products)),
                cut_of(get_client(settings), tables[settings]),
            )
            for settings, products in wanted.items()
        }
