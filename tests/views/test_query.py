"""The view of a query: one search, no order, and the truth of what is local."""

from __future__ import annotations

import importlib.util
import pickle
import sys
import time
from typing import Any
from xml.etree import ElementTree as ET

import pandas as pd
import pytest
from conftest import Bench

from hda_fsspec.emulator import ProductEntry, dated_product
from hda_fsspec.errors import LocationError
from hda_fsspec.paths.locations import Location
from hda_fsspec.records import Product
from hda_fsspec.settings import Settings
from hda_fsspec.views.dataframe import dataframe_of
from hda_fsspec.views.query import QueryView

HOSTILE = "</td><script>alert(1)</script>\x1b[2J\u202e&\"'"


def _html(view: Any) -> str:
    """Return the HTML of a view, which is well formed."""
    text: str = view._repr_html_()
    ET.fromstring(text)  # our own
    assert "<script" not in text
    assert "http" not in text
    return text


def test_one_search_and_no_order(bench: Bench) -> None:
    """Looking at it in every way asks nothing more, and orders nothing."""
    emulator = bench.start(31)
    view = bench.filesystem(emulator).query(bench.query)
    emulator.clear_log()
    text, html, table = repr(view), _html(view), view.to_dataframe()

    assert len(emulator.log) == 0
    assert emulator.orders == 0
    assert len(view) == len(list(view)) == len(table) == 31
    assert "… 20 more" in text
    assert "… 6 more" in html
    assert view.products[0].product_id == view[0].product_id == bench.product_id(1)
    assert view[-1].product_id == bench.product_id(31)


def test_a_slice_is_a_view(bench: Bench) -> None:
    """It has its own paths, which can be fetched; a view survives a pickle without a password."""
    emulator = bench.start(5)
    fs = bench.filesystem(emulator)
    view = fs.query(bench.query)
    last = view[-2:]

    assert isinstance(last, QueryView)
    assert last.paths == [bench.path(4), bench.path(5)]
    assert len(fs.prefetch(last)) == 2
    assert len(fs.download(last, bench.folder / "names")) == 2
    fs.get(last, bench.folder / "ids")
    assert len([*(bench.folder / "ids").iterdir()]) == 2
    assert view.states == ["missing"] * 3 + ["cached"] * 2
    assert emulator.password.encode() not in pickle.dumps(view)
    assert pickle.loads(pickle.dumps(view)).products == view.products  # our own
    assert view[:] == view
    assert hash(view[:]) == hash(view)
    assert view != last


@pytest.mark.slow
def test_what_is_cached_under_way_and_missing(bench: Bench) -> None:
    """An order that never came is under way; one that was evicted is missing."""
    emulator = bench.start(4, quota=100)
    fs = bench.filesystem(emulator)
    view = fs.query(bench.query)
    fs.prefetch(view[:2].paths)
    client = fs._client
    client.cache.clear()
    fs.prefetch(view[:1].paths)
    client._orders.place(view[2], "an-id", time.time())

    assert view.states == ["cached", "missing", "under way", "missing"]
    assert "orders: 3 needed, 1 of them under way, 1 local already" in repr(view)
    assert "97 of 100 orders an hour left" in repr(view)
    html = _html(view)
    assert "1 cached" in html
    assert "1 under way" in html
    assert "2 missing" in html


@pytest.mark.parametrize(
    ("path", "count"),
    [("hda://EO:TEST:DAT:DAILY/*_2024050[12]*", 2), ("/sst_20240503.nc", 1), ("/type=x", None)],
)
def test_patterns_and_products_are_queries(bench: Bench, path: str, count: int | None) -> None:
    """What can be listed can be viewed; an empty answer is an empty view."""
    fs = bench.filesystem(bench.start(3, entry={"parameters": {"type": ["x", "y"]}}))
    path = path if path.startswith("hda:") else bench.query + path
    if count is None:
        path = bench.query.replace("2024", "1999") + path.removeprefix(bench.query)
    view = fs.query(path)

    assert len(view) == (count or 0)
    assert "products: " in repr(view)
    assert _html(view)
    assert len(view.to_dataframe()) == len(view)


