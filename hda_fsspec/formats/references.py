"""What in a file leads to other files or to addresses, told by the file's bytes alone.

No library is asked, since each of them follows what it finds. A file that cannot be understood is
not taken for harmless: CorruptFileError says what is wrong with it.
"""

from __future__ import annotations

import html
import json
import re
import struct
from collections.abc import Iterator
from typing import Any

from hda_fsspec.formats.gridded import find_hdf5
from hda_fsspec.formats.hdf5objects import hdf5_references
from hda_fsspec.formats.rasters import jp2_boxes, tiff_values
from hda_fsspec.formats.reader import CorruptFileError, FileBytes, Reference

_HDF4 = b"\x0e\x03\x13\x01"
#: The bit of a tag that marks a special element, and the code of one whose bytes lie elsewhere.
_HDF4_SPECIAL, _HDF4_EXTERNAL = 0x4000, 2
_HDF4_MAX_ENTRIES = 1_000_000

_GDAL_METADATA_TAG = 42112
#: By these keys and in this domain GDAL names data sets that readers open next.
_SUBDATASETS = re.compile(r"SUBDATASETS", re.IGNORECASE)
_ITEM = re.compile(r"<Item[^>]*SUBDATASETS[^>]*>([^<]*)<", re.IGNORECASE)
#: Boxes of JPEG 2000 that hold other boxes.
_JP2_SUPER_BOXES = (b"asoc", b"jp2h", b"jpch", b"jplh", b"ftbl", b"uinf", b"res ", b"comp")
_JP2_MOST_BYTES = 1 << 24

#: Documents that are nothing but references, as GDAL knows them: anywhere near the start.
_DOCUMENTS = re.compile(
    rb"<\s*(VRTDataset|OGRVRTDataSource|GDALWarpOptions|GDALTileIndexDataset|GDALProcessedDataset|"
    rb"GDAL_WMS|GDAL_WMTS|WMS_Tile_Service|WMS_Capabilities|WMT_MS_Capabilities|TileMap|WCS_GDAL|"
    rb"MRF_META)\b"
)
_DOCUMENT_BYTES = 1 << 16
_NAMED_IN_DOCUMENT = re.compile(
    rb"<\s*(SourceFilename|SourceDataset|SrcDataSource|IndexDataset|ServerUrl|ServiceURL|"
    rb"GetCapabilitiesUrl|CachedSource|DataFile)\b[^>]*>\s*([^<]*)"
)
#: Far above any list of references that is read as one document.
_JSON_MOST_BYTES = 1 << 24


def find_reference(data: FileBytes) -> Reference | None:
    """Return the first thing in a file that leads out of it; None if there is none.

    Raises
    ------
    CorruptFileError
        The file cannot be followed to its end, so that nothing can be said.
    """
    return next(_references(data), None)


def _references(data: FileBytes) -> Iterator[Reference]:
    # Whatever else a file seems to be: the libraries look for the signature further on, too.
    start = find_hdf5(data.peek, data.size)
    if start is not None:
        yield from hdf5_references(data, start)
    head = data.peek(0, 16)
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        yield from _tiff_references(data)
    elif head[4:8] == b"jP  ":
        yield from _jp2_references(data)
    elif head[:4] == _HDF4:
        yield from _hdf4_references(data)
    elif start is None:
        yield from _document_references(data)


def _tiff_references(data: FileBytes) -> Iterator[Reference]:
    """Look for data sets that the metadata of GDAL names as being part of this one."""
    for value in tiff_values(data, _GDAL_METADATA_TAG):
        yield from _named_by_gdal(value, f"TIFF tag {_GDAL_METADATA_TAG}")


def _named_by_gdal(metadata: bytes, inside: str) -> Iterator[Reference]:
    # Twice, as GDAL does for some of the values.
    text = html.unescape(html.unescape(metadata.decode("utf-8", "replace")))
    if _SUBDATASETS.search(text):
        named = _ITEM.search(text)
        target = named[1].strip() if named else "other data sets"
        yield Reference("a list of sub-datasets", inside, target)


