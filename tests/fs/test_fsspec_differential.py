"""The same products behind the service and in a local folder: fsspec's verbs must agree.

Where they do not, on purpose, a test says so.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.tests.abstract.common import GLOB_EDGE_CASES_TESTS
from packaging.version import Version
from rows import for_each

from hda_fsspec import HDAFileSystem
from hda_fsspec.emulator import dated_product

FSSPEC = Version(fsspec.__version__)

NAMES = ("a_20240501.nc", "a_20240502.nc", "b_20240503.nc", "file1_20240504", "sub.txt_20240505")
PATTERNS = ("*", "*.nc", "a_*", "?_2024050[12].nc", "?_2024050[!1].nc", "*[0-9]", "file1*", "no*")
FACTS = ("name", "size", "type")


class Side:
    """One of the two filesystems, and where the products are on it."""

    def __init__(self, fs: Any, root: str, target: Path) -> None:
        self.fs = fs
        self.root = fs._strip_protocol(root)
        self.target = target

    def path(self, name: str) -> str:
        """Return the path of a product, or the root with a slash for an empty name."""
        return f"{self.root}/{name}"

    def plain(self, value: Any) -> Any:
        """Return an answer without the name of the root, and with what both sides tell."""
        if isinstance(value, str):
            return value.replace(self.root, "ROOT").replace(str(self.target), "TARGET")
        if isinstance(value, dict):
            told = {k: v for k, v in value.items() if k in FACTS} if "type" in value else value
            return {self.plain(k): self.plain(v) for k, v in told.items()}
        if isinstance(value, (list, tuple)):
            return [self.plain(one) for one in value]
        return value

    def copied(self) -> dict[str, bytes | None]:
        """Return what lies in the target folder, and empty it."""
        found = {
            str(path.relative_to(self.target)).replace(Path(self.root).name, "ROOTNAME"): (
                path.read_bytes() if path.is_file() else None
            )
            for path in sorted(self.target.rglob("*"))
        }
        for path in sorted(self.target.rglob("*"), reverse=True):
            path.unlink() if path.is_file() else path.rmdir()
        return found


Sides = tuple[Side, Side]
Roots = tuple[Path, str, dict[str, Any]]


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory, make_stacks: Any) -> Iterator[Roots]:
    """Serve what lies in a folder, and fetch all of it once, so that its sizes are known."""
    folder = tmp_path_factory.mktemp("sides")
    tree = folder / "tree"
    tree.mkdir()
    bench = make_stacks(folder).bench
    bodies = {name: bench.body(day, 200 * day) for day, name in enumerate(NAMES, start=1)}
    for name, body in bodies.items():
        (tree / name).write_bytes(body)
    products = [dated_product(name, body) for name, body in bodies.items()]
    options = bench.settings(bench.start(products=products, sizes="ND"))
    HDAFileSystem(**options).prefetch(bench.query)
    yield tree, bench.query, options
    bench.close()


@pytest.fixture
def sides(tmp_path: Path, roots: Roots) -> Sides:
    """Make both sides, with a folder for each to copy to."""
    tree, query, options = roots
    targets = [tmp_path / "of_local", tmp_path / "of_hda"]
    for target in targets:
        target.mkdir()
    local = LocalFileSystem(auto_mkdir=True)
    return Side(local, str(tree), targets[0]), Side(HDAFileSystem(**options), query, targets[1])


def outcome(side: Side, ask: Callable[..., Any], *more: str) -> Any:
    """Return an answer, or the class of the error."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return side.plain(ask(side, *more))
    except (OSError, ValueError) as err:
        return type(err)


def by_name(entries: list[Any]) -> list[Any]:
    """Sort a listing, whose order is free."""
    return sorted(entries, key=lambda entry: entry["name"] if isinstance(entry, dict) else entry)


def check(sides: Sides, ask: Callable[..., Any], *more: str) -> Any:
    """Compare the answers of both sides and return them."""
    local, ours = (outcome(side, ask, *more) for side in sides)
    assert ours == local
    return ours


