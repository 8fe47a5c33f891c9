"""The request of a subset job in one form: what is written in two ways is one request.

The service makes another job of ``72.0`` than of ``72``, and of two lists in another order, though
the data are the same. Here such requests are equal, and their text is the identity of what they
deliver. The module also recognises a subset job by what a search answers.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from hda_fsspec.records import Scalar
from hda_fsspec.schema.parameters import Parameter, text_of
from hda_fsspec.schema.schema import Schema
from hda_fsspec.schema.time_and_box import BOX

#: The family of the Copernicus Marine Toolbox, and that of ECMWF's data stores.
MARINE, ECMWF = "EO:MO:", "EO:ECMWF:"

#: What is asked for where the query does not say and the data set offers it. Without these the
#: service makes GRIB, or an archive.
_DEFAULTS = {
    "data_format": "netcdf",
    "download_format": "unarchived",
    "format": "netcdf",
    "file_format": "netcdf",
}

# Not calendar.month_name, which follows the locale.
_NAMES = (
    *("january", "february", "march", "april", "may", "june", "july", "august", "september"),
    *("october", "november", "december"),
)
_MONTHS = {name[:length]: n for n, name in enumerate(_NAMES) for length in (3, len(name))}
_HASH = re.compile(r"(?<![0-9a-f])[0-9a-f]{32}\Z", re.IGNORECASE)
_UNSAFE = re.compile(r"[^a-z0-9.]+")
_LAYER_VERSION = re.compile(r"_[0-9]{6}(?=--|$)")
_NUMBER = re.compile(r"[+-]?[0-9]+(?:\.[0-9]+)?", re.ASCII)
_LARGEST = 2**53
_DATASET_LENGTH, _PART_LENGTH = 80, 30

Body = Mapping[str, Any]


def is_subset_job(ids: Sequence[str]) -> bool:
    """Whether a search answered a job that makes whatever was asked for, and no files.

    That is exactly one feature whose id ends in a hash of 32 hexadecimal digits.

    Parameters
    ----------
    ids : sequence of str
        The ids of all features.
    """
    return len(ids) == 1 and _HASH.search(ids[0]) is not None


def may_be_subset(dataset_id: str) -> bool:
    """Whether the data sets of this family make subset jobs: a guess, as long as none was asked."""
    return dataset_id.startswith((MARINE, ECMWF))


def complete(schema: Schema, query: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """Return a query that asks for one netCDF file where it asked for no format."""
    offered = {p.name: p for p in schema.parameters if p.name in _DEFAULTS and p.name not in query}
    added = {
        name: (_DEFAULTS[name],)
        for name, parameter in offered.items()
        if any(choice.value == _DEFAULTS[name] for choice in parameter.choices)
    }
    return dict(query) | added


def canonical_body(schema: Schema, body: Body) -> dict[str, Any]:
    """Return the typed parameters of a request in one form.

    Keys stand in alphabetical order. Lists of names are sorted, each value once, where their order
    says nothing; a number is written in its shortest form.
    """
    return {
        key: _canonical(schema.named.get(key) or Parameter(key, is_box=key == BOX), body[key])
        for key in sorted(body)
    }


def _canonical(parameter: Parameter, value: Any) -> Any:
    if not isinstance(value, list):
        return shortest(value)
    values = [shortest(item) for item in value]
    # A box, or a pair of numbers that no choices name, means something by its order.
    is_ordered = not parameter.choices and any(not isinstance(item, str) for item in values)
    return values if parameter.is_box or is_ordered else sort_values(values)


def shortest(value: Scalar) -> Scalar:
    """Return a number in the type that is written shortest: ``72`` for ``72.0``."""
    if isinstance(value, float) and value.is_integer() and abs(value) < _LARGEST:
        return int(value)
    return value


def sort_values(values: Sequence[Scalar]) -> list[Scalar]:
    """Return values each once: numbers by what they are, then months, then any other text.

    A part of a list is sorted as the list is.
    """
    return sorted(dict.fromkeys(values), key=_order)


def _order(value: Scalar) -> tuple[int, float, str]:
    text = text_of(value)
    if _NUMBER.fullmatch(text):
        return 0, float(text), text
    month = _MONTHS.get(text.lower())
    return (2, 0, text) if month is None else (1, month, text)


def texts_of(value: Any) -> tuple[str, ...]:
    """Return a value of a request, or a list of them, as the texts of a query."""
    return tuple(map(text_of, value)) if isinstance(value, list) else (text_of(value),)


def identity(dataset_id: str, body: Body) -> str:
    """Return the id of what a canonical request delivers.

    It begins with what can be read of the request, ends in a hash of the whole, and is safe as
    the name of a file and in a path.

    Examples
    --------
    >>> identity("EO:ECMWF:DAT:EAC4", {"variable": ["ozone"], "year": ["2003"]})
    'eac4_ozone_2003_b38b4da693974f2eaee1225378b68555'
    """
    text = json.dumps([dataset_id, body], sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    name = _LAYER_VERSION.sub("", dataset_id.rpartition(":")[2])
    parts = [_plain(name)[:_DATASET_LENGTH].strip("-."), *map(_plain, _told(body)), digest]
    return "_".join(part for part in parts if part)


def _plain(text: str) -> str:
    return _UNSAFE.sub("-", text.lower()).strip("-.")


def _told(body: Body) -> list[str]:
    """Return what can be read of a request: its variables, its levels, its time."""
    told = []
    for key in ("variable", "variables", "pressure_level", "model_level"):
        values = texts_of(body[key]) if key in body else ()
        if values:
            long = len(values) > 1 or len(values[0]) > _PART_LENGTH
            told.append(f"{len(values)}-{key.rstrip('s')}s" if long else values[0])
    days = [str(body[key])[:10] for key in ("startdate", "enddate") if key in body]
    if days:
        told.append("-to-".join(dict.fromkeys(days)))
    for key in ("year", "hyear", "month", "hmonth", "day", "hday", "nominal_day"):
        values = texts_of(body[key]) if key in body else ()
        if values:
            told.append(values[0] if len(values) == 1 else f"{values[0]}-to-{values[-1]}")
    return [text[: 2 * _PART_LENGTH] for text in told]
