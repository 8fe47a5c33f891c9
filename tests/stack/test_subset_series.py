"""Real series behind subset data sets: cut in any way, they are what their file holds."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import xarray as xr
from cubes import PER_FILE, Cubes, cubes_of, plain

from hda_fsspec.emulator import DatasetEntry, ecmwf_subset, marine_subset

NETCDF = {"formats": ("netcdf",)}
HOURS = ",".join(f"{hour:02}:00" for hour in range(24))


@dataclasses.dataclass(frozen=True)
class Real:
    """A real file, the data set that is cut from it, and a query of it."""

    file: str
    dataset_id: str
    query: str
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    #: What the query leaves of a file of more times.
    times: tuple[str | None, str | None] = (None, None)
    names: tuple[str, ...] = ()

    def entry(self, shared_data: Path) -> DatasetEntry:
        """Return the data set."""
        is_marine = self.dataset_id.startswith("EO:MO:")
        make = marine_subset if is_marine else ecmwf_subset
        return make(self.dataset_id, shared_data / self.file, **self.settings)

    def whole(self, shared_data: Path) -> xr.Dataset:
        """Return the file as the service lays it out."""
        with xr.open_dataset(shared_data / self.file) as ds:
            whole = ds.load()
        if self.dataset_id.startswith("EO:MO:"):
            return plain(whole)
        new = {"lat": "latitude", "lon": "longitude", "time": "valid_time"}
        whole = whole.rename({old: name for old, name in new.items() if old in whole.dims})
        flat = [name for name in whole if {"latitude", "longitude"} - set(whole[name].dims)]
        whole = whole.drop_vars(flat).sel(valid_time=slice(*self.times))
        whole = whole[list(self.names)] if self.names else whole
        return plain(whole.sortby("latitude", ascending=False))


LEVELS = Real(
    "c3s/era5_pl_uv_etna_20250602-04_hourly.nc",
    "EO:ECMWF:DAT:REANALYSIS_ERA5_PRESSURE_LEVELS",
    f"variable=u,v/pressure_level=800,1000/year=2025/month=06/day=02,03/time={HOURS}",
    times=("2025-06-02", "2025-06-03"),
)
REAL = {
    "duacs": Real(
        "cmems/duacs-med-adt-2005q2/source/dt_med_allsat_phy_l4_2005T2.nc",
        "EO:MO:DAT:SEALEVEL_MED_PHY_L4:cmems_obs-sl_med_phy-ssh_my_0.125deg_P1D_200501",
        "startdate=2005-04-01/enddate=2005-06-30/variables=adt",
    ),
    "eac4": Real(
        "cams/eac4-co-2022/source/data_co.nc",
        "EO:ECMWF:DAT:CAMS_GLOBAL_REANALYSIS_EAC4",
        "variable=carbon_monoxide/time=00:00,12:00/startdate=2022-01-01/enddate=2022-12-31",
        {"variables": {"carbon_monoxide": "co"}, "date_keys": ("startdate", "enddate")},
    ),
    "land": Real(
        "c3s/era5land_stl_alaska_monthly_1999-2023.nc",
        "EO:ECMWF:DAT:REANALYSIS_ERA5_LAND_MONTHLY_MEANS",
        "variable=t2m,stl1,stl4/startdate=1999-01/enddate=2008-12",
        {"stream": "moda"},
        ("1999", "2008"),
        ("t2m", "stl1", "stl4"),
    ),
    "levels": LEVELS,
    "a day": dataclasses.replace(
        LEVELS,
        query=LEVELS.query.replace("day=02,03", "day=03"),
        times=("2025-06-03", "2025-06-03"),
    ),
    "psl": Real(
        "c3s/psl_ERA5_mon_194001-202212.nc",
        "EO:ECMWF:DAT:MULTI_ORIGIN_C3S_ATLAS",
        "variable=psl/startdate=1940/enddate=2022",
        NETCDF,
    ),
}
#: The series, how it is cut, and how many orders open it.
CUTS: list[tuple[str, Any, int]] = [
    ("duacs", None, 1),
    ("duacs", "month", 2),
    ("eac4", "auto", 1),
    ("land", {"time": "5YS", "variable": 1}, 3),
    ("land", {"time": 60, "variable": 2}, 2),
    ("levels", "day", 1),
    ("levels", {"time": "day", "pressure_level": 1}, 1),
    ("a day", {"variable": 1, "pressure_level": 1, "time": "12h"}, 2),
    ("psl", "30YS", 1),
]


def opened(cubes: Cubes, real: Real, split: Any, **more: Any) -> xr.Dataset:
    """Open all of a series."""
    return cubes.open(f"{real.dataset_id}/{real.query}", split=split, **more)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:variable 'psl' has multiple fill values")
@pytest.mark.parametrize(("name", "split", "orders"), CUTS, ids=str)
def test_a_series_that_is_cut_is_the_file(
    shared_data: Path, tmp_path: Path, name: str, split: Any, orders: int
) -> None:
    """With Dask and without: values, coordinates, names and attributes are those of the file."""
    real = REAL[name]
    whole = real.whole(shared_data)
    with cubes_of(tmp_path, real.entry(shared_data)) as cubes:
        lazy = opened(cubes, real, split, chunks={})

        assert len(cubes.ordered) == orders
        found = plain(lazy)
        again = plain(opened(cubes, real, split))
        xr.testing.assert_identical(again, found)
    if "GRIB_centre" not in whole.attrs and not real.dataset_id.startswith("EO:MO:"):
        found, whole = found.drop_attrs(), whole.drop_attrs()
    xr.testing.assert_identical(found, whole.transpose(*found.dims))


@pytest.mark.slow
def test_one_month_of_many_years(shared_data: Path, tmp_path: Path) -> None:
    """It costs the order that opens the data set, and one more."""
    real = REAL["land"]
    with cubes_of(tmp_path, real.entry(shared_data)) as cubes:
        ds = opened(cubes, real, "month", chunks={})

        assert ds.chunksizes["valid_time"] == (1,) * 120
        july = ds.sel(valid_time="2005-07").load()

        assert len(cubes.ordered) == 2
    wanted = real.whole(shared_data).sel(valid_time="2005-07")
    xr.testing.assert_identical(july.t2m.drop_encoding(), wanted.t2m)
    assert set(july.attrs) - {*PER_FILE} == set(wanted.attrs)
