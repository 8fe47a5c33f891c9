"""The query of a probe, by default a small one, and what would be ordered of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from hda_fsspec.paths.locations import Location
from hda_fsspec.schema.parameters import Parameter
from hda_fsspec.schema.schema import Schema

#: Keys of lists of which the first choice is asked for, whether or not they are called required.
_CHOSEN = ("variable", "variables", "product_type", "year", "month", "day", "time", "data_format")
_CHOSEN_LIKE = ("download_format", "pressure_level", "leadtime_hour")
_PREFERRED = {"data_format": "netcdf", "download_format": "unarchived"}
#: A degree and a half of the Atlantic, where every grid of the globe has points.
_BOX = (-20.0, 40.0, -18.5, 41.5)
_DEGREES = 1.5


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


def small_query(
    schema: Schema, document: Mapping[str, Any], covered: str | None = None
) -> Location:
    """Return a query of one day, of a small box, of the first choice of what must be chosen.

    Parameters
    ----------
    schema : Schema
        Of the data set.
    document : mapping
        What that was read from.
    covered : str, optional
        The box that the data set covers, W,S,E,N, where its entry tells it.
    """
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
        query["bbox"] = tuple(f"{number:g}" for number in _small_box(covered))
    for name, parameter in named.items():
        is_chosen = name in needed or name in _CHOSEN or name in _CHOSEN_LIKE
        if is_chosen and parameter.choices and name not in query:
            choices = [choice.text for choice in parameter.choices]
            wanted = _PREFERRED.get(name)
            query[name] = (wanted if wanted in choices else choices[0],)
    return Location(schema.dataset_id, query=query)


def _small_box(covered: str | None) -> tuple[float, float, float, float]:
    """Return a box that a data set covers: that of the Atlantic, else one in its middle."""
    if covered is None:
        return _BOX
    west, south, east, north = map(float, covered.split(","))
    is_plain = west <= east and -90 <= south <= north <= 90
    if not is_plain or (
        west <= _BOX[0] and _BOX[2] <= east and south <= _BOX[1] <= _BOX[3] <= north
    ):
        return _BOX
    x, y = round((west + east) / 2, 2), round((south + north) / 2, 2)
    half_x, half_y = (min(_DEGREES, length) / 2 for length in (east - west, north - south))
    return (x - half_x, y - half_y, x + half_x, y + half_y)
