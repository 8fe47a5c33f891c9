"""Attributes without which values mean something else: which they are, and when they differ."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from rows import for_each

from hda_fsspec.reading.essential_attributes import different_meaning, meaning_of

UTM_31 = 'PROJCS["WGS 84 / UTM zone 31N",AUTHORITY["EPSG","32631"]]'

DIFFERENT: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "units": ({"units": "K"}, {"units": "degC"}),
    "calendar": ({"calendar": "noleap"}, {"calendar": "360_day"}),
    "positive": ({"positive": "up"}, {"positive": "down"}),
    "cell_methods": ({"cell_methods": "time: mean"}, {"cell_methods": "time: maximum"}),
    "crs_wkt": ({"crs_wkt": UTM_31}, {"crs_wkt": UTM_31.replace("31", "32")}),
    "grid_mapping_name": (
        {"grid_mapping_name": "polar_stereographic"},
        {"grid_mapping_name": "geostationary"},
    ),
    "GeoTransform": ({"GeoTransform": "0 10 0 5 0 -10"}, {"GeoTransform": "10 10 0 5 0 -10"}),
    "straight_vertical_longitude_from_pole": (
        {"straight_vertical_longitude_from_pole": -45.0},
        {"straight_vertical_longitude_from_pole": 0.0},
    ),
    "standard_parallel": (
        {"standard_parallel": np.array([70.0, 71.0])},
        {"standard_parallel": np.array([70.0, 72.0])},
    ),
    "false_easting": ({"false_easting": 0.0}, {"false_easting": 500_000.0}),
    "flag_values": (
        {"flag_values": np.array([0, 1], "i1")},
        {"flag_values": np.array([0, 2], "i1")},
    ),
    "flag_masks": ({"flag_masks": np.array([1, 2])}, {"flag_masks": np.array([1, 2, 4])}),
    "flag_meanings": ({"flag_meanings": "sea land"}, {"flag_meanings": "land sea"}),
    "scale_factor": ({"scale_factor": 0.1}, {}),
    "add_offset": ({"add_offset": 273.15}, {"add_offset": 0.0}),
    "_FillValue": ({"_FillValue": -9}, {}),
    "missing_value": ({"missing_value": -9}, {"missing_value": -99}),
    "_Unsigned": ({"_Unsigned": "true"}, {}),
}

SAME: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "numbers of other types": ({"false_easting": 0}, {"false_easting": np.float32(0.0)}),
    "fill values that are no numbers": ({"_FillValue": np.nan}, {"_FillValue": np.float32(np.nan)}),
    "white space": ({"flag_meanings": "sea  land"}, {"flag_meanings": "sea land "}),
    "a transform with other digits": (
        {"GeoTransform": "0 10 0 5 0 -10"},
        {"GeoTransform": "0.0 10.0 0.0 5.0 0.0 -10.0"},
    ),
    "names of one calendar": ({"calendar": "gregorian"}, {"calendar": "Standard"}),
    "units that one does not tell": ({"units": "K"}, {}),
    "a scale that changes nothing": ({"scale_factor": 1.0, "add_offset": 0}, {}),
    "what tells of the file": ({"history": "a", "long_name": "b"}, {"history": "c"}),
}


@for_each("name", DIFFERENT)
def test_what_differs_is_named(name: str) -> None:
    """Whichever of the two is looked at first, the attribute that differs is told."""
    one, other = DIFFERENT[name]

    assert different_meaning(one, other) == name
    assert different_meaning(other, one) == name
    assert different_meaning(one, dict(one)) is None


@for_each("case", SAME)
def test_what_is_said_in_other_ways_is_the_same(case: str) -> None:
    """No product is refused for the way in which it says the same."""
    one, other = SAME[case]

    assert different_meaning(one, other) is None
    assert different_meaning(other, one) is None


def test_one_reference_system_in_two_versions_of_its_language() -> None:
    """What pyproj takes for one system is one, though the texts differ."""
    pyproj = pytest.importorskip("pyproj")
    crs = pyproj.CRS.from_epsg(32631)
    texts = [crs.to_wkt(version=version) for version in ("WKT1_GDAL", "WKT2_2019")]
    assert texts[0] != texts[1]

    assert different_meaning({"crs_wkt": texts[0]}, {"crs_wkt": texts[1]}) is None


def test_only_what_carries_meaning_is_kept() -> None:
    """Titles and histories are no meaning."""
    assert meaning_of({"units": "K", "history": "x", "title": "y"}) == {"units": "K"}
