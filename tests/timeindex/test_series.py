"""Prediction of the times of real series, as each profile of the emulator catalogues them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from rows import for_each

from hda_fsspec.emulator.profiles import PROFILES, interval, nominal_times
from hda_fsspec.timeindex import catalogue_times

Array = np.ndarray[Any, Any]

#: Headers needed under exact, day, day-before, month, sensing, nominal+publication; 0 is an error.
#: A month tells nothing of the days in it, and CMIP5 has years of 365 days and of 366.
HEADERS = {
    "duacs": (1, 1, 1, 0, 2, 2),
    "sst": (1, 1, 1, 0, 2, 2),
    "eac4": (1, 1, 1, 0, 2, 2),
    "ostia-anomaly": (1, 1, 1, 0, 2, 3),
    "ssm": (1, 1, 1, 0, 2, 2),
    "swi": (1, 1, 1, 0, 3, 2),
    "cmip5": (0, 0, 0, 0, 0, 0),
    "era5-grib": (1, 1, 1, 0, 2, 2),
    "nemo": (2, 2, 2, 2, 2, 2),
    "nemo-centered": (1, 1, 1, 1, 2, 2),
    "ostia-monthly": (2, 2, 2, 2, 2, 2),
    "ostia-bounded": (2, 2, 2, 1, 2, 2),
}
COUNTS = {"duacs": 91, "sst": 92, "eac4": 365, "cmip5": 16, "era5-grib": 31, "ostia-monthly": 54}
COUNTS["ostia-bounded"] = 54


@dataclasses.dataclass(frozen=True)
class Series:
    """Products in the order of their names, with their true times, and bounds if they have some."""

    names: list[str]
    truth: list[Array]
    encoding: catalogue_times.TimeEncoding
    bounds: list[Array] | None = None

    def catalogue(self, profile: str) -> tuple[Array, Array]:
        """Return starts and ends as a catalogue of the emulator shows them."""
        shown = [interval(profile, *nominal_times(name), seed_text=name) for name in self.names]
        first, last = zip(*shown, strict=True)
        return _catalogue_times(first), _catalogue_times(last)

    def open(self, profile: str) -> tuple[catalogue_times.Prediction, int]:
        """Predict, ordering what is asked for; return the prediction and the headers needed."""
        return self.settle(profile, encoding=self.encoding)

    def settle(
        self, profile: str, *, encoding: catalogue_times.TimeEncoding, template: int = 0
    ) -> tuple[catalogue_times.Prediction, int]:
        """Predict as a caller does: see what is asked for, until it is decided."""
        seen = [template]
        while True:
            known = [self.known(piece, encoding) for piece in seen]
            prediction = catalogue_times.predict(*self.catalogue(profile), known)
            if not prediction.ask:
                return prediction, len(seen)
            assert prediction.values is None
            assert not set(prediction.ask) & set(seen)
            seen += prediction.ask

    def known(
        self, piece: int, encoding: catalogue_times.TimeEncoding | None = None
    ) -> catalogue_times.SeenProduct:
        """Return what the header of a product tells."""
        bounds = None if self.bounds is None else self.bounds[piece]
        return catalogue_times.SeenProduct(
            piece, self.truth[piece], bounds, encoding or self.encoding
        )


def _catalogue_times(times: tuple[datetime, ...]) -> Array:
    whole = [time.replace(tzinfo=None) for time in times]
    return np.array(whole, dtype="datetime64[ms]").astype("datetime64[us]")


def _encoding(variable: xr.DataArray) -> catalogue_times.TimeEncoding:
    return catalogue_times.TimeEncoding.of(variable.encoding, variable.encoding.get("dtype"))


def _cut(source: str, daily: str, dim: str, steps: int = 1) -> Callable[[Path], Series]:
    """Return a reader of the file that daily files were cut from: far faster than all of those."""

    def read(folder: Path) -> Series:
        (path,) = folder.glob(source)
        names = sorted(each.name for each in folder.glob(daily))
        with xr.open_dataset(path, engine="netcdf4") as dataset:
            truth = dataset[dim].to_numpy().reshape(-1, steps)
            return Series(names, list(truth), _encoding(dataset[dim]))

    return read


def _files(pattern: str, dim: str) -> Callable[[Path], Series]:
    def read(folder: Path) -> Series:
        paths = sorted(folder.glob(pattern))
        truth, encoding = [], catalogue_times.TimeEncoding()
        for path in paths:
            with xr.open_dataset(path, engine="netcdf4", decode_timedelta=False) as dataset:
                truth.append(dataset[dim].to_numpy())
                encoding = _encoding(dataset[dim])
        return Series([path.name for path in paths], truth, encoding)

    return read


def _monthly(folder: Path, *, bounded: bool = False) -> Series:
    with xr.open_dataset(folder / "other/ostia_monthly.nc", engine="netcdf4") as dataset:
        times = dataset["time"].to_numpy()
        names = [f"ostia_{str(time)[:7].replace('-', '')}.nc" for time in times]
        bounds = list(dataset["time_bnds"].to_numpy()[:, None]) if bounded else None
        return Series(names, list(times.reshape(-1, 1)), _encoding(dataset["time"]), bounds)


def _grib(folder: Path) -> Series:
    paths = sorted(folder.glob("c3s/era5-2t-uk-2019-03-grib/daily/*.grib"))
    encoding = catalogue_times.TimeEncoding("seconds since 1970-01-01", None, np.dtype("int64"))
    return Series([path.name for path in paths], [_grib_times(p) for p in paths], encoding)


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
    "ostia-bounded": functools.partial(_monthly, bounded=True),
}


@functools.cache
def _series(name: str, folder: Path) -> Series:
    return SERIES[name](folder)


@pytest.mark.slow
@for_each("profile", PROFILES)
@for_each("name", SERIES)
def test_times_are_true_or_refused(name: str, profile: str, shared_data: Path) -> None:
    """The predicted times are those in all files, bit by bit, or there is an error."""
    series = _series(name, shared_data)
    expected = dict(zip(PROFILES, HEADERS[name], strict=True))[profile]

    if expected == 0:
        with pytest.raises(catalogue_times.UnpredictableError):
            series.open(profile)
        return
    prediction, headers = series.open(profile)

    truth = np.concatenate(series.truth)
    assert prediction.values is not None
    assert prediction.values.dtype == truth.dtype
    np.testing.assert_array_equal(prediction.values, truth)
    assert prediction.lengths.tolist() == [len(values) for values in series.truth]
    assert headers == expected


@pytest.mark.slow
@for_each("name", SERIES)
def test_any_template_and_encoding_is_safe(name: str, shared_data: Path) -> None:
    """Whichever product is seen first, its encoding known or not, none is shifted."""
    series = _series(name, shared_data)
    unknown, count = catalogue_times.TimeEncoding(), len(series.names)
    ways = ((1, unknown), (count // 2, series.encoding), (count - 1, unknown))
    truth = np.concatenate(series.truth)
    # Short series in all ways under each profile, long ones in two of them, which take turns.
    most = 3 if count < 50 else 2

    for number, profile in enumerate(PROFILES):
        decided = 0
        for way in range(most):
            template, encoding = ways[(number + way) % 3]
            try:
                prediction, _ = series.settle(profile, encoding=encoding, template=template)
            except catalogue_times.UnpredictableError:
                continue
            np.testing.assert_array_equal(prediction.values, truth)
            decided += 1

        assert decided > 0 or 0 in HEADERS[name], profile


@pytest.mark.slow
@for_each("name", COUNTS)
def test_series_are_whole(name: str, shared_data: Path) -> None:
    """The tests above speak of all products of a series, and not of some."""
    series = _series(name, shared_data)

    assert len(series.names) == len(series.truth) == COUNTS[name]


@pytest.mark.slow
@for_each("name", sorted(set(SERIES) - {"cmip5"}))
def test_seeing_more_never_undoes_a_decision(name: str, shared_data: Path) -> None:
    """Headers that are read later leave a decided index as it is, and ask for nothing."""
    series = _series(name, shared_data)
    starts, ends = series.catalogue("day")
    _, needed = series.open("day")
    first, _ = series.open("day")

    for count in range(max(needed, 2), min(len(series.names), 12) + 1):
        numbers = {0, len(series.names) - 1, *range(count)}
        known = [series.known(piece) for piece in sorted(numbers)]
        try:
            later = catalogue_times.predict(starts, ends, known, asked=0)
        except catalogue_times.UnpredictableError as err:
            raise AssertionError(str(err)) from err
        if later.ask:
            assert needed > 1
            continue
        assert first.values is not None
        np.testing.assert_array_equal(later.values, first.values)


def test_cmip5_opens_once_all_headers_are_known(shared_data: Path) -> None:
    """Products of different length need no rule when every one was seen."""
    series = _series("cmip5", shared_data)
    starts, ends = series.catalogue("day")
    known = [
        catalogue_times.SeenProduct(piece, values) for piece, values in enumerate(series.truth)
    ]

    prediction = catalogue_times.predict(starts, ends, known)

    assert not prediction.ask
    assert prediction.lengths.tolist() == [len(values) for values in series.truth]
    np.testing.assert_array_equal(prediction.values, np.concatenate(series.truth))
