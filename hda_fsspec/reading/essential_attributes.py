"""Attributes without which the values of a variable mean something else.

One list for all that is put together: the files of an archive, the products of a stack, and a
product that is fetched again. Names are those of the CF conventions, and of GDAL for rasters.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

#: How numbers in a file become values. xarray leaves these attributes where it does not decode.
PACKING = ("scale_factor", "add_offset", "_FillValue", "missing_value", "_Unsigned")
_UNPACKED: Mapping[str, Any] = {"scale_factor": 1.0, "add_offset": 0.0, "_Unsigned": "false"}
_CASELESS = ("_Unsigned", "calendar")
_SYNONYMS = {"gregorian": "standard", "365_day": "noleap", "366_day": "all_leap"}
_FLAGS = ("flag_values", "flag_masks", "flag_meanings")
_MEANING = ("units", "calendar", "positive", "cell_methods", "grid_mapping")
_CRS_TEXTS = ("crs_wkt", "spatial_ref")
#: The parameters of a grid mapping (CF, appendix F), and what GDAL adds to them.
GRID_MAPPING = (
    *(*_CRS_TEXTS, "grid_mapping_name", "GeoTransform", "gcps", "epsg_code", "proj4", "EPSG"),
    *("azimuth_of_central_line", "earth_radius", "false_easting", "false_northing"),
    *("fixed_angle_axis", "geographic_crs_name", "grid_north_pole_latitude"),
    *("grid_north_pole_longitude", "horizontal_datum_name", "inverse_flattening"),
    *("latitude_of_projection_origin", "latitude_of_standard_parallel"),
    *("longitude_of_central_meridian", "longitude_of_prime_meridian"),
    *("longitude_of_projection_origin", "north_pole_grid_longitude"),
    *("perspective_point_height", "prime_meridian_name", "projected_crs_name"),
    *("reference_ellipsoid_name", "scale_factor_at_central_meridian"),
    *("scale_factor_at_projection_origin", "semi_major_axis", "semi_minor_axis"),
    *("standard_parallel", "straight_vertical_longitude_from_pole", "sweep_angle_axis"),
    *("towgs84", "utm_zone_number"),
)

#: All of them. What one of two variables does not say is not compared, but for packing.
MEANING_ATTRS = (*_MEANING, *_FLAGS, *GRID_MAPPING, *PACKING)
_RANKS = {name: rank for rank, name in enumerate(MEANING_ATTRS)}


def meaning_of(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes that carry meaning."""
    return {name: value for name, value in attrs.items() if name in _RANKS}


def different_meaning(one: Mapping[str, Any], other: Mapping[str, Any]) -> str | None:
    """Return the first attribute in which the meaning of two variables differs; None if in none.

    An attribute that only one of them has is no difference, unless it tells how numbers are
    packed: numbers that are not decoded are scaled, or missing, by just those attributes.
    """
    for name in sorted(_RANKS.keys() & (one.keys() | other.keys()), key=_RANKS.__getitem__):
        if name in PACKING:
            plain = _UNPACKED.get(name)
            here, there = one.get(name, plain), other.get(name, plain)
        elif name in one and name in other:
            here, there = one[name], other[name]
        else:
            continue
        if not _is_same(name, here, there):
            return name
    return None


def _is_same(name: str, here: Any, there: Any) -> bool:
    if here is None or there is None:
        return here is there
    if name in _CASELESS:
        return (
            len({_SYNONYMS.get(text, text) for text in (str(here).lower(), str(there).lower())})
            == 1
        )
    if isinstance(here, str) or isinstance(there, str):
        here, there = (" ".join(map(str, v)) if isinstance(v, list) else v for v in (here, there))
        return bool(np.array_equal(here, there)) or _is_same_text(name, str(here), str(there))
    try:
        return bool(np.array_equal(np.asarray(here, "f8"), np.asarray(there, "f8"), equal_nan=True))
    except (TypeError, ValueError):
        return bool(np.array_equal(here, there))


@functools.lru_cache(maxsize=64)
def _is_same_text(name: str, here: str, there: str) -> bool:
    """Whether two texts say the same: numbers with other digits, or a reference system anew."""
    if here.split() == there.split():
        return True
    if name == "GeoTransform":
        return _numbers(here) is not None and _numbers(here) == _numbers(there)
    return name in _CRS_TEXTS and _is_same_crs(here, there)


def _numbers(text: str) -> list[float] | None:
    try:
        return [float(number) for number in text.split()]
    except ValueError:
        return None


def _is_same_crs(here: str, there: str) -> bool:
    try:
        import pyproj
    except ImportError:
        return False
    try:
        return bool(pyproj.CRS.from_user_input(here) == pyproj.CRS.from_user_input(there))
    except pyproj.exceptions.CRSError:
        return False