LOOKING: dict[str, Callable[[Side, str], Any]] = {
    "ls": lambda s, p: by_name(s.fs.ls(p, detail=False)),
    "ls-detail": lambda s, p: by_name(s.fs.ls(p, detail=True)),
    "listdir": lambda s, p: by_name(s.fs.listdir(p)),
    "find": lambda s, p: s.fs.find(p),
    "find-detail": lambda s, p: s.fs.find(p, detail=True),
    "find-depth": lambda s, p: s.fs.find(p, maxdepth=1),
    "find-no-depth": lambda s, p: s.fs.find(p, maxdepth=0),
    "find-dirs": lambda s, p: s.fs.find(p, withdirs=True),
    "walk": lambda s, p: [(r, d, sorted(f)) for r, d, f in s.fs.walk(p) if d or f],
    "walk-up": lambda s, p: [(d, sorted(f)) for _, d, f in s.fs.walk(p, topdown=False) if f],
    "walk-raise": lambda s, p: [(d, sorted(f)) for _, d, f in s.fs.walk(p, on_error="raise")],
    "types": lambda s, p: [s.fs.isfile(p), s.fs.isdir(p), s.fs.exists(p), s.fs.lexists(p)],
    "type": lambda s, p: s.fs.info(p)["type"],
    "expand": lambda s, p: s.fs.expand_path(p),
    "expand-deep": lambda s, p: s.fs.expand_path(p, recursive=True),
    "expand-list": lambda s, p: s.fs.expand_path([p, s.path(NAMES[0])]),
}


@for_each("verb", LOOKING)
def test_looking_agrees(sides: Sides, verb: str) -> None:
    """The query, a product and a name that is not there look the same on both sides."""
    for name in ("", NAMES[0], "nothing_20240506"):
        check(sides, lambda side, name: LOOKING[verb](side, side.path(name)), name)


def test_sizes_and_info_agree_once_products_are_local(sides: Sides) -> None:
    """What was fetched once has its true length in every verb."""
    for verb in ("info", "size", "du"):
        for name in NAMES:
            check(sides, lambda s, verb, name: getattr(s.fs, verb)(s.path(name)), verb, name)
    check(sides, lambda side: side.fs.sizes([side.path(one) for one in NAMES]))
    check(sides, lambda side: side.fs.du(side.root))
    check(sides, lambda side: side.fs.du(side.root, total=False))


def test_du_of_directories_counts_nothing_for_them(sides: Sides) -> None:
    """``withdirs`` names the query too; it has no bytes of its own, unlike a folder on a disk."""
    local, ours = (outcome(s, lambda s: s.fs.du(s.root, total=False, withdirs=True)) for s in sides)

    assert {**local, "ROOT": 0} == ours


@pytest.mark.skipif(Version("2026.4") > FSSPEC, reason="its glob of local files takes no withdirs")
@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns_agree(sides: Sides, pattern: str) -> None:
    """The same glob finds the same products, whatever verb expands it."""
    for ask in (
        lambda s: s.fs.glob(s.path(pattern)),
        lambda s: s.fs.glob(s.path(pattern), detail=True),
        lambda s: s.fs.glob(s.path(pattern), withdirs=False),
        lambda s: s.fs.glob(s.path(pattern), maxdepth=1),
        lambda s: s.fs.expand_path(s.path(pattern)),
        lambda s: s.fs.expand_path(s.path(pattern), recursive=True),
        lambda s: s.fs.cat(s.path(pattern)),
        lambda s: [s.fs.exists(s.path(pattern)), s.fs.isfile(s.path(pattern))],
    ):
        check(sides, ask)


def test_globs_without_a_pattern_agree(sides: Sides) -> None:
    """A path without a glob character finds itself, or nothing."""
    for name in ("", NAMES[0], NAMES[0] + "/", "nothing"):
        check(sides, lambda side, name: side.fs.glob(side.path(name)), name)


