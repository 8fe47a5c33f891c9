"""The query of a probe, by default a small one, and what would be ordered of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from hda_fsspec.paths.locations import Location
from hda_fsspec.schema.parameters import Parameter
from hda_fsspec.schema.queryables import Schema

#: Keys of lists of which the first choice is asked for, whether or not they are called required.
_CHOSEN = ("variable", "variables", "product_type", "year", "month", "day", "time", "data_format")
_CHOSEN_LIKE = ("download_format", "pressure_level", "leadtime_hour")
_PREFERRED = {"data_format": "netcdf", "download_format": "unarchived"}
#: A degree and a half of the Atlantic, where every grid has points.
_BOX = ("-20", "40", "-18.5", "41.5")


@dataclasses.dataclass(frozen=True)
class ProbePlan:
    """The order that a probe would place.

    Attributes
    ----------
    location : Location
        The query.
    request : mapping
        What a search is asked for.
    dataset_id, product_id, locator : str
        What would be ordered.
    size : int or None
        Its length, as the catalogue has it.
    """

    location: Location
    request: Mapping[str, Any]
    dataset_id: str
    product_id: str
    locator: str
    size: int | None

    @property
    def is_subset(self) -> bool:
        """Whether it is cut when it is ordered, as the hash at the end of its id tells."""
        tail = self.product_id[-32:]
        return len(tail) == 32 and set(tail) <= set("0123456789abcdef")


def small_query(schema: Schema, document: Mapping[str, Any]) -> Location:
    """Return a query of one day, of a small box, of the first choice of what must be chosen."""
    query: dict[str, tuple[str, ...]] = {}
    required = document.get("required")
    needed = set(required) if isinstance(required, list) else set()
    named = {parameter.name: parameter for parameter in schema.parameters}
    if schema.time_keys is not None:
        start, end = (named.get(key) or Parameter(key) for key in schema.time_keys)
        last = end.latest or start.latest
        if last is not None:
            # Not the last one, which may not be there yet.
            day = (last - timedelta(days=2)).date()
            if start.earliest is not None:
                day = max(day, start.earliest.date())
            query |= {"startdate": (day.isoformat(),), "enddate": (day.isoformat(),)}
    if schema.bbox_key is not None:
        query["bbox"] = _BOX
    for name, parameter in named.items():
        is_chosen = name in needed or name in _CHOSEN or name in _CHOSEN_LIKE
        if is_chosen and parameter.choices and name not in query:
            choices = [choice.text for choice in parameter.choices]
            wanted = _PREFERRED.get(name)
            query[name] = (wanted if wanted in choices else choices[0],)
    return Location(schema.dataset_id, query=query)
