"""GDAL is kept to the raster that it is given: no part of it elsewhere, nothing beside it."""

from __future__ import annotations

import shutil
import struct
import threading
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from rows import for_each

from hda_fsspec.errors import ProductFormatError
from hda_fsspec.reading.opening import OpenOptions, open_local

rasterio = pytest.importorskip("rasterio")
pytestmark = [
    pytest.mark.filterwarnings("ignore:Dataset has no geotransform"),
    pytest.mark.filterwarnings("ignore:Use `@` matmul instead of:PendingDeprecationWarning"),
]


def open_it(path: Path, tmp_path: Path, **options: Any) -> xr.Dataset:
    """Open a local file as a product."""
    made = OpenOptions.make(**options)
    return open_local(path, made, name="the product", scratch=tmp_path / "scratch")


def raster(path: Path, driver: str = "GTiff", value: int = 1, **more: Any) -> Path:
    """Write a raster whose upper left corner lies at (0, 8)."""
    profile = {"width": 8, "height": 8, "count": 1, "dtype": "uint8", "crs": "EPSG:4326"}
    transform = rasterio.transform.from_origin(0, 8, 1, 1)
    with rasterio.open(path, "w", driver=driver, transform=transform, **profile, **more) as file:
        file.write(np.full((1, 8, 8), value, "uint8"))
    return path


def sub_dataset_tag(path: Path, target: str) -> Path:
    """Write a raster that names another one as part of itself."""
    raster(path)
    with rasterio.open(path, "r+") as file:
        file.update_tags(ns="SUBDATASETS", SUBDATASET_1_NAME=target, SUBDATASET_1_DESC="a part")
    return path


def test_rasters_that_name_others_as_their_parts(tmp_path: Path) -> None:
    """GDAL's own metadata in a TIFF, or in a JPEG 2000, may name any file or address."""
    other = raster(tmp_path / "victim.tif", value=99)
    for target in (str(other), "/vsicurl/http://127.0.0.1:1/x.tif", "<VRTDataset></VRTDataset>"):
        path = sub_dataset_tag(tmp_path / "p", target)
        with pytest.raises(ProductFormatError, match=r"sub-datasets.*TIFF tag"):
            open_it(path, tmp_path)
    metadata = (
        b'<GDALMultiDomainMetadata><Metadata domain="SUBDATASETS"><MDI key="SUBDATASET_1_NAME">'
        b"/x</MDI></Metadata></GDALMultiDomainMetadata>"
    )
    jp2 = raster(tmp_path / "p.jp2", "JP2OpenJPEG")
    with jp2.open("ab") as stream:
        stream.write(struct.pack(">I4s", 8 + len(metadata), b"xml ") + metadata)
    with pytest.raises(ProductFormatError, match=r"sub-datasets.*JP2 box"):
        open_it(jp2, tmp_path)


@for_each(
    ("box", "what"),
    [
        (b"dtbl" + b"\0\1" + struct.pack(">I", 30) + b"url " + bytes(4) + b"file:///x\0", "table"),
        (b"flst" + b"\0\1" + bytes(12) + b"\0\1", "fragment"),
        (b"ftbl" + struct.pack(">I", 24) + b"flst" + b"\0\1" + bytes(12) + b"\0\1", "fragment"),
    ],
)
def test_jpeg_2000_whose_pixels_lie_elsewhere(box: bytes, what: str, tmp_path: Path) -> None:
    """Tables of data references, and fragments of a codestream in another file."""
    path = raster(tmp_path / "p.jp2", "JP2OpenJPEG")
    with path.open("ab") as stream:
        stream.write(struct.pack(">I", 4 + len(box)) + box)

    with pytest.raises(ProductFormatError, match=what):
        open_it(path, tmp_path)


VRT = (
    '<VRTDataset rasterXSize="8" rasterYSize="8"><VRTRasterBand dataType="Byte" band="1">'
    '<SimpleSource><SourceFilename relativeToVRT="0">{}</SourceFilename><SourceBand>1'
    "</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>"
)


@for_each("before", ["", "\ufeff  \n", "<?xml version='1.0'?>\n<!-- a -->"])
@for_each("name", ["p", "p.vrt", "p.tif", "p.nc"])
def test_a_virtual_raster_by_its_content(before: str, name: str, tmp_path: Path) -> None:
    """Whatever its name says, and whether the address is local or not."""
    other = raster(tmp_path / "victim.tif", value=99)
    path = tmp_path / name
    for target in (str(other), "/vsicurl/http://127.0.0.1:1/x.tif"):
        path.write_text(before + VRT.format(target))
        with pytest.raises(ProductFormatError) as caught:
            open_it(path, tmp_path, product_engine="rasterio")
        assert "VRTDataset" in str(caught.value)
        assert "SourceFilename" in str(caught.value)
        assert target in str(caught.value)
        with pytest.raises(ProductFormatError):
            open_it(path, tmp_path)


@for_each(
    "text",
    [
        "<GDAL_WMS><Service name='TMS'><ServerUrl>http://127.0.0.1:1/</ServerUrl></Service>",
        "<GDALTileIndexDataset><IndexDataset>/x.gpkg</IndexDataset></GDALTileIndexDataset>",
        '{"type": "Feature", "stac_version": "1.0.0", "assets": {"a": {"href": "/x.tif"}}}',
        "ENVI\nsamples = 8\nlines = 8\n",
        "ncols 2\nnrows 1\nxllcorner 0\nyllcorner 0\ncellsize 1\n1 2\n",
    ],
)
def test_rasterio_opens_only_what_holds_everything_in_itself(text: str, tmp_path: Path) -> None:
    """Of the many drivers only the one that fits the content may claim a file."""
    path = tmp_path / "p"
    path.write_text(text)

    with pytest.raises(ProductFormatError):
        open_it(path, tmp_path, product_engine="rasterio")