def test_patterns_are_over_products_only(sides: Sides) -> None:
    """Unlike a local ``**``, ours does not find the directory it starts in, so it can be read."""
    local, ours = (outcome(side, lambda s: s.fs.glob(s.path("**"))) for side in sides)

    assert local == ["ROOT", *ours]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_can_be_listed(sides: Sides, pattern: str) -> None:
    """``ls``, ``find`` and ``du`` take patterns, where a local disk takes only names."""
    _, ours = sides
    found = ours.fs.glob(ours.path(pattern))

    assert sorted(ours.fs.ls(ours.path(pattern), detail=False)) == found
    assert ours.fs.find(ours.path(pattern)) == found
    assert ours.fs.du(ours.path(pattern)) == sum(ours.fs.sizes(found))


def _seek_about(side: Side, path: str) -> list[Any]:
    with side.fs.open(path, "rb") as handle:
        told = [handle.seek(-5, 2), handle.read(), handle.seek(10), handle.read(3), handle.tell()]
        told += [handle.seek(-2, 1), handle.read(2), handle.read(0), handle.seek(10**6)]
        told += [handle.read(), handle.readable(), handle.writable(), handle.seekable()]
        buffer = bytearray(6)
        return [*told, handle.seek(1), handle.readinto(buffer), bytes(buffer)]


def _lines(side: Side, path: str) -> list[str]:
    with side.fs.open(path, "r", encoding="latin-1", errors="strict", newline="\n") as handle:
        return list(handle)


READING: dict[str, Callable[[Side, str], Any]] = {
    "cat": lambda s, p: s.fs.cat(p),
    "cat-recursive": lambda s, p: s.fs.cat(p, recursive=True),
    "cat-file": lambda s, p: s.fs.cat_file(p),
    "read-bytes": lambda s, p: s.fs.read_bytes(p),
    "head": lambda s, p: s.fs.head(p, 40),
    "head-long": lambda s, p: s.fs.head(p, 10**6),
    "tail": lambda s, p: s.fs.tail(p, 7),
    "tail-long": lambda s, p: s.fs.tail(p, 10**6),
    "block": lambda s, p: s.fs.read_block(p, 3, 20),
    "block-delimiter": lambda s, p: s.fs.read_block(p, 10, 150, b"\x00"),
    "text": lambda s, p: s.fs.read_text(p, encoding="latin-1", newline=""),
    "text-lines": _lines,
    "seek": _seek_about,
}


@for_each("verb", READING)
def test_reading_agrees(sides: Sides, verb: str) -> None:
    """A product reads the same; a query is a directory and a missing one is not there."""
    for name in ("", NAMES[1], "nothing_20240506"):
        check(sides, lambda side, name: READING[verb](side, side.path(name)), name)


@pytest.mark.parametrize("start", [None, 0, 5, 231, 10**6, -1, -40, -(10**6)])
def test_ranges_agree_with_slices(sides: Sides, start: int | None) -> None:
    """Start and end mean what they mean in a slice of the bytes, negative ones included."""
    fs, path = sides[1].fs, sides[1].path(NAMES[0])
    whole = fs.cat_file(path)

    for end in (None, 0, 6, 232, 10**6, -1, -39):
        assert fs.cat_file(path, start, end) == whole[start:end]
        assert fs.cat(path, start=start, end=end) == whole[start:end]
        assert fs.read_bytes(path, start=start, end=end) == whole[start:end]


@pytest.mark.skipif(
    Version("2026.6") > FSSPEC, reason="its local files raise what they are asked to return"
)
def test_many_ranges_agree(sides: Sides) -> None:
    """cat_ranges and cat of a list give each path its own bytes, or its own error."""
    paths, starts, ends = [*NAMES, NAMES[0]], [0, 1, 2, -5, None, 7], [4, None, 20, None, -1, 9]
    missing = [*NAMES, "nothing"]

    def errors_as_classes(found: Any) -> Any:
        pairs = found.items() if isinstance(found, dict) else enumerate(found)
        return {k: v if isinstance(v, bytes) else type(v).__name__ for k, v in pairs}

    check(sides, lambda s: s.fs.cat_ranges([s.path(p) for p in paths], starts, ends))
    check(sides, lambda s: s.fs.cat_ranges([s.path(p) for p in paths], 3, 9))
    check(
        sides,
        lambda s: errors_as_classes(s.fs.cat_ranges([s.path(p) for p in missing], 0, 5)),
    )
    check(sides, lambda s: s.fs.cat_ranges([s.path(p) for p in missing], 0, 5, on_error="raise"))
    for on_error in ("raise", "omit", "return"):

        def ask(s: Side, on_error: str = on_error) -> Any:
            return errors_as_classes(s.fs.cat([s.path(p) for p in missing], on_error=on_error))

        check(sides, ask)


