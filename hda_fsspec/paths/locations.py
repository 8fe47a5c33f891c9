"""``hda://`` paths as values: the whole grammar, in both directions.

``hda://DATASET/key=value/…/PRODUCT``: segments that hold ``=`` are the query, the one without is
the id of a product, or a glob pattern over ids. A :class:`Location` knows nothing of what a data
set accepts or the service holds; it only says what a path means and how it is written.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from hda_fsspec.errors import LocationError
from hda_fsspec.paths.api_requests import read_request
from hda_fsspec.paths.patterns import MAGIC, canonical_pattern, pattern_regex
from hda_fsspec.paths.quoting import quote, quote_name, unquote
from hda_fsspec.paths.values import text_of_number, text_of_value, values_in

if TYPE_CHECKING:
    import os

Query = tuple[tuple[str, tuple[str, ...]], ...]

PROTOCOL = "hda"
_PREFIXES = (f"{PROTOCOL}://", f"{PROTOCOL}::")
_EXAMPLE = "hda://EO:EUM:DAT:SENTINEL-3:OL_2_WFR___/startdate=2024-05-01/enddate=2024-05-02"


def _bbox(values: tuple[str, ...], whole: str) -> tuple[str, ...]:
    try:
        box = tuple(float(value) for value in values)
        west, south, east, north = box
    except ValueError:
        problem = "it must be four finite numbers"
    else:
        if not all(map(math.isfinite, box)):
            problem = "it must be four finite numbers"
        elif not -90 <= south <= north <= 90:
            problem = "south must not be above north, both within -90 and 90"
        elif not (-360 <= west <= 360 and -360 <= east <= 360):
            problem = "west and east must be within -360 and 360"
        else:
            return tuple(map(text_of_number, box))
    msg = (
        f"Cannot use bbox={','.join(values)} in {whole!r}: {problem}. "
        "The order is west,south,east,north in degrees, as in bbox=-6,43,-1,46."
    )
    raise LocationError(msg)


def _freeze(query: Mapping[str, Any], whole: str) -> Query:
    items: list[tuple[str, tuple[str, ...]]] = []
    for key, value in sorted(query.items(), key=lambda item: str(item[0])):
        if value is None:
            continue
        many = value.split(",") if key == "bbox" and isinstance(value, str) else value
        texts = tuple(text_of_value(value, key) for value in values_in(many, key))
        if not key or not isinstance(key, str) or not texts:
            msg = (
                f"Cannot use {key!r}={value!r} as part of a query: a key is text, and neither it "
                "nor its values may be empty."
            )
            raise LocationError(msg)
        items.append((key, _bbox(texts, whole) if key == "bbox" else texts))
    return tuple(items)


@dataclasses.dataclass(frozen=True, init=False, repr=False, slots=True)
class Location:
    """A path as a value: all data sets, one data set, a query, a product, or a pattern.

    Locations are frozen, hashable and picklable, and equal if their canonical paths are. fsspec
    and xarray accept them where they accept a path. They are not :class:`os.PathLike`, since
    nothing on the local disk has that name.

    Parameters
    ----------
    dataset : str, optional
        A data set id; none for the root ``hda://``.
    query : mapping, optional
        Query keys to values: text, numbers, dates, or lists of these; numpy's and pandas'
        scalars, times and arrays of one dimension, too. None leaves a key out.
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
            if not MAGIC.search(pattern) or "/" in pattern or "=" in pattern:
                msg = (
                    f"Cannot use {pattern!r} as a pattern: it needs one of * ? [ and must not hold "
                    "/ or = (write these as %2F and %3D)."
                )
                raise LocationError(msg)
            pattern = canonical_pattern(pattern, pattern)
        frozen = _freeze(query or {}, whole)
        for text in (dataset, product, *(text for key, texts in frozen for text in (key, *texts))):
            quote(text or "")
        for name, value in zip(
            ("dataset", "_query", "product", "pattern"),
            (dataset, frozen, product, pattern),
            strict=True,
        ):
            object.__setattr__(self, name, value)

    def __reduce__(self) -> tuple[Any, ...]:
        return Location.parse, (self.path,)

    @classmethod
    def parse(cls, path: AnyPath) -> Location:
        """Read a path, with or without ``hda://`` in front.

        Parameters
        ----------
        path : str, Location, UPath or os.PathLike

        Raises
        ------
        LocationError
            The path is not of the grammar; the message says where and what to write instead.
        """
        return path if isinstance(path, Location) else _parse(_text_of_path(path))

    @classmethod
    def from_request(cls, request: Mapping[str, Any] | str | os.PathLike[str]) -> Location:
        """Make a location from what WEkEO's web page shows under "Show API request".

        Parameters
        ----------
        request : mapping, JSON text, or path of a .json file
            In the v2 form (``dataset_id`` and flat parameters) or the old v1 form (``datasetId``,
            ``boundingBoxValues``, ``dateRangeSelectValues``, ``stringChoiceValues``,
            ``multiStringSelectValues``, ``stringInputValues``). Paging keys are left out. A data
            set of the old form that was renamed since has its new id, which the log says once.

        Raises
        ------
        LocationError
            It is not JSON, not a request, or one of the v1 form that asks for something that a path
            cannot say.
        FileNotFoundError
            There is no such file.
        """
        return cls(*read_request(request))

    @property
    def query(self) -> dict[str, tuple[str, ...]]:
        """The query: each key with its values as decoded text."""
        return dict(self._query)

    @property
    def path(self) -> str:
        """The canonical ``hda://`` path: query keys sorted, no glob character but in a pattern."""
        return _path_of(self)

    @property
    def name(self) -> str:
        """The last segment of the path, encoded as it stands there; empty for the root."""
        return next(reversed(self._segments()), "")

    @property
    def parent(self) -> Location:
        """The location one segment up; the root is its own parent."""
        if self.product is not None or self.pattern is not None:
            return self.directory
        return self._above(self._query[:-1]) if self._query else Location()

    @property
    def directory(self) -> Location:
        """The query, data set or root that a product or pattern is looked for in."""
        return self._above(self._query)

    def _above(self, query: Query) -> Location:
        # Its parts were checked when this location was made.
        made = object.__new__(Location)
        for name, value in (
            *(("dataset", self.dataset), ("_query", query)),
            *(("product", None), ("pattern", None)),
        ):
            object.__setattr__(made, name, value)
        return made

    def child(self, name: str) -> Location:
        """Return the location of a product (or, below the root, of a data set) by its id."""
        if self.dataset is None:
            return Location(name)
        return Location(self.dataset, dict(self._query), name)

    def paths_of(self, names: Iterable[str]) -> list[str]:
        """Return the paths of many products by their ids, without a location for each of them."""
        before = self.directory._segments()
        write = quote if self.dataset is None else quote_name
        return [f"{PROTOCOL}://{'/'.join((*before, write(name)))}" for name in names]

    def matches(self, name: str) -> bool:
        """Whether a decoded id is meant by the pattern; without a pattern, whether it is named."""
        if self.pattern is None:
            return name == self.product
        return pattern_regex(self.pattern).match(name) is not None

    def _segments(self) -> list[str]:
        segments = [] if self.dataset is None else [quote(self.dataset)]
        segments += [f"{quote(k)}={','.join(map(quote, values))}" for k, values in self._query]
        if self.product is not None:
            segments.append(quote_name(self.product))
        if self.pattern is not None:
            segments.append(self.pattern)
        return segments

    def __str__(self) -> str:
        return self.path

    def __repr__(self) -> str:
        return f"Location({self.path!r})"


