"""All pages of a listing: in either style of paging, in parallel where that can be, each id once.

It is handed a function that fetches a page, and has never heard of what is listed.
"""

from __future__ import annotations

import collections
import concurrent.futures
import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from hda_fsspec.errors import BrokerError, TooManyProductsError
from hda_fsspec.interest import result_of

logger = logging.getLogger("hda_fsspec")

_SHORTEST_SPAN = 50  # of what is fetched by one of the threads
_MOST_EMPTY_SPANS = 20  # in a row, after which a total is not believed
_ID_KEYS = ("id", "dataset_id", "term_id")


def collect(
    fetch: Callable[[int], Any],
    what: str,
    *,
    page_size: int,
    workers: int,
    limit: int | None = None,
    is_lenient: bool = False,
) -> list[Mapping[str, Any]]:
    """Collect all pages, in either style of paging; each id once.

    Parameters
    ----------
    fetch : callable
        Returns the page that starts at an item, of at most `page_size` items.
    what : str
        What is listed, for messages.
    page_size : int
        How many items a page is asked for; the service may give fewer.
    workers : int
        How many pages are fetched at a time, where that can be.
    limit : int, optional
        The longest listing.
    is_lenient : bool
        Leave out what is no object, and say so in the log; also read a list without its page.
        Without it, either is an error: nothing that could be ordered is left out.

    Raises
    ------
    TooManyProductsError
        There are more than `limit`.
    BrokerError
        What came back is no page.
    """
    if is_lenient:
        fetch = _leniently(fetch, what)
    features, properties = _read_page(fetch(0), what)
    total, following = (_whole(properties.get(k)) for k in ("totalResults", "nextIndex"))
    found = _Found(features)
    if total is None or (total < len(found) and following is not None):
        # The CDSE adapter (EO:ESA, EO:JRC) tells no total, only where the next page starts.
        start, page = 0, features
        while following is not None and following > start:
            _refuse_too_many(what, len(found), limit, at_least=True)
            start = following
            page, properties = _read_page(fetch(start), what)
            if not found.add(page):
                break
            following = _whole(properties.get("nextIndex"))
        if not start and len(features) >= page_size:
            # A full page, and nothing tells whether it is the last one: the next page does.
            while page and len(found) > start:
                _refuse_too_many(what, len(found), limit, at_least=True)
                start = len(found)
                page = _page_or_end(fetch, start, what)
                found.add(page)
    else:
        _refuse_too_many(what, total, limit)
        first = min(len(found), page_size)
        for page in _rest(fetch, what, range(first, total), page_size, workers):
            found.add(page)
        if len(found) < total:
            logger.warning("%s announced %d items and gave %d", what, total, len(found))
    _refuse_too_many(what, len(found), limit, at_least=True)
    return found.features


def _rest(
    fetch: Callable[[int], Any], what: str, items: range, page_size: int, workers: int
) -> Iterator[list[Mapping[str, Any]]]:
    """Fetch the pages after the first in parallel; ``startIndex`` counts items, not pages."""
    if not items or not items.start:
        return

    def span(start: int, stop: int) -> list[Mapping[str, Any]]:
        found = _Found()
        while start < stop:
            page, _ = _read_page(fetch(start), what)
            # A page may repeat items; only new ones lead on.
            new = min(found.add(page), page_size)
            if not new:
                break
            start += new
        return found.features

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
                page = result_of(spans.popleft())
                empty_in_a_row = 0 if page else empty_in_a_row + 1
                spans.extend(map(submit, itertools.islice(starts, 1)))
                yield page
        finally:
            for future in spans:
                future.cancel()


class _Found:
    """Features in the order in which they came, each id once."""

    def __init__(self, features: Iterable[Mapping[str, Any]] = ()) -> None:
        self._by_id: dict[object, Mapping[str, Any]] = {}
        self.add(features)

    def __len__(self) -> int:
        return len(self._by_id)

    @property
    def features(self) -> list[Mapping[str, Any]]:
        """All features so far."""
        return list(self._by_id.values())

    def add(self, features: Iterable[Mapping[str, Any]]) -> int:
        """Add a page, and return how much of it is new."""
        before = len(self)
        for feature in features:
            name = next((feature[key] for key in _ID_KEYS if key in feature), None)
            is_id = isinstance(name, (str, int)) and not isinstance(name, bool)
            key = str(name) if is_id else (len(self), "no id")
            self._by_id.setdefault(key, feature)
        return len(self) - before


def _read_page(page: Any, what: str) -> tuple[list[Mapping[str, Any]], Mapping[str, Any]]:
    features = page.get("features") if isinstance(page, Mapping) else None
    if not isinstance(features, list) or not all(isinstance(f, Mapping) for f in features):
        msg = f"A page of {what} holds no list of features: {str(page)[:200]!r}. Try again later."
        raise BrokerError(msg, status=200)
    properties = page.get("properties")
    return list(features), properties if isinstance(properties, Mapping) else {}


def _page_or_end(fetch: Callable[[int], Any], start: int, what: str) -> list[Mapping[str, Any]]:
    """Fetch a page that need not be there: a refusal of it is the end of the listing."""
    try:
        return _read_page(fetch(start), what)[0]
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
