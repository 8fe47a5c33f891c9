"""WEkEO's "Show API request", read as a data set and a query.

It knows the two forms of such a request and nothing of paths.
"""

from __future__ import annotations

import errno
import json
import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hda_fsspec.errors import LocationError
from hda_fsspec.paths.renamed_datasets import RENAMED

logger = logging.getLogger("hda_fsspec")

#: The former ids that were told of in this process.
_told: dict[str, object] = {}

#: Which part of the answer to show, and how; a path is all of it.
_PAGING = frozenset({"itemsPerPage", "startIndex", "sortOrder"})
#: What the older form says, and what an entry of each list says.
_V1_FIELDS = {
    "boundingBoxValues": frozenset({"name", "bbox"}),
    "dateRangeSelectValues": frozenset({"name", "start", "end"}),
    "stringChoiceValues": frozenset({"name", "value"}),
    "multiStringSelectValues": frozenset({"name", "value"}),
    "stringInputValues": frozenset({"name", "value"}),
}


def read_request(
    request: Mapping[str, Any] | str | os.PathLike[str],
) -> tuple[str, dict[str, Any]]:
    """Read a request as a data set id and a query, without paging and empty values.

    Raises
    ------
    LocationError
        It is not JSON, or not a request; or it asks for what a path has no place for, which would
        find more.
    FileNotFoundError
        There is no such file.
    """
    body = request if isinstance(request, Mapping) else _read_json(request)
    if "datasetId" in body:
        dataset = _dataset_of_v1(body["datasetId"])
        _refuse_what_is_left(body)
        query = _query_of_v1(body)
    else:
        dataset = body.get("dataset_id")
        query = {key: value for key, value in body.items() if key not in _PAGING | {"dataset_id"}}
    if not isinstance(dataset, str) or not dataset:
        msg = (
            f"Cannot read the request {str(dict(body))[:120]}: it has no 'dataset_id' (v2) and "
            "no 'datasetId' (v1). Copy the whole JSON that \"Show API request\" shows."
        )
        raise LocationError(msg)
    return dataset, {key: value for key, value in query.items() if not _is_empty(value)}


def _is_empty(value: Any) -> bool:
    # Not by comparing: an array of numpy compares element by element.
    return value is None or (isinstance(value, (str, list, tuple, dict)) and not value)


def _read_json(request: str | os.PathLike[str]) -> Mapping[str, Any]:
    is_text = isinstance(request, str) and request.lstrip("\ufeff \t\r\n")[:1] in {"{", "["}
    shown = str(request)[:80]
    try:
        text = (
            str(request).lstrip("\ufeff")
            if is_text
            # A UPath reads itself, wherever it is.
            else (Path(request) if isinstance(request, (str, os.PathLike)) else request)
            .expanduser()
            .read_text(encoding="utf-8-sig")
        )
        body = json.loads(text)
    except (ValueError, RuntimeError, OSError) as err:
        # RuntimeError: JSON without end, or the home of nobody.
        is_path = isinstance(err, OSError) and err.errno not in {errno.EISDIR, errno.ENAMETOOLONG}
        if is_path:
            raise
        msg = (
            f"Cannot read the request {shown!r}: it is not JSON ({err}). Give the text that "
            '"Show API request" shows, or the path of a file that holds it.'
        )
        raise LocationError(msg) from err
    if not isinstance(body, Mapping):
        msg = f"Cannot read the request {shown!r}: it must be one JSON object."
        raise LocationError(msg)
    return body


def _dataset_of_v1(dataset: Any) -> Any:
    """Return the id that a data set has since version 2 of the service; says so once for each."""
    renamed = RENAMED.get(dataset) if isinstance(dataset, str) else None
    if renamed is None:
        return dataset
    mine = object()
    if _told.setdefault(dataset, mine) is mine:
        logger.warning(
            "The v1 request asks for the data set %s, which has been named %s since version 2 of "
            "the service: that one is taken, as the official client does.",
            dataset,
            renamed,
        )
    return renamed


def _refuse_what_is_left(body: Mapping[str, Any]) -> None:
    """Raise LocationError if a request asks for what its path does not."""
    left = [
        name
        for name, value in body.items()
        if name not in _V1_FIELDS | dict.fromkeys(_PAGING | {"datasetId"}) and not _is_empty(value)
    ]
    for field, known in _V1_FIELDS.items():
        entries = body.get(field)
        left += [
            f"{name} of {field}"
            for entry in (entries if isinstance(entries, list) else [])
            if isinstance(entry, Mapping)
            for name, value in entry.items()
            if name not in known and not _is_empty(value)
        ]
    if left:
        msg = (
            f"Cannot translate {', '.join(dict.fromkeys(left))} of the v1 request of "
            f"{body['datasetId']}: a path has no place for it. Leave it out of the JSON if the "
            "products are the same without, or choose them anew on WEkEO's page, which shows the "
            "v2 form."
        )
        raise LocationError(msg)


def _query_of_v1(body: Mapping[str, Any]) -> dict[str, Any]:
    """Translate the v1 form; its one date range becomes ``startdate`` and ``enddate``."""
    query: dict[str, Any] = {}
    try:
        for box in _entries(body, "boundingBoxValues", at_most_one=True):
            query["bbox"] = box["bbox"]
        for dates in _entries(body, "dateRangeSelectValues", at_most_one=True):
            query["startdate"], query["enddate"] = dates.get("start"), dates.get("end")
        for field in ("stringChoiceValues", "multiStringSelectValues", "stringInputValues"):
            for entry in _entries(body, field):
                _add(query, entry["name"], entry["value"])
    except (AttributeError, KeyError, TypeError) as err:
        msg = (
            f"Cannot read the v1 request of {body['datasetId']}: an entry lacks a field ({err!r})."
        )
        raise LocationError(msg) from err
    return query


def _entries(
    body: Mapping[str, Any], field: str, *, at_most_one: bool = False
) -> Iterable[Mapping[str, Any]]:
    entries = body.get(field) or []
    if at_most_one and len(entries) > 1:
        # Taking one of them would silently ask for more than was meant.
        msg = (
            f"Cannot read the v1 request of {body['datasetId']}: it has {len(entries)} "
            f"{field}, and a query has one. Leave the others out."
        )
        raise LocationError(msg)
    return entries


def _add(query: dict[str, Any], name: str, value: Any) -> None:
    """Add a value; a name that comes again has both values."""
    if name not in query:
        query[name] = value
        return
    query[name] = [
        member
        for values in (query[name], value)
        for member in (values if isinstance(values, list) else [values])
    ]
