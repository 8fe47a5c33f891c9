"""References from a file to other files or addresses, found in its bytes alone.

No library is asked, since each of them follows what it finds. A file that cannot be understood is
not taken for harmless: CorruptFileError says what is wrong with it.
"""

from __future__ import annotations

import codecs
import html
import json
import re
import struct
import xml.parsers.expat
from collections.abc import Iterator
from typing import Any

from hda_fsspec.formats.file_reader import CorruptFileError, FileBytes, Reference
from hda_fsspec.formats.gridded_completeness import find_hdf5
from hda_fsspec.formats.hdf5objects import hdf5_references
from hda_fsspec.formats.rasters import jp2_boxes, tiff_values

_HDF4 = b"\x0e\x03\x13\x01"
#: The bit of a tag that marks a special element, and the code of one whose bytes lie elsewhere.
_HDF4_SPECIAL, _HDF4_EXTERNAL = 0x4000, 2
_HDF4_MAX_ENTRIES = 1_000_000

_GDAL_METADATA_TAG = 42112
#: The domains of GDAL's metadata in which nothing is the name of other data. In others it may
#: be: SUBDATASETS, OVERVIEWS, ProxyOverviewRequest, GEOLOCATION, and what later versions add.
_DOMAINS = frozenset(
    {"", "color_profile", "data_encoding", "envi", "esri", "exif", "grass", "image_structure"}
    | {"imagery", "imd", "nitf_metadata", "rpb", "rpc", "tiff", "tre"}
)
#: So do those that hold a whole document each, by what their names begin with, but for one.
_DOCUMENT_DOMAINS = ("json:", "xml:")
_VIRTUAL_DOMAIN = "xml:vrt"
#: Boxes of JPEG 2000 that hold other boxes.
_JP2_SUPER_BOXES = (b"asoc", b"jp2h", b"jpch", b"jplh", b"ftbl", b"uinf", b"res ", b"comp")
_JP2_MOST_BYTES = 1 << 24

#: Documents that are nothing but references, as GDAL knows them: anywhere near the start.
_DOCUMENTS = re.compile(
    rb"<\s*(VRTDataset|OGRVRTDataSource|GDALWarpOptions|GDALTileIndexDataset|GDALProcessedDataset|"
    rb"GDAL_WMS|GDAL_WMTS|WMS_Tile_Service|WMS_Capabilities|WMT_MS_Capabilities|TileMap|WCS_GDAL|"
    rb"MRF_META)\b",
    re.IGNORECASE,
)
#: What may stand before the first element of XML.
_PROLOG = re.compile(rb"\s*(?:<\?.*?\?>|<!--.*?-->|<!DOCTYPE[^\[>]*(?:\[.*?\]\s*)?>)\s*", re.DOTALL)
_DOCUMENT_BYTES = 1 << 16
_NAMED_IN_DOCUMENT = re.compile(
    rb"<\s*(SourceFilename|SourceDataset|SrcDataSource|IndexDataset|ServerUrl|ServiceURL|"
    rb"GetCapabilitiesUrl|CachedSource|DataFile)\b[^>]*>\s*([^<]*)"
)
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
    (codecs.BOM_UTF8, "utf-8"),
)
#: Far above any list of references, or what stands before the first element of XML.
_MOST_DOCUMENT_BYTES = 1 << 24


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
    """Look for metadata of GDAL in a domain whose values it may take for names of other data."""
    text = metadata.partition(b"\0")[0].decode("utf-8", "replace").lstrip("\ufeff \t\r\n")
    if not text:
        return
    for domain, value in _MetadataReader(inside).read(text):
        folded = domain.casefold()
        is_document = folded.startswith(_DOCUMENT_DOMAINS) and folded != _VIRTUAL_DOMAIN
        if folded not in _DOMAINS and not is_document:
            # Twice, as GDAL does for some of the values.
            target = html.unescape(html.unescape(value)).strip() or "other data sets"
            kind = f"metadata of GDAL in the domain {domain!r}"
            is_list = folded == "subdatasets"
            yield Reference("a list of sub-datasets" if is_list else kind, inside, target)


