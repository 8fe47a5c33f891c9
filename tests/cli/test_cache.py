"""``hda-fsspec cache``: what is shown, checked and removed."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hda_fsspec import HDAFileSystem
from hda_fsspec.cache.cache import Cache
from hda_fsspec.cache.metadata import MetadataStore
from hda_fsspec.cache.orders import OrderBook
from hda_fsspec.cli import main
from hda_fsspec.errors import OfflineError
from hda_fsspec.records import Product

Run = Callable[..., tuple[int, list[str], str]]


@pytest.fixture
def run(bench: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run ``cache`` with some words, in a cache that holds five products."""
    emulator = bench.start(5)
    fs = bench.filesystem(emulator)
    fs.prefetch(bench.query)
    monkeypatch.setenv("HDA_ENDPOINT_URL", emulator.url)
    monkeypatch.setenv("HDA_CACHE_DIR", str(bench.cache_dir))

    def call(*words: str) -> tuple[int, list[str], str]:
        capsys.readouterr()
        code = main(["cache", *words])
        out, err = capsys.readouterr()
        return code, out.splitlines(), err

    return call


def _files(bench: Any) -> list[Path]:
    return sorted(entry.path for entry in Cache(bench.cache_dir).entries())


def test_ls_shows_the_last_used_first(bench: Any, run: Run) -> None:
    """Each product has a line with size, last use, and a path that opens."""
    used = time.time() + 3000
    [third] = [path for path in _files(bench) if path.name == bench.product_id(3)]
    os.utime(third.parent / "record.json", (used, used))

    code, lines, _ = run("ls")

    assert code == 0
    assert len(lines) == 6
    assert lines[0].split()[0] == "SIZE"
    assert lines[1].split()[0:2] == ["2.0", "kB"]
    path = lines[1].split()[-1]
    assert path == f"hda://{bench.dataset}/{bench.product_id(3)}"
    assert HDAFileSystem(offline=True).cat(path) == bench.body(3)
    assert main(["--offline", "info", path]) == 0


