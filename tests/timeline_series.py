"""Real series of products: their names, and the times that stand in them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from hda_fsspec import timeline
from hda_fsspec.emulator.profiles import interval, nominal_times

Array = np.ndarray[Any, Any]
MILLISECOND = np.timedelta64(1, "ms")


@dataclasses.dataclass(frozen=True)
class Series:
    """Products in the order of their names, with their true times."""

    names: list[str]
    truth: list[Array]
    resolution: Any

    def catalogue(self, profile: str) -> tuple[Array, Array]:
        """Return starts and ends as a catalogue of the emulator shows them."""
        shown = [interval(profile, *nominal_times(name), seed_text=name) for name in self.names]
        first, last = zip(*shown, strict=True)
        return _catalogue_times(first), _catalogue_times(last)

    def open(self, profile: str) -> tuple[timeline.Prediction, int]:
        """Predict, ordering what is asked for; return the prediction and the headers needed."""
        return settle(*self.catalogue(profile), self.truth, tolerance=self.resolution)


def _catalogue_times(times: tuple[datetime, ...]) -> Array:
    whole = [time.replace(tzinfo=None) for time in times]
    return np.array(whole, dtype="datetime64[ms]").astype("datetime64[us]")


def settle(
    starts: Array, ends: Array, truth: list[Array], *, tolerance: Any, template: int = 0
) -> tuple[timeline.Prediction, int]:
    """Predict as a caller does: see what is asked for, until it is decided."""
    seen = [template]
    while True:
        known = [timeline.Known(piece, truth[piece]) for piece in seen]
        prediction = timeline.predict(starts, ends, known, tolerance=tolerance)
        if not prediction.ask:
            return prediction, len(seen)
        assert prediction.values is None
        assert not set(prediction.ask) & set(seen)
        seen += prediction.ask


def _resolution(variable: xr.DataArray) -> Any:
    encoding = variable.encoding
    return timeline.resolution_of(
        encoding.get("units"),
        encoding.get("dtype"),
        encoding.get("calendar"),
        values=variable.values,
    )


def _cut(source: str, daily: str, dim: str, steps: int = 1) -> Callable[[Path], Series]:
    """Return a reader of the file that daily files were cut from: far faster than all of those."""

    def read(folder: Path) -> Series:
        (path,) = folder.glob(source)
        names = sorted(each.name for each in folder.glob(daily))
        with xr.open_dataset(path, engine="netcdf4") as dataset:
            truth = dataset[dim].to_numpy().reshape(-1, steps)
            return Series(names, list(truth), _resolution(dataset[dim]))

    return read


def _files(pattern: str, dim: str) -> Callable[[Path], Series]:
    def read(folder: Path) -> Series:
        paths = sorted(folder.glob(pattern))
        truth, resolution = [], None
        for path in paths:
            with xr.open_dataset(path, engine="netcdf4", decode_timedelta=False) as dataset:
                truth.append(dataset[dim].to_numpy())
                resolution = resolution or _resolution(dataset[dim])
        return Series([path.name for path in paths], truth, resolution)

    return read


def _monthly(folder: Path) -> Series:
    with xr.open_dataset(folder / "other/ostia_monthly.nc", engine="netcdf4") as dataset:
        times = dataset["time"].to_numpy()
        names = [f"ostia_{str(time)[:7].replace('-', '')}.nc" for time in times]
        return Series(names, list(times.reshape(-1, 1)), _resolution(dataset["time"]))


def _grib(folder: Path) -> Series:
    paths = sorted(folder.glob("c3s/era5-2t-uk-2019-03-grib/daily/*.grib"))
    resolution = timeline.resolution_of("seconds since 1970-01-01", "int64", None)
    return Series([path.name for path in paths], [_grib_times(p) for p in paths], resolution)


def _grib_times(path: Path) -> Array:
    """Read reference times from the headers of GRIB 1, with no need of cfgrib."""
    data, times, at = path.read_bytes(), [], 0
    while at >= 0:
        year, month, day, hour, minute = data[at + 20 : at + 25]
        year += 100 * (data[at + 32] - 1)
        times.append(np.datetime64(datetime(year, month, day, hour, minute), "ns"))  # noqa: DTZ001
        at = data.find(b"GRIB", at + int.from_bytes(data[at + 4 : at + 7], "big"))
    return np.array(times)


SERIES: dict[str, Callable[[Path], Series]] = {
    "duacs": _cut("cmems/duacs*/source/*.nc", "cmems/duacs*/daily/*.nc", "time"),
    "sst": _cut("cmems/sst-med*/source/*.nc", "cmems/sst-med*/daily/*.nc", "time"),
    "eac4": _cut("cams/eac4-co*/source/*.nc", "cams/eac4-co*/daily/*.nc", "valid_time", 2),
    "ostia-anomaly": _files("cmems/ostia-anomaly-3days/*.nc", "time"),
    "ssm": _files("clms/ssm1km-3days/*.nc", "time"),
    "swi": _files("clms/swi1km-3days/*.nc", "time"),
    "cmip5": _files("c3s/c3s-cmip5-*/*.nc", "time"),
    "era5-grib": _grib,
    "nemo": _files("other/nemo-*/*.nc", "time_counter"),
    "nemo-centered": _files("other/nemo-*/*.nc", "time_centered"),
    "ostia-monthly": _monthly,
}
