"""Files without a format of their own: pages instead of products, text; and usual suffixes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from rows import for_each

from hda_fsspec.errors import ProductFormatError
from hda_fsspec.formats.detect import Format, extension


@pytest.mark.parametrize(
    "body",
    [
        b"<!DOCTYPE html>\n<html><body>Sign in</body></html>",
        b"\n  <HTML><head>",
        b'\xef\xbb\xbf<?xml version="1.0"?>\n<!doctype HTML public>',
        b'{"status_code":500,"title":"Task Error","detail":"Internal Server Error"}',
        b'{"detail":[{"loc":["body"],"msg":"field required","type":"value_error"}]}',
        b'{"status": 403, "title": "Forbidden"}',
        b'{"error": "invalid_token"}',
    ],
)
def test_page_instead_of_a_product_is_refused(check: Callable[..., Format], body: bytes) -> None:
    """An HTML page or a JSON error body is not taken for a product."""
    with pytest.raises(ProductFormatError, match="a page instead of the product"):
        check(body)


@pytest.mark.parametrize(
    "body",
    [
        b"d41d8cd98f00b204e9800998ecf8427e",
        b"station;time;value\n1;2024-05-01;3.5\n",
        b"<?xml version='1.0'?><metadata><html_link/></metadata>",
        b'{"type": "FeatureCollection", "features": [], "title": "t"}',
        b'{"stations": [{"id": 1}]}',
        b'[{"detail": 1}]',
        b"{" * 60_000,
        b'{"a":' + b"[" * 60_000,
        b"<html>" + b"x" * 64 * 1024,
    ],
    ids=lambda body: body[:20],
)
def test_text_is_accepted(check: Callable[..., Format], body: bytes) -> None:
    """Files of formats without a stated length pass if there is anything in them."""
    assert check(body) is Format.OTHER


@for_each(
    ("format_", "name", "expected"),
    [
        (Format.HDF5, "S6A_P4_2__LR", ".nc"),
        (Format.HDF5, "day.h5", ""),
        (Format.NETCDF3, "day.NC", ""),
        (Format.NETCDF3, "day.zip", ".nc"),
        (Format.GRIB, "adaptor.mars.internal-1", ".grib"),
        (Format.GRIB, "day.grb2", ""),
        (Format.TIFF, "DEM.dt2", ".tif"),
        (Format.JP2, "B02", ".jp2"),
        (Format.ZIP, "X.SEN3", ".zip"),
        (Format.TAR, "X.SAFE", ".tar"),
        (Format.GZIP, "X.tar", ".gz"),
        (Format.GZIP, "X.tgz", ""),
        (Format.OTHER, "notes", ""),
    ],
)
def test_extension_is_added_where_none_fits(format_: Format, name: str, expected: str) -> None:
    """A name keeps a suffix that fits its content and else gets the usual one."""
    assert extension(format_, name) == expected


def test_every_format_but_other_has_an_extension() -> None:
    """No format was forgotten."""
    assert [f for f in Format if not extension(f, "name")] == [Format.OTHER]
