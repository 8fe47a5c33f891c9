"""The demo tells the truth: what it prints is what the service counted."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import pytest

from hda_fsspec.cli import demo, main
from hda_fsspec.errors import ConfigurationError
from hda_fsspec.formats.detect import check_complete

pytest.importorskip("iris_sample_data")

_COST = re.compile(r"-> (\d+) orders?, (\d+) requests?, ([\d,]+) bytes downloaded, [\d.]+ s")


def _source() -> Path:
    import iris_sample_data

    return Path(iris_sample_data.path) / "ostia_monthly.nc"


@pytest.mark.slow
def test_numbers_of_the_demo(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Opening costs one order, or two, a year one or one a month, and all costs nothing again."""
    monkeypatch.setattr(demo, "_PREPARATION_SECONDS", 0.2)
    monkeypatch.setenv("HDA_OFFLINE", "1")  # nor does any other setting of the user count
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    work = tmp_path / "here"
    work.mkdir()
    monkeypatch.chdir(work)
    before = _but_home(tmp_path)
    out = io.StringIO()

    demo.run(out)

    text = out.getvalue()
    costs = [tuple(int(n.replace(",", "")) for n in cost) for cost in _COST.findall(text)]
    # Of the computed one the last year is looked at, too, since more of it may come.
    assert [orders for orders, _, _ in costs] == [2, 0, 1, 0, 1, 12, 0, 0]
    assert [sent > 0 for _, _, sent in costs] == [orders > 0 for orders, _, _ in costs]
    assert costs[1][1] == costs[7][1] == 0
    assert "surface_temperature (time: 54, latitude: 18, longitude: 61)" in text
    assert "surface_temperature (time: 54, latitude: 18, longitude: 432)" in text
    assert "orders 1 needed" in text
    assert "the same twelve numbers, to 0.0000 K" in text
    assert "300.1 K to 298.1 K" in text
    assert "emulator" in text
    assert len(text.splitlines()) <= 70
    assert text.isascii()
    # How long the path of a temporary folder is, is for the machine to say.
    assert max(map(len, text.replace(str(tmp_path), "/tmp").splitlines())) <= 80
    plots = [work / "hda-fsspec-demo.png"] if importlib.util.find_spec("matplotlib") else []
    assert _but_home(tmp_path) == sorted([*before, *plots])
    assert all(plot.read_bytes().startswith(b"\x89PNG") for plot in plots)
    assert not any(name.startswith("HDA_") for name in os.environ if name != "HDA_OFFLINE")


def _but_home(folder: Path) -> list[Path]:
    """Return what is in a folder; matplotlib keeps a list of fonts in the home."""
    return sorted(path for path in folder.rglob("*") if folder / "home" not in path.parents)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Run the command with ``--keep``, without matplotlib; return the folder and the output."""
    folder = tmp_path_factory.mktemp("demo") / "kept"
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as out:
        patch.setattr(demo, "_PREPARATION_SECONDS", 0.0)
        patch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
        assert main(["demo", "--keep", str(folder)]) == 0
    assert not list(folder.rglob("*.png"))
    return folder, out.getvalue()


@pytest.mark.slow
def test_without_matplotlib_there_is_no_plot(kept: tuple[Path, str]) -> None:
    """It is said in one line, and the demo goes on."""
    _, told = kept

    assert told.count("matplotlib is missing") == 1
    assert "ostia_sst_200702.nc" in told.partition("copies")[2]


@pytest.mark.slow
def test_keep_keeps_products_cache_and_copies(
    kept: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """With ``--keep`` everything stays, and a second run finds the year in the cache."""
    folder, first = kept

    assert main(["demo", "--json", "--keep", str(folder)]) == 0
    second = json.loads(capsys.readouterr().out)

    assert "In all: 16 orders" in first
    assert [step["title"] for step in second] == [step.__doc__ for step in demo.STEPS]
    assert {step["orders"] for step in second} == {0}
    plots = ["plot.png"] if importlib.util.find_spec("matplotlib") else []
    names = ["cache", "copies", *plots, "products"]
    assert sorted(path.name for path in folder.iterdir()) == names
    assert f"hda-fsspec emulator {folder / 'products' / 'catalogue.json'}" in first


def test_a_missing_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without the data the demo says what to install."""
    monkeypatch.setitem(sys.modules, "iris_sample_data", None)

    with pytest.raises(ConfigurationError, match=r'pip install "hda-fsspec\[demo\]"'):
        demo.run(io.StringIO())
    assert main(["demo"]) == 1
    assert "hda-fsspec[demo]" in capsys.readouterr().err


@pytest.mark.slow
def test_months_are_the_source_in_pieces(kept: tuple[Path, str]) -> None:
    """Put together, the products have the raw values, attributes and storage of their source."""
    paths = sorted((kept[0] / "products").joinpath("months").iterdir())
    assert len(paths) == 54
    assert [path.name for path in (paths[0], paths[-1])] == [
        "ostia_sst_200604.nc",
        "ostia_sst_201009.nc",
    ]

    with netCDF4.Dataset(_source()) as source:
        for index in (0, 17, 53):
            check_complete(paths[index])
            with netCDF4.Dataset(paths[index]) as month:
                assert month.__dict__ == source.__dict__
                assert month.dimensions.keys() == source.dimensions.keys()
                for name, variable in source.variables.items():
                    _assert_same(month[name], variable, index)


def _assert_same(copy: Any, variable: Any, index: int) -> None:
    for one in (copy, variable):
        one.set_auto_maskandscale(False)
    expected = variable[index : index + 1] if "time" in variable.dimensions else variable[...]
    np.testing.assert_array_equal(copy[...], expected)
    assert copy.__dict__ == variable.__dict__
    assert (copy.dtype, copy.filters(), copy.endian()) == (
        variable.dtype,
        variable.filters(),
        variable.endian(),
    )
