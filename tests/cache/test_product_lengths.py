"""Lengths: the true sizes of products, remembered by all processes of a cache folder."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from costs import cpu_seconds

from hda_fsspec.cache.product_lengths import KnownSizes
from hda_fsspec.records import Product

_PRODUCT = Product("EO:TEST:DAT", "p1", size=5)


def _many(count: int) -> list[Product]:
    """Return products of one data set."""
    return [
        Product("EO:TEST:DAT", f"S3A_OL_2_WFR____{number}.SEN3", size=number or None)
        for number in range(count)
    ]


def _only_file(folder: Path) -> Path:
    (path,) = (path for path in folder.rglob("*") if path.is_file())
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a cache folder that does not exist yet."""
    return tmp_path / "cache"


def test_lengths_are_remembered_by_version(root: Path) -> None:
    """The true length of a version is known to other processes, also after a change."""
    ours, theirs = KnownSizes(root), KnownSizes(root)
    ours.record(_PRODUCT, 7)

    assert theirs.length_of(_PRODUCT) == 7
    theirs.record(_PRODUCT, 8)
    assert ours.length_of(_PRODUCT) == 8
    assert ours.length_of(Product("EO:TEST:DAT", "p1", size=6)) is None
    assert ours.length_of(Product("EO:OTHER:DAT", "p1", size=5)) is None


def test_sizes_of_the_catalogue_must_prove_exact(root: Path) -> None:
    """At least one size compared, and none ever wrong; "ND" proves nothing."""
    lengths = KnownSizes(root)

    def exact(dataset_id: str) -> bool:
        return lengths.sizes_of([Product(dataset_id, "never seen", size=9)]) == [9]

    lengths.record(Product("EO:TEST:DAT", "nd"), 3)
    assert exact("EO:TEST:DAT") is False
    lengths.record(Product("EO:TEST:DAT", "a", size=3), 3)
    assert exact("EO:TEST:DAT") is True
    assert exact("EO:OTHER:DAT") is False
    lengths.record(Product("EO:TEST:DAT", "b", size=3), 4)
    lengths.record(Product("EO:TEST:DAT", "c", size=3), 3)
    assert exact("EO:TEST:DAT") is False
    assert KnownSizes(root).sizes_of([Product("EO:TEST:DAT", "x", size=9)]) == [None]


def test_sizes_of_many_products(root: Path) -> None:
    """A true length wins; without one the catalogue's size serves where sizes proved exact."""
    lengths = KnownSizes(root)
    exact = [Product("EO:EXACT:DAT", name, size=3) for name in "ab"]
    wrong = [Product("EO:WRONG:DAT", name, size=3) for name in "ab"]
    changed = Product("EO:EXACT:DAT", "a", size=4)
    lengths.record(exact[0], 3)
    lengths.record(wrong[0], 5)

    found = lengths.sizes_of([*exact, *wrong, changed, Product("EO:OTHER:DAT", "a", size=3)])
    assert found == [3, 3, 5, None, 4, None]
    assert KnownSizes(root / "other").sizes_of(exact) == [None, None]


def test_same_length_is_noted_once(root: Path) -> None:
    """The log does not grow by what is known."""
    lengths = KnownSizes(root)
    lengths.record(_PRODUCT, 7)
    size = _only_file(root / "v1" / "lengths").stat().st_size
    lengths.record(_PRODUCT, 7)

    assert _only_file(root / "v1" / "lengths").stat().st_size == size


def test_damaged_lines_of_lengths_are_skipped(root: Path) -> None:
    """A torn or altered line costs itself and no other."""
    lengths = KnownSizes(root)
    names = "abcd"
    for number, name in enumerate(names):
        lengths.record(Product("EO:TEST:DAT", name), 1000 + number)
    path = _only_file(root / "v1" / "lengths")
    data = path.read_bytes()
    torn = data[: len(data) - 10].replace(b"\t1001\t", b"\t9001\t")
    path.write_bytes(b"\xff\n\n\t\t\t\t" + torn)
    later = KnownSizes(root)

    found = [later.length_of(Product("EO:TEST:DAT", name)) for name in names]
    assert found == [1000, None, 1002, None]

    later.record(Product("EO:TEST:DAT", "e"), 5)
    assert KnownSizes(root).length_of(Product("EO:TEST:DAT", "e")) == 5
    assert later.length_of(Product("EO:TEST:DAT", "e")) == 5


def test_line_that_is_still_being_written_is_read_when_it_is_whole(root: Path) -> None:
    """A reader that meets half a line looks at it again."""
    KnownSizes(root).record(_PRODUCT, 7)
    path = _only_file(root / "v1" / "lengths")
    data = path.read_bytes()
    path.write_bytes(data[:-4])
    reader = KnownSizes(root)

    assert reader.length_of(_PRODUCT) is None
    path.write_bytes(data)
    assert reader.length_of(_PRODUCT) == 7


def test_shortened_log_is_read_anew(root: Path) -> None:
    """A log that was deleted and begun again is not read from the middle."""
    lengths = KnownSizes(root)
    for name in "abc":
        lengths.record(Product("EO:TEST:DAT", name), 1)
    path = _only_file(root / "v1" / "lengths")
    path.unlink()
    assert lengths.length_of(Product("EO:TEST:DAT", "a")) is None
    KnownSizes(root).record(Product("EO:TEST:DAT", "b"), 2)

    assert lengths.length_of(Product("EO:TEST:DAT", "a")) is None
    assert lengths.length_of(Product("EO:TEST:DAT", "b")) == 2


def test_many_writers_lose_no_length(root: Path) -> None:
    """Lines that are appended at the same time all arrive."""
    products = _many(200)

    def note(part: int) -> None:
        lengths = KnownSizes(root)
        for product in products[part::4]:
            lengths.record(product, len(product.product_id))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(note, range(4)))

    later = KnownSizes(root)
    assert all(later.length_of(product) for product in products)


@pytest.mark.slow
def test_thousands_of_lengths_are_asked_quickly(root: Path) -> None:
    """Listing a large directory may ask for the length of each product: each costs the same."""
    products = _many(2_000)
    lengths = KnownSizes(root)
    lengths.record(products[0], 1)

    def ask(count: int) -> list[int | None]:
        return [lengths.length_of(product) for product in products[:count]]

    few = cpu_seconds(lambda: ask(100), tries=3)
    assert cpu_seconds(lambda: ask(2_000), tries=3) < 3 * 20 * few
