"""Requests of subset jobs in one form, and how such jobs are recognised."""

from __future__ import annotations

import itertools
import json
import re
from typing import Any

import pytest
import subset_schemas as s
from checkout import SHARED
from hypothesis import given
from hypothesis import strategies as st
from random_inputs import any_text
from real_schemas import in_the_real_style
from rows import for_each

from hda_fsspec.filenames import is_plain
from hda_fsspec.paths.locations import Location
from hda_fsspec.subsets.canonical_request import (
    canonical_body,
    identity,
    is_subset_job,
    may_be_subset,
)
from hda_fsspec.subsets.split_option import split_query
from hda_fsspec.subsets.split_steps import step_of_layer

RECORDED = SHARED / "recorded"
HASH = "3e39d5e237d504ee0690327cd2536605"


def request(told: Any, **query: Any) -> dict[str, Any]:
    """Return the canonical request of a query."""
    return s.cut(told, None, **query).body(0)


@for_each(
    ("one", "other"),
    [
        ({"bbox": [-170.0, 51, -130.00, 72.0]}, {"bbox": "-170,51,-130,72"}),
        ({"bbox": [0.25, 10, 1, 11.50]}, {"bbox": "2.5e-1,10,1,11.5"}),
        ({"bbox": [-0.0, 10, 1, 11]}, {"bbox": "0,10,1,11"}),
        ({"year": ["2001", "2000"]}, {"year": ["2000", "2001", "2000"]}),
        ({"variable": "2m_temperature"}, {"variable": ["2m_temperature"]}),
        ({"data_format": "netcdf"}, {}),
        ({"download_format": "unarchived"}, {"data_format": "netcdf"}),
        ({"time": ["12:00", "00:00"]}, {"time": ["00:00", "12:00"]}),
    ],
)
def test_what_is_written_in_two_ways_is_one_request(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    """The service would make two jobs of these; here they are one, with one identity."""
    base: dict[str, Any] = {"year": "2000", "month": "01"}
    first, second = (request(s.MEANS, **base | query) for query in (one, other))

    assert json.dumps(first) == json.dumps(second)
    assert identity("EO:X", first) == identity("EO:X", second)


def test_lists_are_sorted_by_what_they_mean() -> None:
    """Levels by their number, months by the calendar, names by their letters; each value once."""
    told: dict[str, Any] = {
        "pressure_level": ["1000", "10", "850"],
        "hmonth": ["june", "april", "may"],
        "variable": ["v", "u", "v"],
        "flag": [True, False],
        "odd": ["may", "b", "10", "9", "april", "a", "marine"],
    }
    named = s.schema("EO:X", {key: s.many_of(*map(str, told[key])) for key in told})

    assert canonical_body(named, told) == {
        "flag": [False, True],
        "hmonth": ["april", "may", "june"],
        "odd": ["9", "10", "april", "may", "a", "b", "marine"],
        "pressure_level": ["10", "850", "1000"],
        "variable": ["u", "v"],
    }


def test_an_order_that_means_something_is_kept() -> None:
    """A box, a point and the two spacings of a grid are no sets."""
    points = s.schema(
        "EO:X", {"bbox": s.BOX, "grid": {"type": "array", "items": {"type": "number"}}}
    )

    body = canonical_body(points, {"grid": [1.0, 0.25, 0.25], "bbox": [5, 1.0, 5.0, 2]})

    assert json.dumps(body) == '{"bbox": [5, 1, 5, 2], "grid": [1, 0.25, 0.25]}'


def test_formats_are_asked_for_where_the_query_says_none() -> None:
    """Without them the service makes GRIB. What the query says counts."""
    query: dict[str, Any] = {"year": "2000", "month": "01", "day": "01"}

    assert request(s.ERA5, **query)["data_format"] == "netcdf"
    assert request(s.ERA5, **query)["download_format"] == "unarchived"
    assert request(s.ERA5, **query, data_format="grib")["data_format"] == "grib"
    assert "data_format" not in request(s.LAND, **query)


@pytest.mark.slow
@given(any_text(max_size=300), st.lists(any_text(max_size=80), max_size=4))
def test_an_identity_is_safe_wherever_it_is_written(dataset: str, values: list[str]) -> None:
    """It is a plain name of a file, a segment of a path as it stands, and ends in a hash."""
    found = identity(dataset, {"variable": values, "startdate": "../x", "year": values[:1]})

    assert is_plain(found)
    assert len(found) < 240
    assert is_subset_job([found])
    assert Location("EO:X", None, found).path == f"hda://EO:X/{found}"


def test_an_identity_tells_what_it_is() -> None:
    """Data set, variables and time can be read of it."""
    grid = s.cut(
        s.marine(), "month", startdate="2020-01-01", enddate="2020-02-10", variables="eastward_wind"
    )
    name = "cmems-obs-wind-glo-phy-nrt-l4-0.125deg-pt1h_eastward-wind_2020-02-01-to-2020-02-10_"

    assert grid.named(1)[0].startswith(name)
    assert re.fullmatch(r"[0-9a-f]{32}", grid.named(1)[0].removeprefix(name))
    other = s.cut(
        s.marine(),
        "month",
        startdate="2020-02-01",
        enddate="2020-02-10",
        variables="northward_wind",
    )
    assert other.named(0)[0] != grid.named(1)[0]


@for_each(
    ("ids", "expected"),
    [
        ([f"derived-era5-single-levels-daily-statistics-{HASH}"], True),
        ([f"cmems_obs-wind_glo_2024-09-20-2024-10-01_{HASH.upper()}"], True),
        ([HASH], True),
        ([f"x-{HASH}", f"y-{HASH}"], False),
        ([f"x-{HASH}.nc"], False),
        ([f"x-{HASH[1:]}"], False),
        ([f"x-{HASH}{HASH}"], False),
        (["S3A_OL_2_WFR____20240501.SEN3"], False),
        ([], False),
    ],
)
def test_a_subset_job_is_recognised_by_the_answer(ids: list[str], expected: bool) -> None:
    """It is exactly one feature whose id ends in 32 hexadecimal digits."""
    assert is_subset_job(ids) is expected


def test_families_are_a_first_guess() -> None:
    """Before any answer the family tells what to expect."""
    assert may_be_subset("EO:ECMWF:DAT:CEMS_GLOFAS_HISTORICAL")
    assert may_be_subset(s.MARINE_ID)
    assert not may_be_subset("EO:EUM:DAT:SENTINEL-3:OL_2_WFR___")
    assert not may_be_subset("EO:EEA:DAT:CLMS_HRVPP_ST")


@for_each(
    ("layer", "step"),
    [
        ("cmems_mod_arc_bgc_anfc_ecosmo_P1D-m_202105", (1, "day")),
        ("cmems_obs-wind_glo_phy_my_l4_P1M_202411", (1, "month")),
        ("cmems_obs-wind_glo_phy_nrt_l4_0.125deg_PT1H_202207", (1, "hour")),
        ("x_PT6H-i_202411", (6, "hour")),
        ("x_PT15M-i_202411", (15, "minute")),
        ("x_P7D-m_202411", (7, "day")),
        ("x_P1W_202411", (7, "day")),
        ("x_P1H-i_202411", (1, "hour")),
        ("x_P1Y-m_202411--ext--part", (1, "year")),
        ("x_P0D_202411", None),
        ("cmems_obs-ins_arc_phybgcwav_mynrt_na_irr_202311--ext--latest", None),
        ("P1D", None),
    ],
)
def test_the_name_of_a_layer_tells_its_step(layer: str, step: tuple[int, str] | None) -> None:
    """Names of marine layers hold the step; those of others mean something else."""
    assert step_of_layer(f"EO:MO:DAT:PRODUCT:{layer}") == step
    assert step_of_layer(f"EO:EEA:DAT:PRODUCT:{layer}") is None


@pytest.mark.skipif(not RECORDED.is_dir(), reason="no recorded material")
def test_the_names_of_real_layers() -> None:
    """Nine tenths of the marine data sets tell their step."""
    names = (RECORDED / "17_EO_MO_dataset_ids_973.txt").read_text(encoding="utf-8").split()

    steps = [step_of_layer(name) for name in names]

    assert len(names) == 973
    assert sum(step is not None for step in steps) == 862
    assert sum(step == (1, "day") for step in steps) == 428
    assert sum(step == (1, "month") for step in steps) == 207


@pytest.mark.skipif(not RECORDED.is_dir(), reason="no recorded material")
@pytest.mark.parametrize(
    "name",
    [
        "EO_ECMWF_CMIP5_DAILY_multi.json",
        "EO_ECMWF_ERA5_DAILY_STATS.json",
        "EO_ECMWF_GLOFAS_HISTORICAL.json",
        "EO_MO_MULTIOBS_currents.json",
        "EO_MO_WIND_L4_NRT.json",
    ],
)
def test_recorded_requests_have_one_form(name: str) -> None:
    """A recorded request, its lists turned round, is one request and asks for the same."""
    path = RECORDED / "requests" / name
    recorded = json.loads(path.read_text(encoding="utf-8"))
    told = in_the_real_style(recorded)
    location = Location.from_request(path)
    turned = {
        key: values if key == "bbox" else values[::-1] for key, values in location.query.items()
    }

    bodies = [
        split_query(Location(location.dataset, query), told, None).body(0)
        for query in (location.query, turned)
    ]

    assert json.dumps(bodies[0]) == json.dumps(bodies[1])
    for key in set(recorded) - {"dataset_id", "itemsPerPage", "startIndex", "day", "hday"}:
        given, sent = recorded[key], bodies[0][key]
        same = given == sent or (key != "bbox" and sorted(given) == sent)
        assert same, (key, given, sent)
    days = [key for key in ("day", "hday") if key in recorded]
    assert all(set(recorded[key]) <= set(bodies[0][key]) for key in days)
    assert len({json.dumps(body) for body in itertools.chain(bodies)}) == 1


def test_an_identity_never_changes() -> None:
    """What was downloaded under it is found again by it, after years."""
    body = {"variable": ["ozone"], "year": ["2003"]}

    found = identity("EO:ECMWF:DAT:EAC4", body)

    assert found == "eac4_ozone_2003_b38b4da693974f2eaee1225378b68555"