class _MetadataReader:
    """A parser of GDAL's metadata: its domains, and the first value in each.

    GDAL finds a domain by the name of an attribute or of an element, in any case. Where its
    reader of XML and that of Python could differ, there is no telling what is in a document.
    """

    def __init__(self, inside: str) -> None:
        self._inside = inside
        self._found: list[list[str]] = []
        self._is_domain = self._is_value = False
        self._parser = parser = xml.parsers.expat.ParserCreate()
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text
        parser.StartDoctypeDeclHandler = parser.ProcessingInstructionHandler = self._odd

    def read(self, text: str) -> list[list[str]]:
        try:
            self._parser.Parse(text, True)  # noqa: FBT003  (it takes no keywords)
        except (xml.parsers.expat.ExpatError, UnicodeError) as err:
            msg = f"the metadata of GDAL in {self._inside} are no XML ({err})"
            raise CorruptFileError(msg) from None
        return self._found

    def _odd(self, *_: object) -> None:
        msg = f"the metadata of GDAL in {self._inside} hold what they never need"
        raise CorruptFileError(msg)

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        for key, value in attributes.items():
            if key.casefold() == "domain":
                self._found.append([value, ""])
                self._is_value = True
        self._is_domain = name.casefold() == "domain"
        if self._is_domain:
            self._found.append(["", ""])

    def _end(self, _: str) -> None:
        self._is_domain = False

    def _text(self, text: str) -> None:
        if self._is_domain:
            self._found[-1][0] += text
        elif self._is_value and text.strip():
            self._found[-1][1] = text
            self._is_value = False


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
            if b"GDALMultiDomainMetadata" in metadata:
                # One that is cut off here is no XML.
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
    text, is_all = _as_utf8(data, _DOCUMENT_BYTES)
    found = _DOCUMENTS.search(text)
    if found is None:
        start = _root_of_xml(text)
        if start is None and not is_all:
            # Nothing but comments and the like, or but white space, so far.
            text, is_all = _as_utf8(data, _MOST_DOCUMENT_BYTES)
            start = _root_of_xml(text)
            if start is None and not is_all:
                kind = f"nothing in its first {_MOST_DOCUMENT_BYTES} bytes that tells what it is"
                yield Reference(kind, "it", "other data perhaps")
                return
        if start is not None:
            found = _DOCUMENTS.match(text, start)
    if found:
        root = found[1].decode()
        named = _NAMED_IN_DOCUMENT.search(text, found.end())
        inside = f"<{named[1].decode()}>" if named else f"<{root}>"
        target = named[2].decode("utf-8", "replace").strip() if named else "other data"
        yield Reference(f"a document that stands for other data ({root})", inside, target)
    if text.lstrip()[:1] in (b"{", b"["):
        yield from _json_references(data)


def _as_utf8(data: FileBytes, most_bytes: int) -> tuple[bytes, bool]:
    """Return the beginning of a file, as UTF-8 if it is a text, and whether that is all of it.

    UTF-16 and UTF-32 are known by their marks, or, without, by the zeros of the first character:
    so readers of JSON do it.
    """
    head = data.peek(0, most_bytes)
    is_all = data.size <= len(head)
    zeros = [not byte for byte in head[:4]]
    marked = [(mark, name) for mark, name in _BYTE_ORDER_MARKS if head.startswith(mark)]
    if marked:
        mark, encoding = marked[0]
        head = head[len(mark) :]
    elif zeros[:1] == [True]:
        encoding = "utf-32-be" if zeros[1:2] == [True] else "utf-16-be"
    elif zeros[1:2] == [True]:
        encoding = "utf-32-le" if zeros[2:] == [True, True] else "utf-16-le"
    else:
        encoding = "utf-8"
    if encoding == "utf-8":
        return head, is_all
    return head.decode(encoding, "replace").encode("utf-8", "replace"), is_all


def _root_of_xml(text: bytes) -> int | None:
    """Return where the first thing stands that is neither white space nor prolog of XML.

    None if there is none, or if it could be a part of the prolog that goes on further.
    """
    position = 0
    while found := _PROLOG.match(text, position):
        position = found.end()
    position = len(text) - len(text[position:].lstrip())
    is_open = text[position : position + 2] in (b"", b"<", b"<!", b"<?")
    return None if is_open else position


def _json_references(data: FileBytes) -> Iterator[Reference]:
    """Look for a list of references, as kerchunk writes it: ``"key": [address, offset, length]``.

    A document that is too long to be read is none that says nothing.
    """
    if data.size > _MOST_DOCUMENT_BYTES:
        kind = f"a JSON document of more than {_MOST_DOCUMENT_BYTES} bytes, which was not read"
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
        for key, entry in references.items():
            if isinstance(entry, list) and entry and isinstance(entry[0], str):
                yield Reference("a list of references", str(key), entry[0])
    if isinstance(inner, dict) and value.get("gen"):
        yield Reference("a list of references that are generated", "gen", str(value["gen"]))


def _is_list_of_keys(value: dict[str, Any]) -> bool:
    """Whether a JSON object is a Zarr store, whose keys are its members."""
    names = (".zgroup", ".zarray", ".zattrs", ".zmetadata", "zarr.json")
    return any(key.rpartition("/")[2] in names for key in value)