def test_offline_a_view_says_what_answered_it(bench: Bench) -> None:
    """What is kept here answers part of a query; the service may have others, and slices say so."""
    emulator = bench.start(5)
    fs = bench.filesystem(emulator)
    assert fs.query(bench.query).origin is None
    fs.prefetch(fs.query(bench.query)[:2].paths)
    offline = bench.filesystem(emulator, offline=True)
    part = offline.query(bench.query.replace("2024-05-31", "2024-05-03"))

    assert len(part) == 3
    assert part[:1].origin == part.origin
    assert f"answered by: {part.origin}" in repr(part)
    assert part.states == ["cached", "cached", "missing"]
    assert "answered by" in _html(part)


def test_all_data_sets_are_no_query(bench: Bench) -> None:
    """The error names what finds data sets; a data set that is not there is not found."""
    fs = bench.filesystem(bench.start(1))

    with pytest.raises(LocationError, match=r"fs\.datasets"):
        fs.query("hda://")
    with pytest.raises(FileNotFoundError):
        fs.query("hda://EO:NOWHERE")


def test_the_table_of_pandas(bench: Bench) -> None:
    """Times are times, unknown sizes are missing, and what else is told has columns."""
    products = [
        dated_product(
            "a_20240501.nc", bench.body(1), size=5000, metadata={"cloud": 7, "size": "x"}
        ),
        dated_product("b_20240502.nc", bench.body(2), size="ND"),
    ]
    view = bench.filesystem(bench.start(products=products)).query(f"hda://{bench.dataset}")
    table = view.to_dataframe()

    assert table.startdate.tolist() == [
        pd.Timestamp("2024-05-01", tz="UTC"),
        pd.Timestamp("2024-05-02", tz="UTC"),
    ]
    assert table["size"].isna().all()
    assert table.catalogue_size.tolist()[0] == 5000
    assert table.catalogue_size.isna().tolist() == [False, True]
    assert table.cloud.tolist()[0] == 7
    assert table.path.tolist() == view.paths
    assert "about 5.0 kB by the catalogue, 1 of unknown size" in repr(view)


def _view(bench: Bench, features: list[dict[str, Any]]) -> QueryView:
    """Return the view of what a catalogue may answer."""
    settings = Settings.resolve(cache_dir=bench.cache_dir, user="u", password="p-p-p-p")
    products = [Product.from_feature("EO:A", {"id": f"p{n}", **f}) for n, f in enumerate(features)]
    return QueryView(settings, Location("EO:A"), products)


def test_footprints_in_geopandas(bench: Bench) -> None:
    """Cut at the date line, as GeoJSON has it; missing where none is told."""
    if importlib.util.find_spec("geopandas") is None:
        pytest.skip("GeoPandas is not installed")
    ring = [[170, 0], [-170, 0], [-172, 10], [172, 10], [170, 0]]
    table = _view(
        bench,
        [
            {"geometry": {"type": "Polygon", "coordinates": [ring]}},
            {"geometry": None},
            {"bbox": [0, 0, 10, 20]},
            {"geometry": {"type": "Point", "coordinates": [5, 6]}},
            {"geometry": {"type": "LineString", "coordinates": [[170, 0], [-170, 10]]}},
        ],
    ).to_dataframe()

    assert table.crs == "EPSG:4326"
    assert table.geometry.isna().tolist() == [False, True, False, False, False]
    assert table.geometry[0].bounds == (-180, 0, 180, 10)
    assert table.geometry[0].area == pytest.approx(180, rel=0.01)
    assert table.geometry[2].bounds == (0, 0, 10, 20)
    assert table.geometry[3].coords[0] == (5, 6)
    assert table.geometry[4].length == pytest.approx((20**2 + 10**2) ** 0.5)


