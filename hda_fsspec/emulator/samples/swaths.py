"""Samples in the manner of EO:EUM: archives of ocean colour, each on a grid of its own.

There are those of each day of one month and of the last weeks, so that somebody who asks for last
week finds some, and of one day a week between: they are added day by day.
"""

from __future__ import annotations

import dataclasses
import datetime
import io
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hda_fsspec.emulator.samples.patterns import COMMENT, phases, waves
from hda_fsspec.emulator.samples.sea import is_baltic

if TYPE_CHECKING:
    import numpy.typing as npt

#: Values, attributes and what stands for none, by name.
_Variables = Mapping[str, tuple["npt.NDArray[Any]", Mapping[str, Any], int | None]]

OLCI = "EO:EUM:DAT:SENTINEL-3:OL_2_WFR___"

_FOLDER = "olci"
_MONTH = (datetime.date(2024, 7, 1), datetime.date(2024, 7, 31))
_RECENT_DAYS = 21
_SUNDAY = 6
#: Pixels along and across the track, which are some ten kilometres here and 300 m at the service.
_SHAPE = (90, 110)
_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)

#: The bits of WQSF, of which the service has many more.
_FLAGS = {"INVALID": 1, "WATER": 2, "LAND": 4, "CLOUD": 8}


@dataclasses.dataclass(frozen=True)
class _Frame:
    """A part of an orbit: its number, hour, centre in degrees, and every how many days it comes."""

    number: int
    hour: int
    east: float
    north: float
    every_days: int


_FRAMES = (_Frame(1980, 9, 19.0, 59.0, 1), _Frame(2340, 10, 5.0, 41.0, 3))


def olci(folder: Path, today: datetime.date) -> dict[str, Any]:
    """Write the archives that are not there yet, and return what the catalogue says."""
    (folder / _FOLDER).mkdir(exist_ok=True)
    first, last = _MONTH
    recent = today - datetime.timedelta(_RECENT_DAYS)
    between = [day for day in _days(last, recent) if day.weekday() == _SUNDAY]
    # Each once: today may be any day.
    days = sorted({*_days(first, last), *between, *_days(recent, today)})
    products = [
        _product(folder, frame, day)
        for day in days
        for frame in _FRAMES
        if day.toordinal() % frame.every_days == 0
    ]
    return {
        "dataset_id": OLCI,
        "title": "OLCI Level 2 Ocean Colour Full Resolution - Sentinel-3 (invented values)",
        "abstract": (
            "Chlorophyll of the Baltic Sea, and now and then of the western Mediterranean: on each "
            f"day of July 2024 and of the last {_RECENT_DAYS} days, on Sundays between. {COMMENT}"
        ),
        "products": products,
        "bbox": [-9.0, 34.0, 40.0, 67.0],
        "period": [first.isoformat(), today.isoformat()],
        "parameters": {"sat": ["Sentinel-3A", "Sentinel-3B"], "timeliness": ["NR", "NT"]},
    }


def _days(first: datetime.date, last: datetime.date) -> Iterator[datetime.date]:
    for number in range(first.toordinal(), last.toordinal() + 1):
        yield datetime.date.fromordinal(number)


def _product(folder: Path, frame: _Frame, day: datetime.date) -> dict[str, Any]:
    letter = "AB"[day.toordinal() % 2]
    start = datetime.datetime.combine(day, datetime.time(frame.hour, 20, 12))
    end = start + datetime.timedelta(minutes=3)
    made = start + datetime.timedelta(hours=30)
    stamps = "_".join(f"{time:%Y%m%dT%H%M%S}" for time in (start, end, made))
    cycle, orbit = 100 + day.toordinal() // 27 % 100, day.toordinal() % 385 + 1
    product_id = (
        f"S3{letter}_OL_2_WFR____{stamps}_0179_{cycle}_{orbit:03}_{frame.number}_MAR_O_NT_003.SEN3"
    )
    longitudes, latitudes = _grid(frame, day)
    path = folder / _FOLDER / f"{product_id}.zip"
    if not path.exists():
        part = path.with_suffix(".part")  # an emulator may serve the folder in this moment
        part.write_bytes(_archive(product_id, start, longitudes, latitudes))
        part.replace(path)
    corners = [(0, 0), (0, -1), (-1, -1), (-1, 0), (0, 0)]
    ring = [[round(float(v[at]), 3) for v in (longitudes, latitudes)] for at in corners]
    east, north = ([point[axis] for point in ring] for axis in (0, 1))
    return {
        "file": f"{_FOLDER}/{path.name}",
        "product_id": product_id,
        "startdate": f"{start.isoformat()}.000Z",
        "enddate": f"{end.isoformat()}.000Z",
        "bbox": [min(east), min(north), max(east), max(north)],
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "metadata": {"sat": f"Sentinel-3{letter}", "timeliness": "NT"},
    }


