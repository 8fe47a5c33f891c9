"""Plans: the orders, bytes, time and room that products would cost. Nothing is ordered here.

It looks at the cache and its disk, and asks the service nothing.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

from hda_fsspec.cache import eviction
from hda_fsspec.client import Client
from hda_fsspec.planning.piece_costs import PieceCosts
from hda_fsspec.planning.product_sizes import ProductSizes, estimate_sizes
from hda_fsspec.printable import duration, format_bytes, plural, printable, python_text
from hda_fsspec.records import Product
from hda_fsspec.service_limits import ORDERS_AN_HOUR, QUOTA_WINDOW_SECONDS
from hda_fsspec.subsets.piece_grid import Split
from hda_fsspec.subsets.sizes import Estimate
from hda_fsspec.views import markup
from hda_fsspec.views.formatting import orders_text

_SHOWN_DATASETS = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """The cost of making some products local.

    Attributes
    ----------
    products : tuple of Product
        All of them, in the order of the catalogue.
    local : int
        How many are local already.
    orders_needed : int
        How many are not. One that was ordered before is free of quota, and counts all the same.
    under_way : int
        How many of those were ordered, here or by another process, and have not come.
    bytes_known : int
        What those weigh whose length is known, local or not.
    bytes_estimated : int
        What the others weigh by the catalogue, or as the mean of the known ones of their data set.
    sizes_unknown : int
        How many products weigh nobody knows what; they are in neither sum.
    bytes_needed : int
        What is to be downloaded, as far as it is known or estimated.
    cache_bound : int or None
        The bound of the cache in bytes; None for none.
    disk_free : int or None
        What is free on its disk; None where the disk does not tell.
    disk_room : int or None
        The same, and what other products take if that is not enough: those may go.
    fits_cache : bool
        Whether all products can be in the cache at one time.
    fits_disk : bool
        Whether there is room on its disk for what is to be downloaded.
    quota_limit, quota_left : int or None
        Orders that the account may make in an hour, and how many are left; None if not known.
    fields : int or None
        How many fields the products hold that the data stores of EO:ECMWF compute, as these count
        them: variables times levels times times. None where none of them is such, and of a data
        set that was unpickled, which does not know how its query was cut.
    split : None, str or dict
        How the query was cut that the products are pieces of.
    splits : tuple of Estimate
        What all of that query would cost in other pieces, the coarsest first.
    """

    products: tuple[Product, ...] = ()
    local: int = 0
    orders_needed: int = 0
    under_way: int = 0
    bytes_known: int = 0
    bytes_estimated: int = 0
    sizes_unknown: int = 0
    bytes_needed: int = 0
    cache_bound: int | None = None
    disk_free: int | None = None
    disk_room: int | None = None
    fits_cache: bool = True
    fits_disk: bool = True
    quota_limit: int | None = None
    quota_left: int | None = None
    fields: int | None = None
    split: Split = None
    splits: tuple[Estimate, ...] = ()

    @property
    def orders_to_place(self) -> int:
        """How many orders are needed that are not under way, and so count against the quota."""
        return self.orders_needed - self.under_way

    @property
    def hours_of_quota(self) -> float:
        """How many hours' worth of orders are to place, at the 100 the service usually takes."""
        return self.orders_to_place / ORDERS_AN_HOUR

    @property
    def fits(self) -> bool:
        """Whether all products can be made local at one time, as far as sizes are known."""
        return self.fits_cache and self.fits_disk

    @property
    def seconds_at_quota(self) -> float | None:
        """How long the orders have to wait for quota, at least; None if the quota is not known."""
        if not self.orders_to_place:
            return 0.0
        if not self.quota_limit:
            return None
        left = self.quota_limit if self.quota_left is None else self.quota_left
        windows = math.ceil(max(0, self.orders_to_place - left) / self.quota_limit)
        return windows * QUOTA_WINDOW_SECONDS

    def __repr__(self) -> str:
        rows = self._rows()
        return "\n".join([f"Plan: {self._title()}", *(f"  {a:<7}{b}" for a, b in rows)])

    def _repr_html_(self) -> str:
        parts: list[markup.Markup] = [markup.title(f"Plan: {self._title()}")]
        if self.products:
            rows = [(name, text) for name, text in self._rows()]
            share = self.local / len(self.products)
            parts += [
                markup.share(share, f"{self.local:,} of {len(self.products):,} are local"),
                markup.table(("", ""), rows, classes=("hda-fixed", None)),
            ]
        return markup.view(*parts)

    def _title(self) -> str:
        datasets = list(dict.fromkeys(printable(p.dataset_id) for p in self.products))
        if not datasets:
            return "no products are read"
        left = len(datasets) - _SHOWN_DATASETS
        shown = ", ".join(datasets[:_SHOWN_DATASETS]) + (f" and {left} more" if left > 0 else "")
        return f"{plural(len(self.products), 'product')} of {shown}"

    def _rows(self) -> list[tuple[str, str]]:
        if not self.products:
            return []
        sizes = [f"{format_bytes(self.bytes_known)} known"]
        if self.bytes_estimated:
            sizes.append(f"{format_bytes(self.bytes_estimated)} estimated")
        if self.sizes_unknown:
            sizes.append(f"{self.sizes_unknown} of unknown size")
        bound = "no bound" if self.cache_bound is None else format_bytes(self.cache_bound)
        free = "not known" if self.disk_free is None else f"{format_bytes(self.disk_free)} free"
        fields = [] if self.fields is None else [("fields", f"{self.fields:,}")]
        splits = self._splits() if self.splits else []
        return [
            ("orders", orders_text(self.orders_needed, self.under_way, self.local)),
            *fields,
            ("bytes", f"{', '.join(sizes)}; {self._download()}"),
            ("quota", self._quota()),
            ("cache", f"{bound}: {_fits(is_so=self.fits_cache)}"),
            ("disk", f"{free}: {_fits(is_so=self.fits_disk)}"),
            *splits,
        ]

    def _download(self) -> str:
        """Say how much is to be downloaded, as far as that is known."""
        if self.bytes_needed or not self.sizes_unknown:
            return f"{format_bytes(self.bytes_needed)} to download"
        return "how much to download is known when one of them is here"

    def _splits(self) -> list[tuple[str, str]]:
        """Say what the whole query costs in other pieces, and that it is the whole."""
        others = [
            ("", f"  {f'{_as_python(other.split)}:':<8} {_cost_of(other)}") for other in self.splits
        ]
        return [("split", f"{_as_python(self.split)} now; the whole query with"), *others]

    def _quota(self) -> str:
        seconds = self.seconds_at_quota
        if self.quota_limit is None:
            is_cut = bool(self.splits)
            needed = duration(3600 * self.hours_of_quota) if self.orders_to_place else "no time"
            hours = f"; at {ORDERS_AN_HOUR} orders an hour {needed}"
            return f"not known{hours if is_cut else ''}"
        orders = f"{self.quota_limit} orders an hour"
        if self.quota_left is not None:
            orders = f"{self.quota_left} of {orders} left"
        if seconds is None:
            return orders
        return f"{orders}; {f'{_duration(seconds)} of' if seconds else 'no'} waiting for it"


