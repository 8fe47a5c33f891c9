"""Documents and tables that lead to other files: told by their bytes, whatever engine is named."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import xarray as xr

from hda_fsspec.errors import ProductFormatError
from hda_fsspec.formats.reader import FileBytes, Reference
from hda_fsspec.formats.references import find_reference
from hda_fsspec.reading.opening import OpenOptions, open_local


def open_it(path: Path, tmp_path: Path, **options: Any) -> xr.Dataset:
    """Open a local file as a product."""
    made = OpenOptions.make(**options)
    return open_local(path, made, name="the product", scratch=tmp_path / "scratch")


def look(path: Path) -> Reference | None:
    """Return what leads out of a file."""
    with path.open("rb") as stream:
        return find_reference(FileBytes(stream))


KERCHUNK = {
    ".zgroup": '{"zarr_format": 2}',
    "v/.zarray": "{}",
    "v/0": ["/etc/passwd", 0, 100],
}


@pytest.mark.parametrize(
    "document",
    [
        {"version": 1, "refs": KERCHUNK},
        KERCHUNK,
        {"version": 1, "refs": {"v/0": ["http://127.0.0.1:1/x.nc"]}},
        {"version": 1, "refs": {}, "gen": [{"key": "v/{{i}}", "url": "/x", "dimensions": {}}]},
        {"version": 1, "templates": {"u": "/x.nc"}, "refs": {"v/0": ["{{u}}", 0, 1]}},
    ],
)
@pytest.mark.parametrize(
    "engine", [None, "netcdf4", "h5netcdf", "scipy", "rasterio", "zarr", "kerchunk"]
)
def test_lists_of_references(document: Any, engine: str | None, tmp_path: Path) -> None:
    """JSON as kerchunk writes it is refused whatever engine is named, be it installed or not."""
    path = tmp_path / "p"
    path.write_text(json.dumps(document))

    with pytest.raises(ProductFormatError, match="list of references"):
        open_it(path, tmp_path, product_engine=engine)
    path.write_text("\ufeff \n" + json.dumps(document, indent=1))
    assert look(path) is not None


def test_json_that_refers_to_nothing(tmp_path: Path) -> None:
    """A document that holds its own data is not refused for being JSON."""
    path = tmp_path / "p"
    values: list[Any] = [{"a": [1, 2]}, {"refs": {"v/0": "base64:AAAA"}}, {"x": ["a", "b"]}, [], {}]
    for value in values:
        path.write_text(json.dumps(value))
        assert look(path) is None
    path.write_text("{not json")
    assert look(path) is None


def test_external_elements_of_hdf4(tmp_path: Path) -> None:
    """A special element may keep its bytes in another file."""
    target = b"/etc/passwd"
    element = struct.pack(">HiiI", 2, 100, 0, len(target)) + target
    directory = struct.pack(">HI", 2, 0) + struct.pack(">HHII", 702 | 0x4000, 5, 60, len(element))
    directory += struct.pack(">HHII", 702, 6, 60, 10)
    body = (b"\x0e\x03\x13\x01" + directory).ljust(60, b"\0") + element
    path = tmp_path / "p"
    path.write_bytes(body)

    found = look(path)

    assert found == Reference("an external element", "element 702/5", "/etc/passwd")
    path.write_bytes(body.replace(struct.pack(">H", 702 | 0x4000), struct.pack(">H", 702)))
    assert look(path) is None
