"""Collecting pages: in both styles, however the service counts, caps, repeats or lies."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_inputs import examples
from rows import for_each

from hda_fsspec.errors import BrokerError, TooManyProductsError
from hda_fsspec.network.pagination import collect

WHAT = "the search of EO:X"


class Pages:
    """A listing of numbered items, told in one of the two styles."""

    def __init__(self, count: int, *, cap: int = 200, style: str = "total", **told: Any) -> None:
        self.items = [{"id": f"p{number}"} for number in range(count)]
        self.cap = cap
        self.style = style
        self.told = told
        self.starts: list[int] = []
        self.edit: Callable[[int, list[Any]], list[Any]] = lambda start, page: page
        self.seconds = 0.0
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()

    def __call__(self, start: int) -> Any:
        """Answer a page."""
        with self._lock:
            self.starts.append(start)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        time.sleep(self.seconds)
        with self._lock:
            self._at_once -= 1
        page = self.edit(start, self.items[start : start + self.cap])
        properties: dict[str, Any] = {"startIndex": start, "itemsPerPage": self.cap}
        if self.style == "total":
            properties["totalResults"] = len(self.items)
        elif start + self.cap < len(self.items):
            properties["nextIndex"] = start + self.cap
        return {"features": page, "properties": properties | self.told}

    def collect(self, *, page_size: int = 200, workers: int = 4, **more: Any) -> list[str]:
        """Collect all, and return the ids."""
        return [
            f["id"] for f in collect(self, WHAT, dict, page_size=page_size, workers=workers, **more)
        ]


def ids(count: int) -> list[str]:
    """Return the ids of a listing."""
    return [f"p{number}" for number in range(count)]


@for_each("style", ["total", "next"])
@for_each("count", [0, 1, 199, 200, 201, 400, 1001])
@for_each("cap", [200, 70, 500])
def test_all_items_in_order(style: str, count: int, cap: int) -> None:
    """Every item comes once and in order, whatever the service makes of the page size."""
    pages = Pages(count, cap=cap, style=style)

    assert pages.collect() == ids(count)
    assert len(pages.starts) == len(set(pages.starts)) or style == "total"


def test_pages_after_the_first_are_fetched_in_parallel() -> None:
    """With a total the rest is fetched by several threads, no more than allowed."""
    pages = Pages(2000)
    pages.seconds = 0.02

    assert pages.collect(workers=3) == ids(2000)
    assert pages.most_at_once == 3
    assert sorted(pages.starts) == list(range(0, 2000, 200))


def test_pages_that_name_the_next_are_fetched_in_order() -> None:
    """Without a total each page tells where the next one starts."""
    pages = Pages(1000, style="next")

    assert pages.collect() == ids(1000)
    assert pages.starts == list(range(0, 1000, 200))


@for_each("short_at", [0, 200, 400])
def test_a_short_page_costs_a_few_requests(short_at: int) -> None:
    """One page that is oddly short neither loses items nor cuts the rest into pieces."""
    pages = Pages(1000)
    pages.edit = lambda start, page: page[:3] if start == short_at else page

    assert pages.collect() == ids(1000)
    assert len(pages.starts) < 30


def test_an_empty_page_ends_its_part_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    """A service that stops before its total is not asked for ever, and it is said."""
    pages = Pages(1000)
    pages.edit = lambda start, page: [] if start >= 600 else page
    with caplog.at_level(logging.WARNING, logger="hda_fsspec"):
        assert pages.collect() == ids(600)

    assert f"{WHAT} announced 1000 items and gave 600" in caplog.text
    assert len(pages.starts) == 5


def test_an_empty_first_page(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is nothing, even if a total says otherwise."""
    pages = Pages(1000)
    pages.edit = lambda start, page: []
    with caplog.at_level(logging.WARNING, logger="hda_fsspec"):
        assert pages.collect() == []

    assert pages.starts == [0]
    assert "announced 1000 items and gave 0" in caplog.text


@pytest.mark.parametrize("style", ["total", "next"])
def test_ids_that_come_twice_are_one_item(style: str) -> None:
    """Pages that repeat the last item of the page before, or their own, lose no other one."""
    pages = Pages(1000, style=style)
    pages.edit = lambda start, page: [*pages.items[max(0, start - 1) : start], *page, page[-1]]

    assert sorted(pages.collect()) == sorted(ids(1000))


def test_the_first_of_two_is_kept() -> None:
    """Of two items with one id the first counts, at its place."""
    found = collect(
        lambda start: {"features": [{"id": "a", "n": 1}, {"id": "b"}, {"id": "a", "n": 2}]},
        WHAT,
        dict,
        page_size=200,
        workers=1,
    )

    assert found == [{"id": "a", "n": 1}, {"id": "b"}]


def test_items_without_an_id_are_all_kept() -> None:
    """What is wrong with an item is for its reader to say, so none is dropped here."""
    features = [{"id": None}, {"x": 1}, {"x": 1}, {"dataset_id": "d"}, {"term_id": "d"}, {"id": 5}]
    found = collect(lambda start: {"features": features}, WHAT, dict, page_size=9, workers=1)

    assert len(found) == 5  # a data set and a licence never stand in one listing


@for_each(
    ("told", "style"),
    [
        ({"totalResults": None}, "next"),
        ({"totalResults": "many"}, "next"),
        ({"totalResults": True}, "next"),
        ({"totalResults": 0}, "next"),
        ({"totalResults": "500"}, "total"),
        ({"totalResults": "500"}, "neither"),
    ],
)
def test_odd_totals(told: dict[str, Any], style: str) -> None:
    """A total as text is a total; one that is none, or too small, gives way to ``nextIndex``."""
    assert Pages(500, style=style, **told).collect() == ids(500)


