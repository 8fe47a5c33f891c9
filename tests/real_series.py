"""The real series of ../shared/data, and what xarray joins of their files."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import xarray as xr


@dataclasses.dataclass(frozen=True)
class Series:
    """Files of one series, how they are joined, and how many are ordered to open them.

    Of long series, some of their files: across the end of a month, or of other lengths.
    """

    pattern: str
    count: int
    first: int = 0
    dim: str = "time"
    orders: int = 1
    scan: bool = False
    engine: str = "netcdf4"


SERIES = {
    "duacs": Series("cmems/duacs-med-adt-2005q2/daily/*.nc", 6, 27),
    "sst": Series("cmems/sst-med-l3s-2022-jja/daily/*.nc", 5, 27),
    # The whole year, under each way to write times, is the matter of benchmarks/series_by_profile.
    "eac4": Series("cams/eac4-co-2022/daily/*_2022*.nc", 6, 28, "valid_time"),
    "ostia": Series("cmems/ostia-anomaly-3days/*.nc", 3),
    "ssm": Series("clms/ssm1km-3days/*.nc", 3),
    "swi": Series("clms/swi1km-3days/*.nc", 3),
    "cmip5": Series("c3s/c3s-cmip5-ec-earth-tas-day/*.nc", 4, 12, orders=4, scan=True),
    "era5-grib": Series("c3s/era5-2t-uk-2019-03-grib/daily/*.grib", 4, 27, engine="cfgrib"),
    "nemo": Series("other/nemo-360day-3months/*.nc", 3, dim="time_counter", orders=2),
}


def files_of(series: Series, folder: Path) -> list[Path]:
    """Return the files of a series, in the order of their dates."""
    found = sorted(folder.glob(series.pattern))[series.first : series.first + series.count]
    assert len(found) == series.count
    return found


def joined(files: list[Path], series: Series) -> xr.Dataset:
    """Join local files the classical way."""
    given: dict[str, Any] = {"indexpath": ""} if series.engine == "cfgrib" else {}
    parts = [
        xr.open_dataset(path, engine=series.engine, backend_kwargs=given, cache=False)
        for path in files
    ]
    try:
        return xr.concat(
            parts,
            series.dim,
            data_vars="minimal",
            coords="minimal",
            compat="override",
            join="exact",
            combine_attrs="override",
        ).load()
    finally:
        for part in parts:
            part.close()


def assert_same(found: xr.Dataset, wanted: xr.Dataset, series: Series) -> None:
    """Assert that all is identical; of global attributes some may be left out, if they differ."""
    # cfgrib writes the minute and the path of opening into "history".
    differing = {n for n in found.attrs if n != "history" and found.attrs[n] != wanted.attrs[n]}
    assert not differing or series.scan
    xr.testing.assert_identical(found.drop_attrs(deep=False), wanted.drop_attrs(deep=False))
