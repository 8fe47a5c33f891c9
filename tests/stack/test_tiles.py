"""Tiles are told by codes in ids, else by boxes; where they lie is told by their codes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from rows import for_each

from hda_fsspec.errors import ProductMismatchError
from hda_fsspec.records import Product
from hda_fsspec.stack.tile_codes import corners_of, predict_firsts, probe_of
from hda_fsspec.stack.tiles import find_tiles, refuse_several_zones

DAY = "2024-05-01T00:00:00.000Z"


def products(names: Sequence[str], boxes: Sequence[str] = ()) -> list[Product]:
    """Return products of one time."""
    filled: Sequence[str | None] = boxes or [None] * len(names)
    return [
        Product("D", name, startdate=DAY, enddate=DAY, bbox=box)
        for name, box in zip(names, filled, strict=True)
    ]


@for_each(
    ("names", "tiles"),
    [
        (["ST_2024_S2_T32TPS-010m_V101_PPI", "ST_2024_S2_T32TQS-010m_V101_PPI"], "T32TPS T32TQS"),
        (["S2A_29RKH_20200219_0_L2A", "S2A_29RLH_20200219_0_L2A"], "29RKH 29RLH"),
        (["S2A_MSIL1C_20180101T105441_N0206_R051_T31TDH_20180101T124911.SAFE"], "T31TDH"),
        (
            [
                "Copernicus_DSM_COG_10_N00_00_E006_00_DEM",
                "Copernicus_DSM_COG_30_S90_00_W164_00_DEM",
            ],
            "N00_00_E006_00 S90_00_W164_00",
        ),
        (["CLMS_HRLVLCC_GRA_S2018_R10m_E43N30_03035_V01_R00.zip"], "E43N30"),
        (
            ["CLMS_CLCPLUS_RAS_S2018_R10m_E3200N2000_03035", "CLMS_x_E3300N2000"],
            "E3200N2000 E3300N2000",
        ),
        (["Hansen_GFC_10N_020E.tif", "Hansen_GFC_20N_020E.tif"], "10N_020E 20N_020E"),
        (["occurrence_0E_10N.tif", "occurrence_10E_10N.tif"], "0E_10N 10E_10N"),
        (["c_LC100_X18Y02.nc", "c_LC100_X20Y02.nc"], "X18Y02 X20Y02"),
        (["MOD_h18v04.hdf", "MOD_h19v04.hdf"], "h18v04 h19v04"),
        # A code of one tile and no other; a polarisation, an orbit and a pixel are no codes.
        (["S1B_IW_GRDH_1SDV_20210401T052623_026269_032297_ECC8"], ""),
        (["S3A_OL_2_WFR____20240501T101112_0179_112_065_2160_MAR_O_NT_003.SEN3"], ""),
        (["ST_2024_T32TPS_PPI", "ST_2024_PPI"], ""),
        (["sst_20240501_GLO-010m.nc"], ""),
        # The 32nd zone has no column D.
        (["ST_T32TDS_PPI"], ""),
    ],
)
def test_codes(names: list[str], tiles: str) -> None:
    """They are taken as ids write them; what is no code in each of the ids is none."""
    assert [tile.name for tile in find_tiles(products(names))] == tiles.split()


def test_boxes_tell_what_codes_do_not() -> None:
    """A word that is another one in each box names the tile; swaths have no such word."""
    boxes = ["16,48,17,49", "15,47,16,48", "16,48,17.001,49", "15,47,16,48"]
    names = ["UA_WIEN_PPI.tif", "UA_GRAZ_PPI.tif", "UA_WIEN_QFLAG.tif", "UA_GRAZ_QFLAG.tif"]

    graz, wien = find_tiles(products(names, boxes))

    assert (graz.name, wien.name) == ("GRAZ", "WIEN")
    assert [p.product_id for p in wien.products] == [names[0], names[2]]
    assert wien.kinds == {"PPI": [0], "QFLAG": [1]}
    swaths = [
        Product("D", f"S3A_{n}T1.SEN3", startdate=f"2024-05-0{n}", bbox=f"{n},0,{n + 9},9")
        for n in range(1, 5)
    ]
    assert find_tiles(swaths) == []
    assert [tile.name for tile in find_tiles(swaths, need_names=False)] == [
        f"place {n}" for n in range(1, 5)
    ]
    assert find_tiles(products(["a", "b"], ["0,0,1,1"] * 2), need_names=False) == []


def test_zones() -> None:
    """Names of the military grid tell zone and hemisphere; those of one are let pass."""
    north, south = (
        find_tiles(products([f"a_{name}_1" for name in names]))
        for names in (("T32TPS", "T32UPA"), ("T32TPS", "T32HPS"))
    )

    refuse_several_zones("hda://D", north)
    with pytest.raises(ProductMismatchError, match=r"T32HPS lies in zone 32S.*T32TPS in zone 32N"):
        refuse_several_zones("hda://D", south)


@for_each(
    ("name", "corner"),
    [
        # The upper left corners of products of Sentinel-2.
        ("T29RKH", (199_980, 2_800_020)),
        ("33SVB", (399_960, 4_200_000)),
        ("T31TCJ", (300_000, 4_900_020)),
        ("N00_00_E006_00", (6, 0)),
        ("S90_00_W164_00", (-164, -90)),
        ("E43N30", (43, 30)),
        ("10N_020E", (20, 10)),
    ],
)
def test_corners(name: str, corner: tuple[float, float]) -> None:
    """They are those of real products."""
    found = corners_of([name])

    assert found is not None
    np.testing.assert_array_equal(found[0][0], corner)
    assert corners_of([name, "WIEN"]) is None


@pytest.mark.parametrize(
    ("names", "first", "step", "count", "unit"),
    [
        (["E43N30", "E45N31", "E44N33"], (4_300_005.0, 3_099_995.0), 10.0, 10_000, 100_000.0),
        (["N00E006", "N02E006", "N01E008"], (6.0, 1.0), 1 / 3600, 3600, 1.0),
    ],
)
def test_where_other_tiles_lie(
    names: list[str], first: tuple[float, float], step: float, count: int, unit: float
) -> None:
    """Two tell all others, unless they do not lie where their codes say."""
    told = corners_of(names)
    assert told is not None
    corners, is_metric = told
    probe = probe_of(corners)
    away = (corners - corners[0]) * unit

    def grid(
        number: int, shift: float = 0.0
    ) -> tuple[tuple[float, float, int], tuple[float, float, int]]:
        x, y = np.array(first) + away[number]
        return (float(x) + shift, step, count), (float(y), -step, count)

    found = predict_firsts(corners, is_metric, [0, probe], [grid(0), grid(probe)])

    assert probe > 0
    assert found is not None
    np.testing.assert_allclose(found, np.array(first) + away, rtol=1e-12)
    for shift in (0.5 * step, 3 * step):
        shifted = [grid(0), grid(probe, shift)]
        assert predict_firsts(corners, is_metric, [0, probe], shifted) is None
