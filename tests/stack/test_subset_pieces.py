"""Pieces differ as the service makes them: each is checked when it is read, and none is misread."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from cubes import cubes_of, plain
from rows import for_each
from subset_sources import ERA5, MARINE, SMALL, write_era5, write_marine

from hda_fsspec.emulator import Fault, ecmwf_subset, marine_subset
from hda_fsspec.errors import ProductMismatchError

NAMES = {"2m_temperature": "t2m", "total_precipitation": "tp"}
QUERY = (
    f"{ERA5}/variable=2m_temperature,total_precipitation/startdate=2024-02-01/enddate=2024-03-31"
    "/time=00:00,06:00,12:00,18:00"
)


@pytest.mark.slow
def test_a_range_without_a_step_is_empty(tmp_path: Path) -> None:
    """The service delivers the nearest time: it is never shown as another, and then left out."""
    days = np.arange("2024-01-01", "2024-01-21", dtype="datetime64[D]")
    source = write_marine(tmp_path / "marine.nc", times=np.delete(days, slice(10, 12)))
    with cubes_of(tmp_path, marine_subset(MARINE, source)) as cubes:
        query = f"{MARINE}/startdate=2024-01-01/enddate=2024-01-20"
        ds = cubes.open(query, split="2D")
        with pytest.raises(ProductMismatchError, match=r"2024-01-11T.*no data.*nearest.*anew"):
            ds.adt.sel(time="2024-01-11").load()
        again = plain(cubes.open(query, split="2D"))

        assert len(ds.time) == 20
        with xr.open_dataset(source) as whole:
            xr.testing.assert_identical(again, plain(whole))


@pytest.mark.slow
@for_each(
    ("split", "versions"),
    [("month", "file"), ("month", "zip"), ({"time": "month", "variable": 1}, "file")],
)
def test_containers_differ_from_piece_to_piece(tmp_path: Path, split: Any, versions: str) -> None:
    """A ZIP of variables of two kinds of steps, or of preliminary data, is one piece."""
    source = write_era5(tmp_path / "era5.nc", names=("t2m", "tp"), **SMALL)
    entry = ecmwf_subset(
        ERA5,
        source,
        variables=NAMES,
        now="2024-04-30T00:00:00Z",
        preliminary=45,
        mixed_versions=versions,
    )
    with cubes_of(tmp_path, entry) as cubes, xr.open_dataset(source) as whole:
        ds = plain(cubes.open(QUERY, split=split, chunks={}))

        is_late = whole.valid_time > np.datetime64("2024-03-16T00:00")
        assert ds.expver.values.tolist() == np.where(is_late, "0005", "0001").tolist()
        xr.testing.assert_identical(ds.drop_vars("expver"), plain(whole.drop_vars("expver")))


@pytest.mark.slow
def test_grib_has_the_names_of_netcdf(tmp_path: Path) -> None:
    """Whoever asks for GRIB gets the dimensions that the data stores' netCDF has."""
    pytest.importorskip("cfgrib")
    source = write_era5(
        tmp_path / "era5.nc", names=("t2m",), expver=False, levels=[850.0, 500.0], **SMALL
    )
    entry = ecmwf_subset(ERA5, source, variables={"2m_temperature": "t2m"})
    query = f"{ERA5}/variable=2m_temperature/startdate=2024-02-26/enddate=2024-03-04/time=00:00"
    with cubes_of(tmp_path, entry) as cubes:
        grib, netcdf = (
            plain(cubes.open(f"{query}/data_format={name}", split="month"))
            for name in ("grib", "netcdf")
        )

    assert grib.sizes == netcdf.sizes
    assert grib.coords.keys() == netcdf.coords.keys()
    for name in netcdf.coords:
        assert np.array_equal(grib[name], netcdf[name])
    np.testing.assert_allclose(grib.t2m, netcdf.t2m, atol=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("first", [True, False], ids=["first", "second"])
def test_versions_in_some_pieces_only(tmp_path: Path, first: bool) -> None:
    """What tells preliminary data is missing where a piece tells none; all else is read."""
    with_them, without = tmp_path / "with", tmp_path / "without"
    for folder in (with_them, without):
        folder.mkdir()
    sources = [
        write_era5(folder / "era5.nc", names=("t2m",), expver=folder is with_them, **SMALL)
        for folder in (with_them, without)
    ]
    one, other = sources if first else sources[::-1]
    query = QUERY.replace(",total_precipitation", "")
    with cubes_of(tmp_path, ecmwf_subset(ERA5, one, variables={"2m_temperature": "t2m"})) as cubes:
        ds = cubes.open(query, split="month")
        ds.t2m[0].load()
        entry = next(iter(cubes.emulator.catalogue))
        other.replace(one)
        vars(entry).pop("file")

        loaded = plain(ds)

    assert ("expver" in loaded) == first
    if first:
        assert loaded.expver.values[:116].tolist() == ["0001"] * 116
        assert set(map(str, loaded.expver.values[116:])) == {"nan"}
    with xr.open_dataset(one) as whole:
        assert np.array_equal(loaded.t2m, whole.t2m)


@pytest.mark.slow
@pytest.mark.parametrize("split", ["auto", "month"])
def test_a_range_without_any_step(tmp_path: Path, split: str) -> None:
    """Days without a monthly mean are no data set, though the service delivers a month."""
    months = np.arange("2020-01", "2023-01", dtype="datetime64[M]")
    dataset_id = MARINE.replace("P1D", "P1M")
    source = write_marine(tmp_path / "marine.nc", times=months)
    with cubes_of(tmp_path, marine_subset(dataset_id, source)) as cubes:
        with pytest.raises(FileNotFoundError, match=r"no time of .* nearest"):
            cubes.open(f"{dataset_id}/startdate=2021-03-20/enddate=2021-03-25", split=split)

        ds = cubes.open(f"{dataset_id}/startdate=2021-03-20/enddate=2021-06-25", split=split)
        assert ds.load().time.dt.month.values.tolist() == [4, 5, 6]


@pytest.mark.slow
@for_each(("split", "more"), [(None, {}), ("month", {}), ("month", {"scan": True})])
def test_fields_of_eight_days(tmp_path: Path, split: Any, more: dict[str, Any]) -> None:
    """Not all days that a request names are there: those that are there tell which."""
    days = np.arange("2024-01-01", "2024-05-31", 8, dtype="datetime64[D]")
    dataset_id = "EO:ECMWF:DAT:SATELLITE_LAI_FAPAR"
    source = write_era5(tmp_path / "lai.nc", times=days, expver=False, names=("lai",), **SMALL)
    entry = ecmwf_subset(dataset_id, source, lists=("year", "month", "day"))
    with cubes_of(tmp_path, entry) as cubes, xr.open_dataset(source) as whole:
        query = f"{dataset_id}/variable=lai/startdate=2024-01-01/enddate=2024-05-31"
        xr.testing.assert_identical(plain(cubes.open(query, split=split, **more)), plain(whole))


@pytest.mark.slow
def test_a_service_without_a_schema(tmp_path: Path) -> None:
    """Where the schema cannot be had a query is cut all the same, by what its keys are called."""
    source = write_era5(tmp_path / "era5.nc", names=("t2m", "tp"), expver=False, **SMALL)
    with cubes_of(tmp_path, ecmwf_subset(ERA5, source, variables=NAMES)) as cubes:
        cubes.emulator.fault(Fault("status", path="dataaccess/queryable", status=404, times=99))
        query = (
            f"{ERA5}/variable=2m_temperature/year=2024/month=02,03/day=01,02/time=00:00,06:00"
            "/data_format=netcdf"
        )
        ds = cubes.open(query, split="month")

        assert ds.load().sizes["valid_time"] == 8
        assert len(cubes.ordered) == 2
