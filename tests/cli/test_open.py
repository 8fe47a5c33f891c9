"""``open`` shows what a path is as a data set, and ``plan`` what a selection of it would cost."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from rows import for_each

from hda_fsspec.cli import main
from hda_fsspec.emulator import dated_product

DAYS = 6
ATTRIBUTES = {"units": "K", "valid_max": math.inf, "codes": [1, 2]}


@pytest.fixture(scope="module")
def bodies(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Six days of a descending latitude."""
    file = tmp_path_factory.mktemp("days") / "day.nc"
    bodies = []
    for day in range(1, DAYS + 1):
        xr.Dataset(
            {"sst": (("time", "lat"), [[1.0, 2.0, 3.0]], ATTRIBUTES)},
            coords={
                "time": [np.datetime64(f"2024-05-{day:02}T12:00", "ns")],
                "lat": [20.0, 10.0, 0.0],
            },
        ).to_netcdf(file, engine="netcdf4")
        bodies.append(file.read_bytes())
    return bodies


@pytest.fixture
def emulator(bench: Any, bodies: list[bytes], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Serve the days where the environment leads."""
    products = [dated_product(bench.product_id(day), body) for day, body in enumerate(bodies, 1)]
    emulator = bench.start(products=products)
    for name, value in emulator.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HDA_CACHE_DIR", str(bench.cache_dir))
    return emulator


def test_open_shows_a_query(bench: Any, emulator: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """It prints what xarray shows, and orders the template only."""
    assert main(["open", bench.query]) == 0

    text = capsys.readouterr().out
    assert text.startswith("<xarray.Dataset>")
    assert "(time: 6, lat: 3)" in text
    assert "sst" in text
    assert emulator.order_posts == 1


def test_open_shows_a_product(
    bench: Any, emulator: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """Options of the settings count, before and after the command."""
    folder = bench.folder / "other"
    assert main(["--cache-dir", str(folder), "open", bench.path(2)]) == 0
    assert main(["open", bench.path(2), "--cache-dir", str(folder), "--offline"]) == 0

    first, second = capsys.readouterr().out.split("<xarray.Dataset>")[1:]
    assert first == second
    assert "2024-05-02T12:00" in first
    assert (emulator.order_posts, folder.is_dir()) == (1, True)


def test_plan_of_the_latest(bench: Any, emulator: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """``--first`` and ``--last`` take of many products what ``ls`` and ``get`` take."""
    assert main(["plan", "--json", "--last", "2", bench.query]) == 0
    last = json.loads(capsys.readouterr().out)
    assert main(["plan", "--json", "--first", "1", bench.query]) == 0
    first = json.loads(capsys.readouterr().out)

    assert last["products"] == [bench.product_id(5), bench.product_id(6)]
    assert first["products"] == [bench.product_id(1)]
    assert (first["orders_needed"], emulator.order_posts) == (1, 0)


@pytest.mark.slow
@for_each(
    ("selections", "count"),
    [
        (["time=2024-05-02:2024-05-04"], 3),
        (["time=2024-05-03"], 1),
        (["time=2024-05:"], 6),
        (["time=:2024-05-02"], 2),
        (["time=2024-05-02T12:00:2024-05-03T12:00:00"], 2),
        (["time=2024-05-05T12:00Z"], 1),
        (["time=2024-05-01T13:00:2024-05-03"], 2),
        (["lat=0:10", "time=2024-05-02:2024-05-03"], 2),
        (["lat=9"], 6),
        (["lat=30:40"], 0),
    ],
)
def test_plan_of_a_selection(
    selections: list[str],
    count: int,
    bench: Any,
    emulator: Any,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Days, months, clocks, numbers, ranges without an end; more than one selection."""
    words = ["plan", bench.query, *(f"--sel={each}" for each in selections)]

    assert main([*words, "--order-template"]) == 0

    text = _without_free_space(capsys.readouterr().out)
    if count:
        assert f"Plan: {count} product{'s' if count > 1 else ''} of {bench.dataset}\n" in text
        assert "orders" in text
    else:
        assert text == "Plan: no products are read\n"
    assert emulator.order_posts == 1

    assert main(words) == 0
    assert _without_free_space(capsys.readouterr().out) == text
    assert emulator.order_posts == 1


def _without_free_space(text: str) -> str:
    """Return a plan without what others do to the disk."""
    return re.sub(r"[\d.]+ .?B(?= free)", "…", text)


@pytest.mark.slow
@pytest.mark.parametrize("path", ["{query}", "{query}/*", "{product}", "hda://{dataset}"])
def test_plan_without_a_selection_opens_nothing(
    path: str, bench: Any, emulator: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is made of the listing and the cache, and orders nothing."""
    path = path.format(query=bench.query, product=bench.path(1), dataset=bench.dataset)

    assert main(["plan", path]) == 0

    text = capsys.readouterr().out
    count = 1 if path == bench.path(1) else DAYS
    assert text.startswith(f"Plan: {count} product")
    assert f"orders {count} needed, 0 local already" in text
    assert (emulator.order_posts, emulator.downloads) == (0, 0)


@pytest.mark.parametrize("path", ["{query}", "{product}"])
def test_plan_of_a_selection_orders_nothing_unasked(
    path: str, bench: Any, emulator: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """What it needs to have, and does not, is told with the words that would order it."""
    path = path.format(query=bench.query, product=bench.path(1))

    assert main(["plan", path, "--sel", "time=2024-05-02"]) == 1

    captured = capsys.readouterr()
    assert captured.out == ""
    assert bench.product_id(1) in captured.err
    assert "--order-template" in captured.err
    assert "Nothing was ordered" in captured.err
    assert (emulator.order_posts, emulator.downloads) == (0, 0)


def test_plan_of_what_needs_a_second_product_orders_nothing(
    bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A template that is local is not enough where another product has to decide."""
    products = []
    for number, box in enumerate([(0, 0, 1, 1), (5, 5, 6, 6)], start=1):
        file = tmp_path / f"{number}.nc"
        times = [np.datetime64(f"2024-05-{number:02}T12:00", "ns")]
        xr.Dataset({"a": ("time", [1.0])}, {"time": times}).to_netcdf(file)
        products.append(dated_product(bench.product_id(number), file.read_bytes(), bbox=box))
    emulator = bench.start(products=products)
    for name, value in emulator.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HDA_CACHE_DIR", str(bench.cache_dir))
    assert main(["open", bench.path(1)]) == 0

    assert main(["plan", bench.query, "--sel", "time=2024-05-02"]) == 1
    assert bench.product_id(2) in capsys.readouterr().err
    assert emulator.order_posts == 1

    assert main(["plan", bench.query, "--sel", "time=2024-05-02", "--order-template"]) == 0
    assert emulator.order_posts == 2


@pytest.mark.slow
@for_each(
    ("selection", "says"),
    [
        # Before anything is ordered, and what is told of a product that is there then.
        ("time", "write DIM=VALUE or DIM=FIRST:LAST"),
        ("time=1:2:3", "write DIM=VALUE or DIM=FIRST:LAST"),
        ("lon=3", "no such index. It has: lat, time"),
        ("lat=north", ": write a number."),
        ("time=yesterday", "goes from 2024-05-01 12:00:00 to 2024-05-06 12:00:00"),
        ("time=abc:2", "2024-05-06 12:00:00: write a date or time, such as 2006-04."),
        ("time=2031-01-01", "goes from 2024-05-01 12:00:00 to 2024-05-06 12:00:00"),
    ],
)
def test_a_selection_that_cannot_be(
    selection: str, says: str, bench: Any, emulator: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is told in one line, with what there is."""
    assert main(["plan", bench.query, "--order-template", "--sel", selection]) == 1

    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("hda-fsspec: error: Cannot ")
    assert says in captured.err
    assert emulator.order_posts == (0 if "write DIM" in says else 1)


def test_open_and_plan_as_json(
    bench: Any, emulator: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """Dimensions, variables and attributes, without values; and what a plan counts."""

    def told(*words: str) -> Any:
        assert main([*words, "--json", bench.query]) == 0
        return json.loads(capsys.readouterr().out, parse_constant=pytest.fail)

    plan = told("plan")
    assert emulator.order_posts == 0
    opened = told("open")
    selected = told("plan", "--sel", "time=2024-05-01:2024-05-02")

    ids = [bench.product_id(day) for day in range(1, DAYS + 1)]
    assert (plan["products"], plan["local"], plan["orders_needed"]) == (ids, 0, DAYS)
    assert opened["dims"] == {"time": DAYS, "lat": 3}
    assert opened["data_vars"]["sst"] == {
        "dims": ["time", "lat"],
        "attrs": {"units": "K", "valid_max": None, "codes": [1, 2]},
        "dtype": "float64",
        "shape": [DAYS, 3],
    }
    assert (selected["products"], selected["local"], selected["fits"]) == (ids[:2], 1, True)
    assert emulator.order_posts == 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["open", "/data/local.nc"], "opens hda:// paths"),
        (["open", "{query}/*none*"], "finds no product"),
        (["open", "{product}", "--group", "inner"], "inner"),
        (
            ["plan", "{product}", "--sel=lat=1", "--order-template", "--member", "*.nc"],
            "Leave --member out",
        ),
    ],
)
def test_what_cannot_be_opened(
    words: list[str], says: str, bench: Any, emulator: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """Errors are those of the engine, as one message."""
    words = [word.format(query=bench.query, product=bench.path(1)) for word in words]

    assert main(words) == 1

    assert says in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")  # rioxarray
def test_open_puts_tiles_side_by_side(
    stacks: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With ``--mosaic`` the tiles of a query are one data set; a product alone has none."""
    pytest.importorskip("rioxarray")
    tiles = {}
    for number, tile in enumerate(("T32TPS", "T32TQS")):
        name = f"ST_20240501T000000_S2_{tile}-010m_V101_PPI.tif"
        raster = xr.DataArray(
            np.full((4, 5), float(number)),
            coords={"y": 40.0 - 10 * np.arange(4), "x": 50.0 * number + 10 * np.arange(5)},
            dims=("y", "x"),
        )
        raster.rio.write_crs("EPSG:32632").rio.to_raster(stacks.folder / name)
        tiles[name] = stacks.folder / name
    stacks.serve(tiles)
    for variable, value in stacks.emulator.environment.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setenv("HDA_CACHE_DIR", str(stacks.bench.cache_dir))

    assert main(["open", "--mosaic", f"hda://{stacks.dataset}/{name}"]) == 1
    assert "--mosaic puts the tiles of a query side by side" in capsys.readouterr().err
    assert main(["open", "--mosaic", stacks.query]) == 0

    assert "x: 10" in capsys.readouterr().out
