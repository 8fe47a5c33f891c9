"""A job that an order starts, its failure, and the data set that makes jobs of requests."""

from __future__ import annotations

import abc
import dataclasses
import functools
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from hda_fsspec.emulator.content import Content
from hda_fsspec.emulator.dataset_entries import DatasetEntry, ProductEntry
from hda_fsspec.emulator.jobs.source_file import LATITUDE, LONGITUDE, TIME, SourceFile
from hda_fsspec.emulator.process_lock import ProcessLock
from hda_fsspec.errors import ConfigurationError
from hda_fsspec.records import format_time, parse_time

if TYPE_CHECKING:
    import numpy as np

Request = Mapping[str, Any]
Clock = Callable[[], datetime]


class JobFailedError(Exception):
    """A job that ends without a file.

    Parameters
    ----------
    detail : str
        What upstream says.
    title, status : str, int
        Its title and HTTP status, of a request that was refused before it ran.
    told_by : str
        Who hears of it: "status" (the order is taken, and its download status tells), "order" or
        "search" (that request is answered with the status).
    """

    def __init__(
        self, detail: str, *, title: str = "", status: int = 0, told_by: str = "status"
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.title = title
        self.status = status
        self.told_by = told_by

    @property
    def message(self) -> str:
        """The text of the download status."""
        if not self.title:
            return self.detail
        phrase = {400: "400 Client Error: Bad Request", 403: "403 Client Error: Forbidden"}
        head = [f"{phrase[self.status]}\n"] if self.status in phrase else []
        return "".join([*head, f"{self.title}\n{self.detail}"])


class Job:
    """A file that is made when it is first asked for, and kept. Safe for threads.

    Attributes
    ----------
    name : str
        The name under which it is delivered.
    seconds : float
        How long upstream would take to make it.
    state : object
        Equal for two jobs of one request that deliver the same data.
    """

    def __init__(
        self, make: Callable[[], bytes], *, name: str, seconds: float, state: object
    ) -> None:
        self.name = name
        self.seconds = seconds
        self.state = state
        self._make = make
        self._made: Content | None = None
        self._lock = ProcessLock()

    @property
    def content(self) -> Content:
        """The bytes to deliver; raises JobFailedError where they cannot be made."""
        with self._lock:
            if self._made is None:
                try:
                    self._made = Content(self._make())
                except Exception as err:
                    msg = f"The file cannot be made: {type(err).__name__}: {err}"
                    raise JobFailedError(msg, title="Task Error", status=500) from err
            return self._made


@dataclasses.dataclass(frozen=True)
class SubsetDataset(DatasetEntry, abc.ABC):
    """A data set of which a search answers one job for whatever was asked.

    Parameters
    ----------
    source : Path
        The netCDF file with all that can be asked for; read when something of it is needed.
    now : callable, datetime or str, optional
        The present, of which a callable is asked at each search and order: steps later than
        ``delay`` before it do not exist yet, so that an id may deliver more tomorrow. None: all
        that is in the source exists (subset-services A3, time near the present: A; the growth
        behind an id: inferred there).
    delay : timedelta or number of days
        How long steps take to become available.
    results : str
        What an order gets that is placed again after the data behind it have changed: "renewed"
        makes the file anew under the same download id, "kept" delivers the old one as long as its
        download id is known (subset-services E: unknown, so that both readings are here).
    order_without_search : bool
        Whether an order is taken of an id that was never answered by a search, where id and
        location fit together (subset-services A3, ECMWF id: unknown).
    seconds_per_job, seconds_per_unit : float
        How long a job takes: a time in the queue, and more for each unit of what is made (fields,
        or 10 MB of a marine one). By default a month of hourly ERA5-Land takes some 20 minutes
        (subset-services A4: C). The emulator's option ``job_time_scale`` scales them.
    """

    _: dataclasses.KW_ONLY
    source: Path = Path()
    now: Clock | datetime | str | None = dataclasses.field(default=None, compare=False)
    delay: timedelta | float = 0.0
    results: str = "renewed"
    order_without_search: bool = True
    seconds_per_job: float = 60.0
    seconds_per_unit: float = 1.5
    _found: dict[str, ProductEntry] = dataclasses.field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "source", Path(self.source).absolute())
        if not self.source.is_file():
            msg = f"The subset data set {self.dataset_id} has no source: {self.source} is no file."
            raise ConfigurationError(msg)
        self._check("results", "renewed", "kept")

    def _check(self, name: str, *allowed: object) -> None:
        if getattr(self, name) not in allowed:
            msg = f"The subset data set {self.dataset_id} has {name}={getattr(self, name)!r}: use "
            raise ConfigurationError(f"{msg}one of {allowed}.")

    @functools.cached_property
    def file(self) -> SourceFile:
        """The source, opened."""
        return SourceFile(self.source)

    @property
    def by_id(self) -> dict[str, ProductEntry]:
        """The jobs that searches answered so far, by id."""
        return self._found

    def present(self) -> datetime | None:
        """Return the present of this data set, None if all of the source exists."""
        now = self.now() if callable(self.now) else self.now
        return parse_time(now) if isinstance(now, str) else now

    def latest(self) -> datetime | None:
        """Return the time after which nothing exists yet, None if all of the source exists."""
        present = self.present()
        return None if present is None else present - as_timedelta(self.delay)

    def coverage(self) -> tuple[datetime, datetime]:
        """Return the times of the first and the last step that exist."""
        axis = self.file.axes[TIME]
        first, last = as_datetime(axis.first), as_datetime(axis.last)
        latest = self.latest()
        if latest is not None and latest < last:
            steps = axis.values[axis.values <= as_time(latest)]
            last = as_datetime(steps.max()) if steps.size else first
        return first, last

    def to_json(self) -> dict[str, Any]:
        """Return the data set as ``datasets/{id}`` answers it."""
        answer = super().to_json()
        first, last = self.coverage()
        north, west = self.file.axes[LATITUDE], self.file.axes[LONGITUDE]
        answer["metadata"]["_source"] |= {
            "tempextent_begin": first.date().isoformat(),
            "tempextent_end": last.date().isoformat(),
            "location": {
                "coordinates": [
                    [float(west.first), float(north.last)],
                    [float(west.last), float(north.first)],
                ]
            },
        }
        return answer

    def search(self, query: Request) -> list[ProductEntry]:
        """Return the one job that a query asks for; raises JobFailedError."""
        product = self.product_of(self.request_of(query))
        self._found[product.product_id] = product
        return [product]

    def ordered(self, product_id: str, location: str | None) -> ProductEntry | None:
        """Return the job that is ordered, None if there is none of this id at this location."""
        found = self._found.get(product_id)
        if found is not None:
            return found if location in (None, found.locator) else None
        if not self.order_without_search or location is None:
            return None
        try:
            product = self.product_of(read_location(location))
        except (ValueError, LookupError, TypeError):
            return None
        return product if (product.product_id, product.locator) == (product_id, location) else None

    @abc.abstractmethod
    def request_of(self, query: Request) -> dict[str, Any]:
        """Return what upstream is asked for a query."""

    @abc.abstractmethod
    def product_of(self, request: Request) -> ProductEntry:
        """Return the job of an upstream request, as a search answers it; raises JobFailedError."""

    @abc.abstractmethod
    def start(self, request: Request) -> Job:
        """Start the job of an upstream request; raises JobFailedError."""

    def start_at(self, location: str) -> Job:
        """Start the job of a location; raises JobFailedError, of what nobody can read, too."""
        try:
            return self.start(read_location(location))
        except (ValueError, LookupError, TypeError) as err:
            msg = f"{type(err).__name__}: {err}"
            raise JobFailedError(msg, title="invalid request", status=400) from err

    def time_property(self, which: int) -> dict[str, Any]:
        """Return the schema's property of the start (0) or the end (1) of the range."""
        first, last = map(format_time, self.coverage())
        return {
            "type": "string",
            "title": ("Start date", "End date")[which],
            "format": "date-time",
            "default": (first, last)[which],
            "minimum": first,
            "maximum": last,
        }


def write_location(request: Request) -> str:
    """Return the text of ``location``: the request as JSON, percent-encoded.

    >>> write_location({"year": "2024", "area": [72, -1.5, 50, 3]})
    '%7B%22year%22%3A%20%222024%22%2C%20%22area%22%3A%20%5B72%2C%20-1.5%2C%2050%2C%203%5D%7D'
    """
    return quote(json.dumps(request))


def read_location(location: str) -> dict[str, Any]:
    """Return the request that a ``location`` holds."""
    found = json.loads(unquote(location))
    return dict(found)


def as_timedelta(given: timedelta | float) -> timedelta:
    """Return a length of time, of which a number counts days."""
    return given if isinstance(given, timedelta) else timedelta(days=given)


def as_time(when: datetime) -> np.datetime64:
    """Return an aware datetime as numpy has it, in UTC."""
    import numpy as np

    return np.datetime64(when.astimezone(UTC).replace(tzinfo=None), "ms")


def as_datetime(when: np.datetime64) -> datetime:
    """Return a time of numpy as an aware datetime."""
    found: datetime = when.astype("datetime64[ms]").astype(datetime)
    return found.replace(tzinfo=UTC)
