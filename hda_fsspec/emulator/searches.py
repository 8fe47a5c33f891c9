"""The answers of searches: pure functions of a data set and a query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from hda_fsspec.emulator.dataset_entries import BBox, DatasetEntry, ProductEntry
from hda_fsspec.records import parse_time

DEFAULT_PAGE = 10

#: Keys of a search that do not change what it finds.
PAGING_KEYS = frozenset({"startIndex", "itemsPerPage"})

#: Keys that filter by the name of a product.
_NAME_KEYS = ("productIdentifier",)


def matching(
    dataset: DatasetEntry, query: Mapping[str, Any], *, inclusive: bool
) -> list[ProductEntry]:
    """Return the products that a query finds, by start time.

    With ``inclusive`` a product that only touches the range of dates is found, too, as at the
    service. Raises ValueError for a date that cannot be read.
    """
    found: Sequence[ProductEntry] = dataset.products
    start, end = (
        parse_time(str(query[key])) if key in query else None
        for key in dataset.date_keys or ("startdate", "enddate")
    )
    if start is not None or end is not None:
        found = [p for p in found if _is_within(p.times, start, end, inclusive=inclusive)]
    if "bbox" in query:
        box = tuple(query["bbox"])
        found = [p for p in found if _intersects(p.bbox, box)]
    for key, value in query.items():
        if key in _NAME_KEYS:
            found = [p for p in found if _is_named(p, str(value))]
        elif key in dataset.schema.get("properties", {}):
            found = [p for p in found if _has(p.metadata, key, value)]
    descending = query.get("sortOrder") == "DESC"
    return list(reversed(found)) if descending else list(found)


def _is_within(
    times: tuple[datetime, datetime] | None,
    start: datetime | None,
    end: datetime | None,
    *,
    inclusive: bool,
) -> bool:
    if times is None:
        return True
    first, last = times
    if inclusive or last - first <= timedelta(0):
        return (end is None or first <= end) and (start is None or last >= start)
    return (end is None or first < end) and (start is None or last > start)


def _intersects(mine: BBox, theirs: tuple[float, ...]) -> bool:
    west, south, east, north = theirs
    if south > mine[3] or north < mine[1]:
        return False
    # A box over the date line has its west end at the larger longitude.
    spans = [(west, east)] if west <= east else [(west, 180.0), (-180.0, east)]
    return any(low <= mine[2] and high >= mine[0] for low, high in spans)


def _is_named(product: ProductEntry, value: str) -> bool:
    stem, dot, _ = product.product_id.rpartition(".")
    return value == product.product_id or (bool(dot) and value == stem)


def _has(metadata: Mapping[str, Any], key: str, value: object) -> bool:
    if key not in metadata:
        return True
    wanted = value if isinstance(value, list) else [value]
    return metadata[key] in wanted or str(metadata[key]) in map(str, wanted)


def feature(product: ProductEntry, *, sizes: str) -> dict[str, Any]:
    """Return a product as a feature of a search answer."""
    west, south, east, north = product.bbox
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    properties: dict[str, Any] = {
        "location": product.locator,
        "startdate": product.startdate,
        "enddate": product.enddate,
    }
    size = product.shown_size(sizes)
    more = {"size": size, "updated": product.updated, "publication": product.publication}
    properties.update({key: value for key, value in more.items() if value is not None})
    if product.metadata:
        properties["metadata"] = dict(product.metadata)
    return {
        "type": "Feature",
        "id": product.product_id,
        "geometry": (
            {"type": "Polygon", "coordinates": [ring]}
            if product.geometry == "box"
            else product.geometry
        ),
        "bbox": list(product.bbox),
        "properties": properties,
    }


def page_of(
    total: int, query: Mapping[str, Any], *, max_page: int, default: int = DEFAULT_PAGE
) -> tuple[int, int]:
    """Return start and length of the page that a query asks for; ``startIndex`` counts items."""
    start = max(0, int(query.get("startIndex", 0)))
    length = max(0, min(int(query.get("itemsPerPage", default)), max_page))
    return min(start, total), length


def paging_properties(start: int, length: int, total: int, *, style: str) -> dict[str, Any]:
    """Return the ``properties`` of a page, in the style "total" or "next"."""
    told: dict[str, Any] = {"itemsPerPage": length, "startIndex": start}
    if style == "total":
        told["totalResults"] = total
    elif start + length < total:
        told["nextIndex"] = start + length
    return told
