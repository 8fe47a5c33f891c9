"""Paths as text, Location, UPath, and as the filesystem returned them: all mean the same."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from fsspec.implementations.local import LocalFileSystem
from rows import for_each
from upath import UPath

import hda_fsspec
from hda_fsspec import Location
from hda_fsspec.emulator import Emulator
from hda_fsspec.engine.backend import HDABackendEntrypoint
from hda_fsspec.errors import LocationError

#: How one path is given: as what, made from its text.
KINDS: dict[str, Callable[[str], Any]] = {
    "text": str,
    "numpy text": np.str_,
    "Location": Location.parse,
    "UPath": UPath,
    "without hda://": lambda path: path.removeprefix("hda://"),
    "pathlib without hda://": lambda path: Path(path.removeprefix("hda://")),
}
#: Verbs of the filesystem that take one path.
VERBS: dict[str, Callable[[Any, Any], Any]] = {
    "ls": lambda fs, path: fs.ls(path),
    "ls of names": lambda fs, path: fs.ls(path, detail=False),
    "info": lambda fs, path: fs.info(path),
    "exists": lambda fs, path: fs.exists(path),
    "isfile": lambda fs, path: fs.isfile(path),
    "isdir": lambda fs, path: fs.isdir(path),
    "glob": lambda fs, path: fs.glob(path),
    "find": lambda fs, path: fs.find(path),
    "walk": lambda fs, path: list(fs.walk(path)),
    "tree": lambda fs, path: fs.tree(path),
    "size": lambda fs, path: fs.size(path),
    "ukey": lambda fs, path: fs.ukey(path),
    "unstrip_protocol": lambda fs, path: fs.unstrip_protocol(path),
    "expand_path": lambda fs, path: fs.expand_path(path),
    "prefetch": lambda fs, path: fs.prefetch(path),
    "accept_terms": lambda fs, path: fs.accept_terms(path),
    "invalidate_cache": lambda fs, path: fs.invalidate_cache(path),
    "_parent": lambda fs, path: fs._parent(path),
}


def _read(fs: Any, path: Any) -> bytes:
    with fs.open(path) as handle:
        body: bytes = handle.read()
    return body


#: Verbs that take the path of a product alone.
READING: dict[str, Callable[[Any, Any], Any]] = {
    "open": _read,
    "cat": lambda fs, path: fs.cat(path),
    "cat_file": lambda fs, path: fs.cat_file(path),
    "cat_ranges": lambda fs, path: fs.cat_ranges([path], [1], [9]),
    "head": lambda fs, path: fs.head(path, 9),
    "read_bytes": lambda fs, path: fs.read_bytes(path),
    "created": lambda fs, path: fs.created(path),
    "modified": lambda fs, path: fs.modified(path),
    "du": lambda fs, path: fs.du(path),
}
#: Verbs that take several paths.
MANY: dict[str, Callable[[Any, Any], Any]] = {
    "cat": lambda fs, paths: fs.cat(paths),
    "prefetch": lambda fs, paths: fs.prefetch(paths),
    "sizes": lambda fs, paths: fs.sizes(paths),
    "expand_path": lambda fs, paths: fs.expand_path(paths),
}
SEVERAL: dict[str, Callable[[list[Any]], Any]] = {
    "list": list,
    "tuple": tuple,
    "iterator": iter,
    "array": lambda paths: np.array([Location.parse(path).path for path in paths]),
    "series": lambda paths: pd.Series([Location.parse(path).path for path in paths]),
}


@pytest.fixture
def served(stacks: Any) -> Any:
    """Serve three daily files."""
    days = {
        f"sst_202405{day:02}.nc": xr.Dataset(
            {"sst": (("time", "x"), [[float(day), day + 0.5]])},
            coords={"time": [np.datetime64(f"2024-05-{day:02}T12", "ns")], "x": [1.0, 2.0]},
        )
        for day in (1, 2, 3)
    }
    stacks.serve(days)
    return stacks


@pytest.fixture(scope="module")
def shared(
    make_stacks: Callable[[Path], Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Any, Emulator]]:
    """Serve three days, for tests that read them from one cache."""
    bench = make_stacks(tmp_path_factory.mktemp("shared")).bench
    yield bench, bench.start(days=3)
    bench.close()


@pytest.fixture
def days(shared: tuple[Any, Emulator]) -> tuple[Any, hda_fsspec.HDAFileSystem]:
    """Return a bench that serves three days, and a filesystem that remembers nothing of others."""
    bench, emulator = shared
    hda_fsspec.HDAFileSystem.clear_instance_cache()
    return bench, bench.filesystem(emulator)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_verbs_take_every_kind_of_path(days: Any, kind: str) -> None:
    """A query and a product give what they give as text, however they are written."""
    bench, fs = days

    for verb, call in VERBS.items():
        for text in (bench.query, bench.path(2)):
            assert call(fs, KINDS[kind](text)) == call(fs, text), verb


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_reading_takes_every_kind_of_path(days: Any, kind: str) -> None:
    """A product is read by each of its paths."""
    bench, fs = days
    fs.prefetch(bench.path(2))

    for verb, call in READING.items():
        assert call(fs, KINDS[kind](bench.path(2))) == call(fs, bench.path(2)), verb


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["text", "Location", "UPath"])
@pytest.mark.parametrize("verb", MANY)
def test_verbs_take_several_paths(days: Any, verb: str, kind: str) -> None:
    """Lists, arrays and iterators of paths are what lists of text are."""
    bench, fs = days
    texts = [bench.path(3), bench.path(1)]
    expected = MANY[verb](fs, texts)

    for several, gather in SEVERAL.items():
        given = gather([KINDS[kind](text) for text in texts])
        assert MANY[verb](fs, list(given) if verb == "sizes" else given) == expected, several


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_copies_take_every_kind_of_path(days: Any, tmp_path: Path, kind: str) -> None:
    """Verbs that copy, of one path and of several, to a target of each kind."""
    bench, fs = days
    make = KINDS[kind]

    fs.get(make(bench.path(1)), str(tmp_path / "one.nc"))
    fs.get_file(make(bench.path(1)), tmp_path / "two.nc")
    fs.get([make(bench.path(1)), make(bench.path(2))], [tmp_path / "a", UPath(tmp_path / "b")])
    downloaded = fs.download(make(bench.query), UPath(tmp_path / "all"))

    assert (tmp_path / "one.nc").read_bytes() == (tmp_path / "two.nc").read_bytes()
    assert [(tmp_path / name).read_bytes() for name in "ab"] == [bench.body(1), bench.body(2)]
    assert [Path(path).name for path in downloaded] == [bench.product_id(day) for day in (1, 2, 3)]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_mapper_takes_every_kind_of_path(days: Any, kind: str) -> None:
    """The mapping below a query has the names of its products."""
    bench, fs = days

    mapper = fs.get_mapper(KINDS[kind](bench.query))

    assert sorted(mapper) == [bench.product_id(day) for day in (1, 2, 3)]
    assert mapper[bench.product_id(2)] == bench.body(2)


@for_each("kind", KINDS)
def test_every_kind_parses(kind: str) -> None:
    """Location.parse gives one location for all of them."""
    text = "hda://EO:X/startdate=2024-05-01/p.nc"

    assert Location.parse(KINDS[kind](text)) == Location.parse(text)


@for_each(
    ("given", "told"),
    [
        (UPath("memory://bucket/p.nc"), "it is not an hda:// path"),
        (Path("hda://EO:X/p.nc"), "pathlib has taken a slash"),
        (3, "a value of type int"),
        (b"hda://EO:X/p.nc", "a value of type bytes"),
        (None, "a value of type NoneType"),
        (["hda://EO:X/p.nc"], "a value of type list"),
    ],
)
def test_what_is_no_path_is_told(given: Any, told: str) -> None:
    """The error says what was given, and what to give."""
    with pytest.raises(LocationError, match=told):
        Location.parse(given)


OPENERS: dict[str, Callable[..., xr.Dataset]] = {
    "open_dataset": lambda path, **more: xr.open_dataset(path, engine="hda", **more),
    "chunked": lambda path, **more: xr.open_dataset(path, engine="hda", chunks={}, **more),
    "open_datatree": lambda path, **more: xr.open_datatree(path, engine="hda", **more).to_dataset(),
    "open_groups": lambda path, **more: xr.open_groups(path, engine="hda", **more)["/"],
    "xr.open_mfdataset": lambda path, **more: xr.open_mfdataset([path], engine="hda", **more),
    "parallel": lambda path, **more: xr.open_mfdataset([path], engine="hda", parallel=True, **more),
    "open_mfdataset": hda_fsspec.open_mfdataset,
    "open_mfdataset of a list": lambda path, **more: hda_fsspec.open_mfdataset([path], **more),
}


@pytest.mark.slow
@pytest.mark.parametrize("opener", OPENERS)
def test_a_upath_opens_with_its_own_options(served: Any, opener: str) -> None:
    """The storage options of a UPath are the settings; those of the filesystem itself are none."""
    path = UPath(f"hda://{served.dataset}", use_listings_cache=False, **served.options)

    ds = OPENERS[opener](path / "sst_20240502.nc")

    assert ds.sst.values.tolist() == [[2.0, 2.5]]
    assert served.ordered == ["sst_20240502.nc"]


@pytest.mark.slow
def test_what_a_verb_returned_opens(served: Any) -> None:
    """A path without hda:// opens in the engine, since it begins with the id of a data set."""
    fs = fsspec.filesystem("hda", **served.options)
    found = fs.ls(f"hda://{served.dataset}", detail=False)
    assert found == fs.glob(f"hda://{served.dataset}/*") == fs.find(f"hda://{served.dataset}")
    assert not found[1].startswith("hda://")

    for name, opener in OPENERS.items():
        ds = opener(found[1], storage_options=served.options)
        assert ds.sst.values.tolist() == [[2.0, 2.5]], name


