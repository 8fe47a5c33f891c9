"""All pages of a listing: in either style of paging, in parallel where that can be, each id once.

It is handed a function that fetches a page, and has never heard of what is listed.
"""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Generic, TypeVar

from hda_fsspec.concurrency.futures import wait_for
from hda_fsspec.errors import BrokerError, TooManyProductsError

logger = logging.getLogger("hda_fsspec")

_Item = TypeVar("_Item")

_SHORTEST_SPAN = 50  # of what is fetched by one of the threads
_MOST_EMPTY_SPANS = 20  # in a row, after which a total is not believed
# No listing is longer, and none comes in so many pages of so few items: more is one without end.
_MOST_ITEMS = 1_000_000
_MOST_PAGES = 1000
_LEAST_PER_PAGE = 10
_ID_KEYS = ("id", "dataset_id", "term_id")


def page_parameters(start: int, page_size: int) -> dict[str, int]:
    """Return how the service is asked for a page: ``start`` counts items from 0."""
    return {"startIndex": start, "itemsPerPage": page_size}


def collect(
    fetch: Callable[[int], Any],
    what: str,
    convert: Callable[[Mapping[str, Any]], _Item],
    *,
    page_size: int,
    workers: int,
    limit: int | None = None,
    is_lenient: bool = False,
    show: Callable[[object, int], str] = lambda value, length: str(value)[:length],
) -> list[_Item]:
    """Collect all pages, in either style of paging; each id once.

    Parameters
    ----------
    fetch : callable
        Returns the page that starts at an item, of at most `page_size` items.
    what : str
        What is listed, for messages.
    convert : callable
        Returns what is kept of an item. It is called as pages come, so that a long listing is
        never in memory as it was sent.
    page_size : int
        How many items a page is asked for; the service may give fewer.
    workers : int
        How many pages are fetched at a time, where that can be.
    limit : int, optional
        The longest listing.
    show : callable
        Returns the beginning of what came back, as it may be quoted.
    is_lenient : bool
        Leave out what is no object, and say so in the log; also read a list without its page.
        Without it, either is an error: nothing that could be ordered is left out.

    Raises
    ------
    TooManyProductsError
        There are more than `limit`.
    BrokerError
        What came back is no page, or the pages have no end.
    """
    if is_lenient:
        fetch = _leniently(fetch, what)
    read = _Reader(fetch, what, show)
    features, properties = read(0)
    total, following = (_whole(properties.get(k)) for k in ("totalResults", "nextIndex"))
    found = _Found(convert)
    found.add(features)
    if total is None or (total < len(found) and following is not None):
        # The CDSE adapter (EO:ESA, EO:JRC) tells no total, only where the next page starts.
        start, page = 0, features
        while following is not None and following > start:
            _refuse_too_many(what, len(found), limit, at_least=True)
            start = following
            page, properties = read(start)
            if not found.add(page):
                break
            following = _whole(properties.get("nextIndex"))
        if not start and len(features) >= page_size:
            # A full page, and nothing tells whether it is the last one: the next page does.
            while page and len(found) > start:
                _refuse_too_many(what, len(found), limit, at_least=True)
                start = len(found)
                page = read.page_or_end(start)
                found.add(page)
    else:
        _refuse_too_many(what, total, limit)
        first = min(len(found), page_size)
        for page in _rest(read, range(first, total), page_size, workers):
            found.add(page)
        if len(found) < total:
            logger.warning("%s announced %d items and gave %d", what, total, len(found))
    _refuse_too_many(what, len(found), limit, at_least=True)
    return found.items


def _rest(
    read: _Reader, items: range, page_size: int, workers: int
) -> Iterator[list[Mapping[str, Any]]]:
    """Fetch the pages after the first in parallel; ``startIndex`` counts items, not pages."""
    if not items or not items.start:
        return

    def span(start: int, stop: int) -> list[Mapping[str, Any]]:
        found = _Found(lambda feature: feature)
        while start < stop:
            page, _ = read(start)
            # A page may repeat items; only new ones lead on.
            new = min(found.add(page), page_size)
            if not new:
                break
            start += new
        return found.items

    # A first page that is oddly short must not cut the rest into as many requests.
    step = max(items.start, _SHORTEST_SPAN)
    starts = iter(items[::step])
    spans: collections.deque[concurrent.futures.Future[list[Mapping[str, Any]]]]
    with concurrent.futures.ThreadPoolExecutor(workers, thread_name_prefix="hda-pages") as pool:

        def submit(start: int) -> concurrent.futures.Future[list[Mapping[str, Any]]]:
            return pool.submit(span, start, min(start + step, items.stop))

        # Not all at once: the total is what somebody else says, and may be absurd.
        spans = collections.deque(map(submit, itertools.islice(starts, 2 * workers)))
        empty_in_a_row = 0
        try:
            while spans and empty_in_a_row < _MOST_EMPTY_SPANS:
                page = wait_for(spans.popleft())
                empty_in_a_row = 0 if page else empty_in_a_row + 1
                spans.extend(map(submit, itertools.islice(starts, 1)))
                yield page
        finally:
            for future in spans:
                future.cancel()


