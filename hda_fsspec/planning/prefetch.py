"""Making many products local before they are read, and keeping them until then.

It refuses beforehand what does not fit into the cache, as far as sizes are known, and stops when
what was fetched has filled it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from fsspec.callbacks import DEFAULT_CALLBACK

from hda_fsspec.client import Client
from hda_fsspec.fetching.fetch_many import cannot_hold, fetch_together
from hda_fsspec.fetching.readahead import Budget
from hda_fsspec.planning import plan as plans
from hda_fsspec.planning.plan import Plan
from hda_fsspec.planning.product_sizes import ProductSizes, estimate_sizes
from hda_fsspec.records import Product


@dataclasses.dataclass
class Prefetch:
    """Products that fit, as far as is known, and are to be made local.

    Attributes
    ----------
    client : Client
        Who fetches them.
    plan : Plan
        What it costs.
    weights : ProductSizes
        What each weighs.
    wanted : sequence of Product
        Which: all of the plan, or the first of them.
    allow_partial : bool
        Whether it is an error if they turn out not to fit.
    """

    client: Client
    plan: Plan
    weights: ProductSizes
    wanted: Sequence[Product]
    allow_partial: bool

    def run(self, callback: Any = DEFAULT_CALLBACK) -> list[Product]:
        """Fetch in parallel, and protect each product until it is read once, or for a day.

        Parameters
        ----------
        callback : fsspec.callbacks.Callback
            Counts products that were not local.

        Returns
        -------
        list of Product
            Those that are local and protected now, in order.

        Raises
        ------
        OSError
            ``ENOSPC``: they turned out not to fit, and ``allow_partial`` is not set.
        HDAError
            The first fault, when all the others have ended; its notes name the others.
        """
        cache = self.client.cache
        budget = Budget(self.client)
        local = [product for product in self.wanted if product in self.weights.local]
        missing = [product for product in self.wanted if product not in self.weights.local]
        for product in local:
            # What is fetched now must not drive them out.
            cache.protect(self.weights.local[product])
            budget.take(product, self.weights.of(product))
        found, is_full = fetch_together(
            self.client,
            missing,
            budget,
            callback,
            is_known=not self.plan.sizes_unknown,
            on_arrival=cache.protect,
        )
        kept = {*local, *found}
        if is_full and not self.allow_partial:
            instead = (
                "select less, or fetch what fits with allow_partial=True. What has arrived is kept."
            )
            count = len(self.plan.products)
            raise cannot_hold(self.client, count, None, kept=len(kept), instead=instead)
        return [product for product in self.wanted if product in kept]


def prepare(
    client: Client,
    wanted: Sequence[Product],
    *,
    allow_partial: bool,
    given: Mapping[Product, int] | None = None,
) -> Prefetch:
    """Look whether products can be made local at one time; orders nothing.

    Parameters
    ----------
    client : Client
        Who would fetch them.
    wanted : sequence of Product
        Which, in the order in which they matter.
    allow_partial : bool
        Whether to take only the first of them, as many as fit, if they do not all fit.
    given : mapping of Product to int, optional
        What they weigh by another estimate, where their length is not known.

    Raises
    ------
    OSError
        ``ENOSPC``: they do not fit, and ``allow_partial`` is not set.
    """
    weights = estimate_sizes(client, wanted, given)
    plan = plans.make_plan(client, weights)
    if plan.fits:
        return Prefetch(client, plan, weights, plan.products, allow_partial)
    if not allow_partial:
        raise _does_not_fit(client, plan)
    return Prefetch(client, plan, weights, _first_that_fit(client, plan, weights), allow_partial)


def _first_that_fit(client: Client, plan: Plan, weights: ProductSizes) -> list[Product]:
    budget = Budget(client)
    chosen: list[Product] = []
    needed = 0
    for product in plan.products:
        size = weights.of(product)
        needed += 0 if product in weights.local else size
        if not budget.fits(size) or (plan.disk_room is not None and needed > plan.disk_room):
            break
        budget.take(product, size)
        chosen.append(product)
    return chosen


def _does_not_fit(client: Client, plan: Plan) -> OSError:
    return cannot_hold(
        client,
        len(plan.products),
        plan.bytes_known + plan.bytes_estimated,
        disk_room=(plan.disk_room or 0) if plan.fits_cache else None,
        is_about=plan.bytes_estimated > 0,
        instead="select less, or fetch what fits with allow_partial=True. Nothing was ordered.",
    )