def plan_of(client: Client, wanted: Sequence[Product], cut: PieceCosts | None = None) -> Plan:
    """Return what making some products local would cost, with the quota as far as it is known.

    Parameters
    ----------
    client : Client
        Who would fetch them.
    wanted : sequence of Product
        Which.
    cut : PieceCosts, optional
        What those weigh and cost that are pieces of queries.
    """
    quota = client.quota()
    weights = estimate_sizes(client, wanted, cut.sizes if cut else None)
    plan = make_plan(client, weights, quota_limit=quota.limit, quota_left=quota.left)
    if cut is None:
        return plan
    return dataclasses.replace(plan, fields=cut.fields, split=cut.split, splits=cut.splits)


def make_plan(
    client: Client,
    weights: ProductSizes,
    *,
    quota_limit: int | None = None,
    quota_left: int | None = None,
) -> Plan:
    """Return what making products local with some settings would cost.

    Parameters
    ----------
    products : Client
        Who would fetch them.
    weights : ProductSizes
        Which, and what they weigh.
    quota_limit, quota_left : int, optional
        What is known of the account's quota.
    """
    cache = client.cache
    bound = cache.max_bytes
    free = _free_bytes(cache.root)
    disk_room = free
    if free is not None and weights.needed > free:
        # Other products may go. The walk takes time, and is worth it only now.
        held = sum(weights.known[product] for product in weights.local)
        disk_room = free + max(0, cache.usage().bytes - held)
    return Plan(
        products=weights.products,
        local=len(weights.local),
        orders_needed=len(weights.products) - len(weights.local),
        under_way=len(client.under_way([p for p in weights.products if p not in weights.local])),
        bytes_known=sum(weights.known.values()),
        bytes_estimated=sum(weights.estimated.values()),
        sizes_unknown=len(weights.products) - len(weights.known) - len(weights.estimated),
        bytes_needed=weights.needed,
        cache_bound=bound,
        disk_free=free,
        disk_room=disk_room,
        fits_cache=bound is None or weights.total <= bound,
        fits_disk=disk_room is None or weights.needed <= disk_room,
        quota_limit=quota_limit,
        quota_left=quota_left,
    )


def merge_plans(plans: Sequence[Plan]) -> Plan:
    """Return what several plans of different settings cost together.

    Bound and free space are those of the cache that is fullest.
    """
    tightest = min(plans, key=_headroom)
    return dataclasses.replace(
        tightest,
        products=tuple(dict.fromkeys(product for plan in plans for product in plan.products)),
        local=sum(plan.local for plan in plans),
        orders_needed=sum(plan.orders_needed for plan in plans),
        under_way=sum(plan.under_way for plan in plans),
        bytes_known=sum(plan.bytes_known for plan in plans),
        bytes_estimated=sum(plan.bytes_estimated for plan in plans),
        sizes_unknown=sum(plan.sizes_unknown for plan in plans),
        bytes_needed=sum(plan.bytes_needed for plan in plans),
        fields=sum(fields) if (fields := [p.fields for p in plans if p.fields]) else None,
        splits=tuple(split for plan in plans for split in plan.splits),
        fits_cache=all(plan.fits_cache for plan in plans),
        fits_disk=all(plan.fits_disk for plan in plans),
    )


def _as_python(split: Split) -> str:
    return python_text(split) if isinstance(split, str) else repr(split)


def _cost_of(estimate: Estimate) -> str:
    return f"{plural(estimate.pieces, 'order')}, {duration(3600 * estimate.hours)}"


def _headroom(plan: Plan) -> float:
    room_in_cache = math.inf if plan.cache_bound is None else plan.cache_bound
    room_on_disk = math.inf if plan.disk_free is None else plan.disk_free
    weight = plan.bytes_known + plan.bytes_estimated
    return min(room_in_cache - weight, room_on_disk - plan.bytes_needed)


def _free_bytes(root: Path) -> int | None:
    nearest = next(path for path in (root, *root.parents) if path.exists())
    try:
        return eviction.free_bytes(nearest)
    except OSError:
        # Some network disks do not tell.
        return None


def _fits(*, is_so: bool) -> str:
    return "fits" if is_so else "does not fit"


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{seconds / 3600:.0f} h"
