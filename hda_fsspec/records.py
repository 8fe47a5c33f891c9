"""Records of the catalogue: data sets, licences and products, as plain values.

Records are frozen, hashable and picklable, and do no I/O. They keep what the service said: a
``size`` is the catalogue's, which may be an estimate, and never the length of a file.
"""

from __future__ import annotations

import calendar
import dataclasses
import functools
import hashlib
import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from json.encoder import encode_basestring_ascii as _quoted
from typing import Any, TypeGuard

from hda_fsspec.errors import BrokerError
from hda_fsspec.geojson import footprint_of
from hda_fsspec.printable import printable

Scalar = str | int | float | bool

_TIME = re.compile(
    r"(\d{4}-\d{2}-\d{2})(?:[T ](\d{2}:\d{2}(?::\d{2})?)(?:[.,](\d+))?)?\s*(Z|[+-]\d{2}:?\d{2})?\Z",
    re.IGNORECASE,
)

_DAY = re.compile(r"(\d{4})(?:-(\d{2})(?:-(\d{2}))?)?", re.ASCII)

# Python writes no number of thousands of digits.
_ID_DIGITS = 1000

#: What JSON has; a boolean is none.
_NUMBERS = frozenset({int, float})
_HUGE = 1e300

#: How the service writes times, and so almost all that is read.
_CANONICAL_TIME = re.compile(r"\d{4}-\d\d-\d\dT(?:[01]\d|2[0-3]):\d\d:\d\d\.\d{3}Z", re.ASCII)

#: What catalogues tell of a product that has a place of its own in its record, or none.
_PARTS = frozenset({"location", "size", "startdate", "enddate", "metadata", "localpath"})
#: Names under which catalogues tell when an entry last changed; the first one present counts.
_UPDATED_KEYS = (
    "updated",
    "modified",
    "modificationDate",
    "publication",
    "publicationDate",
    "published",
    "ingestionDate",
    "processingDate",
)
_TELL_UPDATES = frozenset(_UPDATED_KEYS)


def is_name(value: object) -> TypeGuard[str]:
    """Whether a value can be an id: text that is not empty, and that can be encoded."""
    if not isinstance(value, str) or not value:
        return False
    return value.isascii() or not any("\ud800" <= char <= "\udfff" for char in value)


def parse_time(text: str) -> datetime:
    """Read an ISO 8601 time as an aware datetime in UTC; a time without zone is UTC.

    Digits beyond the microsecond are dropped. Raises ValueError for anything else.
    """
    if _CANONICAL_TIME.fullmatch(text):
        return datetime.fromisoformat(text)
    match = _TIME.match(text.strip())
    if match is None:
        msg = f"not an ISO 8601 time: {text!r}"
        raise ValueError(msg)
    day, clock, fraction, zone = match.groups()
    zone = "+00:00" if zone is None or zone.upper() == "Z" else zone
    micro = (fraction or "")[:6].ljust(6, "0")
    clock = clock or "00:00:00"
    clock = clock if clock.count(":") == 2 else f"{clock}:00"
    time = datetime.fromisoformat(f"{day}T{clock}.{micro}{zone}")
    try:
        return time.astimezone(UTC)
    except OverflowError as err:
        msg = f"not a time between the years 1 and 9999 in UTC: {text!r}"
        raise ValueError(msg) from err


def format_time(time: datetime) -> str:
    """Write an aware datetime the way the service does: ``2024-05-01T00:00:00.000Z``.

    Microseconds are kept only where milliseconds would lose them.
    """
    time = time.astimezone(UTC)
    spec = "microseconds" if time.microsecond % 1000 else "milliseconds"
    return time.replace(tzinfo=None).isoformat(timespec=spec) + "Z"


def _time_or_none(value: object) -> str | None:
    if not isinstance(value, str) or not value:
        return None
    try:
        if _CANONICAL_TIME.fullmatch(value):
            datetime.fromisoformat(value)  # for days that there are not
            return value
        return format_time(parse_time(value))
    except ValueError:
        return None


def _end_of_period(value: object, *, last: bool) -> str | None:
    """Return the first or last instant of a year, month or day; of "Not Available" it is None."""
    match = _DAY.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        return _time_or_none(value)
    year, month, day = (None if part is None else int(part) for part in match.groups())
    try:
        time = datetime(year or 0, month or (12 if last else 1), day or 1, tzinfo=UTC)
        if last:
            days = calendar.monthrange(time.year, time.month)[1]
            time = time.replace(day=day or days, hour=23, minute=59, second=59, microsecond=999_000)
    except ValueError:
        return None
    return format_time(time)


