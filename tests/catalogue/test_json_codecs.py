"""Listings on disk: any products come back as they were, small and quickly."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from checkout import ROOT
from hypothesis import given
from hypothesis import strategies as st
from random_inputs import any_text
from rows import for_each

from hda_fsspec.cache.metadata import JsonStore
from hda_fsspec.catalogue.json_codecs import pack_products, unpack_products
from hda_fsspec.records import Product


def _many(count: int) -> list[Product]:
    """Return products as a search of a large archive gives them."""
    return [
        Product(
            "EO:TEST:DAT",
            f"S3A_OL_2_WFR____20240501T0000{number}_20240501T000000_0180_092_194_2340.SEN3",
            location="https://example.invalid/data/collections/" + "x" * 80 + str(number),
            size=number or None,
            startdate="2024-05-01T00:00:00.000Z",
            enddate="2024-05-01T00:03:00.000Z",
            properties=(("cloud", number / 7), ("orbit", number), ("mode", "NRT")),
        )
        for number in range(count)
    ]


@pytest.mark.slow
def test_a_large_listing_is_small_and_little_more_than_json(tmp_path: Path) -> None:
    """Ten thousand products are a few MB on disk, and cost little more than the JSON they are."""
    root = tmp_path / "cache"
    products = _many(10_000)
    store = JsonStore(root, "listings")
    store.put("query", pack_products(products))
    file = next((root / "v1" / "listings").rglob("*.note"))
    assert file.stat().st_size < 5_000_000

    script = (
        "import json, sys, time; from pathlib import Path;"
        "from hda_fsspec.cache.metadata import JsonStore;"
        "from hda_fsspec.catalogue.json_codecs import unpack_products;"
        "start = time.process_time();"
        "json.loads(Path(sys.argv[2]).read_bytes()); middle = time.process_time();"
        "products = unpack_products(JsonStore(Path(sys.argv[1]), 'listings').get('query'));"
        "print(len(products), (time.process_time() - middle) / (middle - start))"
    )
    for _ in range(3):  # of which the best counts: the machine has other work, too
        done = subprocess.run(
            [sys.executable, "-c", script, str(root), str(file)],
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
        )
        count, ratio = done.stdout.split()
        assert int(count) == 10_000
        if float(ratio) < 5:
            break
    assert float(ratio) < 5
    assert unpack_products(store.get("query")) == products


_TEXT = any_text(max_size=10)
_MAYBE = st.none() | _TEXT


@pytest.mark.slow
@given(
    st.lists(
        st.builds(
            Product,
            _TEXT,
            _TEXT,
            _TEXT,
            st.none() | st.integers(),
            _MAYBE,
            _MAYBE,
            _MAYBE,
            st.dictionaries(
                _TEXT, _TEXT | st.integers() | st.booleans() | st.floats(allow_nan=False)
            ).map(lambda facts: tuple(facts.items())),
        )
    )
)
def test_packing_is_undone_by_unpacking(products: list[Product]) -> None:
    """Any products come back as they were."""
    assert unpack_products(pack_products(products)) == products


@for_each("value", [None, 3, [], {}, {"dataset_id": ["a"]}, "text"])
def test_anything_else_is_no_listing(value: object) -> None:
    """A value of another shape, or with columns of unequal length, is not known."""
    assert unpack_products(value) is None
    packed = pack_products(_many(3))
    packed["size"].pop()
    assert unpack_products(packed) is None
