"""``fs.download``: products under the names with which the service delivers them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from upath import UPath

from hda_fsspec import Location
from hda_fsspec.emulator import Fault, ProductEntry
from hda_fsspec.errors import HDAError
from hda_fsspec.fs.files import Deliveries
from hda_fsspec.records import Product

HOSTILE = ("../../escaped.csv", "/etc/passwd", "..", "a\\..\\b.csv", ".hidden", "x" * 300 + ".csv")


def products(names: dict[str, str | None]) -> list[ProductEntry]:
    """Return products that are delivered under these names."""
    return [
        ProductEntry(
            product_id,
            product_id.encode(),
            f"2024-05-{day:02}T00:00:00.000Z",
            f"2024-05-{day:02}T23:59:59.999Z",
            delivered_name=name,
        )
        for day, (product_id, name) in enumerate(names.items(), start=1)
    ]


def test_names_are_the_delivered_ones_in_order(bench: Any, tmp_path: Path) -> None:
    """The paths come in the order of the products, whichever arrives first."""
    emulator = bench.start(products=products({"a": "A.csv", "b": "B.txt", "c": None}))
    emulator.fault(Fault("slow", product_id="a", value=50))
    fs = bench.filesystem(emulator)

    paths = fs.download([bench.query + "/c", Location.parse(bench.query)], tmp_path / "new" / "out")

    assert [Path(path).name for path in paths] == ["c", "A.csv", "B.txt", "c"]
    assert [Path(path).read_bytes() for path in paths] == [b"c", b"a", b"b", b"c"]
    assert sorted(p.name for p in (tmp_path / "new" / "out").iterdir()) == ["A.csv", "B.txt", "c"]


@pytest.mark.slow
@pytest.mark.parametrize("last", ["a", "b", "c"])
def test_products_of_one_name_each_get_their_id(bench: Any, tmp_path: Path, last: str) -> None:
    """Which of them arrives first decides nothing."""
    names: dict[str, str | None] = {
        "a": "same.csv",
        "b": "same.csv",
        "c": "same.csv",
        "d": "other.csv",
    }
    emulator = bench.start(products=products(names), preparation_seconds=0.0)
    emulator.fault(Fault("slow", product_id=last, value=30))
    fs = bench.filesystem(emulator)

    paths = fs.download(bench.query, tmp_path)

    assert [Path(path).name for path in paths] == [
        *("a_same.csv", "b_same.csv", "c_same.csv"),
        "other.csv",
    ]
    assert [Path(path).read_bytes() for path in paths] == [b"a", b"b", b"c", b"d"]
    assert not (tmp_path / "same.csv").exists()


@pytest.mark.slow
def test_hostile_names_stay_in_the_folder(bench: Any, tmp_path: Path) -> None:
    """Whatever Content-Disposition or the id says, each file lies in the folder that was given."""
    names: dict[str, str | None] = {f"p{i}": name for i, name in enumerate(HOSTILE)}
    names |= {"../up": "same", "../../up": "same", "a/b": "same"}
    fs = bench.filesystem(bench.start(products=products(names)))
    folder = tmp_path / "deep" / "er" / "out"

    paths = [Path(path) for path in fs.download(bench.query, folder)]

    assert {path.parent for path in paths} == {folder}
    assert [path.read_bytes() for path in paths] == [one.encode() for one in names]
    assert set(tmp_path.rglob("*.csv")) <= {*paths, *bench.cache_dir.rglob("*")}


def test_a_name_that_looks_like_a_made_one_is_not_overwritten(tmp_path: Path) -> None:
    """A delivered name equal to an id in front of another name costs neither file."""
    deliveries = Deliveries(tmp_path)
    given = [("1", "b_x"), ("a", "x"), ("b", "x"), ("2", "a_x"), ("3", "b-2_x")]

    for product_id, name in given:
        source = tmp_path / "source"
        source.write_text(product_id)
        deliveries.add(Product("EO:X", product_id), name, source.open("rb"))

    found = {product.product_id: path.read_text() for product, path in deliveries.paths.items()}
    assert found == {product_id: product_id for product_id, _ in given}


def test_a_name_that_is_the_id_gets_the_data_set_in_front(tmp_path: Path) -> None:
    """Where two data sets have a product of one id, and it is the name, the id is not doubled."""
    deliveries = Deliveries(tmp_path)
    source = tmp_path / "source"
    for dataset in ("EO:A", "EO:B/../C"):
        source.write_text(dataset)
        deliveries.add(Product(dataset, "p.nc"), "p.nc", source.open("rb"))

    names = [path.name for path in deliveries.paths.values()]
    assert names == ["EO_A_p.nc", "EO_B_.._C_p.nc"]
    assert all((tmp_path / name).is_file() for name in names)


def test_two_data_sets_may_share_ids_and_names(tmp_path: Path) -> None:
    """Equal ids under equal names are numbered."""
    deliveries = Deliveries(tmp_path)
    source = tmp_path / "source"
    for dataset in ("EO:A", "EO:B", "EO:C"):
        source.write_text(dataset)
        deliveries.add(Product(dataset, "p"), "x.csv", source.open("rb"))

    texts = {product.dataset_id: path.read_text() for product, path in deliveries.paths.items()}
    assert texts == {"EO:A": "EO:A", "EO:B": "EO:B", "EO:C": "EO:C"}


def test_a_failure_leaves_the_others_and_no_half_file(bench: Any, tmp_path: Path) -> None:
    """One product that cannot be had stops none of the others."""
    emulator = bench.start(products=products({"a": "A.csv", "b": "B.csv", "c": "C.csv"}))
    emulator.fault(Fault("order-failed", product_id="b", times=None))
    fs = bench.filesystem(emulator)

    with pytest.raises(HDAError, match="b"):
        fs.download(bench.query, tmp_path / "out")

    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["A.csv", "C.csv"]


@pytest.mark.slow
def test_download_needs_no_cache_for_all_at_once(bench: Any, tmp_path: Path) -> None:
    """A cache with room for what is transferred at one time is enough to copy many out of it."""
    emulator = bench.start(days=30)
    fs = bench.filesystem(emulator, cache_max_bytes=10 * 2032)

    paths = fs.download(bench.query, tmp_path / "out")

    assert [Path(path).read_bytes() for path in paths] == [bench.body(d) for d in range(1, 31)]
    assert emulator.orders == 30
    with pytest.raises(OSError, match="cache_max_bytes"):
        fs.prefetch(bench.query)


def test_download_replaces_older_files_only_when_complete(bench: Any, tmp_path: Path) -> None:
    """A repeated download is from the cache, and a `~` in the target is the home folder.

    A file of somebody else that has the name stays, and the product gets another one.
    """
    emulator = bench.start(days=2)
    fs = bench.filesystem(emulator)
    (tmp_path / bench.product_id(1)).write_bytes(b"old")

    first = fs.download(bench.query, str(tmp_path))
    second = fs.download(bench.query, "~/data")

    assert [Path(p).read_bytes() for p in (*first, *second)] == 2 * [bench.body(1), bench.body(2)]
    assert [Path(p).parent for p in second] == 2 * [Path.home() / "data"]
    assert emulator.downloads == 2
    assert (tmp_path / bench.product_id(1)).read_bytes() == b"old"
    assert fs.download(bench.query, str(tmp_path)) == first


TARGETS = {
    "mine.nc": "mine.nc",
    "new/deep/mine.nc": "new/deep/mine.nc",
    "mine": "mine",
    "there": "there/A.csv",
    "there/": "there/A.csv",
    "new/": "new/A.csv",
    "old.nc": "old.nc",
}


@pytest.mark.parametrize("kind", [str, Location.parse, UPath])
def test_one_product_and_a_target_that_is_no_folder(bench: Any, tmp_path: Path, kind: Any) -> None:
    """That file is written, as in all of fsspec; a folder, or what ends as one does, stays one."""
    fs = bench.filesystem(bench.start(products=products({"a": "A.csv"})))
    for number, (target, written) in enumerate(TARGETS.items()):
        folder = tmp_path / str(number)
        (folder / "there").mkdir(parents=True)
        (folder / "old.nc").write_bytes(b"old")

        paths = fs.download(kind(bench.query + "/a"), f"{folder}/{target}")

        assert paths == [str(folder / written)], target
        assert (folder / written).read_bytes() == b"a", target
        assert not list(folder.rglob(".*.part")), target


def test_several_products_need_a_folder(bench: Any, tmp_path: Path) -> None:
    """A list, a query and a pattern go into a folder, also if they mean one product."""
    fs = bench.filesystem(bench.start(products=products({"a": "A.csv"})))

    for number, many in enumerate(([bench.query + "/a"], bench.query, bench.query + "/*")):
        paths = fs.download(many, tmp_path / f"{number}.nc")
        assert paths == [str(tmp_path / f"{number}.nc" / "A.csv")]


def test_a_file_is_written_where_the_user_is(
    bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bare name is a file in the working folder, and `~` is the home folder."""
    fs = bench.filesystem(bench.start(days=1))
    monkeypatch.chdir(tmp_path)

    assert fs.download(bench.path(1), "mine.nc") == ["mine.nc"]
    fs.download(bench.path(1), "~/mine.nc")

    assert Path("mine.nc").read_bytes() == bench.body(1)
    assert (Path.home() / "mine.nc").read_bytes() == bench.body(1)


def test_a_product_that_cannot_be_had_leaves_the_file_as_it_was(bench: Any, tmp_path: Path) -> None:
    """The file that was there is replaced only by a complete one."""
    emulator = bench.start(days=1)
    emulator.fault(Fault("order-failed", times=None))
    (tmp_path / "mine.nc").write_bytes(b"old")

    with pytest.raises(HDAError):
        bench.filesystem(emulator).download(bench.path(1), tmp_path / "mine.nc")

    assert [path.name for path in tmp_path.glob("*.nc")] == ["mine.nc"]
    assert (tmp_path / "mine.nc").read_bytes() == b"old"
