"""Data sets in the manner of EO:ECMWF: jobs of the data stores behind it (CDS, ADS, EWDS).

Behaviour, with its source in ``subset-services.md`` and its mark there:

=====================================================================================  ========
a search answers one feature of size ND, and starts no job (A1)                        A
the id is the name upstream and the MD5 of ``location``; three are recomputed (A3)     A
``location`` is the request upstream: bbox as area, range of dates as date (A3)        A
lists are multiplied; dates that do not exist are dropped (A3)                         A
both days of a range are included, times of day are dropped (A3)                       A
a value twice in a list is refused (A3); the text                                      A, unknown
steps not available yet are dropped; the error where none is left (A3)                 A
expver 0005 for preliminary data: ``preliminary`` (A3)                                 B
the grid begins at the south-west corner, values are interpolated: ``grid`` (A3)       A
or existing points within the box, in a ZIP of the producer's files (A3, A5)           A
netCDF of valid_time, levels, latitude descending, longitude; deflated (A5)            A
a ZIP of one file for each step type, or variable, though none was asked for (A5)      A
a ZIP where preliminary and final data are mixed: ``mixed_versions`` (A5)              inferred
GRIB by default (A2, A5)                                                               A
the limit of fields and its texts (A4); lower for netCDF                               A, unknown
failures as status Error and a message (A4): ``told_by``                               unknown
names of files end in ``.nc`` or in nothing: ``suffix`` (A3)                           A
=====================================================================================  ========
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib.util
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from hda_fsspec.emulator.dataset_entries import ProductEntry
from hda_fsspec.emulator.jobs import dates
from hda_fsspec.emulator.jobs.fields import Cut, make_file
from hda_fsspec.emulator.jobs.job import (
    Job,
    JobFailedError,
    Request,
    SubsetDataset,
    as_time,
    as_timedelta,
    write_location,
)
from hda_fsspec.emulator.jobs.source_file import LEVELS, TIME, Stored
from hda_fsspec.emulator.jobs.worker import call
from hda_fsspec.emulator.schemas import BBOX, PAGING_KEYS, choices, multiple_choice, parameter
from hda_fsspec.records import format_time, parse_time

_FORMATS = ("data_format", "download_format")
_LIST_KEYS = (*dates.YEARS, *dates.MONTHS, *dates.DAYS, dates.HOURS)


@dataclasses.dataclass(frozen=True)
class EcmwfSubset(SubsetDataset):
    """A subset data set in the manner of EO:ECMWF.

    Parameters
    ----------
    lists : sequence of str
        The keys of time that its requests have: ``year``, ``month``, ``day``, ``time``, or those
        with an h before (``hyear``), ``period`` and ``hydrological_year``, whose choices are given
        by ``parameters``. Of a data set with a range of dates it is ``time``, or none. By default
        what the data set's ``date_keys`` and the steps of the source suggest.
    single : collection of str
        Keys that take one value as a text, and no list (A2: often ``year``, sometimes
        ``variable``).
    month_names : bool
        Whether months are asked for by name.
    variables : mapping of str to str or sequence of str, optional
        The variables of the source by what requests call them; by default their own names.
    grid : str
        "corner": as MARS makes it; "inside": existing points within the box, as of data sets that
        are files, delivered as these are. Data sets whose corners are snapped inwards upstream
        ("simulate_preinterpolation") deliver the points that "inside" does.
    formats : sequence of str, optional
        The choices of ``data_format``, its default first; none at all for a data set without this
        key. By default ``grib`` and ``netcdf`` where ecCodes is installed and the source names the
        parameters of its variables (``GRIB_paramId``), else ``netcdf``.
    step_types : mapping of str to str
        Which variables of the source are accumulated (``accum``, ``max``, ``avg``, ...); by
        default the attribute ``GRIB_stepType``, else ``instant``.
    files_per : str
        What has a file of its own: a "step_type" or a "variable" (daily statistics, A5).
    stream : str
        Stands in the names of these files.
    preliminary : timedelta or number of days, optional
        Steps later than this before ``now`` are preliminary: ``expver`` 0005 in the place of 0001.
    mixed_versions : str
        What a file with both is: a "file" with a coordinate ``expver``, or a "zip" of it.
    max_fields, max_fields_netcdf : int, optional
        How much a request may ask for; the second of netCDF, where it is another number. None: as
        much as it likes.
    too_large_text : str
        "new" or "old": what upstream says of a request beyond these (A4).
    told_by : str
        Who is told of a request that is refused before it runs: "status" (the download status of
        the order), "order" or "search". What fails as it runs is told by the status.
    suffix : bool
        Whether delivered names have an extension.
    """

    _: dataclasses.KW_ONLY
    lists: Sequence[str] | None = None
    single: Collection[str] = ()
    month_names: bool = False
    variables: Mapping[str, str | Sequence[str]] | None = None
    grid: str = "corner"
    formats: Sequence[str] | None = None
    step_types: Mapping[str, str] = dataclasses.field(default_factory=dict)
    files_per: str = "step_type"
    stream: str = "oper"
    preliminary: timedelta | float | None = None
    mixed_versions: str = "file"
    max_fields: int | None = 120_000
    max_fields_netcdf: int | None = None
    too_large_text: str = "new"
    told_by: str = "status"
    suffix: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check("grid", "corner", "inside")
        self._check("files_per", "step_type", "variable")
        self._check("mixed_versions", "file", "zip")
        self._check("too_large_text", "new", "old")
        self._check("told_by", "status", "order", "search")
        if self.date_keys is not None and not self.needed:
            object.__setattr__(self, "needed", self.date_keys)

    @property
    def name(self) -> str:
        """The name of the data set upstream."""
        return self.dataset_id.rpartition(":")[2].lower().replace("_", "-")

    @functools.cached_property
    def names(self) -> dict[str, list[str]]:
        """The variables of the source by what requests call them."""
        given = self.variables
        if given is None:
            return {name: [name] for name in self.file.fields}
        return {
            key: [value] if isinstance(value, str) else list(value) for key, value in given.items()
        }

    @functools.cached_property
    def levels(self) -> dict[str, str]:
        """The dimensions of the source besides time and place, by the key that asks for them."""
        on_grid = {dim for variable in self.file.fields.values() for dim in variable.dims}
        axes = self.file.axes
        return {key: axes[key].name for key in LEVELS if key in axes and axes[key].name in on_grid}

    @functools.cached_property
    def time_lists(self) -> tuple[str, ...]:
        """The keys of time that requests have."""
        import numpy as np

        if self.lists is not None:
            return tuple(self.lists)
        times = self.file.axes[TIME].values
        is_daily = bool(np.all(times == times.astype("datetime64[D]")))
        if self.date_keys is not None:
            return () if is_daily else (dates.HOURS,)
        is_monthly = bool(np.all(times == times.astype("datetime64[M]")))
        return ("year", "month") if is_monthly else ("year", "month", "day", dates.HOURS)

    @functools.cached_property
    def data_formats(self) -> tuple[str, ...]:
        """The choices of ``data_format``, its default first."""
        if self.formats is not None:
            return tuple(self.formats)
        has_grib = importlib.util.find_spec("eccodes") is not None and self.grid == "corner"
        named = all("GRIB_paramId" in variable.attrs for variable in self._stored)
        return ("grib", "netcdf") if has_grib and named else ("netcdf",)

    @property
    def _stored(self) -> list[Stored]:
        return [self.file.fields[name] for names in self.names.values() for name in names]

    @property
    def schema(self) -> dict[str, Any]:
        """The answer of ``dataaccess/queryable``."""
        if self.queryable is not None:
            return dict(self.queryable)
        own = {name: parameter(given) for name, given in self.parameters.items()}
        properties: dict[str, Any] = {
            "dataset_id": {"type": "string", "oneOf": choices([self.dataset_id])},
            "variable": self._choice("variable", self.names),
            **own,
        }
        for key in self.levels:
            values = self.file.axes[key].values
            properties[key] = self._choice(key, [f"{value:g}" for value in values])
        properties |= {
            key: self._choice(key, self._dates(key)) for key in self.time_lists if key not in own
        }
        for which, key in enumerate(self.date_keys or ()):
            properties[key] = self.time_property(which)
        if self.has_bbox:
            properties["bbox"] = BBOX
        formats = {_FORMATS[0]: self.data_formats, _FORMATS[1]: ("unarchived", "zip")}
        for key, offered in formats.items():
            if offered and key not in own and self.data_formats:
                properties[key] = {
                    "type": "string",
                    "default": offered[0],
                    "oneOf": choices(offered),
                }
        properties["itemsPerPage"] = properties["startIndex"] = {"type": "number"}
        return {
            "type": "object",
            "title": "Queryable",
            "properties": properties,
            "required": list(self.required),
            "constraints": [],
        }

    def _choice(self, key: str, values: Collection[str]) -> dict[str, Any]:
        if key in self.single:
            return {"type": "string", "oneOf": choices(values)}
        return multiple_choice(values)

    def _dates(self, key: str) -> list[str]:
        import numpy as np

        times = self.file.axes[TIME].values
        if key in dates.YEARS:
            years = times.astype("datetime64[Y]").astype(int) + 1970
            return [str(year) for year in range(years.min(), years.max() + 1)]
        if key in dates.MONTHS:
            return list(dates.MONTH_NAMES) if self.month_names else _two_digits(1, 12)
        if key in dates.DAYS:
            return _two_digits(1, 31)
        minutes = (times - times.astype("datetime64[D]")).astype("timedelta64[m]").astype(int)
        return [f"{minute // 60:02}:{minute % 60:02}" for minute in np.unique(minutes)]

    def request_of(self, query: Request) -> dict[str, Any]:
        """Return what upstream is asked: the keys as sent, then ``area``, then ``date``."""
        start, end = self.date_keys or ("startdate", "enddate")
        left_out = {*PAGING_KEYS, "bbox", start, end}
        request = {key: value for key, value in query.items() if key not in left_out}
        if "bbox" in query:
            west, south, east, north = query["bbox"]
            request["area"] = [north, west, south, east]
        if start in query and end in query:
            days = (parse_time(str(query[key])) for key in (start, end))
            request["date"] = "/".join(f"{day:%Y-%m-%d}" for day in days)
        return request

    def product_of(self, request: Request) -> ProductEntry:
        """Return the job of a request, as a search answers it."""
        if self.told_by == "search":
            self._check_request(request)
        location = write_location(request)
        digest = hashlib.md5(location.encode(), usedforsecurity=False).hexdigest()
        begin, end = self.coverage()
        shown = [format_time(begin), format_time(end)]
        if "date" in request:
            shown = [f"{day}T00:00:00.000Z" for day in str(request["date"]).split("/")]
        product_id = f"{self.name}-{digest}"
        return ProductEntry(
            product_id, b"", *shown, size="ND", delivered_name=product_id, location=location
        )

    def _check_request(self, request: Request) -> None:
        """Raise JobFailedError for what upstream refuses before it runs."""
        try:
            dates.check_duplicates(request)
            self._check_cost(request)
            dates.days_of(request)
            latest = self.latest()
            if latest is not None:
                dates.check_available(request, latest)
        except JobFailedError as err:
            err.told_by = self.told_by
            raise

    def _format(self, request: Request) -> str:
        default = self.data_formats[0] if self.data_formats else "netcdf"
        return str(request.get("data_format", request.get("format", default)))

    def _count_fields(self, request: Request) -> int:
        """Return how many fields a request asks for: of a list that is left out all values."""
        left_out: dict[str, list[str]] = {"variable": list(self.names)}
        left_out |= {key: [f"{v:g}" for v in self.file.axes[key].values] for key in self.levels}
        left_out |= {key: self._dates(key) for key in self.time_lists if key in _LIST_KEYS}
        return dates.count_fields(left_out | dict(request))

    def _check_cost(self, request: Request) -> None:
        fields, limit = self._count_fields(request), self.max_fields
        if self.max_fields_netcdf is not None and self._format(request) != "grib":
            limit = self.max_fields_netcdf
        if limit is None or fields <= limit:
            return
        if self.too_large_text == "old":
            msg = (
                "the request you have submitted is not valid. Request too large. Requesting "
                f"{fields} items, limit is {limit}."
            )
            raise JobFailedError(msg, title="Task Error", status=400)
        msg = "Your request is too large, please reduce your selection."
        raise JobFailedError(msg, title="cost limits exceeded", status=403)

    def start(self, request: Request) -> Job:
        """Start the job of a request."""
        self._check_request(request)
        cut = self._cut(request)
        data_format = self._format(request)
        is_zip = request.get("download_format") == "zip" or self.grid == "inside"
        is_mixed = cut.versions is not None and len(set(cut.versions)) > 1
        product = self.product_of(request)
        container = cut.container(
            data_format, is_zip=is_zip or (is_mixed and self.mixed_versions == "zip")
        )
        suffix = {"zip": ".zip", "grib": ".grib", "netcdf": ".nc"}[container]
        return Job(
            functools.partial(call, make_file, self.file, cut, data_format, container),
            name=f"{product.product_id}{suffix}" if self.suffix else product.product_id,
            seconds=self.seconds_per_job + self.seconds_per_unit * self._count_fields(request),
            state=(cut.steps.tobytes(), cut.versions),
        )

    def _cut(self, request: Request) -> Cut:
        """Return what a request is to be given of the source; raises JobFailedError."""
        import numpy as np

        times = self.file.axes[TIME].values
        wanted = dates.wanted_steps(times, request)
        latest = self.latest()
        if latest is not None:
            wanted &= dates.existing_steps(times, latest)
        asked = dates.values_of(request, "variable") or list(self.names)
        names = [name for key in asked for name in self.names[key]]
        positions: dict[str, Any] = {}
        for key, dim in self.levels.items():
            texts = dates.values_of(request, key)
            values = self.file.axes[key].values
            wanted_levels = values if texts is None else np.array([float(text) for text in texts])
            positions[dim] = np.flatnonzero(np.isin(values, wanted_levels))
        steps = np.flatnonzero(wanted)
        area = None if "area" not in request else tuple(map(float, request["area"]))
        if (
            area is not None
            and self.grid == "corner"
            and (area[0] == area[2] or area[1] == area[3])
        ):
            # A box without size (A3: A).
            msg = "MARS has returned an error, please check your selection."
            raise JobFailedError(msg)
        cut = Cut(
            steps=steps,
            levels=positions,
            names={key: self.names[key] for key in asked},
            kinds={name: self._kind(name) for name in names},
            area=area,
            is_native=self.grid == "inside",
            files_per=self.files_per,
            stream=self.stream,
            statistic=str(request.get("daily_statistic", "")),
            versions=self._versions(times[steps]),
            made=self.present() or datetime(2026, 1, 1),  # noqa: DTZ001 - only shown
        )
        if not all(cut.shape(self.file)):
            raise dates.no_data()
        return cut

    def _kind(self, name: str) -> str:
        attrs = self.file.fields[name].attrs
        return self.step_types.get(name, str(attrs.get("GRIB_stepType", "instant")))

    def _versions(self, times: Any) -> tuple[str, ...] | None:
        """Return the ``expver`` of each step, None to leave it as the source has it."""
        present = self.present()
        if self.preliminary is None or present is None:
            return None
        final = as_time(present - as_timedelta(self.preliminary))
        return tuple("0001" if time <= final else "0005" for time in times)


def ecmwf_subset(dataset_id: str, source: Path | str, **settings: Any) -> EcmwfSubset:
    """Return a subset data set in the manner of EO:ECMWF.

    Parameters
    ----------
    dataset_id : str
        For example ``EO:ECMWF:DAT:REANALYSIS_ERA5_SINGLE_LEVELS``.
    source : Path or str
        The netCDF file with all that can be asked for.
    **settings
        Fields of :class:`EcmwfSubset`, of :class:`SubsetDataset`, and of :class:`DatasetEntry`.
        Without ``date_keys`` requests have lists of years and months; with
        ``date_keys=("startdate", "enddate")`` they have a range of days.
    """
    settings.setdefault("date_keys", None)
    settings.setdefault("terms", ("Copernicus_ECMWF_License",))
    return EcmwfSubset(dataset_id, (), source=Path(source), **settings)


def _two_digits(first: int, last: int) -> list[str]:
    return [f"{number:02}" for number in range(first, last + 1)]
