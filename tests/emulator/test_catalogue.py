"""Catalogues of the emulator: from folders and files, with times as real catalogues show them."""

from __future__ import annotations

import io
import json
import zipfile
from datetime import datetime
from pathlib import Path

import pytest
from rows import for_each

from hda_fsspec.emulator import PROFILES, Catalogue, interval, nominal_times
from hda_fsspec.errors import ConfigurationError

BODY = bytes(range(256)) * 8


@for_each(
    ("name", "first", "last"),
    [
        ("S3A_X_20211021T073827_20211021T074112_20211021T091357_0164.SEN3", "073827", "074112"),
        ("x_20050504_2005T2.nc", "2005-05-04", "2005-05-04"),
        ("pr_day_19790101-20091231.nc", "1979-01-01", "2009-12-31"),
        ("c_gls_SSM1km_201601010600_CEURO.nc", "2016-01-01", "2016-01-01"),
        ("a-2022-03-04.grib", "2022-03-04", "2022-03-04"),
        ("m_202206.nc", "2022-06-01", "2022-06-01"),
        ("m-2022-06.nc", "2022-06-01", "2022-06-01"),
        ("VPP_2020_S2.tif", "2020-01-01", "2020-01-01"),
        ("O_L2_0001_SNS_2017104102450_v1.0.nc", "2000-01-01", "2000-01-01"),
        ("nothing.nc", "2000-01-01", "2000-01-01"),
    ],
)
def test_names_tell_times(name: str, first: str, last: str) -> None:
    """The nominal time of a product is read from the usual stamps in its name."""
    begin, end = nominal_times(name)

    assert first in f"{begin:%Y-%m-%d %H%M%S}"
    assert last in f"{end:%Y-%m-%d %H%M%S}"


@for_each("profile", PROFILES)
def test_profiles_are_as_at_the_service(profile: str) -> None:
    """Each profile turns a nominal time into the interval that such catalogues show."""
    noon = datetime.fromisoformat("2024-02-10T12:00:00+00:00")

    start, end = interval(profile, noon, noon, seed_text="a")
    shown = f"{start:%m-%dT%H:%M:%S} {end:%m-%dT%H:%M:%S}"

    expected = {
        "exact": "02-10T12:00:00 02-10T12:00:00",
        "day": "02-10T00:00:00 02-10T23:59:59",
        "day-before": "02-09T12:00:01 02-10T12:00:00",
        "month": "02-01T00:00:00 02-29T23:59:59",
    }
    assert shown == expected.get(profile, shown)
    assert interval(profile, noon, noon, seed_text="a") == (start, end)
    if profile == "sensing":
        assert start > noon
        assert interval(profile, noon, noon, seed_text="b") != (start, end)
    if profile == "nominal+publication":
        assert start == noon
        assert (end - start).total_seconds() >= 7200


def test_a_folder_is_a_catalogue(tmp_path: Path) -> None:
    """Sub-folders are data sets, files are products, a .SEN3 folder is delivered as a ZIP."""
    folder = tmp_path / "catalogue"
    product = folder / "EO%3AX" / "S3A_20240501T000000_20240501T000300_x.SEN3"
    product.mkdir(parents=True)
    (product / "a.nc").write_bytes(BODY)
    (folder / "EO:Y").mkdir()
    (folder / "EO:Y" / "m_202402.tif").write_bytes(BODY)
    overrides = {"EO:Y": {"profile": "month", "ids_with_suffix": False, "title": "Why"}}

    catalogue = Catalogue.from_folder(folder, datasets=overrides)

    (zipped,), (month,) = (entry.products for entry in catalogue)
    assert [entry.dataset_id for entry in catalogue] == ["EO:X", "EO:Y"]
    with zipfile.ZipFile(io.BytesIO(zipped.content.read())) as archive:
        assert archive.namelist() == [f"{product.name}/a.nc"]
    assert zipped.name == f"{product.name}.zip"
    assert (month.product_id, month.name) == ("m_202402", "m_202402.tif")
    assert month.enddate == "2024-02-29T23:59:59.999Z"
    with pytest.raises(ConfigurationError, match="unknown key 'tilte'"):
        Catalogue.from_folder(folder, datasets={"EO:Y": {"tilte": ""}})


def test_a_json_file_is_a_catalogue(tmp_path: Path) -> None:
    """A JSON file lists products with all that the catalogue shows; files are relative to it."""
    (tmp_path / "f.bin").write_bytes(BODY)
    product = {"product_id": "a", "file": "f.bin", "bbox": [0, 0, 1, 1], "size": "ND"}
    described = {"datasets": [{"dataset_id": "EO:X", "products": [product]}]}
    path = tmp_path / "catalogue.json"
    path.write_text(json.dumps(described))

    (entry,) = Catalogue.from_json(path).get("EO:X").products  # type: ignore[union-attr]

    assert (entry.product_id, entry.bbox, entry.size) == ("a", (0, 0, 1, 1), "ND")
    path.write_text('{"datasets": [{}]}')
    with pytest.raises(ConfigurationError, match="dataset_id"):
        Catalogue.from_json(path)