@functools.lru_cache(maxsize=4096)
def _path_of(location: Location) -> str:
    return f"{PROTOCOL}://{'/'.join(location._segments())}"


class RemotePath(Protocol):
    """A path of universal_pathlib (``UPath``): text with a protocol, and storage options."""

    @property
    def path(self) -> str:
        """The path without its protocol."""

    @property
    def protocol(self) -> str:
        """The protocol, such as ``hda``."""

    @property
    def storage_options(self) -> Mapping[str, Any]:
        """The options of its filesystem."""


class LocalPath(Protocol):
    """:class:`os.PathLike` of text."""

    def __fspath__(self) -> str:
        """Return the path as text."""


AnyPath = str | Location | LocalPath | RemotePath


def is_remote_path(value: object) -> bool:
    """Whether a value is a path of universal_pathlib; looks at its class alone."""
    kind = type(value)
    return all(hasattr(kind, name) for name in ("path", "protocol", "storage_options", "joinpath"))


def _text_of_path(path: Any) -> str:
    if isinstance(path, str):
        return str(path)
    if is_remote_path(path):
        return str(path)
    # What fsspec takes for a path, too: files that it opened have one.
    text = path.__fspath__() if hasattr(path, "__fspath__") else getattr(path, "path", path)
    if not isinstance(text, str):
        msg = (
            f"Cannot read a value of type {type(path).__name__} as a path: give text, a Location "
            f"or a UPath. Text: {_EXAMPLE}"
        )
        raise LocationError(msg)
    if text.startswith(f"{PROTOCOL}:/") and not text.startswith(f"{PROTOCOL}://"):
        msg = (
            f"Cannot read {text!r}: pathlib has taken a slash from hda://. Give text, or "
            "UPath of universal_pathlib in place of Path."
        )
        raise LocationError(msg)
    return text


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
        if MAGIC.search(segment) and ("=" in segment or position < len(segments) - 1):
            msg = (
                f"Cannot read {path!r}: glob characters (* ? [) may stand only in the last "
                f"segment, as a pattern over product ids, and not in {segment!r}. "
                "If they belong to a value, write them as %2A, %3F and %5B."
            )
            raise LocationError(msg)
    last = segments[-1]
    pattern = last if MAGIC.search(last) else None
    if pattern is not None and len(segments) == 1:
        return Location(pattern=pattern)
    dataset, *rest = segments[:-1] if pattern is not None else segments
    if "=" in dataset:
        msg = f"Cannot read {path!r}: it starts with a query; the data set goes first: {_EXAMPLE}"
        raise LocationError(msg)
    product = unquote(rest.pop(), path) if rest and "=" not in rest[-1] else None
    query: dict[str, tuple[str, ...]] = {}
    for segment in rest:
        key, equals, value = segment.partition("=")
        if not equals:
            msg = (
                f"Cannot read {path!r}: {segment!r} is neither key=value nor the last segment. A "
                "product id goes last, and nothing is below it."
            )
            raise LocationError(msg)
        key = unquote(key, path)
        if key in query:
            msg = f"Cannot read {path!r}: {key!r} stands twice; write its values as {key}=a,b."
            raise LocationError(msg)
        if "=" in value:
            msg = f"Cannot read {path!r}: {segment!r} holds two '='; write one in a value as %3D."
            raise LocationError(msg)
        values = tuple(unquote(item, path) for item in value.split(","))
        query[key] = _bbox(values, path) if key == "bbox" else values
    if product is not None and pattern is not None:
        msg = f"Cannot read {path!r}: {product!r} is a product, and nothing is below a product."
        raise LocationError(msg)
    return Location(unquote(dataset, path), query, product, pattern=pattern)
