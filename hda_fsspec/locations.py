"""``hda://`` paths as values: the whole grammar, in both directions.

``hda://DATASET/key=value/…/PRODUCT``: segments that hold ``=`` are the query, the one without is
the id of a product, or a glob pattern over ids. A :class:`Location` knows nothing of what a data
set accepts or the service holds; it only says what a path means and how it is written.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import functools
import json
import math
import os
import re
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Any

from hda_fsspec.errors import LocationError
from hda_fsspec.records import format_time

Query = tuple[tuple[str, tuple[str, ...]], ...]

PROTOCOL = "hda"
_PREFIXES = (f"{PROTOCOL}://", f"{PROTOCOL}::")
_MAGIC = re.compile(r"[*?\[]")
_ESCAPED = re.compile(r"[%/?*\[\]#=,\\]|\s|[\x00-\x1f\x7f]|::+")
_NOT_A_QUERY = frozenset({"dataset_id", "itemsPerPage", "startIndex", "sortOrder"})
_EXAMPLE = "hda://EO:EUM:DAT:SENTINEL-3:OL_2_WFR___/startdate=2024-05-01/enddate=2024-05-02"


def _quote(text: str) -> str:
    """Percent-encode what has a meaning in paths, patterns or chained URLs."""
    if text in {".", ".."}:
        return text.replace(".", "%2E")
    try:
        return _ESCAPED.sub(
            lambda match: "".join(f"%{byte:02X}" for byte in match.group(0).encode()), text
        )
    except UnicodeEncodeError as err:
        msg = f"Cannot write {text!r} into a path: it is not valid Unicode text."
        raise LocationError(msg) from err


def _unquote(text: str, whole: str) -> str:
    """Decode percent-encoding, strictly: a ``%`` that escapes nothing is an error."""
    if "%" not in text:
        return text
    out = bytearray()
    position = 0
    while (found := text.find("%", position)) >= 0:
        out += text[position:found].encode("utf-8", "surrogatepass")
        digits = text[found + 1 : found + 3]
        if not re.fullmatch(r"[0-9A-Fa-f]{2}", digits):
            msg = f"Cannot read {whole!r}: '%{digits}' is no escape; write a percent sign as %25."
            raise LocationError(msg)
        out.append(int(digits, 16))
        position = found + 3
    out += text[position:].encode("utf-8", "surrogatepass")
    try:
        return out.decode()
    except UnicodeDecodeError as err:
        msg = f"Cannot read {whole!r}: its percent-encoded bytes are not UTF-8."
        raise LocationError(msg) from err


def _number(text: str) -> str:
    """Write a finite number in its shortest form: ``-6.0`` is ``-6``."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return str(int(value)) if value == int(value) else repr(value)


def _bbox(values: tuple[str, ...], whole: str) -> tuple[str, ...]:
    try:
        numbers = tuple(_number(value) for value in values)
        west, south, east, north = map(float, numbers)
    except ValueError:
        problem = "it must be four finite numbers"
    else:
        if not -90 <= south <= north <= 90:
            problem = "south must not be above north, both within -90 and 90"
        elif not (-360 <= west <= 360 and -360 <= east <= 360):
            problem = "west and east must be within -360 and 360"
        else:
            return numbers
    msg = (
        f"Cannot use bbox={','.join(values)} in {whole!r}: {problem}. "
        "The order is west,south,east,north in degrees, as in bbox=-6,43,-1,46."
    )
    raise LocationError(msg)


def _value_text(value: object, key: str) -> str:
    if isinstance(value, str):
        text = value
    elif isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, int):
        text = str(value)
    elif isinstance(value, float):
        text = repr(value) if math.isfinite(value) and value != int(value) else f"{value:.0f}"
    elif isinstance(value, datetime):
        text = (
            format_time(value) if value.tzinfo else f"{value.isoformat(timespec='milliseconds')}Z"
        )
    elif isinstance(value, date):
        text = value.isoformat()
    else:
        msg = f"Cannot use {value!r} as a value of {key!r}: give text, a number, a date, or a list."
        raise LocationError(msg)
    if not text:
        msg = f"Cannot use an empty value for {key!r}: leave the key out instead."
        raise LocationError(msg)
    return text


