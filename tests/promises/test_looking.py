"""Nothing is ordered by looking: `ls`, `info`, `glob`, `du`, `repr`, pickling, opening nothing."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import fsspec
import pytest

from hda_fsspec.emulator import Emulator
from hda_fsspec.paths.locations import Location


@pytest.fixture
def emulator(bench: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """Start a service on which no order may be seen when the test is over."""
    started: Emulator = bench.start(days=5, sizes="ND")
    # A pickle holds no password: it is found where the pickle arrives.
    monkeypatch.setenv("HDA_PASSWORD", started.password)
    yield started
    assert started.order_posts == 0
    assert started.orders == 0
    assert started.downloads == 0
    assert started.bytes_sent == 0
    assert started.log.where(lambda record: "download" in record.path) == []


LOOKS: dict[str, Callable[[Any, Any], object]] = {
    "ls of the root": lambda fs, bench: fs.ls("hda://"),
    "ls of a data set": lambda fs, bench: fs.ls(f"hda://{bench.dataset}"),
    "ls of a query": lambda fs, bench: fs.ls(bench.query, detail=True),
    "ls anew": lambda fs, bench: fs.ls(bench.query, refresh=True),
    "ls of a product": lambda fs, bench: fs.ls(bench.path(1)),
    "info of a data set": lambda fs, bench: fs.info(f"hda://{bench.dataset}"),
    "info of a query": lambda fs, bench: fs.info(bench.query),
    "info of a product": lambda fs, bench: fs.info(bench.path(1)),
    "size": lambda fs, bench: fs.size(bench.path(1)),
    "sizes": lambda fs, bench: fs.sizes([bench.path(1), bench.path(2)]),
    "exists": lambda fs, bench: fs.exists(bench.path(1)),
    "exists not": lambda fs, bench: fs.exists(f"{bench.query}/nothing.nc"),
    "isdir": lambda fs, bench: fs.isdir(bench.query),
    "isfile": lambda fs, bench: fs.isfile(bench.path(1)),
    "glob": lambda fs, bench: fs.glob(f"{bench.query}/sst_*"),
    "glob with details": lambda fs, bench: fs.glob(f"{bench.query}/*", detail=True),
    "find": lambda fs, bench: fs.find(bench.query),
    "walk": lambda fs, bench: list(fs.walk(bench.query)),
    "du": lambda fs, bench: fs.du(bench.query),
    "du of each": lambda fs, bench: fs.du(bench.query, total=False),
    "data sets": lambda fs, bench: (fs.datasets("daily"), repr(fs.datasets())),
    "what can be asked": lambda fs, bench: fs.queryables(bench.dataset)._repr_html_(),
    "a view": lambda fs, bench: fs.query(bench.query)._repr_html_(),
    "a table of a view": lambda fs, bench: fs.query(bench.query)[:2].to_dataframe(),
    "dates": lambda fs, bench: (fs.created(bench.path(1)), fs.modified(bench.path(1))),
    "ukey": lambda fs, bench: fs.ukey(bench.path(1)),
    "checksum": lambda fs, bench: fs.checksum(bench.path(1)),
    "expand_path": lambda fs, bench: fs.expand_path(f"{bench.query}/*"),
    "expand_path of all": lambda fs, bench: fs.expand_path(bench.query, recursive=True),
    "repr": lambda fs, bench: (repr(fs), str(fs)),
    "pickle": lambda fs, bench: pickle.loads(pickle.dumps(fs)).ls(bench.query),
    "JSON": lambda fs, bench: fs.to_json(),
    "unstrip_protocol": lambda fs, bench: fs.unstrip_protocol(bench.path(1)),
    "invalidate_cache": lambda fs, bench: (fs.invalidate_cache(), fs.ls(bench.query)),
}


@pytest.mark.slow
@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_a_look_orders_nothing(
    look: Callable[[Any, Any], object], emulator: Emulator, bench: Any
) -> None:
    """Each verb that only looks causes no order and no download."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        look(bench.filesystem(emulator), bench)


def test_lazy_open_files_order_nothing(emulator: Emulator, bench: Any) -> None:
    """`fsspec.open` and `open_files` make recipes, whose repr and pickle order nothing."""
    settings = bench.settings(emulator)

    one = fsspec.open(bench.path(1), **settings)
    many = fsspec.open_files(f"{bench.query}/*", **settings)

    assert len(many) == 5
    assert bench.product_id(1) in repr(one) + repr(many)
    assert pickle.loads(pickle.dumps(one)).path == one.path


def test_mappers_and_upaths_order_nothing(emulator: Emulator, bench: Any) -> None:
    """A mapper lists its keys, and a location prints and pickles, without an order."""
    fs = bench.filesystem(emulator)
    location = Location.parse(bench.path(1))

    assert len(list(fs.get_mapper(bench.query))) == 5
    assert pickle.loads(pickle.dumps(location)) == location
    assert bench.product_id(1) in repr(location)


def test_opening_nothing_orders_nothing(emulator: Emulator, bench: Any) -> None:
    """What cannot be opened is refused before anything is ordered."""
    fs = bench.filesystem(emulator)

    with pytest.raises(FileNotFoundError):
        fs.open(f"{bench.query}/nothing.nc")
    with pytest.raises(IsADirectoryError):
        fs.open(bench.query)
    with pytest.raises(FileNotFoundError):
        fs.open(f"{bench.query}/*.nc")
    with pytest.raises(FileNotFoundError):
        fs.prefetch(f"{bench.query}/*.grib")
    with pytest.raises(OSError, match="read-only"):
        fs.open(bench.path(1), "wb")
    with pytest.raises(FileNotFoundError):
        fs.cat(f"{bench.query}/nothing.nc")
