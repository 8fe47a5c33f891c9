"""Names of files in the cache: whatever the service calls a product, it stays inside."""

from __future__ import annotations

from pathlib import Path

import pytest
from cached_products import product, put
from hypothesis import given
from random_inputs import any_text
from rows import for_each

from hda_fsspec.cache.cache import Cache
from hda_fsspec.cache.product_entries import RECORD_NAME, safe_name


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    """Return a cache without bound."""
    return Cache(tmp_path / "cache", max_bytes=None)


@for_each(
    ("name", "expected"),
    [
        ("S3A.SEN3.zip", "S3A.SEN3.zip"),
        ("../../etc/passwd", "passwd"),
        ("/etc/passwd", "passwd"),
        ("..\\..\\boot.ini", "boot.ini"),
        ("C:\\x\\y.nc", "y.nc"),
        ("..", "fallback"),
        (".", "fallback"),
        ("", "fallback"),
        ("/", "fallback"),
        ("a/..", "fallback"),
        (".bashrc", "bashrc"),
        ("...x", "x"),
        ("a\0b\nc\x1b.nc", "abc.nc"),
        ("a\u202egnp.nc", "agnp.nc"),
        ("%2e%2e%2fx", "%2e%2e%2fx"),
        ("record.json", "product-record.json"),
        ("RECORD.JSON", "product-RECORD.JSON"),
        ("  ", "fallback"),
        ("a" * 300 + ".nc", "a" * 197 + ".nc"),
        ("é" * 200 + ".zip", "é" * 98 + ".zip"),
        ("a." + "b" * 300, "a." + "b" * 198),
    ],
)
def test_hostile_names_stay_in_their_folder(name: str, expected: str) -> None:
    """Separators, dots, control characters and length cannot lead elsewhere."""
    assert safe_name(name, "fallback") == expected


@pytest.mark.slow
@given(any_text(), any_text())
def test_safe_names_are_safe_and_stable(name: str, fallback: str) -> None:
    """Whatever comes in, the name is one path component, printable, and safe once more."""
    safe = safe_name(name, fallback)

    assert safe
    assert safe not in {".", "..", RECORD_NAME}
    assert not safe.startswith(".")
    assert not set(safe) & {"/", "\\", "\0"}
    assert len(safe.encode()) <= 200
    assert safe_name(safe, "") == safe


def test_hostile_name_is_published_inside(cache: Cache) -> None:
    """A delivered name that points outside ends up in the entry's folder."""
    entry = put(cache, product(), name="../../../../../../tmp/evil.nc")

    assert entry.path.name == "evil.nc"
    assert cache.root in entry.path.parents