def _freeze(query: Mapping[str, Any], whole: str) -> Query:
    items: list[tuple[str, tuple[str, ...]]] = []
    for key in sorted(query):
        value = query[key]
        if value is None:
            continue
        if key == "bbox" and isinstance(value, str):
            value = value.split(",")
        many = value if isinstance(value, (list, tuple)) else (value,)
        texts = tuple(_value_text(one, key) for one in many)
        if not key or not texts:
            msg = f"Cannot use {key}={value!r} as part of a query: neither may be empty."
            raise LocationError(msg)
        items.append((key, _bbox(texts, whole) if key == "bbox" else texts))
    return tuple(items)


def _canonical_pattern(raw: str, whole: str) -> str:
    """Rewrite a pattern so that only glob characters stand raw in it."""
    pieces = re.split(r"([*?\[\]])", raw)
    return "".join(
        piece if index % 2 else _quote(_unquote(piece, whole)).replace("%2E", ".")
        for index, piece in enumerate(pieces)
    )


@functools.lru_cache(maxsize=256)
def _pattern_regex(pattern: str) -> re.Pattern[str]:
    # An escape stands for the literal character, so it must not become a glob character again.
    # fnmatch takes a class of one character as that character.
    def literal(match: re.Match[str]) -> str:
        text = _unquote(match.group(0), pattern)
        return "".join(f"[{char}]" if char in "*?[" else char for char in text)

    return re.compile(fnmatch.translate(re.sub(r"(?:%[0-9A-Fa-f]{2})+", literal, pattern)))


