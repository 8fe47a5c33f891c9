"""Offline a query is answered from the records of what is here, and is marked as such."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import xarray as xr
from rows import for_each

from hda_fsspec import HDAFileSystem, Location
from hda_fsspec.catalogue import offline
from hda_fsspec.catalogue.offline import Kept
from hda_fsspec.client import close_clients
from hda_fsspec.emulator import Emulator, dated_product
from hda_fsspec.errors import OfflineError, QueryError
from hda_fsspec.records import Product
from hda_fsspec.schema.schema import Schema

DATASET = "hda://EO:TEST:DAT:DAILY"
MAY = "startdate=2024-05-01/enddate=2024-05-31"


def gone(bench: Any, emulator: Emulator, **settings: Any) -> HDAFileSystem:
    """Return a filesystem of a new process that is offline."""
    close_clients()
    emulator.clear_log()
    fs: HDAFileSystem = bench.filesystem(emulator, offline=True, **settings)
    return fs


@pytest.fixture
def emulator(bench: Any) -> Emulator:
    """Five days, of which the third is local and all were listed; then the network is gone."""
    emulator: Emulator = bench.start(
        5, entry={"parameters": {"timeliness": ["NR", "NT"], "level": "number"}}
    )
    fs = bench.filesystem(emulator)
    fs.ls(bench.query)
    fs.cat(bench.path(3))
    return emulator


def days(bench: Any, infos: list[dict[str, Any]]) -> list[int]:
    """Return which days some entries are of."""
    ids = [bench.product_id(day) for day in range(1, 6)]
    return [ids.index(info["product_id"]) + 1 for info in infos]


PARTS = {
    "narrower": ("startdate=2024-05-02/enddate=2024-05-03", [2, 3]),
    "to the hour": ("startdate=2024-05-02T06:00:00Z/enddate=2024-05-02T07:00:00Z", [2]),
    "one end": ("startdate=2024-05-04/enddate=2024-05-31", [4, 5]),
    "nothing in it": ("startdate=2024-05-20/enddate=2024-05-25", []),
    "a box": (f"{MAY}/bbox=0,0,10,10", [1, 2, 3, 4, 5]),
    "another spelling": (
        "startdate=2024-05-01T00:00:00.000Z/enddate=2024-05-31T23:59:59.999Z",
        [1, 2, 3, 4, 5],
    ),
    "another order and case of a time": (
        "enddate=2024-05-31T23:59:59.999/startdate=2024-05-01T00:00",
        [1, 2, 3, 4, 5],
    ),
    "a pattern": (f"{MAY}/*0[24].nc", [2, 4]),
    "a pattern of a part": ("startdate=2024-05-02/enddate=2024-05-31/*0[14].nc", [4]),
}


@pytest.mark.slow
def test_parts_and_spellings_of_a_kept_query(bench: Any, emulator: Emulator) -> None:
    """What is part of an answer that was kept is found in it, with the service's own rules."""
    online = bench.filesystem(emulator, cache_dir=bench.folder / "other")
    for name, (query, expected) in PARTS.items():
        assert days(bench, online.ls(f"{DATASET}/{query}", detail=True)) == expected, name

    for name, (query, expected) in PARTS.items():
        fs = gone(bench, emulator)
        found = fs.ls(f"{DATASET}/{query}", detail=True)

        assert days(bench, found) == expected, name
        if "*" not in query:
            assert all("what was kept of" in info["origin"] for info in found), name
        assert fs.isdir(f"{DATASET}/{query}".partition("/*")[0]), name
        assert len(emulator.log) == 0, name


