"""Product ids as no service should make them: each can still be listed, read and copied."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.utils import other_paths
from hypothesis import given, settings
from hypothesis import strategies as st
from random_inputs import CHARACTERS, examples

from hda_fsspec import HDAFileSystem, Location
from hda_fsspec.emulator import Catalogue, DatasetEntry, Emulator, ProductEntry

DATASET = "EO:TEST:DAT:ODD"
QUERY = f"hda://{DATASET}/enddate=2024-05-31/startdate=2024-05-01"

ODD = (
    *("a b.csv", " a", "a ", "100%.csv", "%41", "%", "a?b", "a*b", "**", "[a]", "[!a]", "a]b"),
    *("a#b", "a=b", "=", "a,b", ",", "a::b", "::", ":", "a:b", "hda:", "hda://x/y", "a/b", "/"),
    *(".", "..", "...", ".hidden", "../../etc/passwd", "~", "~user", "$HOME", "{a}", "a\\b", "\\"),
    *(
        "é",
        "日本語.csv",
        "a\u00a0b",
        "a\u2028b",
        "\u0007bell",
        "e\u0301",
        "😀",
        "|",
        "a;b",
        "'\"",
        "-rf",
    ),
    *("startdate=2024", "a&b", "a+b", "x" * 180, "CON", "a\tb", "a\nb", "*", "?"),
)

TEXT = st.text(
    st.one_of(st.sampled_from(" %?*[]#=,:/\\.~é日\u00a0"), CHARACTERS),
    min_size=1,
    max_size=12,
)


def body_of(product_id: str) -> bytes:
    """Return bytes that tell an id, as a file of a known format: some ids promise one."""
    return b"CDF\x01" + bytes(28) + product_id.encode()


def product(product_id: str) -> ProductEntry:
    """Return a product whose bytes tell its id."""
    return ProductEntry(
        product_id,
        body_of(product_id),
        "2024-05-02T00:00:00.000Z",
        "2024-05-02T23:59:59.999Z",
        delivered_name="same.bin",
    )


def start(ids: list[str]) -> Emulator:
    """Return an emulator, not started, that offers these products."""
    return Emulator(Catalogue([DatasetEntry(DATASET, [product(one) for one in ids])]))


def filesystem(emulator: Emulator, folder: Path) -> HDAFileSystem:
    """Return a filesystem with its cache in a folder."""
    return HDAFileSystem(cache_dir=folder / "cache", **emulator.storage_options)


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Serve all odd ids at once."""
    with start(list(ODD)) as emulator:
        yield emulator, tmp_path_factory.mktemp("odd")


def check_round_trip(fs: Any, ids: list[str], folder: Path) -> None:
    """Check ls → info → exists → glob → cat → get for all ids."""
    listed = {info["product_id"]: info for info in fs.ls(QUERY)}
    names = sorted(info["name"] for info in listed.values())

    assert set(listed) == set(ids)
    assert len(set(names)) == len(ids)
    assert fs.find(QUERY) == fs.glob(QUERY + "/*") == names
    for product_id, info in listed.items():
        path = info["name"]
        assert Location.parse(path) == Location.parse(QUERY).child(product_id)
        assert fs._strip_protocol(fs.unstrip_protocol(path)) == path
        assert fs._parent(path) == fs._strip_protocol(QUERY)
        assert not set("*?[#") & set(path)
        assert fs.info(path) == info
        assert [fs.exists(path), fs.isfile(path), fs.isdir(path)] == [True, True, False]
        assert fs.glob(path) == fs.find(path) == fs.expand_path(path) == [path]
    expected = {info["name"]: body_of(one) for one, info in listed.items()}
    assert fs.cat(names) == expected
    fs.get(QUERY + "/", f"{folder}/got", recursive=True)
    got = {path.name: path.read_bytes() for path in (folder / "got").iterdir()}
    assert got == {name.rpartition("/")[2]: body for name, body in expected.items()}
    downloaded = fs.download(QUERY, folder / "downloaded")
    assert {Path(path).parent for path in downloaded} == {folder / "downloaded"}
    assert sorted(Path(path).read_bytes() for path in downloaded) == sorted(expected.values())


@pytest.mark.slow
def test_each_odd_id_goes_all_the_way(odd: Any) -> None:
    """Spaces, escapes, glob characters, separators, dots: listed, read and copied."""
    emulator, folder = odd
    check_round_trip(filesystem(emulator, folder), list(ODD), folder)


@pytest.mark.parametrize(
    "product_id", ["a b.csv", "100%.csv", "a?b", "[a]", "a::b", "..", "a/b", "é"]
)
def test_an_odd_id_opens_by_its_url(odd: Any, product_id: str, tmp_path: Path) -> None:
    """fsspec.open, open_local and get of one product take the canonical path as it is."""
    emulator, folder = odd
    fs = filesystem(emulator, folder)
    options = fs.storage_options | {"password": emulator.password}
    path = Location.parse(QUERY).child(product_id).path
    body = body_of(product_id)

    with fsspec.open(path, hda=options) as handle:
        assert handle.read() == body
    assert Path(fsspec.open_local(path, hda=options)).read_bytes() == body
    fs.get(path, f"{tmp_path}/")
    assert [p.read_bytes() for p in tmp_path.iterdir() if p.is_file()] == [body]


@pytest.mark.slow
@given(ids=st.lists(TEXT, min_size=1, max_size=6, unique=True))
@settings(derandomize=True, deadline=None, max_examples=examples(4))
def test_any_ids_go_all_the_way(ids: list[str]) -> None:
    """Whatever the catalogue calls its products, listing, reading and copying agree."""
    with tempfile.TemporaryDirectory() as name, start(ids) as emulator:
        fs = filesystem(emulator, Path(name))

        check_round_trip(fs, ids, Path(name))


@pytest.mark.slow
@given(ids=st.lists(TEXT, min_size=1, max_size=6, unique=True))
@settings(derandomize=True, deadline=None, max_examples=examples(90))
def test_names_of_copies_stay_in_their_folder(ids: list[str]) -> None:
    """The names that fsspec makes of our paths for ``get`` lie in the target, each its own."""
    paths = [HDAFileSystem._strip_protocol(Location(DATASET, product=one)) for one in ids]

    targets = [Path(one) for one in other_paths(paths, "/target/", flatten=True)]

    assert len(set(targets)) == len(ids)
    assert all(target.parent == Path("/target") for target in targets)
    assert all(target.name not in {"", ".", ".."} for target in targets)
