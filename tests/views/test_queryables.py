"""What a data set can be asked: each key whole in the object, short where it is shown."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import Bench

from hda_fsspec.emulator import Fault, dated_product
from hda_fsspec.emulator.schemas import multiple_choice
from hda_fsspec.errors import LocationError

ENTRY: dict[str, Any] = {
    "title": "Sea <b>surface</b>\x1b[31m",
    "date_keys": ("dtstart", "dtend"),
    "parameters": {
        "timeliness": ["NR", "NT"],
        "variable": multiple_choice([f"variable_{n}" for n in range(300)]),
        "cloud": {"type": "number", "minimum": 0, "maximum": 100, "default": 20},
        "uid": {"type": "string", "pattern": r"[\w-]+"},
    },
}


@pytest.fixture
def view(bench: Bench) -> Any:
    """Return what the data set of the bench can be asked."""
    fs = bench.filesystem(bench.start(3, entry=ENTRY))
    return fs.queryables(f"hda://{bench.dataset}")


def test_every_key_is_described(view: Any) -> None:
    """Type, choices, default and range; the common names, and the data set's own."""
    assert list(view) == ["startdate", "enddate", "bbox", "timeliness", "variable", "cloud", "uid"]
    assert view["startdate"].native == "dtstart"
    assert view["dtstart"] is view["startdate"]
    assert view["timeliness"].type == "one of 2"
    assert view["timeliness"].choices == ("NR", "NT")
    assert view["variable"].is_list
    assert len(view["variable"].choices) == 300
    assert (view["cloud"].type, view["cloud"].range, view["cloud"].default) == (
        "number",
        "0 to 100",
        ("20",),
    )
    assert view["bbox"].type == "box W,S,E,N"
    assert "dataset_id" not in view
    with pytest.raises(KeyError, match="Did you mean 'variable'"):
        view["variabel"]


def test_it_shows_itself_in_short(view: Any) -> None:
    """Long lists are cut, and say how much; nothing of outside is markup or reaches a terminal."""
    text, html = repr(view), view._repr_html_()

    for shown in (text, html):
        assert "292 more" in shown
        assert "variable_299" not in shown
        assert "startdate (dtstart)" in shown
        assert view.path in shown
        assert "\x1b" not in shown
    assert "<b>surface" not in html
    assert "&lt;b&gt;surface" in html
    assert "<script" not in html
    assert len(html) < 20_000


def test_the_path_to_start_from_works(bench: Bench) -> None:
    """It can be pasted: it lists the last products; nothing was ordered."""
    emulator = bench.start(5, entry=ENTRY)
    fs = bench.filesystem(emulator)
    path = fs.queryables(bench.dataset).path

    assert [info["product_id"] for info in fs.ls(path)] == ["sst_20240504.nc", "sst_20240505.nc"]
    assert emulator.orders == 0


def test_any_path_of_a_data_set_will_do(bench: Bench) -> None:
    """A query or product means its data set; all data sets are too many."""
    fs = bench.filesystem(bench.start(1))

    assert fs.queryables(bench.path()).dataset_id == bench.dataset
    with pytest.raises(LocationError, match="name one"):
        fs.queryables("hda://")
    with pytest.raises(
        FileNotFoundError, match=r"There is no data set 'EO:NOWHERE'.*Find one by words"
    ):
        fs.queryables("EO:NOWHERE")


def test_what_the_service_does_not_tell_is_said(bench: Bench) -> None:
    """Without a schema, keys go out as they are; a needed key without a value is named."""
    emulator = bench.start(1, entry={"queryable": {"type": "object", "properties": {}}})
    view = bench.filesystem(emulator).queryables(bench.dataset)
    assert view.is_open
    assert len(view) == 0
    assert "no schema" in repr(view)
    assert "no schema" in view._repr_html_()

    entry = {"parameters": {"orbit": "string"}, "required": ("dataset_id", "orbit")}
    other = bench.start(products=[dated_product("a_20240501.nc", bench.body())], entry=entry)
    view = bench.filesystem(other).queryables(bench.dataset)
    assert view.needs == ("orbit",)
    assert "add orbit=…" in repr(view)
    assert view.to_json()["keys"][-1]["key"] == "orbit"


def test_the_entry_is_a_convenience(bench: Bench) -> None:
    """Offline, and where the service has none, the keys are shown without title and period."""
    emulator = bench.start(1, entry=ENTRY)
    fs = bench.filesystem(emulator)
    fs.ls(bench.query)  # which asks for the schema, and for no more than the licences
    keys = list(bench.filesystem(emulator, offline=True).queryables(bench.dataset))
    assert keys == list(fs.queryables(bench.dataset))

    other = bench.start(2, entry=ENTRY)
    other.fault(Fault("status", method="GET", path="datasets", status=404, times=9))
    view = bench.filesystem(other).queryables(bench.dataset)
    assert list(view) == keys
    assert view.facts == []
    assert "2024" not in view["startdate"].range