def test_a_polyglot_is_what_its_bytes_begin_with(tmp_path: Path) -> None:
    """A raster with a virtual one in its metadata is that raster."""
    other = raster(tmp_path / "victim.tif", value=99)
    path = raster(tmp_path / "p", value=7)
    with rasterio.open(path, "r+") as file:
        file.update_tags(TIFFTAG_SOFTWARE=VRT.format(other))

    for engine in (None, "rasterio"):
        with open_it(path, tmp_path, product_engine=engine) as ds:
            assert ds["band_data"].values.max() == 7


PAM = (
    "<PAMDataset><GeoTransform>500,1,0,500,0,-1</GeoTransform>"
    '<PAMRasterBand band="1"><Offset>5</Offset></PAMRasterBand></PAMDataset>'
)


def surround(path: Path, other: Path) -> None:
    """Put all that GDAL looks for beside a raster."""
    (path.parent / f"{path.name}.aux.xml").write_text(PAM)
    for suffix in ("ovr", "msk"):
        shutil.copy(other, path.parent / f"{path.name}.{suffix}")
    (path.parent / f"{path.name}.idx").write_text("1:0:d=2020010100:x:y:z:\n")
    for suffix in ("tfw", "wld", "j2w", "jgw", "pgw", "tab", "prj", "hdr", "IMD", "RPB", "aux"):
        path.with_suffix(f".{suffix}").write_text("10\n0\n0\n-10\n500\n500\n")


@pytest.mark.slow
@for_each(
    ("driver", "suffix", "engine"),
    [
        ("GTiff", ".tif", None),
        ("GTiff", ".tif", "rasterio"),
        ("JP2OpenJPEG", ".jp2", None),
        ("PNG", ".png", "rasterio"),
        ("netCDF", ".nc", "rasterio"),
    ],
)
def test_nothing_beside_a_raster_is_looked_at(
    driver: str, suffix: str, engine: str | None, tmp_path: Path
) -> None:
    """Other georeferences, masks and scales lie beside it: neither opening nor reading sees them.

    Reading is in another thread, after xarray closed the file by itself.
    """
    alone, folder = tmp_path / "alone", tmp_path / "together"
    alone.mkdir()
    folder.mkdir()
    path = folder / f"p{suffix}"
    if driver == "netCDF":
        grid = {"y": np.arange(8.0), "x": np.arange(8.0)}
        xr.Dataset({"v": (("y", "x"), np.full((8, 8), 3.0))}, coords=grid).to_netcdf(path)
    else:
        raster(path, driver, 3)
    shutil.copy(path, alone)
    surround(path, raster(tmp_path / "other.tif", value=0))
    with open_it(alone / path.name, tmp_path, product_engine=engine) as ds:
        expected = ds.load()

    with open_it(path, tmp_path, product_engine=engine) as ds:
        xr.testing.assert_identical(_without_source(ds.load()), _without_source(expected))
    few: Any = xr.set_options
    with open_it(path, tmp_path, product_engine=engine) as ds, few(file_cache_maxsize=1):
        with open_it(alone / path.name, tmp_path, product_engine=engine) as another:
            another.load()
        found: list[xr.Dataset] = []
        thread = threading.Thread(target=lambda: found.append(ds.load()))
        thread.start()
        thread.join()
        xr.testing.assert_identical(_without_source(found[0]), _without_source(expected))


def _without_source(ds: xr.Dataset) -> xr.Dataset:
    return ds.drop_encoding()


def test_members_beside_each_other_are_no_sidecars(tmp_path: Path) -> None:
    """What an archive holds beside a raster does not change it."""
    path = raster(tmp_path / "r.tif", value=3)
    surround(path, raster(tmp_path / "other.tif", value=0))
    with zipfile.ZipFile(tmp_path / "p", "w") as archive:
        for each in sorted(tmp_path.glob("r*")):
            archive.write(each, f"P/{each.name}")

    for member in ("r.tif.msk", "r.tif.ovr", "r.tif"):
        with open_it(tmp_path / "p", tmp_path, member=member) as ds:
            assert float(ds["x"][0]) == 0.5
            assert ds["band_data"].values.max() == (3 if member == "r.tif" else 0)


def test_settings_of_gdal_are_those_of_the_thread_and_end(tmp_path: Path) -> None:
    """What the user set is as it was, and sidecars of files opened otherwise are seen."""
    path = raster(tmp_path / "r.tif", value=3)
    surround(path, raster(tmp_path / "other.tif", value=0))
    with rasterio.Env(GDAL_CACHEMAX=17, GDAL_PAM_ENABLED="YES"):
        with open_it(path, tmp_path) as ds:
            ds.load()
        after = rasterio.env.getenv()
        assert (after["GDAL_CACHEMAX"], after["GDAL_PAM_ENABLED"]) == (17, "YES")
        assert "GDAL_DISABLE_READDIR_ON_OPEN" not in after
        with rasterio.open(path) as file:
            assert file.transform.c == 500


def test_gribs_are_opened_by_rasterio_without_their_index(
    shared_data: Path, tmp_path: Path
) -> None:
    """An index beside a GRIB file tells GDAL where messages are; it is not believed."""
    source = next(iter(sorted((shared_data / "grib").glob("*.grib"))))
    path = tmp_path / "p.grib"
    shutil.copy(source, path)
    with rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"), rasterio.open(source) as file:
        count = file.count
    path.with_name("p.grib.idx").write_text("1:0:d=2020010100:TMP:surface:anl:\n")

    with open_it(path, tmp_path, product_engine="rasterio") as ds:
        assert ds.sizes["band"] == count