def test_the_bare_data_set_is_what_is_local(
    bench: Any, emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    """Of a whole data set the local products are listed, marked, and told once in the log."""
    fs = gone(bench, emulator)

    with caplog.at_level(logging.WARNING, "hda_fsspec"):
        found = fs.ls(DATASET, detail=True)
        fs.ls(DATASET)

    assert days(bench, found) == [3]
    assert found[0]["origin"] == offline.LOCAL
    assert fs.glob(f"{DATASET}/*") == [info["name"] for info in found]
    assert [fs.cat(path) for path in fs.find(DATASET)] == [bench.body(3)]
    [said] = caplog.messages
    assert DATASET in said
    assert "The service may have others" in said
    assert len(emulator.log) == 0


def test_what_the_service_answered_is_not_marked(bench: Any, emulator: Emulator) -> None:
    """Neither an answer of the service, nor the kept one to the very query, bears a mark."""
    assert all("origin" not in info for info in bench.filesystem(emulator).ls(bench.query))
    assert all("origin" not in info for info in gone(bench, emulator).ls(bench.query))


@pytest.mark.slow
@pytest.mark.parametrize(
    "query",
    [
        "startdate=2024-04-30/enddate=2024-05-03",
        "startdate=2024-05-01",
        "enddate=2024-05-31",
        f"{MAY}/timeliness=NT",
        f"{MAY}/level=5",
    ],
)
def test_what_cannot_be_told_is_no_answer(query: str, bench: Any, emulator: Emulator) -> None:
    """A wider query, or a key that the records do not tell of, is an error that says what is."""
    fs = gone(bench, emulator)

    with pytest.raises(OfflineError) as refused:
        fs.ls(f"{DATASET}/{query}")

    text = str(refused.value)
    assert Location.parse(f"{DATASET}/{query}").path in text
    assert bench.query in text
    assert f"{DATASET} lists the products of it that are local (1)" in text
    assert "HDA_OFFLINE" in text


def test_a_query_that_is_wrong_is_told_offline_too(bench: Any, emulator: Emulator) -> None:
    """The kept schema refuses what it would have refused online."""
    with pytest.raises(QueryError, match="startdat"):
        gone(bench, emulator).ls(f"{DATASET}/startdat=2024-05-01")


def test_info_of_what_is_local(bench: Any, emulator: Emulator) -> None:
    """A local product is known by any path, also without a query and without any note."""
    fs = gone(bench, emulator)
    paths = [f"{DATASET}/{bench.product_id(3)}", f"{DATASET}/startdate=2020/{bench.product_id(3)}"]

    infos = [fs.info(path) for path in paths]
    assert [info["size"] for info in infos] == [2032, 2032]
    assert {info["origin"] for info in infos} == {offline.LOCAL}
    assert fs.isfile(paths[0])

    for note in (bench.cache_dir / "v1").rglob("*.note"):
        note.unlink()
    fs = gone(bench, emulator)
    assert fs.info(paths[0])["product_id"] == bench.product_id(3)
    assert fs.isdir(DATASET)
    assert days(bench, fs.ls(DATASET, detail=True)) == [3]
    with pytest.raises(OfflineError):
        fs.info(f"{DATASET}/{bench.product_id(2)}")
    assert len(emulator.log) == 0


SPOILT: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "time": lambda note: note | {"at": "yesterday"},
    "no time": lambda note: note | {"at": None},
    "products": lambda note: note | {"value": 3},
    "columns": lambda note: note | {"value": {"product_id": ["x"]}},
    "name": lambda note: note | {"name": 7},
    "box": lambda note: note | {"name": note["name"] + "/bbox=west"},
    "path": lambda note: note | {"name": note["name"].replace("/startdate", "/*/startdate")},
}


@pytest.mark.slow
@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_a_kept_answer_that_cannot_be_read_is_none(
    spoil: Callable[[dict[str, Any]], dict[str, Any]], bench: Any, emulator: Emulator
) -> None:
    """Whatever became of the note of an answer, a query that it could answer is told in words."""
    for note in (bench.cache_dir / "v1" / "listings").rglob("*.note"):
        kept = json.loads(note.read_bytes())
        if " search " in kept["name"]:
            note.write_text(json.dumps(spoil(kept)))

    with pytest.raises(OfflineError, match="Cannot tell what"):
        gone(bench, emulator).ls(f"{DATASET}/startdate=2024-05-02/enddate=2024-05-02")


def test_a_local_product_costs_no_search_online(bench: Any, emulator: Emulator) -> None:
    """``info`` of a local product by its data set and id asks nobody, unless anew."""
    close_clients()
    emulator.clear_log()
    fs = bench.filesystem(emulator)

    assert fs.info(f"{DATASET}/{bench.product_id(3)}")["size"] == 2032
    assert len(emulator.log) == 0
    assert fs.info(f"{DATASET}/{bench.product_id(3)}", refresh=True)["size"] == 2032
    assert len(emulator.log) > 0


def test_another_broker_is_not_asked(bench: Any, emulator: Emulator) -> None:
    """What was kept of one broker's answers is no answer of another's."""
    other = bench.start(1)
    fs = gone(bench, other)

    with pytest.raises(OfflineError):
        fs.ls(f"{DATASET}/startdate=2024-05-02/enddate=2024-05-03")


@pytest.mark.slow
def test_a_part_opens_as_one_data_set(stacks: Any) -> None:
    """A part of a kept query, and the bare data set, open lazily from what is local."""
    made = {
        f"sst_2024050{day}.nc": xr.Dataset(
            {"sst": (("time", "x"), [[1.0, day]])},
            {"time": [np.datetime64(f"2024-05-0{day}T12:00", "ns")]},
        )
        for day in range(1, 6)
    }
    stacks.serve(made)
    whole = stacks.open(f"{DATASET}/{MAY}")
    whole.sst[1:3].load()
    stacks.forget()
    stacks.options["offline"] = True
    stacks.emulator.stop()

    part = stacks.open(f"{DATASET}/startdate=2024-05-02/enddate=2024-05-03")
    bare = stacks.open(DATASET)

    assert part.sst.values[:, 1].tolist() == [2.0, 3.0]
    assert bare.sst.sizes["time"] == 3  # the template is local, too
    assert bare.sst.values[:, 1].tolist() == [1.0, 2.0, 3.0]