@pytest.mark.slow
@pytest.mark.parametrize("many", [xr.open_mfdataset, hda_fsspec.open_mfdataset])
def test_lists_of_upaths_open(served: Any, many: Any) -> None:
    """The products of an iterated UPath are one data set, by xarray's function and by ours."""
    query = UPath(f"hda://{served.dataset}", **served.options)
    engine = {"engine": "hda"} if many is xr.open_mfdataset else {}

    ds = many(sorted(query.iterdir(), key=str), **engine)

    assert ds.sst.values[:, 0].tolist() == [1.0, 2.0, 3.0]


@pytest.mark.slow
@pytest.mark.parametrize("how", [{"chunks": {}}, {"chunks": None}])
def test_the_query_of_a_upath_is_one_dataset(served: Any, how: Any) -> None:
    """A query as UPath stacks as its text does."""
    query = UPath(f"hda://{served.dataset}/startdate=2024-05-02", **served.options)

    ds = xr.open_dataset(query, engine="hda", **how)

    assert ds.sst.values[:, 0].tolist() == [2.0, 3.0]
    assert ds.encoding["source"] == f"hda://{served.dataset}/startdate=2024-05-02"


def test_given_options_count_before_those_of_a_upath(bench: Any, served: Any) -> None:
    """storage_options replace single settings of the path, and leave the others."""
    elsewhere = served.options | {"endpoint_url": "http://127.0.0.1:1/"}
    path = UPath(f"hda://{served.dataset}/sst_20240502.nc", **elsewhere)
    only = {"endpoint_url": served.options["endpoint_url"]}

    assert xr.open_dataset(path, engine="hda", storage_options=only).sizes["x"] == 2


