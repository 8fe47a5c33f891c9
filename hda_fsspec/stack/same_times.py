"""Refusal, before anything is ordered, of products that the catalogue shows at the same times."""

from __future__ import annotations

import collections
from collections.abc import Callable, Sequence

from hda_fsspec.errors import ProductMismatchError, QueryError, note_once
from hda_fsspec.paths.locations import Location
from hda_fsspec.printable import printable
from hda_fsspec.records import Product
from hda_fsspec.stack.footprints import most_different_bbox

_SHOWN = 3


class AmbiguousTimesError(QueryError, ProductMismatchError):
    """The catalogue shows several products of a query at the same times.

    They may be versions, bands or tiles, of which the query is to be narrowed to one; or products
    whose own times differ, so that they do not fit what the catalogue shows of them.
    """


def refuse_equal_times(
    location: Location, found: Sequence[Product], is_known: Callable[[Product], bool]
) -> None:
    """Refuse products of equal interval: whatever rule tells their times, it tells equal ones.

    Parameters
    ----------
    location : Location
        What is opened.
    found : sequence of Product
        What the listing has of it.
    is_known : callable
        Whether the times inside a product are known, which go before the catalogue's.

    Raises
    ------
    AmbiguousTimesError
        The catalogue tells the same times of several products.
    """
    intervals = {(product.startdate, product.enddate) for product in found}
    if len(intervals) == len(found):
        return
    groups: dict[tuple[str, str | None], list[Product]] = collections.defaultdict(list)
    for product in found:
        if product.startdate is not None:
            groups[product.startdate, product.enddate].append(product)
    for (start, _), group in groups.items():
        if len(group) < 2 or all(map(is_known, group)):
            continue
        twins = sum(len(group) for group in groups.values() if len(group) > 1)
        ids = [printable(product.product_id) for product in group]
        more = f", and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else ""
        shown = " and ".join(ids) if len(ids) == 2 else ", ".join(ids[:_SHOWN]) + more
        if most_different_bbox([product.bbox for product in group], [0]) is not None:
            ways = (
                "They stand in different places, as tiles do. Open with mosaic=True, which puts "
                "tiles side by side; or those of one place with a pattern over product ids, such "
                'as *T32TPS*; or each as a node of a tree, with xr.open_datatree(…, engine="hda"). '
            )
        else:
            ways = (
                "If they are versions or parts of one product: Narrow the query to one of them, by "
                "a key (timeliness, productVersion, …) or by a pattern over product ids, such as "
                '*_NT_*; or say on_overlap="latest". '
            )
        msg = (
            f"Cannot open {location.path} as one data set along time: the catalogue tells the same "
            f"times of {twins} of its {len(found)} products: {shown} (at {start}). {ways}Where the "
            f"times inside the products differ, scan=True reads the headers of all {len(found)} "
            "first, and orders what is not local."
        )
        err = AmbiguousTimesError(msg, key="on_overlap")
        note_once(err, "Nothing was ordered.")
        raise err
