"""Metadata of GDAL in rasters, and tags that stand there twice: what readers take them for."""

from __future__ import annotations

import html
import struct
from pathlib import Path

import pytest
from rows import for_each

from hda_fsspec.errors import ProductFormatError
from hda_fsspec.formats.detect import check_complete
from hda_fsspec.formats.file_reader import CorruptFileError, FileBytes, Reference
from hda_fsspec.formats.references import find_reference

VICTIM = "/home/me/secret.tif"
Tag = tuple[int, int, bytes]
#: A raster of one pixel, by its tags: type and value of each.
PIXEL: list[Tag] = [
    (256, 3, struct.pack("<H", 1)),
    (257, 3, struct.pack("<H", 1)),
    (258, 3, struct.pack("<H", 8)),
    (262, 3, struct.pack("<H", 1)),
    (273, 4, struct.pack("<I", 8)),
    (277, 3, struct.pack("<H", 1)),
    (278, 3, struct.pack("<H", 1)),
    (279, 4, struct.pack("<I", 1)),
]
WIDTHS = {1: 1, 2: 1, 3: 2, 4: 4, 13: 4}


def tiff(tags: list[Tag]) -> bytes:
    """Write a TIFF with one directory, of entries in the order of their tags."""
    tags = sorted(tags, key=lambda tag: tag[0])
    body = b"II*\0" + struct.pack("<I", 16) + bytes(8)
    end = 16 + 2 + 12 * len(tags) + 4
    entries, values = struct.pack("<H", len(tags)), b""
    for number, kind, value in tags:
        count = len(value) // WIDTHS.get(kind, 1)
        if len(value) > 4:
            place = end + len(values)
            values += value
            value = struct.pack("<I", place)  # noqa: PLW2901  (it stands elsewhere)
        entries += struct.pack("<HHI4s", number, kind, count, value)
    return body + entries + bytes(4) + values


def metadata(*items: tuple[str, str, str]) -> bytes:
    """Write metadata as GDAL does in a TIFF: domain, key and value of each."""
    text = "".join(
        f'<Item name="{key}"{f" domain={chr(34)}{domain}{chr(34)}" if domain else ""}>'
        f"{html.escape(value)}</Item>"
        for domain, key, value in items
    )
    return f"<GDALMetadata>\n{text}\n</GDALMetadata>\n".encode() + b"\0"


def jp2(metadata: bytes) -> bytes:
    """Write the boxes of a JPEG 2000 file that matter, one of them metadata of GDAL."""
    boxes = [(b"jP  ", b"\r\n\x87\n"), (b"ftyp", b"jp2 \0\0\0\0jp2 "), (b"xml ", metadata)]
    return b"".join(struct.pack(">I4s", 8 + len(body), kind) + body for kind, body in boxes)


def look(path: Path, body: bytes) -> Reference | None:
    """Return what leads out of a file of these bytes."""
    path.write_bytes(body)
    with path.open("rb") as stream:
        return find_reference(FileBytes(stream))


@for_each(
    ("domain", "key"),
    [
        ("SUBDATASETS", "SUBDATASET_1_NAME"),
        ("SubDatasets", "SUBDATASET_1_NAME"),
        ("OVERVIEWS", "OVERVIEW_FILE"),
        ("overviews", "OVERVIEW_FILE"),
        ("ProxyOverviewRequest", "FILENAME"),
        ("GEOLOCATION", "X_DATASET"),
        ("xml:VRT", "0"),
        ("vrt_sources", "source_0"),
        ("a later one", "FILE"),
        (" OVERVIEWS ", "OVERVIEW_FILE"),
    ],
)
def test_domains_that_may_name_other_data(domain: str, key: str, tmp_path: Path) -> None:
    """Whatever is not known to hold plain values is told, in TIFF and in JPEG 2000."""
    items = (("", "AREA_OR_POINT", "Area"), (domain, key, VICTIM))
    box = (
        '<GDALMultiDomainMetadata><Metadata><MDI key="a">b</MDI></Metadata>'
        f'<Metadata domain="{domain}"><MDI key="{key}">{VICTIM}</MDI></Metadata>'
        "</GDALMultiDomainMetadata>"
    )
    in_tiff = look(tmp_path / "p", tiff([*PIXEL, (42112, 2, metadata(*items))]))
    in_jp2 = look(tmp_path / "p", jp2(box.encode()))
    inside_a_box = look(
        tmp_path / "p",
        jp2(b"") + struct.pack(">I4s", len(box) + 16, b"asoc") + jp2(box.encode())[-len(box) - 8 :],
    )

    for found in (in_tiff, in_jp2, inside_a_box):
        assert found is not None
        assert found.target == VICTIM
        assert domain in found.kind or "sub-datasets" in found.kind


