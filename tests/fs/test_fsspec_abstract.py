"""fsspec's own contract tests for ``get``, on products in place of the trees they would write.

A directory of ours is a query, and what is below it are products: there is no directory in a
directory of files. ``fs_join`` turns each directory of a scenario into a query of its own; what
needs them to be nested is skipped.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from fsspec.tests.abstract import AbstractFixtures, AbstractGetTests

from hda_fsspec.emulator import ProductEntry

DIRECTORIES = ("source", "subdir", "src")
ROOT = "hda://EO:TEST:DAT:DAILY"
NESTED = "the scenario needs a directory inside a directory of files, and a query has only products"
NEEDS_NESTING = {
    "test_get_directory_to_existing_directory",
    "test_get_directory_to_new_directory",
    "test_get_glob_to_existing_directory",
    "test_get_glob_to_new_directory",
    "test_get_directory_without_files_with_same_name_prefix",
}

Tree = Mapping[str, Mapping[str, bytes]]


def join(path: str, *parts: str) -> str:
    """Join paths: the name of a directory becomes a query that takes the place of the last one."""
    for part in parts:
        path = f"{ROOT}/level={part}" if part in DIRECTORIES else f"{path}/{part}"
    return path


class HDAFixtures(AbstractFixtures):  # type: ignore[misc]  # fsspec is untyped
    """A filesystem whose trees are there from the beginning."""

    @pytest.fixture
    def fs(self, bench: Any, request: pytest.FixtureRequest) -> Any:
        """Serve the tree that the test needs."""
        tree: Tree = {
            "source": {
                **{name: name.encode() for name in ("file1", "file2", "subdir.txt")},
                **{f"{_digest(i)}.txt": f"{i}".encode() for i in range(10)},
            },
            "subdir": {name: name.encode() for name in ("subfile1", "subfile2")},
            "src": {"file": b"file"},
        }
        if "fs_glob_edge_cases_files" in request.fixturenames:
            tree = {"source": {name: name.encode() for name in ("file1", "file2")}}
        products = [
            ProductEntry(
                name,
                body,
                "2024-05-01T00:00:00.000Z",
                "2024-05-01T23:59:59.999Z",
                metadata={"level": directory},
            )
            for directory, files in tree.items()
            for name, body in files.items()
        ]
        entry = {"parameters": {"level": list(DIRECTORIES)}}
        return bench.filesystem(bench.start(products=products, entry=entry))

    @pytest.fixture
    def fs_join(self) -> Callable[..., str]:
        """How to join paths."""
        return join

    @pytest.fixture
    def fs_path(self) -> str:
        """Where the trees are."""
        return ROOT

    @pytest.fixture
    def supports_empty_directories(self) -> bool:
        """Say no: a query that finds nothing is a directory, but nobody can make one."""
        return False

    @pytest.fixture
    def fs_bulk_operations_scenario_0(self, request: pytest.FixtureRequest) -> str:
        """Files and a directory of files."""
        if getattr(request.node, "originalname", "") in NEEDS_NESTING:
            pytest.skip(NESTED)
        return join(ROOT, "source")

    @pytest.fixture
    def fs_dir_and_file_with_same_name_prefix(self) -> str:
        """Skip: a pattern over names would have to find a directory."""
        pytest.skip(NESTED)

    @pytest.fixture
    def fs_glob_edge_cases_files(
        self, path: str, expected: list[str], recursive: bool, maxdepth: int | None
    ) -> str:
        """Files, and two directories of files for the patterns that look into them."""
        if "subdir" in path or "**/" in path or any("/" in name for name in expected):
            pytest.skip(NESTED)
        return join(ROOT, "source")

    @pytest.fixture
    def fs_10_files_with_hashed_names(self) -> str:
        """Ten files in an order other than that of their names."""
        return join(ROOT, "source")


@pytest.mark.slow
class TestGet(HDAFixtures, AbstractGetTests):  # type: ignore[misc]  # fsspec is untyped
    """``get``, as fsspec wants it."""

    def test_get_directory_recursive(
        self,
        fs: Any,
        fs_join: Any,
        fs_path: Any,
        local_fs: Any,
        local_join: Any,
        local_target: Any,
    ) -> None:
        """A directory becomes a new target; into an existing one it goes under its own name.

        As upstream, which makes its tree itself; the directory's name is that of a query here.
        """
        src = fs_join(fs_path, "src")
        target = local_target

        for loop in range(2):
            fs.get(src, target, recursive=True)

            assert local_fs.isfile(local_join(target, "file"))
            assert local_fs.exists(local_join(target, "level=src", "file")) == (loop == 1)

        local_fs.rm(target, recursive=True)
        for _ in range(2):
            fs.get(src + "/", target, recursive=True)

            assert local_fs.isfile(local_join(target, "file"))
            assert _names(target) == ["file"]


def test_a_directory_and_a_product_of_one_prefix_are_told_apart(bench: Any, tmp_path: Path) -> None:
    """The half of the upstream scenario that needs no nesting: names that begin alike."""
    names = ["sub", "sub.txt", "sub2"]
    products = [
        ProductEntry(name, name.encode(), "2024-05-01T00:00:00Z", "2024-05-01T23:59:59Z")
        for name in names
    ]
    fs = bench.filesystem(bench.start(products=products))

    fs.get(f"{bench.query}/sub", f"{tmp_path}/one/")
    fs.get(f"{bench.query}/sub*", f"{tmp_path}/all/")

    assert _names(tmp_path / "one") == ["sub"]
    assert _names(tmp_path / "all") == names


def _digest(number: int) -> str:
    return hashlib.md5(str(number).encode(), usedforsecurity=False).hexdigest()


def _names(folder: str | Path) -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())
