"""Schemas of subset data sets, written the way the service writes them, for several tests."""

from __future__ import annotations

import calendar
from typing import Any

from hda_fsspec.paths.locations import Location
from hda_fsspec.schema.schema import Schema
from hda_fsspec.subsets.piece_grid import PieceGrid
from hda_fsspec.subsets.split_option import split_query

DATE: dict[str, Any] = {"type": "string", "format": "date-time"}
BOX: dict[str, Any] = {
    "type": "array",
    "items": [{"minimum": -180}, {"minimum": -90}, {"maximum": 180}, {"maximum": 90}],
}
MONTHS = [f"{n:02d}" for n in range(1, 13)]
MONTH_NAMES = [name.lower() for name in list(calendar.month_name)[1:]]
DAYS = [f"{n:02d}" for n in range(1, 32)]
HOURS = [f"{n:02d}:00" for n in range(24)]
YEARS = [str(n) for n in range(1940, 2031)]
LEVELS = ["1", "10", "100", "250", "500", "850", "925", "1000"]


def one_of(*values: str) -> dict[str, Any]:
    """Write a choice of one value."""
    return {"type": "string", "oneOf": [{"const": v, "title": v} for v in values]}


def many_of(*values: str) -> dict[str, Any]:
    """Write a list with choices."""
    return {"type": "array", "items": {"oneOf": [{"const": v, "title": v} for v in values]}}


def dated(first: str, last: str) -> dict[str, Any]:
    """Write the two ends of a range, with where the data set begins and ends."""
    return {
        "startdate": DATE | {"minimum": first, "maximum": last, "default": first},
        "enddate": DATE | {"minimum": first, "maximum": last, "default": last},
    }


def schema(dataset_id: str, properties: dict[str, Any]) -> Schema:
    """Write a schema."""
    document = {"type": "object", "properties": properties, "required": ["dataset_id"]}
    return Schema.from_queryable(dataset_id, document)


def _formats() -> dict[str, Any]:
    return {
        "data_format": one_of("grib", "netcdf"),
        "download_format": one_of("unarchived", "zip"),
        "bbox": BOX,
    }


ERA5 = schema(
    "EO:ECMWF:DAT:REANALYSIS_ERA5_SINGLE_LEVELS",
    {
        "product_type": many_of("reanalysis", "ensemble_mean"),
        "variable": many_of("2m_temperature", "total_precipitation", "mean_sea_level_pressure"),
        "year": many_of(*YEARS),
        "month": many_of(*MONTHS),
        "day": many_of(*DAYS),
        "time": many_of(*HOURS),
        **_formats(),
    },
)
LEVELED = schema(
    "EO:ECMWF:DAT:REANALYSIS_ERA5_PRESSURE_LEVELS",
    {
        "variable": many_of("temperature", "geopotential"),
        "pressure_level": many_of(*LEVELS),
        "year": many_of(*YEARS),
        "month": many_of(*MONTHS),
        "day": many_of(*DAYS),
        "time": many_of(*HOURS),
        **_formats(),
    },
)
#: One year in a request, and a statistic that is made of hours.
STATISTICS = schema(
    "EO:ECMWF:DAT:DERIVED_ERA5_SINGLE_LEVELS_DAILY_STATISTICS",
    {
        "variable": many_of("2m_temperature", "total_precipitation"),
        "year": one_of(*YEARS),
        "month": many_of(*MONTHS),
        "day": many_of(*DAYS),
        "daily_statistic": one_of("daily_mean", "daily_sum"),
        "frequency": one_of("1_hourly", "6_hourly"),
        "bbox": BOX,
    },
)
#: One month in a request.
LAND = schema(
    "EO:ECMWF:DAT:REANALYSIS_ERA5_LAND",
    {
        "variable": many_of("2m_temperature", "snow_depth"),
        "year": one_of(*YEARS),
        "month": one_of(*MONTHS),
        "day": many_of(*DAYS),
        "time": many_of(*HOURS),
        "bbox": BOX,
    },
)
MEANS = schema(
    "EO:ECMWF:DAT:REANALYSIS_ERA5_SINGLE_LEVELS_MONTHLY_MEANS",
    {
        "product_type": many_of("monthly_averaged_reanalysis"),
        "variable": many_of("2m_temperature", "snow_albedo"),
        "year": many_of(*YEARS),
        "month": many_of(*MONTHS),
        "time": many_of(*HOURS),
        **_formats(),
    },
)
FLOODS = schema(
    "EO:ECMWF:DAT:CEMS_GLOFAS_HISTORICAL",
    {
        "variable": many_of("river_discharge_in_the_last_24_hours"),
        "hyear": many_of(*YEARS),
        "hmonth": many_of(*MONTH_NAMES),
        "hday": many_of(*DAYS),
        "bbox": BOX,
    },
)
YEARLY = schema(
    "EO:ECMWF:DAT:INSITU_GLACIERS_EXTENT", {"variable": many_of("area"), "year": many_of(*YEARS)}
)
HYDROLOGICAL = schema(
    "EO:ECMWF:DAT:DERIVED_GRIDDED_GLACIER_MASS_CHANGE",
    {"variable": many_of("change"), "hydrological_year": many_of("2001_02", "2002_03")},
)
PERIODS = schema(
    "EO:ECMWF:DAT:PROJECTIONS_CMIP5_DAILY_SINGLE_LEVELS",
    {
        "variable": many_of("2m_temperature", "mean_precipitation_flux"),
        "model": one_of("ipsl_cm5a_lr"),
        "period": many_of("19500101-19991231", "20000101-20051231"),
    },
)
CAMS = schema(
    "EO:ECMWF:DAT:CAMS_GLOBAL_REANALYSIS_EAC4",
    {
        "variable": many_of("carbon_monoxide", "ozone"),
        "time": many_of(*HOURS[::3]),
        **dated("2003-01-01", "2024-12-31"),
        **_formats(),
    },
)
MARINE_ID = (
    "EO:MO:DAT:WIND_GLO_PHY_L4_NRT_012_004:cmems_obs-wind_glo_phy_nrt_l4_0.125deg_PT1H_202207"
)
DAILY_ID = "EO:MO:DAT:MULTIOBS:cmems_obs-mob_glo_phy-cur_my_0.25deg_P1D-m_202411"
MONTHLY_ID = "EO:MO:DAT:WIND_CLIMATE:cmems_obs-wind_glo_phy_my_l4_P1M_202411"


def marine(
    dataset_id: str = MARINE_ID, first: str = "1993-01-01", last: str = "2024-10-12"
) -> Schema:
    """Write the schema of a marine data set."""
    return schema(
        dataset_id,
        {
            "variables": many_of("eastward_wind", "northward_wind"),
            "minimum_depth": {"type": "number"},
            "maximum_depth": {"type": "number"},
            "bbox": BOX,
            **dated(first, last),
        },
    )


def cut(told: Schema, split: object, size: int | None = None, **query: Any) -> PieceGrid:
    """Cut a query of a data set."""
    return split_query(Location(told.dataset_id, query), told, split, size=size)