def _size_or_none(value: object) -> int | None:
    """Return the catalogue's size in bytes; "ND", a negative or a missing one is None."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        size = int(value)
    except (ValueError, OverflowError):
        return None
    return size if size > 0 else None


def _mapping(value: object) -> Mapping[str, Any]:
    """Return a JSON object; an empty one for anything else."""
    # What JSON makes is one at a glance, where the abstract class takes longer to be asked.
    return value if type(value) is dict or isinstance(value, Mapping) else {}


def _is_scalar(value: object) -> bool:
    """Whether a value can be kept: text, a boolean, or a number that equals itself."""
    return isinstance(value, (str, int)) or (isinstance(value, float) and math.isfinite(value))


def _bbox_or_none(value: object) -> str | None:
    """Return W, S, E and N as text, None unless they are four numbers."""
    if not isinstance(value, list) or len(value) != 4 or not {*map(type, value)} <= _NUMBERS:
        return None
    return _box(*value)


@functools.lru_cache(maxsize=1024)
def _box(*sides: float) -> str | None:
    # Most products of a listing have the same box, or one of a few.
    if not -_HUGE < min(sides) <= max(sides) < _HUGE:
        return None
    # What is no number is neither the least nor the greatest, unless it stands first.
    if not math.isfinite(sum(sides)):
        return None
    # A negative zero is equal to zero, and would be written as whichever came first.
    return ",".join(f"{float(side) + 0.0:g}" for side in sides)


def _bbox_of_envelope(geometry: object) -> str | None:
    """Return the box of a data set, which is told by two corners: [W, N] and [E, S]."""
    corners = geometry.get("coordinates") if isinstance(geometry, Mapping) else None
    if (
        isinstance(corners, list)
        and len(corners) == 2
        and all(isinstance(c, list) and len(c) == 2 and all(map(_is_number, c)) for c in corners)
    ):
        (west, north), (east, south) = corners
        return _bbox_or_none([west, min(south, north), east, max(south, north)])
    return _bbox_around(geometry)


def _bbox_around(geometry: object) -> str | None:
    """Return the box around all points of a GeoJSON geometry."""
    points: list[list[Any]] = []
    left = [geometry.get("coordinates")] if isinstance(geometry, Mapping) else []
    while left:
        value = left.pop()
        if isinstance(value, list) and len(value) >= 2 and all(map(_is_number, value)):
            points.append(value)
        elif isinstance(value, list):
            left.extend(value)
    if not points:
        return None
    longitudes, latitudes = zip(*(point[:2] for point in points), strict=True)
    return _bbox_or_none([min(longitudes), min(latitudes), max(longitudes), max(latitudes)])


def _is_number(value: object) -> bool:
    # By comparing: JSON has whole numbers that are no float.
    return type(value) in _NUMBERS and -_HUGE < value < _HUGE  # type: ignore[operator]


def _id_or_none(value: object) -> str | None:
    """Return an id as text: some are numbers, and one that is sent back as text is understood."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**_ID_DIGITS:
        return str(value)
    return _text_or_none(value)


