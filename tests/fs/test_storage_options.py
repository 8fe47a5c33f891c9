"""The settings as storage options: they pass through fsspec's and pandas' functions."""

from __future__ import annotations

import inspect
import pickle
from pathlib import Path
from typing import Any

import fsspec
import fsspec.asyn
import fsspec.generic
import fsspec.mapping
import numpy as np
import pandas as pd
import pytest
from fsspec.implementations.cached import CachingFileSystem, SimpleCacheFileSystem
from rows import for_each

from hda_fsspec.emulator import ProductEntry
from hda_fsspec.errors import ConfigurationError
from hda_fsspec.settings import SETTING_NAMES, Settings

_PASSED_ON = {inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL}


@for_each("module", [fsspec.core, fsspec.mapping, fsspec.generic])
def test_no_setting_has_the_name_of_a_parameter_of_fsspec(module: Any) -> None:
    """Whatever function of fsspec takes storage options, it takes all of ours."""
    taken = {
        (function.__name__, parameter.name)
        for _, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind not in _PASSED_ON and parameter.name in SETTING_NAMES
    }

    assert taken == set()


@for_each(
    "kind",
    [
        fsspec.spec.AbstractFileSystem,
        fsspec.asyn.AsyncFileSystem,
        CachingFileSystem,
        SimpleCacheFileSystem,
        fsspec.generic.GenericFileSystem,
    ],
)
def test_no_setting_has_the_name_of_an_option_of_a_filesystem(kind: Any) -> None:
    """Options of the classes that filesystems derive from, or are wrapped in, are none of ours."""
    assert not SETTING_NAMES & set(inspect.signature(kind.__init__).parameters)


@pytest.fixture
def everything(bench: Any) -> dict[str, Any]:
    """Return each setting there is, for an emulator with a table and a day."""
    table = pd.DataFrame({"station": ["A", "B"], "sst": [280.5, 281.0]})
    files = {
        "stations.csv": table.to_csv(index=False).encode(),
        "stations.json": table.to_json().encode(),
    }
    products = [
        ProductEntry(name, body, "2024-05-02T00:00:00Z", "2024-05-02T23:59:59Z")
        for name, body in {**files, bench.product_id(2): bench.body(2)}.items()
    ]
    settings = Settings.resolve(**bench.settings(bench.start(products=products)))
    return {name: getattr(settings, name) for name in SETTING_NAMES}


def test_the_functions_of_fsspec_take_all_settings(bench: Any, everything: dict[str, Any]) -> None:
    """Opening, finding, mapping, and making local, each with every setting there is."""
    path = bench.path(2)

    fs, name = fsspec.core.url_to_fs(path, **everything)
    local = fsspec.open_local(path, **everything)
    with fsspec.open(path, **everything) as handle:
        opened = handle.read()
    mapper = fsspec.get_mapper(bench.query, **everything)
    _, _, (token,) = fsspec.get_fs_token_paths(path, storage_options=everything)

    assert fs.settings == Settings.resolve(**everything)
    assert (name, token) == (path.removeprefix("hda://"),) * 2
    assert opened == fs.cat(path) == Path(local).read_bytes() == bench.body(2)
    assert sorted(mapper) == sorted([bench.product_id(2), "stations.csv", "stations.json"])
    assert mapper[bench.product_id(2)] == bench.body(2)
    assert fsspec.open_files([path], **everything)[0].fs == fs
    assert fsspec.filesystem("hda", **everything) == fs == pickle.loads(pickle.dumps(fs))


def test_pandas_takes_all_settings(bench: Any, everything: dict[str, Any]) -> None:
    """Tables of a product are read with ``storage_options``."""
    read = {
        reader: reader(f"{bench.query}/stations.{ending}", storage_options=everything)
        for reader, ending in ((pd.read_csv, "csv"), (pd.read_json, "json"))
    }

    for table in read.values():
        assert list(table.station) == ["A", "B"]
        assert np.array_equal(table.sst, [280.5, 281.0])


def test_an_option_named_url_is_refused(bench: Any) -> None:
    """The error names the setting that it is, wherever it is given."""
    bench.start()
    wrong = {"url": "http://h.int/"}

    with pytest.raises(ConfigurationError, match="Did you mean 'endpoint_url'"):
        fsspec.filesystem("hda", **wrong)
    with pytest.raises(ConfigurationError, match="Did you mean 'endpoint_url'"):
        fsspec.open(bench.path(1), **wrong)
    with pytest.raises(ConfigurationError, match="Did you mean 'endpoint_url'"):
        pd.read_csv(bench.path(1), storage_options=wrong)