def test_without_geopandas_it_is_a_table_of_pandas(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The box is there in any case."""
    monkeypatch.setitem(sys.modules, "geopandas", None)  # which Python takes as not installed
    table = _view(bench, [{"bbox": [0, 0, 10, 20]}, {}]).to_dataframe()

    assert type(table) is pd.DataFrame
    assert "geometry" not in table
    assert table.bbox[0] == "0,0,10,20"


def test_what_cannot_be_shown_is_said(bench: Bench) -> None:
    """Products without dates or footprint are counted, and the others are shown."""
    dates = {"startdate": "2024-05-01", "enddate": "2024-05-02"}
    view = _view(
        bench,
        [
            {"geometry": {"type": "Polygon", "coordinates": [["x"]]}, "properties": dates},
            {"bbox": [0, 0, 10, 20], "properties": dates},
            {"bbox": [0, -100, 10, 20]},
            {},
        ],
    )
    html = _html(view)

    assert "3 products without a footprint that could be drawn" in html
    assert "2 products without dates" in html
    assert html.count("<svg") == 2
    assert _html(view[3:]).count("<svg") == 0


def test_hostile_names_are_text(bench: Bench) -> None:
    """Ids, paths and labels of the map are escaped for HTML and for terminals."""
    products = [
        ProductEntry(f"{HOSTILE}{n}.nc", bench.body(n), "2024-05-01", "2024-05-02")
        for n in range(3)
    ]
    fs = bench.filesystem(bench.start(products=products))
    view = fs.query(f"hda://{bench.dataset}")
    html, text = _html(view), repr(view)

    assert not {"\x1b", "\u202e"} & {*html, *text}
    assert "&lt;/td&gt;&lt;script&gt;" in html
    assert [fs.query(path)[0].product_id for path in view.paths] == [p.product_id for p in view]


@pytest.mark.slow
def test_ten_thousand_products_are_a_small_view(bench: Bench) -> None:
    """First rows and last, and as many footprints as can be told apart: under 500 kB."""
    features = []
    for n in range(10_000):
        x, y = n * 0.0357 % 350 - 175, n * 0.0171 % 140 - 70
        ring = [[x + k % 5 * 2, y + k * 2] for k in range(5)]
        day = f"2024-{n % 12 + 1:02}-{n % 28 + 1:02}"
        features.append(
            {
                "id": f"{'x' * 90}_{n}.SEN3",
                "geometry": {"type": "Polygon", "coordinates": [[*ring, ring[0]]]},
                "properties": {"startdate": day, "enddate": day, "size": 10**9},
            }
        )
    html = _html(_view(bench, features))

    assert len(html.encode()) < 500_000
    assert "… 9,975 more" in html
    assert "of the footprints, evenly chosen" in html
    assert "10.0 TB" in html


def test_a_size_beyond_all_files_is_missing_in_the_table(bench: Bench) -> None:
    """A catalogue may tell any number."""
    fs = bench.filesystem(bench.start(1))
    products = [Product("EO:A", "a", size=2**70), Product("EO:A", "b", size=3)]
    table = QueryView(fs.settings, Location("EO:A"), products).to_dataframe()
    assert table["catalogue_size"].fillna(-1).tolist() == [-1, 3]


def test_a_table_of_texts_that_no_encoding_has() -> None:
    """Halves of surrogate pairs make a table like others, with the ids as they are."""
    products = [
        Product("EO:A", "a\ud800.nc", properties=(("note", "\udfff"),)),
        Product("EO:A", "b"),
    ]

    table = dataframe_of(products, ["hda://EO:A/a", "hda://EO:A/b"], ["missing"] * 2, [None, 3])

    assert table["product_id"].tolist() == ["a\ud800.nc", "b"]
    assert table["note"].tolist() == ["\udfff", None]
    assert table["path"].tolist() == ["hda://EO:A/a", "hda://EO:A/b"]
    assert table["size"].isna().tolist() == [True, False]
