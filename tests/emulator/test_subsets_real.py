"""Subset data sets of the emulator over real files: pieces join to what the files hold."""

from __future__ import annotations

import calendar
import dataclasses
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from subset_sources import Plain, served

from hda_fsspec.emulator import DatasetEntry, ecmwf_subset, marine_subset

NETCDF = {"data_format": "netcdf"}


@dataclasses.dataclass(frozen=True)
class Real:
    """A real file, the data set that is cut from it, and requests which together ask for all."""

    file: str
    manner: str
    dataset_id: str
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    parts: tuple[dict[str, Any], ...] = ()

    def entry(self, shared_data: Path) -> DatasetEntry:
        """Return the data set."""
        make = marine_subset if self.manner == "marine" else ecmwf_subset
        return make(self.dataset_id, shared_data / self.file, **self.settings)


def months(year: int, first: int, last: int, step: int = 1) -> Iterator[dict[str, str]]:
    """Return the ends of months, or of several together, up to a millisecond before the next."""
    for month in range(first, last + 1, step):
        end = month + step - 1
        days = calendar.monthrange(year, end)[1]
        yield {
            "startdate": f"{year}-{month:02}-01T00:00:00.000Z",
            "enddate": f"{year}-{end:02}-{days}T23:59:59.999Z",
        }


ALL_MONTHS = [f"{n:02}" for n in range(1, 13)]
RANGE = {"date_keys": ("startdate", "enddate")}
REAL = [
    Real(
        "cmems/duacs-med-adt-2005q2/source/dt_med_allsat_phy_l4_2005T2.nc",
        "marine",
        "EO:MO:DAT:SEALEVEL_MED_PHY_L4:cmems_obs-sl_med_phy-ssh_my_0.125deg_P1D_200501",
        parts=tuple(months(2005, 4, 6)),
    ),
    Real(
        "cams/eac4-co-2022/source/data_co.nc",
        "ecmwf",
        "EO:ECMWF:DAT:CAMS_GLOBAL_REANALYSIS_EAC4",
        {"variables": {"carbon_monoxide": "co"}, **RANGE},
        tuple({**NETCDF, **ends} for ends in months(2022, 1, 12, 4)),
    ),
    Real(
        "c3s/era5land_stl_alaska_monthly_1999-2023.nc",
        "ecmwf",
        "EO:ECMWF:DAT:REANALYSIS_ERA5_LAND_MONTHLY_MEANS",
        {"stream": "moda"},
        tuple(
            {**NETCDF, "year": [str(n) for n in range(y, y + 5)], "month": ALL_MONTHS}
            for y in range(1999, 2024, 5)
        ),
    ),
    Real(
        "c3s/era5_pl_uv_etna_20250602-04_hourly.nc",
        "ecmwf",
        "EO:ECMWF:DAT:REANALYSIS_ERA5_PRESSURE_LEVELS",
        {},
        tuple(
            {**NETCDF, "year": ["2025"], "month": ["06"], "day": [d], "pressure_level": [p]}
            for p in ("1000", "800")
            for d in ("02", "03", "04")
        ),
    ),
    Real(
        "c3s/psl_ERA5_mon_194001-202212.nc",
        "ecmwf",
        "EO:ECMWF:DAT:MULTI_ORIGIN_C3S_ATLAS",
        {"formats": ("netcdf",)},
        tuple(
            {"year": [str(n) for n in range(y, min(y + 20, 2023))], "month": ALL_MONTHS}
            for y in range(1940, 2023, 20)
        ),
    ),
]


def as_delivered(ds: xr.Dataset) -> xr.Dataset:
    """Return a real file as the data stores lay files out."""
    new = {"lat": "latitude", "lon": "longitude", "time": "valid_time"}
    ds = ds.rename({old: name for old, name in new.items() if old in ds.dims})
    ds = ds.drop_vars([name for name in ds if {"latitude", "longitude"} - set(ds[name].dims)])
    return ds if ds.latitude[0] > ds.latitude[-1] else ds.isel(latitude=slice(None, None, -1))


def fetch(client: Plain, real: Real) -> list[xr.Dataset]:
    """Return what each part of the whole delivers."""
    return [client.get(real.dataset_id, **part).open() for part in real.parts]


@pytest.mark.slow
@pytest.mark.parametrize("real", REAL, ids=lambda real: Path(real.file).stem[:12])
def test_parts_join_to_the_source(real: Real, shared_data: Path) -> None:
    """Every step of a real file comes once, with the values, the names and the units it has."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "variable 'psl' has multiple fill values")
        with xr.open_dataset(shared_data / real.file) as ds:
            wanted = ds.load()
    if real.manner == "ecmwf":
        wanted = as_delivered(wanted)
    with served(real.entry(shared_data)) as client:
        found = xr.combine_by_coords(fetch(client, real), combine_attrs="override")
        assert isinstance(found, xr.Dataset)
    if "pressure_level" in found.dims:
        found = found.sel(pressure_level=wanted.pressure_level)
    for name in (*wanted.dims, *wanted.data_vars):
        assert found[name].dtype == wanted[name].dtype
        assert found[name].attrs.get("units") == wanted[name].attrs.get("units")
    found = found.sel(latitude=wanted.latitude)
    xr.testing.assert_equal(found, wanted.transpose(*found.dims))
    if "GRIB_centre" in wanted.attrs or real.manner == "marine":
        for field in wanted.data_vars:
            assert found[field].attrs == wanted[field].attrs


@pytest.mark.slow
def test_a_box_of_a_real_file(shared_data: Path) -> None:
    """Boxes on the grid give the points of the file, boxes off it others, both of equal shape."""
    real = REAL[1]
    ends = {**NETCDF, **next(months(2022, 1, 1))}
    with served(real.entry(shared_data)) as client:
        on, off = (
            client.get(real.dataset_id, **ends, bbox=box).open()
            for box in ([-7.75, 36.5, 5, 50], [-7.6, 36.6, 5, 50])
        )
    with xr.open_dataset(shared_data / real.file) as ds:
        wanted = ds.co.sel(
            valid_time="2022-01", latitude=slice(50, 36.5), longitude=slice(-7.75, 5)
        )
        np.testing.assert_array_equal(on.co, wanted)
        native = ds.co.sel(valid_time="2022-01").astype(float)
        between = native.interp(latitude=off.latitude, longitude=off.longitude)
        np.testing.assert_allclose(off.co, between, rtol=1e-5)

    assert on.co.shape == (62, 1, 19, 18)
    np.testing.assert_allclose(off.latitude[[0, -1]], [49.35, 36.6])
    np.testing.assert_allclose(off.longitude[[0, -1]], [-7.6, 4.4])


def test_the_size_is_that_of_the_decoded_subset(shared_data: Path) -> None:
    """Of packed numbers the catalogue tells eight bytes each, as the real one does."""
    real = REAL[0]
    with served(real.entry(shared_data)) as client:
        feature = client.search(real.dataset_id, bbox=[0, 35, 10, 40], **real.parts[0])
        found = client.get(real.dataset_id, bbox=[0, 35, 10, 40], **real.parts[0])

    assert feature["properties"]["size"] == found.open().adt.nbytes == 30 * 40 * 80 * 8
    assert found.stored()["adt"].dtype == np.int16