def test_ls_shows_whose_products_are_of_another_broker(
    bench: Any, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the settings as they are such a path does not open, so it is said what it takes."""
    address = os.environ["HDA_ENDPOINT_URL"]
    monkeypatch.delenv("HDA_ENDPOINT_URL")

    _, lines, _ = run("ls")

    assert lines[0].split()[-2:] == ["PATH", "HDA_ENDPOINT_URL"]
    path, broker = lines[1].split()[-2:]
    assert broker == address
    with pytest.raises(OfflineError):
        HDAFileSystem(offline=True).cat(path)
    assert HDAFileSystem(offline=True, endpoint_url=broker).size(path) == len(bench.body())


def test_ls_and_du_of_no_cache_make_none(bench: Any, run: Run) -> None:
    """Looking at a cache folder that is not there neither fails nor makes it."""
    folder = bench.folder / "none"

    code, lines, err = run("ls", "--cache-dir", str(folder))
    du_code, du_lines, _ = run("du", "--cache-dir", str(folder))

    assert (code, lines) == (0, [])
    assert "no products" in err
    assert du_code == 0
    assert "products: 0 B in 0 files" in du_lines
    assert not folder.exists()


def test_du_shows_what_is_held_and_the_bound(
    bench: Any, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``du`` counts complete files and unfinished ones, and names the bound."""
    monkeypatch.setenv("HDA_CACHE_MAX_BYTES", "2GB")

    code, lines, _ = run("du")

    assert code == 0
    assert lines == [
        f"folder: {bench.cache_dir}",
        "products: 10.2 kB in 5 files",
        "unfinished downloads: 0 B",
        "bound: 2.0 GB",
    ]


def test_verify_of_a_sound_cache(run: Run) -> None:
    """A sound cache is told as such, with exit code 0."""
    code, lines, _ = run("verify")

    assert code == 0
    assert lines[-1].startswith("5 products sound, 0 damaged")


def test_verify_names_what_is_damaged_and_removes_it_on_demand(bench: Any, run: Run) -> None:
    """A cut file and a changed one are named with exit code 1; ``--remove`` removes just them."""
    run("verify")  # records the checksums
    cut, changed = _files(bench)[:2]
    cut.write_bytes(cut.read_bytes()[:-1])
    changed.write_bytes(changed.read_bytes()[:-1] + b"\0")

    code, lines, _ = run("verify")
    removing_code, _, _ = run("verify", "--remove")
    after_code, after, _ = run("verify")

    assert code == 1
    assert {line.split()[1] for line in lines if line.startswith("DAMAGED")} == {
        cut.name,
        changed.name,
    }
    assert lines[-1].startswith("3 products sound, 2 damaged")
    assert (removing_code, after_code) == (1, 0)
    assert after[-1].startswith("3 products sound, 0 damaged")


def test_prune_by_age_and_by_bound(bench: Any, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """``--older-than`` removes what was not used for so long; the bound removes the rest."""
    old = time.time() - 31 * 86_400
    for path in _files(bench)[:2]:
        os.utime(path.parent / "record.json", (old, old))

    _, young, _ = run("prune", "--older-than", "32d")
    _, lines, _ = run("prune", "--older-than", "30d")
    monkeypatch.setenv("HDA_CACHE_MAX_BYTES", "5000")
    _, bounded, _ = run("prune")

    assert young == ["Removed 0 B; 10.2 kB are left."]
    # Freed bytes count the records beside the files, too.
    assert lines[0].endswith("6.1 kB are left.")
    assert bounded == ["Removed 2.0 kB; 4.1 kB are left."]
    assert len(_files(bench)) == 2


def test_clear_by_age(bench: Any, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a yes to how many those are, what was not used for so long is gone, and no more."""
    old = time.time() - 31 * 86_400
    for path in _files(bench)[:2]:
        os.utime(path.parent / "record.json", (old, old))
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    notes, product = MetadataStore(bench.cache_dir), Product("EO:TEST:DAT:A", "a.nc")
    notes.put_header(product, b"{}")

    code, lines, err = run("clear", "--older-than", "30d")
    young, _, _ = run("clear", "--older-than", "1d", "--yes")

    assert (code, young) == (0, 0)
    assert "Remove 2 products not used for 30 days, 4.1 kB" in err
    assert lines == [f"Removed 4.1 kB from {bench.cache_dir}."]
    assert len(_files(bench)) == 3
    assert notes.header(product) == b"{}"


@pytest.mark.slow
@pytest.mark.parametrize("age", ["30", "d", "-3d", "30 days"])
def test_an_age_needs_number_and_unit(age: str, run: Run) -> None:
    """What is no age is a usage error."""
    with pytest.raises(SystemExit):
        run("prune", f"--older-than={age}")


@pytest.mark.slow
@pytest.mark.parametrize("answer", ["", "n\n", "no\n", "\n"])
def test_clear_asks_and_obeys(
    answer: str, bench: Any, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a yes, or without anybody to ask, nothing is removed."""
    monkeypatch.setattr("sys.stdin", io.StringIO(answer))

    code, lines, err = run("clear")

    assert (code, lines) == (1, [])
    assert "Remove 5 products" in err
    assert err.splitlines()[0].endswith("[y/N] ")  # a pipe types no end of the line
    assert len(_files(bench)) == 5


@pytest.mark.slow
@pytest.mark.parametrize(("words", "answer"), [(["--yes"], ""), ([], "y\n")])
def test_clear_removes_all(
    words: list[str], answer: str, bench: Any, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a yes, all products, headers and listings are gone; orders and licences are not."""
    monkeypatch.setattr("sys.stdin", io.StringIO(answer))
    notes, product = MetadataStore(bench.cache_dir), Product("EO:TEST:DAT:A", "a.nc")
    notes.put_header(product, b"{}")
    notes.listings.put("a search", [])
    OrderBook(bench.cache_dir, "me").place(product, "1", 0.0)
    notes.add_accepted_terms("me", ["a licence"])

    code, lines, err = run("clear", *words)

    assert code == 0
    assert lines == [f"Removed 10.2 kB from {bench.cache_dir}."]
    assert not err or "5 products, 10.2 kB, in" in err
    assert _files(bench) == []
    assert (notes.header(product), notes.listings.get("a search")) == (None, None)
    assert OrderBook(bench.cache_dir, "me").get(product) == "1"
    assert notes.accepted_terms("me") == {"a licence"}