def test_upaths_with_different_options_are_not_mixed(served: Any) -> None:
    """Our open_mfdataset has one account; the error says how to name it."""
    paths = [
        UPath(f"hda://{served.dataset}/sst_20240501.nc", **served.options),
        UPath(f"hda://{served.dataset}/sst_20240502.nc", **served.options | {"user": "other"}),
    ]

    with pytest.raises(LocationError, match="give storage_options"):
        hda_fsspec.open_mfdataset(paths)
    ds = hda_fsspec.open_mfdataset(paths, storage_options=served.options)
    assert ds.sizes["time"] == 2


@for_each(
    "given",
    [
        "SST/startdate=2024-05-01/p.nc",
        "/data/EO:X/p.nc",
        "s3://bucket/EO:X/p.nc",
        Path("/tmp/p.nc"),
        UPath("memory://EO:X/p.nc"),
        b"EO:X/p.nc",
        3,
    ],
)
def test_what_else_is_given_is_told_how_to_become_a_path(given: Any) -> None:
    """The error names the verb that makes a path of what the filesystem returned."""
    with pytest.raises(LocationError, match=r"fs\.unstrip_protocol\(path\)"):
        HDABackendEntrypoint().open_dataset(given)


def test_a_local_file_is_not_taken_for_a_path_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file in a folder that is named like a data set stays a file."""
    folder = tmp_path / "EO:X"
    folder.mkdir()
    (folder / "p.nc").write_bytes(b"CDF")
    monkeypatch.chdir(tmp_path)

    with pytest.raises(LocationError, match="is none"):
        HDABackendEntrypoint().open_dataset("EO:X/p.nc")


@pytest.fixture
def foreign() -> list[Any]:
    """Values that are no paths of ours, some with attributes of one."""
    return [
        UPath("memory://EO:X/p.nc"),
        UPath("/tmp/p.nc"),
        LocalFileSystem(),
        hda_fsspec.HDAFileSystem(user="u"),
        fsspec.open("memory://p.nc"),
        xr.Dataset(),
        type("Trap", (), {"__getattr__": lambda _, name: pytest.fail(f"asked for {name}")})(),
    ]


def test_guessing_claims_nothing_foreign(foreign: list[Any]) -> None:
    """UPaths of other protocols, filesystems and whatever has odd attributes are not ours."""
    engine = HDABackendEntrypoint()

    assert [engine.guess_can_open(value) for value in foreign] == [False] * len(foreign)
    assert engine.guess_can_open(UPath("hda://EO:X/p.nc"))


def test_a_upath_needs_no_engine(served: Any) -> None:
    """The engine is found by the path, as it does for a Location."""
    path = UPath(f"hda://{served.dataset}/sst_20240502.nc", **served.options)

    assert xr.open_dataset(path).sizes["x"] == 2


def test_a_request_is_read_from_wherever_its_file_is(tmp_path: Path) -> None:
    """from_request takes the path of a file as text, Path or UPath."""
    body = json.dumps({"dataset_id": "EO:X", "startdate": "2024-05-01"})
    local = tmp_path / "request.json"
    local.write_text(body)
    remote = UPath("memory://requests/one.json")
    remote.parent.mkdir(parents=True, exist_ok=True)
    remote.write_text(body)

    for given in (str(local), local, UPath(local), remote, body):
        assert Location.from_request(given).path == "hda://EO:X/startdate=2024-05-01"