@dataclasses.dataclass(frozen=True, init=False, repr=False, slots=True)
class Location:
    """What a path names: all data sets, one data set, a query, a product, or a pattern.

    Locations are frozen, hashable and picklable, and equal if their canonical paths are. fsspec
    and xarray accept them where they accept a path. They are not :class:`os.PathLike`, since
    nothing on the local disk has that name.

    Parameters
    ----------
    dataset : str, optional
        A data set id; none for the root ``hda://``.
    query : mapping, optional
        Query keys to values: text, numbers, dates, or lists of these. None leaves a key out.
    product : str, optional
        A product id, as the catalogue writes it (it is percent-encoded where needed).
    pattern : str, optional
        Instead of a product: a glob pattern over product ids, or over data set ids if no data
        set is given. A percent-encoded character in it stands for itself.

    Raises
    ------
    LocationError
        A part is empty or cannot be written as a path, or ``bbox`` is malformed.

    Examples
    --------
    >>> here = Location("EO:X:DAT:SST", {"startdate": "2024-05-01", "bbox": [-6.0, 43, -1, 46]})
    >>> str(here)
    'hda://EO:X:DAT:SST/bbox=-6,43,-1,46/startdate=2024-05-01'
    >>> Location.parse(str(here)) == here
    True
    """

    dataset: str | None
    _query: Query
    product: str | None
    pattern: str | None

    def __init__(
        self,
        dataset: str | None = None,
        query: Mapping[str, Any] | None = None,
        product: str | None = None,
        *,
        pattern: str | None = None,
    ) -> None:
        whole = f"{dataset or ''} {dict(query or {})} {product or pattern or ''}".strip()
        if dataset is None and (query or product is not None):
            msg = f"Cannot make a path of {whole!r}: a query or a product needs a data set."
            raise LocationError(msg)
        if "" in (dataset, product, pattern):
            msg = f"Cannot make a path of {whole!r}: a data set, product or pattern is empty."
            raise LocationError(msg)
        if product is not None and pattern is not None:
            msg = f"Cannot make a path of {whole!r}: give a product or a pattern, not both."
            raise LocationError(msg)
        if pattern is not None:
            if not _MAGIC.search(pattern) or "/" in pattern or "=" in pattern:
                msg = (
                    f"Cannot use {pattern!r} as a pattern: it needs one of * ? [ and must not hold "
                    "/ or = (write these as %2F and %3D)."
                )
                raise LocationError(msg)
            pattern = _canonical_pattern(pattern, pattern)
        frozen = _freeze(query or {}, whole)
        for text in (dataset, product, *(key for key, _ in frozen)):
            _quote(text or "")
        for name, value in zip(
            ("dataset", "_query", "product", "pattern"),
            (dataset, frozen, product, pattern),
            strict=True,
        ):
            object.__setattr__(self, name, value)

    def __reduce__(self) -> tuple[Any, ...]:
        return Location.parse, (self.path,)

    @classmethod
    def parse(cls, path: str | Location) -> Location:
        """Read a path, with or without ``hda://`` in front.

        Raises
        ------
        LocationError
            The path is not of the grammar; the message says where and what to write instead.
        """
        if isinstance(path, Location):
            return path
        return _parse(path)

    @classmethod
    def from_request(cls, request: Mapping[str, Any] | str | os.PathLike[str]) -> Location:
        """Make a location from what WEkEO's web page shows under "Show API request".

        Parameters
        ----------
        request : mapping, JSON text, or path of a .json file
            In the v2 form (``dataset_id`` and flat parameters) or the old v1 form (``datasetId``,
            ``boundingBoxValues``, ``dateRangeSelectValues``, ``stringChoiceValues``,
            ``multiStringSelectValues``, ``stringInputValues``). Paging keys are left out.

        Raises
        ------
        LocationError
            It is not JSON, or not a request.
        FileNotFoundError
            There is no such file.
        """
        body = request if isinstance(request, Mapping) else _read_json(request)
        if "datasetId" in body:
            return _from_v1(body)
        dataset = body.get("dataset_id")
        if not isinstance(dataset, str) or not dataset:
            msg = (
                f"Cannot read the request {str(dict(body))[:120]}: it has no 'dataset_id' (v2) and "
                "no 'datasetId' (v1). Copy the whole JSON that \"Show API request\" shows."
            )
            raise LocationError(msg)
        return cls(dataset, {k: v for k, v in body.items() if k not in _NOT_A_QUERY and v != []})

    @property
    def query(self) -> dict[str, tuple[str, ...]]:
        """The query: each key with its values as decoded text."""
        return dict(self._query)

    @property
    def path(self) -> str:
        """The canonical ``hda://`` path: query keys sorted, no glob character but in a pattern."""
        return f"{PROTOCOL}://{'/'.join(self._segments())}"

    @property
    def name(self) -> str:
        """The last segment of the path, encoded as it stands there; empty for the root."""
        return next(reversed(self._segments()), "")

    @property
    def parent(self) -> Location:
        """The location one segment up; the root is its own parent."""
        if self.product is not None or self.pattern is not None:
            return self.directory
        if self._query:
            return Location(self.dataset, dict(self._query[:-1]))
        return Location()

    @property
    def directory(self) -> Location:
        """The query, data set or root that a product or pattern is looked for in."""
        return Location(self.dataset, dict(self._query))

    def child(self, name: str) -> Location:
        """Return the location of a product (or, below the root, of a data set) by its id."""
        if self.dataset is None:
            return Location(name)
        return Location(self.dataset, dict(self._query), name)

    def matches(self, name: str) -> bool:
        """Whether a decoded id is meant by the pattern; without a pattern, whether it is named."""
        if self.pattern is None:
            return name == self.product
        return _pattern_regex(self.pattern).match(name) is not None

    def _segments(self) -> list[str]:
        segments = [] if self.dataset is None else [_quote(self.dataset)]
        segments += [f"{_quote(k)}={','.join(map(_quote, values))}" for k, values in self._query]
        if self.product is not None:
            segments.append(_quote(self.product))
        if self.pattern is not None:
            segments.append(self.pattern)
        return segments

    def __str__(self) -> str:
        return self.path

    def __repr__(self) -> str:
        return f"Location({self.path!r})"