class _Found(Generic[_Item]):
    """The features found so far, in the order in which they came, each id once."""

    def __init__(self, convert: Callable[[Mapping[str, Any]], _Item]) -> None:
        self._convert = convert
        self._by_id: dict[object, _Item] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    @property
    def items(self) -> list[_Item]:
        """All that is kept so far."""
        return list(self._by_id.values())

    def add(self, features: Iterable[Mapping[str, Any]]) -> int:
        """Add a page, and return how much of it is new."""
        before = len(self)
        for feature in features:
            name = feature.get("id")
            # As nearly all have it, and thousands of them come in a row.
            key = name if type(name) is str else self._other_key(feature)
            if key not in self._by_id:
                self._by_id[key] = self._convert(feature)
        return len(self) - before

    def _other_key(self, feature: Mapping[str, Any]) -> object:
        name = next((feature[key] for key in _ID_KEYS if key in feature), None)
        is_id = isinstance(name, (str, int)) and not isinstance(name, bool)
        return str(name) if is_id else (len(self), "no id")


@dataclasses.dataclass(eq=False, repr=False)
class _Reader:
    """Fetches and reads pages, and counts them, if not to the last: several threads do."""

    fetch: Callable[[int], Any]
    what: str
    show: Callable[[object, int], str]

    def __post_init__(self) -> None:
        self._pages = 0
        self._items = 0

    def __call__(self, start: int) -> tuple[list[Mapping[str, Any]], Mapping[str, Any]]:
        page = self.fetch(start)
        features = page.get("features") if isinstance(page, Mapping) else None
        if not isinstance(features, list) or not all(type(f) is dict for f in features):
            said = self.show(page, 200)
            msg = f"A page of {self.what} holds no list of features: {said!r}. Try again later."
            raise BrokerError(msg, status=200)
        self._pages += 1
        self._items += len(features)
        is_thin = self._pages > _MOST_PAGES and self._items < _LEAST_PER_PAGE * self._pages
        if is_thin or self._items > _MOST_ITEMS:
            msg = (
                f"{self.what[0].upper()}{self.what[1:]} has no end: {self._pages} pages brought "
                f"{self._items} items, and there are said to be more. Try again later; if it stays "
                "so, report it to the service."
            )
            raise BrokerError(msg, status=200)
        properties = page.get("properties")
        return list(features), properties if isinstance(properties, Mapping) else {}

    def page_or_end(self, start: int) -> list[Mapping[str, Any]]:
        """Fetch a page that need not be there: a refusal of it is the end of the listing."""
        try:
            return self(start)[0]
        except BrokerError as err:
            if err.status not in {400, 404, 410, 416, 422}:
                raise
            return []


def _leniently(fetch: Callable[[int], Any], what: str) -> Callable[[int], Any]:
    """Return a function that fetches a page, with what can be read of it."""

    def fetch_page(start: int) -> Any:
        page = fetch(start)
        if isinstance(page, list):
            # A list without its page is all there is: a second one would repeat it.
            page = {"features": page if not start else [], "properties": {}}
        features = page.get("features") if isinstance(page, Mapping) else None
        if not isinstance(features, list) or all(isinstance(f, Mapping) for f in features):
            return page
        kept = [feature for feature in features if isinstance(feature, Mapping)]
        lost = len(features) - len(kept)
        logger.warning("%s holds entries that are no objects, left out: %d", what, lost)
        return {**page, "features": kept}

    return fetch_page


def _whole(value: object) -> int | None:
    """Read a count, also one that is told as text."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 19:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _refuse_too_many(what: str, found: int, limit: int | None, *, at_least: bool = False) -> None:
    if limit is None or found <= limit:
        return
    msg = (
        f"{what[0].upper()}{what[1:]} has {'more than ' if at_least else ''}"
        f"{found if not at_least else limit} products, and max_products is {limit}. Narrow it: a "
        "shorter startdate/enddate, a smaller bbox, or more keys; or raise max_products."
    )
    raise TooManyProductsError(msg, found=None if at_least else found, limit=limit)