GETTING: dict[str, Callable[[Side], Any]] = {
    "to-file": lambda s: s.fs.get(s.path(NAMES[0]), f"{s.target}/other.nc"),
    "to-new-file": lambda s: s.fs.get(s.path(NAMES[0]), f"{s.target}/new/deep/other.nc"),
    "to-folder": lambda s: s.fs.get(s.path(NAMES[0]), f"{s.target}"),
    "to-folder-slash": lambda s: s.fs.get(s.path(NAMES[0]), f"{s.target}/"),
    "to-new-folder": lambda s: s.fs.get(s.path(NAMES[0]), f"{s.target}/new/"),
    "list": lambda s: s.fs.get([s.path(name) for name in NAMES], f"{s.target}/"),
    "list-to-list": lambda s: s.fs.get(
        [s.path(name) for name in NAMES], [f"{s.target}/x{i}" for i in range(len(NAMES))]
    ),
    "folder": lambda s: s.fs.get(s.root, f"{s.target}"),
    "tree": lambda s: s.fs.get(s.root, f"{s.target}", recursive=True),
    "tree-slash": lambda s: s.fs.get(s.root + "/", f"{s.target}", recursive=True),
    "tree-new": lambda s: s.fs.get(s.root, f"{s.target}/new", recursive=True),
    "tree-new-slash": lambda s: s.fs.get(s.root + "/", f"{s.target}/new/", recursive=True),
    "tree-depth": lambda s: s.fs.get(s.root, f"{s.target}/new", recursive=True, maxdepth=1),
    "missing": lambda s: s.fs.get(s.path("nothing"), f"{s.target}/x"),
    "missing-tree": lambda s: s.fs.get(s.path("nothing"), f"{s.target}/x", recursive=True),
    "file": lambda s: s.fs.get_file(s.path(NAMES[0]), f"{s.target}/x.nc"),
    "file-to-new-folder": lambda s: s.fs.get_file(s.path(NAMES[0]), f"{s.target}/n/m/x.nc"),
    "file-of-folder": lambda s: s.fs.get_file(s.root, f"{s.target}/made"),
    "file-onto-folder": lambda s: s.fs.get_file(s.path(NAMES[0]), f"{s.target}"),
    "file-missing": lambda s: s.fs.get_file(s.path("nothing"), f"{s.target}/x"),
    "over-an-older-file": lambda s: [
        (s.target / "x").write_bytes(b"old" * 1000),
        s.fs.get(s.path(NAMES[0]), f"{s.target}/x"),
    ][:1],
}


@pytest.mark.slow
@pytest.mark.parametrize("case", GETTING)
def test_getting_agrees(sides: Sides, case: str) -> None:
    """The same call leaves the same files, and no others."""

    def get(side: Side) -> Any:
        GETTING[case](side)

    check(sides, get)
    local, ours = (side.copied() for side in sides)
    assert ours == local


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "recursive", "maxdepth"),
    [
        case[:3]
        for case in GLOB_EDGE_CASES_TESTS["argvalues"]
        if "/" not in case[0] and not (case[0] == "**" and case[1])
    ],
)
@pytest.mark.parametrize("slash", ["", "/"])
def test_getting_patterns_agrees(
    sides: Sides, path: str, recursive: bool, maxdepth: int | None, slash: str
) -> None:
    """The edge cases of globs that fsspec tests, on a tree without directories in it."""
    pattern = path.replace("fil", "a").replace("e", "_")
    for where in ("", "/new"):

        def get(s: Side, where: str = where) -> None:
            target = f"{s.target}{where}{slash}"
            s.fs.get(s.path(pattern), target, recursive=recursive, maxdepth=maxdepth)

        check(sides, get)
        local, ours = (side.copied() for side in sides)
        assert ours == local