BOX = {
    "type": "array",
    "items": [{"minimum": -180}, {"minimum": -90}, {"maximum": 180}, {"maximum": 90}],
}
SCHEMA = Schema.from_queryable(
    "EO:X",
    {
        "type": "object",
        "properties": {
            "dtstart": {"type": "string", "format": "date-time"},
            "dtend": {"type": "string", "format": "date-time"},
            "bbox": BOX,
            "variable": {"type": "array", "items": {"type": "string"}},
            "tile": {"type": "string"},
        },
    },
)


def record(product_id: str, bbox: str | None = None, **properties: str) -> Product:
    """Return a record of May 2nd."""
    return Product(
        "EO:X",
        product_id,
        startdate="2024-05-02T00:00:00.000Z",
        enddate="2024-05-02T23:59:59.999Z",
        bbox=bbox,
        properties=tuple(properties.items()),
    )


def found(asked: dict[str, str], kept: dict[str, str], *products: Product) -> list[str] | None:
    """Return the ids that are found of one query in the answer to another."""

    def at(query: dict[str, str]) -> Location:
        return Location("EO:X", {key: value.split(",") for key, value in query.items()})

    answer = Kept(at(kept), 1.0, {product.product_id: product for product in products})
    result = offline.find(at(asked), SCHEMA, [answer], [])
    return None if result is None else list(result.products)


NATIVE = {"dtstart": "2024-05-01T00:00:00Z", "dtend": "2024-05-31T23:59:59.999Z"}
COMMON = {"startdate": "2024-05-01", "enddate": "2024-05-31"}
ONE_DAY = {"startdate": "2024-05-02", "enddate": "2024-05-02"}


def test_names_and_lists_are_spellings() -> None:
    """A data set's own names mean the same as the common ones, and a list has no order."""
    one = record("a")

    assert found(COMMON, NATIVE, one) == ["a"]
    assert found(ONE_DAY, NATIVE, one) == ["a"]
    kept = {**COMMON, "variable": "u,v"}
    assert found({**NATIVE, "variable": "v,u"}, kept, one) == ["a"]
    assert found({**NATIVE, "variable": "u"}, kept, one) is None
    assert found(NATIVE, kept, one) is None


def test_boxes() -> None:
    """A part of a box finds what lies in it, also over the edge of the map."""
    east, west, nowhere = record("e", "175,0,179,5"), record("w", "-179,0,-175,5"), record("n")
    whole = {**COMMON, "bbox": "170,-10,-170,10"}

    assert found({**COMMON, "bbox": "172,0,178,9"}, whole, east, west, nowhere) == ["e", "n"]
    assert found({**COMMON, "bbox": "178,0,-178,9"}, whole, east, west) == ["e", "w"]
    assert found({**COMMON, "bbox": "-178,0,-171,9"}, whole, east, west) == ["w"]
    assert found({**COMMON, "bbox": "160,0,178,9"}, whole, east, west) is None
    assert found(COMMON, whole, east, west) is None
    assert found({**COMMON, "bbox": "0,0,9,9"}, COMMON, east, record("r", "8,8,20,20")) == ["r"]


def test_keys_that_the_records_tell_of() -> None:
    """A key more is answered where every record tells of it, and not where one does not."""
    here, there = record("h", tile="T32"), record("t", Tile="T33")

    assert found({**COMMON, "tile": "T33"}, COMMON, here, there) == ["t"]
    assert found({**COMMON, "tile": "T33"}, COMMON, here, record("u")) is None


@for_each("suffix", ["", ".nc", ".grib"])
def test_what_was_made_for_one_request_is_no_part(suffix: str) -> None:
    """A job that was made for a month is not what would be made for a day."""
    job = record(f"adaptor-{'0123456789abcdef' * 2}{suffix}")

    assert found(ONE_DAY, COMMON, job) is None
    assert found(NATIVE, COMMON, job) == [job.product_id]


def test_the_latest_answer_counts() -> None:
    """Of several answers that hold a query the youngest is taken."""
    old = Kept(Location("EO:X", COMMON), 1.0, {"old": record("old")})
    new = Kept(Location("EO:X", {"startdate": "2024-04-01"}), 2.0, {"new": record("new")})

    result = offline.find(Location("EO:X", ONE_DAY), SCHEMA, [old, new], [])

    assert result is not None
    assert list(result.products) == ["new"]
    assert offline.find(Location("EO:X"), SCHEMA, [], []) is None


def test_a_product_of_another_day_is_left_out(bench: Any) -> None:
    """Products that only touch the narrower range at its end are no part of it."""
    entries = [
        dated_product(
            f"p{day}.nc",
            bench.body(day),
            startdate=f"2024-05-0{day}T00:00:00.000Z",
            enddate=f"2024-05-0{day + 1}T00:00:00.000Z",
        )
        for day in (1, 2, 3)
    ]
    emulator = bench.start(products=entries)
    bench.filesystem(emulator).ls(bench.query)
    part = f"{DATASET}/startdate=2024-05-02/enddate=2024-05-02"

    online = bench.filesystem(emulator, cache_dir=bench.folder / "other").ls(part, detail=False)

    assert gone(bench, emulator).ls(part, detail=False) == online