def _text_or_none(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _digest(*values: str | int | None) -> str:
    """Return a hash of values as a JSON list writes them, at a fifth of the time."""
    # JSON keeps the borders between them, whatever characters they hold.
    texts = [
        _quoted(value) if isinstance(value, str) else "null" if value is None else str(value)
        for value in values
    ]
    return hashlib.sha256(f"[{', '.join(texts)}]".encode()).hexdigest()


@functools.lru_cache(maxsize=64)
def _names_of_dataset(broker: str, dataset_id: str) -> str:
    return f"[{_quoted(broker)}, {_quoted(dataset_id)}, "


class _Identity:
    """The key of a record, computed once; in slots of its own, so that no pickle carries it."""

    __slots__ = ("_key", "_version_tag")
    _key: str
    _version_tag: str


@dataclasses.dataclass(frozen=True, slots=True)
class Product(_Identity):
    """One product of a search: what must be sent back to order it, and what is known of it.

    Records are equal if they name one version of one product. What else a catalogue tells of it,
    which depends on how it was asked, is left out: the locator, the footprint, further metadata.

    Attributes
    ----------
    dataset_id, product_id : str
        Together with the broker the identity of a product.
    location : str
        The opaque locator that an order must repeat, verbatim; empty where it was not asked yet.
    size : int or None
        Size in bytes as the catalogue gives it; None where it says "ND" or nothing. It may be an
        estimate.
    startdate, enddate : str or None
        The interval the product covers, as ``YYYY-MM-DDThh:mm:ss.sssZ``.
    updated : str or None
        When the catalogue entry last changed, where the catalogue tells it.
    properties : tuple of (str, scalar)
        Other scalar metadata (cloud cover, orbit, …), by name, sorted.
    bbox : str or None
        The box around the footprint, ``W,S,E,N`` in degrees, where the catalogue tells it.
    footprint : str or None
        The footprint as GeoJSON, where the catalogue tells one that is not just the box.
        Outlines of very many points are thinned.
    broker : str
        Whose product it is: the canonical address, as the settings have it. Two brokers may offer
        other bytes under the same ids.
    request : str
        The query that makes it, as a path, of what the service makes when it is ordered. Its
        locator, and what the service calls it, are asked for then.
    """

    dataset_id: str
    product_id: str
    location: str = dataclasses.field(default="", repr=False, compare=False)
    size: int | None = None
    startdate: str | None = None
    enddate: str | None = None
    updated: str | None = dataclasses.field(default=None, repr=False)
    properties: tuple[tuple[str, Scalar], ...] = dataclasses.field(
        default=(), repr=False, compare=False
    )
    bbox: str | None = dataclasses.field(default=None, repr=False, compare=False)
    broker: str = dataclasses.field(default="", repr=False)
    request: str = dataclasses.field(default="", repr=False, compare=False)
    footprint: str | None = dataclasses.field(default=None, repr=False, compare=False)

    @classmethod
    def from_feature(
        cls,
        dataset_id: str,
        feature: object,
        *,
        broker: str = "",
        show: Callable[[object, int], str] = lambda value, length: str(value)[:length],
    ) -> Product:
        """Read one feature of a search answer of a broker.

        ``show`` tells what may be quoted of it in an error.

        Raises
        ------
        BrokerError
            The feature has no usable id.
        """
        found = _mapping(feature)
        product_id = _id_or_none(found.get("id"))
        if product_id is None:
            msg = (
                f"The search of {printable(dataset_id)} answered a product without an id "
                f"({show(feature, 80)}): the service may have changed; please report it."
            )
            raise BrokerError(msg)
        told = _mapping(found.get("properties"))
        both = {**_mapping(told.get("metadata")), **told}
        geometry = found.get("geometry")
        bbox = _bbox_or_none(found.get("bbox"))
        return cls(
            dataset_id=dataset_id,
            product_id=product_id,
            location=_text_or_none(told.get("location")) or "",
            size=_size_or_none(told.get("size")),
            startdate=_time_or_none(told.get("startdate")),
            enddate=_time_or_none(told.get("enddate")),
            updated=None
            if _TELL_UPDATES.isdisjoint(both)
            else next(
                (t for k in _UPDATED_KEYS if k in both and (t := _time_or_none(both[k]))), None
            ),
            properties=tuple(
                sorted(
                    [
                        (str(key), value)
                        for key, value in both.items()
                        if key not in _PARTS and _is_scalar(value)
                    ]
                )
            ),
            bbox=bbox or _bbox_around(geometry),
            broker=broker,
            footprint=footprint_of(geometry, bbox),
        )

    def __str__(self) -> str:
        # As messages name a product; what a broker calls it may hold anything.
        return f"{printable(self.product_id)} ({printable(self.dataset_id)})"

    @property
    def start(self) -> datetime | None:
        """Start of the interval, as an aware datetime in UTC."""
        return None if self.startdate is None else parse_time(self.startdate)

    @property
    def end(self) -> datetime | None:
        """End of the interval, as an aware datetime in UTC."""
        return None if self.enddate is None else parse_time(self.enddate)

    @property
    def key(self) -> str:
        """The identity of the product in all its versions: 64 hexadecimal digits.

        A hash of broker, data set and product id, the same in all processes. It names folders and
        locks, so it must never depend on what else is known of the product.
        """
        try:
            return self._key
        except AttributeError:
            # What _digest makes of the three: all products of a listing share the first two.
            name = f"{_names_of_dataset(self.broker, self.dataset_id)}{_quoted(self.product_id)}]"
            key = hashlib.sha256(name.encode()).hexdigest()
            object.__setattr__(self, "_key", key)
            return key

    @property
    def version_tag(self) -> str:
        """A short name of :attr:`version`: 16 hexadecimal digits, the same in all processes."""
        try:
            return self._version_tag
        except AttributeError:
            tag = _digest(*self.version)[:16]
            object.__setattr__(self, "_version_tag", tag)
            return tag

    @property
    def version(self) -> tuple[int | None, str | None, str | None, str | None]:
        """The version of a product: size and dates as the catalogue has them."""
        return (self.size, self.updated, self.startdate, self.enddate)

    def is_same_version(self, other: Product) -> bool:
        """Whether two records of one product agree; what either does not tell matches anything."""
        return all(
            mine is None or theirs is None or mine == theirs
            for mine, theirs in zip(self.version, other.version, strict=True)
        )

    def overlaps(self, start: datetime | None, end: datetime | None) -> bool:
        """Whether the product's interval overlaps [start, end], either of which may be open.

        A product that only touches the range at its own end is not in it: the service answers
        such neighbours, since its filter is inclusive at both ends. A product without dates is.
        """
        first, last = self.start, self.end
        first, last = first or last, last or first
        if first is None or last is None:
            return True
        if end is not None and first > end:
            return False
        if start is None:
            return True
        return last > start if last > first else last >= start

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Product:
        """Read what :meth:`to_json` wrote; TypeError, ValueError or KeyError for anything else."""
        names = {field.name for field in dataclasses.fields(cls)}
        given = {key: value[key] for key in value if key in names}
        given["properties"] = tuple((str(k), v) for k, v in given.get("properties", ()))
        made = cls(**given)
        if not (is_name(made.dataset_id) and is_name(made.product_id)):
            msg = f"no ids of a product: {made}"
            raise ValueError(msg)
        return made


def by_time(product: Product) -> tuple[str, str]:
    """Return what products are sorted by: when they begin, and their ids."""
    return product.startdate or "", product.product_id


@dataclasses.dataclass(frozen=True, slots=True)
class Dataset:
    """One data set of the catalogue.

    Records are equal if they have the same id, licences and title.

    Attributes
    ----------
    dataset_id : str
        For example ``EO:EUM:DAT:SENTINEL-3:OL_2_WFR___``.
    terms : tuple of str
        The ids of the licences that must be accepted before its first search.
    title, abstract : str
        For people; empty where the catalogue has none.
    startdate, enddate : str or None
        The period it covers, as ``YYYY-MM-DDThh:mm:ss.sssZ``, as far as the catalogue tells.
    bbox : str or None
        The box that it covers, ``W,S,E,N`` in degrees. West lies east of east where it crosses the
        date line.
    """

    dataset_id: str
    terms: tuple[str, ...] = ()
    title: str = ""
    abstract: str = dataclasses.field(default="", repr=False, compare=False)
    startdate: str | None = dataclasses.field(default=None, compare=False)
    enddate: str | None = dataclasses.field(default=None, compare=False)
    bbox: str | None = dataclasses.field(default=None, compare=False)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Dataset:
        """Read a data set as the service gives it."""
        terms = value.get("terms")
        metadata = value.get("metadata")
        metadata = metadata if isinstance(metadata, Mapping) else {}
        source = metadata.get("_source")
        source = source if isinstance(source, Mapping) else {}
        titles = (
            value.get("title"),
            source.get("datasetTitle"),
            metadata.get("title"),
            metadata.get("description"),
        )
        # Some tell flat what others nest.
        told = {**value, **metadata, **source}
        abstracts = (told.get("abstract"), metadata.get("description"))
        listed = terms if isinstance(terms, (list, tuple)) else [terms]
        named = [t.get("term_id") if isinstance(t, Mapping) else t for t in listed]
        return cls(
            dataset_id=str(value["dataset_id"]),
            terms=tuple(term for term in map(_id_or_none, named) if term),
            title=next(filter(None, map(_text_or_none, titles)), ""),
            abstract=next(filter(None, map(_text_or_none, abstracts)), ""),
            startdate=_end_of_period(told.get("tempextent_begin"), last=False),
            enddate=_end_of_period(told.get("tempextent_end"), last=True),
            bbox=_bbox_of_envelope(told.get("location")),
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Term:
    """A licence: its id, its title, and where its text can be read (None where not told)."""

    term_id: str
    title: str = ""
    link: str | None = None

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Term:
        """Read a licence as the service gives it; the link is the first one of its abstract."""
        abstract = str(value.get("abstract") or "")
        link = re.search(r"https?://[^\s\"'<>)]+", abstract)
        return cls(
            term_id=str(value["term_id"]),
            title=_text_or_none(value.get("title")) or "",
            link=link.group(0).rstrip(".,;") if link else None,
        )