def _jp2_references(data: FileBytes) -> Iterator[Reference]:
    for place, kind, start, end in jp2_boxes(data, _JP2_SUPER_BOXES):
        what = f"the JP2 box at byte {place}"
        if kind == b"flst":
            count = int.from_bytes(data.read(start, 2, what), "big")
            table = data.read(start + 2, 14 * count, what)
            # The last two bytes of each are the number of a file; 0 is this one.
            if any(table[12::14]) or any(table[13::14]):
                yield Reference("a fragment in another file", what, "its data references")
        elif kind == b"dtbl" and data.peek(start, 2) not in (b"", b"\0\0"):
            text = data.read(start, min(end - start, 1024), what)
            found = re.search(rb"url \0{4}([^\0]+)", text)
            target = found[1].decode("utf-8", "replace") if found else "other files"
            yield Reference("a table of data references", what, target)
        elif kind == b"xml ":
            size = min(end - start, _JP2_MOST_BYTES)
            metadata = data.read(start, size, what)
            if b"GDALMultiDomainMetadata" in metadata or end - start > size:
                yield from _named_by_gdal(metadata, what)


def _hdf4_references(data: FileBytes) -> Iterator[Reference]:
    what = "its HDF4 directory"
    block, seen, entries = 4, set[int](), 0
    while block and block not in seen:
        seen.add(block)
        count, following = struct.unpack(">HI", data.read(block, 6, what))
        entries += count
        if entries > _HDF4_MAX_ENTRIES:
            msg = f"{what} announces {entries} entries, where far fewer are possible"
            raise CorruptFileError(msg)
        table = data.read(block + 6, 12 * count, what)
        for tag, number, offset, length in struct.iter_unpack(">HHII", table):
            is_special = tag & _HDF4_SPECIAL and not tag & 0x8000
            if not is_special or length < 2 or offset == 0xFFFFFFFF:
                continue
            head = data.peek(offset, 14)
            if head[:2] == _HDF4_EXTERNAL.to_bytes(2, "big"):
                size = min(int.from_bytes(head[10:14], "big"), 4096)
                target = data.peek(offset + 14, size).decode("utf-8", "replace")
                inside = f"element {tag & ~_HDF4_SPECIAL}/{number}"
                yield Reference("an external element", inside, target)
        block = following


def _document_references(data: FileBytes) -> Iterator[Reference]:
    head = data.peek(0, _DOCUMENT_BYTES)
    found = _DOCUMENTS.search(head)
    if found:
        root = found[1].decode()
        named = _NAMED_IN_DOCUMENT.search(head, found.end())
        inside = f"<{named[1].decode()}>" if named else f"<{root}>"
        target = named[2].decode("utf-8", "replace").strip() if named else "other data"
        yield Reference(f"a document that stands for other data ({root})", inside, target)
    if head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in (b"{", b"["):
        yield from _json_references(data)


def _json_references(data: FileBytes) -> Iterator[Reference]:
    """Look for a list of references, as kerchunk writes it: ``"key": [address, offset, length]``.

    A document that is too long to be read is none that says nothing.
    """
    if data.size > _JSON_MOST_BYTES:
        kind = f"a JSON document of more than {_JSON_MOST_BYTES} bytes, which was not read"
        yield Reference(kind, "it", "other files perhaps")
        return
    try:
        value: Any = json.loads(data.read(0, data.size, "the document"))
    except (ValueError, RecursionError):
        return
    if not isinstance(value, dict):
        return
    inner = value.get("refs")
    for references in (inner, value):
        if not isinstance(references, dict):
            continue
        if references is value and not _is_list_of_keys(value):
            continue
        for key, one in references.items():
            if isinstance(one, list) and one and isinstance(one[0], str):
                yield Reference("a list of references", str(key), one[0])
    if isinstance(inner, dict) and value.get("gen"):
        yield Reference("a list of references that are generated", "gen", str(value["gen"]))


def _is_list_of_keys(value: dict[str, Any]) -> bool:
    """Whether a JSON object is a Zarr store, whose keys are its members."""
    names = (".zgroup", ".zarray", ".zattrs", ".zmetadata", "zarr.json")
    return any(key.rpartition("/")[2] in names for key in value)