def _grid(frame: _Frame, day: datetime.date) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return the longitudes and latitudes of a frame, which lies elsewhere on each day."""
    import numpy as np

    along, across = np.meshgrid(*(np.linspace(-1, 1, size) for size in _SHAPE), indexing="ij")
    shift = (day.toordinal() % 5 - 2) * 1.5
    latitudes = frame.north - 5.5 * along - 1.2 * across
    stretch = 1 / np.cos(np.radians(frame.north))
    longitudes = frame.east + shift + stretch * (5.5 * across - 1.6 * along)
    return longitudes.astype("f4"), latitudes.astype("f4")


def _archive(
    product_id: str,
    start: datetime.datetime,
    longitudes: npt.NDArray[Any],
    latitudes: npt.NDArray[Any],
) -> bytes:
    import numpy as np

    time = np.array([start], "datetime64[s]")
    season, _ = phases(time)
    is_water = is_baltic(longitudes, latitudes) | (latitudes < 45)
    is_cloud = waves(time, latitudes, longitudes, size=11)[0] > 0.35
    bloom = 0.5 * np.sin(np.pi * season[0]) + 0.4 * waves(time, latitudes, longitudes, size=4)[0]
    chlorophyll = np.where(is_water & ~is_cloud, bloom, np.nan)
    flags = np.where(is_water, _FLAGS["WATER"], _FLAGS["LAND"])
    flags |= np.where(is_cloud, _FLAGS["CLOUD"], 0)
    packed = {"scale_factor": np.float32(0.01), "add_offset": np.float32(-2.0)}
    stored = np.where(np.isnan(chlorophyll), 255, np.round((chlorophyll + 2) / 0.01))
    members: dict[str, _Variables] = {
        "chl_nn.nc": {
            "CHL_NN": (
                np.clip(stored, 0, 255).astype("u1"),
                {
                    "long_name": "(Neural Net) Algal pigment concentration",
                    "units": "lg(re mg.m-3)",
                    **packed,
                },
                255,
            )
        },
        "geo_coordinates.nc": {
            "latitude": (latitudes, {"units": "degrees_north"}, None),
            "longitude": (longitudes, {"units": "degrees_east"}, None),
        },
        "wqsf.nc": {
            "WQSF": (
                flags.astype("u8"),
                {
                    "long_name": "Classification, Quality and Science Flags for Marine Pixels",
                    "flag_masks": np.array([*_FLAGS.values()], "u8"),
                    "flag_meanings": " ".join(_FLAGS),
                },
                None,
            )
        },
    }
    contents = {name: _netcdf(product_id, variables) for name, variables in members.items()}
    contents["xfdumanifest.xml"] = f"<!-- {product_id}: {COMMENT} -->\n<xfdu/>\n".encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in sorted(contents.items()):
            member = zipfile.ZipInfo(f"{product_id}/{name}", _ZIP_EPOCH)
            archive.writestr(member, content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def _netcdf(product_id: str, variables: _Variables) -> bytes:
    """Return a netCDF file of variables on the rows and columns of a frame."""
    import netCDF4

    made = netCDF4.Dataset("memory", "w", memory=100_000)
    for dim, size in zip(("rows", "columns"), _SHAPE, strict=True):
        made.createDimension(dim, size)
    for name, (values, attrs, fill) in variables.items():
        variable = made.createVariable(
            name, values.dtype, ("rows", "columns"), zlib=True, fill_value=fill
        )
        variable.set_auto_maskandscale(False)
        variable.setncatts(attrs)
        variable[:] = values
    made.setncatts({"product_name": product_id, "comment": COMMENT})
    return bytes(made.close())