@for_each(
    "text",
    [
        "<Item name='FILENAME' domain='OVERVIEWS'>{}</Item>",
        '<Item name="x" DOMAIN="overviews">{}</Item>',
        '<Item name="x" domain = "&#79;VERVIEWS">{}</Item>',
        '<Item name="x"><domain>OVERVIEWS</domain>{}</Item>',
        '<item domain="OVERVIEWS"><![CDATA[{}]]></item>',
        '<!-- > --><Item a=">" domain="OVERVIEWS">{}</Item>',
    ],
)
def test_a_domain_however_it_is_written(text: str, tmp_path: Path) -> None:
    """GDAL takes names in any case, elements for attributes, and either quotes."""
    body = f"<GDALMetadata>{text.format(VICTIM)}</GDALMetadata>".encode()

    found = look(tmp_path / "p", tiff([*PIXEL, (42112, 2, body)]))

    assert found is not None
    assert "overviews" in found.kind.casefold()


@for_each(
    "text",
    [
        "<GDALMetadata><Item name=x domain=OVERVIEWS>{}</Item></GDALMetadata>",
        '<GDALMetadata/><GDALMetadata><Item domain="OVERVIEWS">{}</Item></GDALMetadata>',
        '<!DOCTYPE a [<!ENTITY o "OVERVIEWS">]><a><Item domain="&o;">{}</Item></a>',
        "<GDALMetadata><?a <Item domain='OVERVIEWS'>{}</Item> ?></GDALMetadata>",
        '<GDALMetadata><Item domain="OVERVIEWS">{}',
    ],
)
def test_metadata_that_readers_take_in_several_ways(text: str, tmp_path: Path) -> None:
    """GDAL reads more than XML; what it would find there is not guessed."""
    body = text.format(VICTIM).encode()

    for made in (tiff([*PIXEL, (42112, 2, body)]), jp2(b"<!--GDALMultiDomainMetadata-->" + body)):
        with pytest.raises(CorruptFileError, match="metadata of GDAL"):
            look(tmp_path / "p", made)


def test_metadata_of_plain_values(tmp_path: Path) -> None:
    """What producers write is no reason to refuse, whatever words stand in it."""
    plain = metadata(
        ("", "DESCRIPTION", 'see domain="OVERVIEWS", SUBDATASETS and <b>/vsicurl/…</b> & more'),
        ("", "TIFFTAG_DATETIME", "2024:05:01 00:00:00"),
        ("IMAGE_STRUCTURE", "INTERLEAVE", "BAND"),
        ("Image_Structure", "NBITS", "1"),
        ("RPC", "LINE_OFF", "1.5"),
        ("COLOR_PROFILE", "SOURCE_ICC_PROFILE", "AAAA"),
        ("EXIF", "EXIF_Model", "x"),
        ("xml:XMP", "0", "<x/>"),
        ("json:ISIS3", "0", "{}"),
    )
    for body in (plain, b"", b"\0", b" \n\0", plain + b"\0<Item domain='OVERVIEWS'/>", b"\xff\0"):
        if body == b"\xff\0":
            body = plain.replace(b"see", b"s\xe9e")  # noqa: PLW2901  (not in UTF-8)
        assert look(tmp_path / "p", tiff([*PIXEL, (42112, 2, body)])) is None
    assert look(tmp_path / "p", jp2(b"<other domain='OVERVIEWS'>")) is None


@pytest.mark.parametrize("order", [1, -1])
def test_metadata_that_stand_there_twice(order: int, tmp_path: Path) -> None:
    """Of several entries of one tag each is looked at: readers take one or another."""
    both = [
        (42112, 2, metadata(("OVERVIEWS", "OVERVIEW_FILE", VICTIM))),
        (42112, 2, metadata(("", "a", "b"))),
    ]

    found = look(tmp_path / "p", tiff([*PIXEL, *both[::order]]))

    assert found is not None
    assert found.target == VICTIM
    nothing: Tag = (42112, 99, b"\0")  # of a type that readers skip
    assert look(tmp_path / "p", tiff([*PIXEL, nothing, *both[::order]])) is not None


@pytest.mark.parametrize("tag", [273, 279])
def test_of_strips_that_are_told_twice_the_first_count(tag: int, tmp_path: Path) -> None:
    """A TIFF is complete if the file holds the strips that libtiff reads: those told first."""
    path = tmp_path / "p.tif"
    far: Tag = (tag, 4, struct.pack("<I", 1 << 20))
    path.write_bytes(tiff([*PIXEL, far]))
    check_complete(path)

    path.write_bytes(tiff([far, *PIXEL]))
    with pytest.raises(ProductFormatError):
        check_complete(path)


def test_libtiff_reads_the_first_of_two_entries(tmp_path: Path) -> None:
    """That is what GDAL does: the strip and the metadata told last are nowhere to be seen."""
    rasterio = pytest.importorskip("rasterio")
    path = tmp_path / "p.tif"
    body = bytearray(
        tiff(
            [
                *PIXEL,
                (273, 4, struct.pack("<I", 9)),
                (42112, 2, metadata(("", "which", "first"))),
                (42112, 2, metadata(("", "which", "second"))),
            ]
        )
    )
    body[8:10] = b"\5\6"
    path.write_bytes(body)

    with pytest.warns():
        file = rasterio.open(path)
    with file:
        assert file.tags()["which"] == "first"
        assert file.read().tolist() == [[[5]]]
