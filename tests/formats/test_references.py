"""Documents and tables that lead to other files: told by their bytes, whatever engine is named."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import xarray as xr
from rows import for_each

from hda_fsspec.errors import ProductFormatError
from hda_fsspec.formats.file_reader import FileBytes, Reference
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


@for_each(
    "document",
    [
        {"version": 1, "refs": KERCHUNK},
        KERCHUNK,
        {"version": 1, "refs": {"v/0": ["http://127.0.0.1:1/x.nc"]}},
        {"version": 1, "refs": {}, "gen": [{"key": "v/{{i}}", "url": "/x", "dimensions": {}}]},
        {"version": 1, "templates": {"u": "/x.nc"}, "refs": {"v/0": ["{{u}}", 0, 1]}},
    ],
)
@for_each("engine", [None, "netcdf4", "h5netcdf", "scipy", "rasterio", "zarr", "kerchunk"])
def test_lists_of_references(document: Any, engine: str | None, tmp_path: Path) -> None:
    """JSON as kerchunk writes it is refused whatever engine is named, be it installed or not."""
    path = tmp_path / "p"
    path.write_text(json.dumps(document))

    with pytest.raises(ProductFormatError, match="list of references"):
        open_it(path, tmp_path, product_engine=engine)
    path.write_text("\ufeff \n" + json.dumps(document, indent=1))
    assert look(path) is not None


ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be")
VRT = "<VRTDataset><SourceFilename>/etc/passwd</SourceFilename></VRTDataset>"


@pytest.mark.slow
@for_each("encoding", [*ENCODINGS, "utf-32-le", "utf-16 of a big end"])
@for_each("before", ["", "\r\n\t ", " " * 5_000, "\n" * 70_000, " " * 300_000])
def test_documents_in_any_encoding_that_their_readers_take(
    encoding: str, before: str, tmp_path: Path
) -> None:
    """With a mark of the order of bytes or without, and behind any amount of white space."""
    path = tmp_path / "p"
    for text, kind in ((json.dumps({"refs": KERCHUNK}), "list of references"), (VRT, "VRTDataset")):
        if encoding == "utf-16 of a big end":
            path.write_bytes(b"\xfe\xff" + (before + text).encode("utf-16-be"))
        else:
            path.write_bytes((before + text).encode(encoding))

        found = look(path)

        assert found is not None
        assert kind in found.kind
        assert found.target == "/etc/passwd"
        with pytest.raises(ProductFormatError, match=kind):
            open_it(path, tmp_path)


@pytest.mark.slow
@for_each(
    "before",
    [
        "<!--" + " <a> " * 20_000 + "-->",
        "<?xml version='1.0'?>\n" + "<!-- a -->\n" * 9_000,
        "<!DOCTYPE VRTDataset [" + "<!ENTITY a 'b'>" * 9_000 + "]>\n<!-- -->",
        "<?a " + "b" * 70_000 + "?>" + "\n" * 70_000,
    ],
)
@for_each("root", [VRT, "<gdal_wms><ServerUrl>/etc/passwd</ServerUrl></gdal_wms>"])
def test_documents_behind_a_long_prolog(before: str, root: str, tmp_path: Path) -> None:
    """The first element tells what XML is, wherever it stands; another one is not refused."""
    path = tmp_path / "p"
    for encoding in ENCODINGS:
        path.write_bytes((before + root).encode(encoding))
        found = look(path)
        assert found is not None
        assert found.target == "/etc/passwd"
        path.write_bytes((before + "<metadata></metadata>").encode(encoding))
        assert look(path) is None


@pytest.mark.slow
@for_each("sign", [b" ", b"\n", b"<!--" + b" " * 60 + b"-->", b"\0 ", b" \0\0\0"])
def test_a_document_that_does_not_begin_is_refused(sign: bytes, tmp_path: Path) -> None:
    """What begins behind more than 16 MiB of nothing is read by nobody here."""
    path = tmp_path / "p"
    path.write_bytes(sign * ((1 << 24) // len(sign) + 10) + VRT.encode())

    found = look(path)

    assert found is not None
    assert "nothing in its first" in found.kind
    path.write_bytes(sign * 10)
    assert look(path) is None


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
