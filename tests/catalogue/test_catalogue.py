"""The catalogue is asked once: listings are shared, expire, and are filtered again here."""

from __future__ import annotations

import dataclasses
import threading
from typing import Any

import pytest
from clocks import Clock

from hda_fsspec.cache.metadata import MetadataStore
from hda_fsspec.catalogue.catalogue import Catalogue
from hda_fsspec.emulator import Catalogue as Offer
from hda_fsspec.emulator import DatasetEntry, Emulator, Fault, dated_product
from hda_fsspec.errors import LocationError, QueryError, TooManyProductsError
from hda_fsspec.network.api import Broker
from hda_fsspec.network.session import Session
from hda_fsspec.paths.locations import Location
from hda_fsspec.settings import Settings

_SEARCH = ("POST", "dataaccess/search")


def catalogue(bench: Any, emulator: Emulator, clock: Clock, **given: Any) -> Catalogue:
    """Return the catalogue as a process has it, that begins now."""
    settings = Settings.resolve(**bench.settings(emulator, **given))
    session = Session(settings)
    broker = Broker(lambda: session, max_products=settings.max_products, workers=4)
    notes = MetadataStore(settings.cache_dir, clock=clock)
    return Catalogue(settings, broker, notes, "account", clock=clock)


def test_many_threads_search_once(bench: Any) -> None:
    """Threads that ask for one listing at a time cause one search, one schema, one data set."""
    emulator = bench.start(days=5, latency_seconds=0.02)
    asked = catalogue(bench, emulator, Clock())
    start = threading.Barrier(16)
    found: list[int] = []

    def search() -> None:
        start.wait()
        found.append(len(asked.search(Location.parse(bench.query))))

    threads = [threading.Thread(target=search) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert found == [5] * 16
    assert emulator.count(*_SEARCH) == 1
    assert emulator.count("GET", "dataaccess/queryable") == 1
    assert emulator.count("GET", "datasets") == 1
    assert emulator.logins == 1


def test_a_listing_on_disk_serves_the_next_process(bench: Any) -> None:
    """What one process has listed, another one on the same cache lists without a request."""
    emulator = bench.start(days=5)
    clock = Clock()
    location = Location.parse(bench.query)
    first = catalogue(bench, emulator, clock).search(location)
    emulator.clear_log()

    second = catalogue(bench, emulator, clock).search(location)

    assert dict(second) == dict(first)
    assert list(second) == list(first)
    assert len(emulator.log) == 0


@pytest.mark.parametrize("moved", [3601.0, -3601.0])
@pytest.mark.parametrize("same_process", [True, False])
def test_listings_expire(same_process: bool, moved: float, bench: Any) -> None:
    """A listing is trusted for an hour, in memory and on disk; one from the future is not."""
    emulator = bench.start(days=5)
    clock = Clock()
    location = Location.parse(bench.query)
    asked = catalogue(bench, emulator, clock)
    asked.search(location)
    clock.now += 3599 if moved > 0 else -3599
    again = asked if same_process else catalogue(bench, emulator, clock)
    again.search(location)
    assert emulator.count(*_SEARCH) == 1

    clock.now = Clock().now + moved
    again = asked if same_process else catalogue(bench, emulator, clock)
    again.search(location)

    assert emulator.count(*_SEARCH) == 2


def test_refresh_goes_round_what_is_known(bench: Any) -> None:
    """`refresh=True` asks anew, and what it finds is what others then see."""
    emulator = bench.start(days=2)
    clock = Clock()
    location = Location.parse(bench.query)
    asked = catalogue(bench, emulator, clock)
    old = asked.search(location)
    emulator.republish(bench.dataset, bench.product_id(1), b"longer than before" * 500)
    clock.now += 1

    new = asked.search(location, refresh=True)

    assert new[bench.product_id(1)].size != old[bench.product_id(1)].size
    for found in (asked.search(location), catalogue(bench, emulator, clock).search(location)):
        assert list(found) == list(new)
        assert [each.to_json() for each in found.values()] == [p.to_json() for p in new.values()]
    assert emulator.count(*_SEARCH) == 2


def test_what_is_forgotten_is_asked_again(bench: Any) -> None:
    """After `forget` the next question goes to the service, for one location or for all."""
    emulator = bench.start(days=2)
    clock = Clock()
    location = Location.parse(bench.query)
    asked = catalogue(bench, emulator, clock)
    for forgotten in (location, None):
        asked.search(location)
        clock.now += 1
        asked.invalidate(forgotten)
        clock.now += 1
        asked.search(location)

    assert emulator.count(*_SEARCH) == 3


def test_a_fault_is_not_remembered(bench: Any) -> None:
    """A search that failed is tried again by the next who asks."""
    emulator = bench.start(days=2)
    asked = catalogue(bench, emulator, Clock())
    emulator.fault(Fault("status", method="POST", path="dataaccess/search", status=422))
    location = Location.parse(bench.query)

    with pytest.raises(QueryError):
        asked.search(location)

    assert len(asked.search(location)) == 2


def test_neighbours_are_filtered_out(bench: Any) -> None:
    """A product that only touches the range at its own end is left out of the answer."""
    days = [("04-30", "05-01"), ("05-01", "05-02"), ("05-02", "05-03"), ("05-03", "05-04")]
    products = [
        dated_product(
            f"p{number}.nc",
            b"x",
            startdate=f"2024-{first}T00:00:00.000Z",
            enddate=f"2024-{last}T00:00:00.000Z",
        )
        for number, (first, last) in enumerate(days)
    ]
    instant = dict.fromkeys(("startdate", "enddate"), "2024-05-01T00:00:00.000Z")
    products.append(dated_product("instant.nc", b"x", **instant))
    emulator = bench.start(products=products)
    day = Location(bench.dataset, {"startdate": "2024-05-01", "enddate": "2024-05-02"})

    found = catalogue(bench, emulator, Clock()).search(day)

    assert sorted(found) == ["instant.nc", "p1.nc", "p2.nc"]


@pytest.mark.parametrize("style", ["total", "next"])
def test_duplicates_are_listed_once(style: str, bench: Any) -> None:
    """A product that stands on two pages is listed once, in the service's order."""
    emulator = bench.start(days=25, max_page=4, paging=style)
    emulator.fault(Fault("duplicate-ids", times=None))

    found = catalogue(bench, emulator, Clock()).search(Location.parse(bench.query))

    assert list(found) == [bench.product_id(day) for day in range(1, 26)]


@pytest.mark.parametrize("name", ["sst_20240503.nc", "sst_20240503"])
@pytest.mark.parametrize("has_suffix", [True, False])
def test_a_product_is_found_by_the_name_filter(name: str, has_suffix: bool, bench: Any) -> None:
    """`hda://DATASET/PRODUCT` costs one search by name, with or without extension in the id."""
    entry = {"parameters": {"productIdentifier": "string"}, "ids_with_suffix": has_suffix}
    emulator = bench.start(days=20, entry=entry)
    asked = catalogue(bench, emulator, Clock(), max_products=5)
    location = Location(bench.dataset, product=name)
    if name.endswith(".nc") is not has_suffix:
        with pytest.raises((LocationError, FileNotFoundError)):
            asked.product(location)
        return

    assert asked.product(location).product_id == name

    assert emulator.count(*_SEARCH) == 1


def test_a_name_filter_that_wants_no_extension(bench: Any) -> None:
    """Where the name filter takes no dots the id is asked for without its extension."""
    emulator = bench.start(days=20, entry={"parameters": {"productIdentifier": "string"}})
    emulator.fault(Fault("status", method="POST", path="dataaccess/search", status=422))
    asked = catalogue(bench, emulator, Clock(), max_products=5)

    found = asked.product(Location(bench.dataset, product=bench.product_id(3)))

    assert found.product_id == bench.product_id(3)


def test_a_product_of_a_small_data_set(bench: Any) -> None:
    """Without a name filter a small data set is listed, and what is not in it is not there."""
    emulator = bench.start(days=5)
    asked = catalogue(bench, emulator, Clock())

    assert asked.product(Location(bench.dataset, product=bench.product_id(3))).size == 2032

    with pytest.raises(FileNotFoundError, match=r"The nearest is 'sst_20240503\.nc'"):
        asked.product(Location(bench.dataset, product="sst_2024053.nc"))
    assert emulator.count(*_SEARCH) == 1


@pytest.mark.parametrize("style", ["total", "next"])
def test_a_product_of_a_large_data_set(style: str, bench: Any) -> None:
    """Without a name filter a large data set is not paged through: the error says what helps."""
    emulator = bench.start(days=20, paging=style, max_page=4)
    asked = catalogue(bench, emulator, Clock(), max_products=6)

    with pytest.raises(LocationError, match="Put a query in front"):
        asked.product(Location(bench.dataset, product=bench.product_id(3)))
    with pytest.raises(TooManyProductsError):
        asked.search(Location(bench.dataset))
    assert emulator.count(*_SEARCH) <= 2 * (1 if style == "total" else 3)


@pytest.mark.parametrize(
    ("given", "nearest"),
    [
        ("EO:EUM:DAT:SENTINEL-3:OL_2_WFR__", "EO:EUM:DAT:SENTINEL-3:OL_2_WFR___"),
        ("eo:eum:dat:sentinel-3:ol_2_wfr___", "EO:EUM:DAT:SENTINEL-3:OL_2_WFR___"),
        ("EO:EUM:DAT:SENTINEL3:OL_2_WRR___", "EO:EUM:DAT:SENTINEL-3:OL_2_WRR___"),
    ],
)
def test_an_unknown_data_set_names_the_nearest(given: str, nearest: str, bench: Any) -> None:
    """An unknown data set is a FileNotFoundError with the nearest id, for each question."""
    names = ["WFR", "WRR", "LFR"]
    offer = Offer([DatasetEntry(f"EO:EUM:DAT:SENTINEL-3:OL_2_{name}___", []) for name in names])
    with Emulator(offer) as emulator:
        asked = catalogue(bench, emulator, Clock())
        for question in (asked.search, asked.validate, asked.product):
            with pytest.raises(FileNotFoundError, match=nearest):
                question(Location(given, product="x" if question == asked.product else None))


def test_a_suggestion_that_cannot_be_had(bench: Any) -> None:
    """Where the list of data sets cannot be had the error comes without a suggestion."""
    emulator = bench.start(days=1)
    emulator.fault(Fault("status", path="datasets", status=418, skip=1, times=None))
    asked = catalogue(bench, emulator, Clock())

    with pytest.raises(FileNotFoundError, match="no data set 'EO:NO'"):
        asked.datasets.get("EO:NO")


def test_a_query_exists_without_a_search(bench: Any) -> None:
    """Checking a query costs its schema and no search; what the schema refuses is an error."""
    emulator = bench.start(days=1)
    asked = catalogue(bench, emulator, Clock())

    asked.validate(Location.parse(bench.query))
    with pytest.raises(QueryError, match="startdate"):
        asked.validate(Location(bench.dataset, {"startdat": "2024-05-01"}))

    assert emulator.count(*_SEARCH) == 0
    assert emulator.count("GET", "dataaccess/queryable") == 1


def test_an_empty_query_is_an_empty_listing(bench: Any) -> None:
    """A query that finds nothing is remembered as such."""
    emulator = bench.start(days=1)
    asked = catalogue(bench, emulator, Clock())
    nothing = Location(bench.dataset, {"startdate": "1999-01-01", "enddate": "1999-01-02"})

    assert asked.search(nothing) == asked.search(nothing) == {}
    assert emulator.count(*_SEARCH) == 1


@pytest.mark.slow
@pytest.mark.parametrize("garbage", [b"", b"{", b"[]", b'{"at": "x"}', b'{"at": 1e12, "value": 3}'])
def test_garbled_listings_are_asked_again(garbage: bytes, bench: Any) -> None:
    """A listing on disk that cannot be read is not there."""
    emulator = bench.start(days=3)
    clock = Clock()
    location = Location.parse(bench.query)
    catalogue(bench, emulator, clock).search(location)
    for note in (bench.cache_dir / "v1" / "listings").rglob("*.note"):
        note.write_bytes(garbage)

    assert len(catalogue(bench, emulator, clock).search(location)) == 3
    assert emulator.count(*_SEARCH) == 2


@pytest.mark.slow
def test_answers_in_memory_are_bounded(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With many threads and hardly any memory each still gets its own answer."""
    monkeypatch.setattr("hda_fsspec.catalogue.answer_cache._REMEMBERED", 1)
    emulator = bench.start(days=20)
    asked = catalogue(bench, emulator, Clock())
    wrong: list[object] = []

    def search(day: int) -> None:
        dates = {"startdate": f"2024-05-{day:02}", "enddate": f"2024-05-{day:02}"}
        for turn in range(4):
            found = asked.search(Location(bench.dataset, dates), refresh=turn % 2 == 1)
            if list(found) != [bench.product_id(day)]:
                wrong.append(found)

    threads = [threading.Thread(target=search, args=(1 + n % 10,)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []
    assert dataclasses.is_dataclass(asked.product(Location.parse(bench.path(1))))