@functools.lru_cache(maxsize=4096)
def _parse(path: str) -> Location:
    text = path
    for prefix in _PREFIXES:
        text = text.removeprefix(prefix)
    if "://" in text and not text.partition("://")[0].count("/"):
        msg = f"Cannot read {path!r}: it is not an hda:// path. An example: {_EXAMPLE}"
        raise LocationError(msg)
    segments = [segment for segment in text.split("/") if segment]
    if not segments:
        return Location()
    for position, segment in enumerate(segments):
        if _MAGIC.search(segment) and ("=" in segment or position < len(segments) - 1):
            msg = (
                f"Cannot read {path!r}: glob characters (* ? [) may stand only in the last "
                f"segment, as a pattern over product ids, and not in {segment!r}. "
                "If they belong to a value, write them as %2A, %3F and %5B."
            )
            raise LocationError(msg)
    last = segments[-1]
    pattern = last if _MAGIC.search(last) else None
    if pattern is not None and len(segments) == 1:
        return Location(pattern=pattern)
    dataset, *rest = segments[:-1] if pattern is not None else segments
    if "=" in dataset:
        msg = f"Cannot read {path!r}: it starts with a query; the data set goes first: {_EXAMPLE}"
        raise LocationError(msg)
    product = _unquote(rest.pop(), path) if rest and "=" not in rest[-1] else None
    query: dict[str, tuple[str, ...]] = {}
    for segment in rest:
        key, equals, value = segment.partition("=")
        if not equals:
            msg = (
                f"Cannot read {path!r}: {segment!r} is neither key=value nor the last segment. A "
                "product id goes last, and nothing is below it."
            )
            raise LocationError(msg)
        key = _unquote(key, path)
        if key in query:
            msg = f"Cannot read {path!r}: {key!r} stands twice; write its values as {key}=a,b."
            raise LocationError(msg)
        if "=" in value:
            msg = f"Cannot read {path!r}: {segment!r} holds two '='; write one in a value as %3D."
            raise LocationError(msg)
        query[key] = tuple(_unquote(one, path) for one in value.split(","))
    if product is not None and pattern is not None:
        msg = f"Cannot read {path!r}: {product!r} is a product, and nothing is below a product."
        raise LocationError(msg)
    return Location(_unquote(dataset, path), query, product, pattern=pattern)


def _read_json(request: str | os.PathLike[str]) -> Mapping[str, Any]:
    is_text = isinstance(request, str) and request.lstrip()[:1] in {"{", "["}
    text = str(request) if is_text else Path(request).expanduser().read_text(encoding="utf-8")
    try:
        body = json.loads(text)
    except ValueError as err:
        msg = f"Cannot read the request {text[:80]!r}: it is not JSON ({err})."
        raise LocationError(msg) from err
    if not isinstance(body, Mapping):
        msg = f"Cannot read the request {text[:80]!r}: it must be one JSON object."
        raise LocationError(msg)
    return body


def _from_v1(body: Mapping[str, Any]) -> Location:
    """Translate the v1 form; its one date range becomes ``startdate`` and ``enddate``."""

    def entries(field: str) -> Iterable[Mapping[str, Any]]:
        return body.get(field) or ()

    query: dict[str, Any] = {}
    try:
        for box in entries("boundingBoxValues"):
            query["bbox"] = box["bbox"]
        for dates in entries("dateRangeSelectValues"):
            query["startdate"], query["enddate"] = dates.get("start"), dates.get("end")
        for field in ("stringChoiceValues", "multiStringSelectValues", "stringInputValues"):
            query.update({entry["name"]: entry["value"] for entry in entries(field)})
    except (AttributeError, KeyError, TypeError) as err:
        msg = (
            f"Cannot read the v1 request of {body['datasetId']}: an entry lacks a field ({err!r})."
        )
        raise LocationError(msg) from err
    return Location(str(body["datasetId"]), {k: v for k, v in query.items() if v not in ([], "")})