@for_each("following", [0, None, -5, 100, "x", 1.5, True, []])
def test_a_next_index_that_leads_nowhere_ends_the_listing(following: Any) -> None:
    """A ``nextIndex`` that is no number, or not larger than the last one, is the end."""
    pages = Pages(1000, style="next")

    def answer(start: int) -> Any:
        told = "100" if start == 0 else following
        page = pages.items[start : start + 100]
        return {"features": page, "properties": {"nextIndex": told}}

    assert len(collect(answer, WHAT, dict, page_size=100, workers=1)) == 200


def test_a_next_index_without_end_is_left() -> None:
    """A service whose pages bring nothing new is not followed, however it counts."""
    starts: list[int] = []

    def answer(start: int) -> Any:
        starts.append(start)
        return {"features": [{"id": "a"}], "properties": {"nextIndex": start + 1}}

    assert collect(answer, WHAT, dict, page_size=1, workers=1) == [{"id": "a"}]
    assert starts == [0, 1]


@for_each("style", ["total", "next", "neither", "growing"])
@for_each("new", [1, 3])
def test_a_listing_that_grows_without_end_is_left(style: str, new: int) -> None:
    """Pages that bring a few new items each are followed for long, and not for ever."""
    starts: list[int] = []

    def answer(start: int) -> Any:
        starts.append(start)
        told = {
            "total": {"totalResults": 10**12},
            "growing": {"totalResults": 10**6 + len(starts)},
            "next": {"nextIndex": start + new},
            "neither": {},
        }[style]
        return {"features": [{"id": f"p{start + n}"} for n in range(new)], "properties": told}

    with pytest.raises(BrokerError, match="has no end: 1001 pages"):
        collect(answer, WHAT, dict, page_size=new, workers=1)
    assert len(starts) <= 1001 + 2 * 1  # those that were under way


def test_a_listing_of_all_there_could_be_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Full pages have an end too, where no limit is set."""
    monkeypatch.setattr("hda_fsspec.network.pagination._MOST_ITEMS", 1000)

    def answer(start: int) -> Any:
        page = [{"id": f"p{start + n}"} for n in range(200)]
        return {"features": page, "properties": {"nextIndex": start + 200}}

    with pytest.raises(BrokerError, match="6 pages brought 1200 items"):
        collect(answer, WHAT, dict, page_size=200, workers=1)


def test_pages_of_few_that_have_an_end() -> None:
    """A service that gives one item a page is followed to its end, if that is near enough."""
    assert Pages(900, cap=1, style="next").collect() == ids(900)


def test_what_is_no_page_is_quoted_as_it_may_be() -> None:
    """What is told of it goes through the caller's hands."""
    with pytest.raises(BrokerError, match="holds no list of features: 'hidden'"):
        collect(lambda _: "secret", WHAT, dict, page_size=1, workers=1, show=lambda *_: "hidden")


def test_too_many_by_total_is_told_at_the_first_page() -> None:
    """Where the total is told one request is enough, and the error says how many there are."""
    pages = Pages(10_001)
    with pytest.raises(TooManyProductsError, match="startdate/enddate") as caught:
        pages.collect(limit=10_000)

    assert (caught.value.found, caught.value.limit) == (10_001, 10_000)
    assert pages.starts == [0]
    assert Pages(400).collect(limit=400) == ids(400)


def test_too_many_without_a_total_is_told_when_it_shows() -> None:
    """Without a total paging stops as soon as the count passes the limit."""
    pages = Pages(100_000, style="next")
    with pytest.raises(TooManyProductsError, match="more than 500") as caught:
        pages.collect(limit=500)

    assert (caught.value.found, caught.value.limit) == (None, 500)
    assert pages.starts == [0, 200, 400]
    assert Pages(500, style="next").collect(limit=500) == ids(500)


def test_more_than_the_total_says_is_not_let_through() -> None:
    """A total that is too small does not open the door to a listing that is too long."""
    with pytest.raises(TooManyProductsError):
        Pages(150, totalResults=100).collect(limit=100)


@for_each(
    "page",
    [None, [], "x", {}, {"features": None}, {"features": {}}, {"features": [1]}, {"detail": "no"}],
)
def test_what_is_no_page(page: Any) -> None:
    """An answer without a list of features is told, at the first page and later."""
    for at in (0, 200):
        pages = Pages(1000)

        def answer(start: int, at: int = at, pages: Pages = pages) -> Any:
            return page if start == at else pages(start)

        with pytest.raises(BrokerError, match=WHAT):
            collect(answer, WHAT, dict, page_size=200, workers=2)


def test_a_fault_of_one_page_stops_the_others() -> None:
    """Pages that have not begun when one fails are not fetched any more."""
    pages = Pages(10_000)
    pages.seconds = 0.002

    def edit(start: int, page: list[Any]) -> list[Any]:
        if start == 200:
            msg = "broken"
            raise BrokerError(msg)
        return page

    pages.edit = edit
    with pytest.raises(BrokerError, match="broken"):
        pages.collect(workers=2)

    assert len(pages.starts) < 30


@pytest.mark.slow
@settings(deadline=None, derandomize=True, max_examples=examples(30))
@given(
    count=st.integers(0, 300),
    caps=st.lists(st.integers(1, 40), min_size=1, max_size=8),
    style=st.sampled_from(["total", "next"]),
)
def test_law_no_item_is_lost_or_doubled(count: int, caps: Sequence[int], style: str) -> None:
    """However long the pages turn out to be, the listing is complete, and in order."""
    pages = Pages(count, cap=40, style=style)
    if style == "total":
        pages.edit = lambda start, page: page[: caps[start % len(caps)]]
    else:
        pages.cap = caps[0]

    assert pages.collect(page_size=40, workers=2) == ids(count)
