"""Work on many products at one time: all of it is done, then the first fault is told.

What the work is comes as callables; nothing here knows of networks or disks.
"""

from __future__ import annotations

import concurrent.futures
import itertools
import queue
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from fsspec.callbacks import DEFAULT_CALLBACK

from hda_fsspec.errors import note_once, note_others
from hda_fsspec.printable import printable
from hda_fsspec.records import Product

T = TypeVar("T")

_TELL_EVERY_SECONDS = 1.0


def gather_products(
    products: Sequence[Product],
    begin: Callable[[Product], concurrent.futures.Future[T]],
    finish: Callable[[Product, concurrent.futures.Future[T]], Any],
    callback: Any = DEFAULT_CALLBACK,
    *,
    at_a_time: int | None = None,
) -> list[Any]:
    """Begin work on each product, finish each as it gets ready, and return the results in order.

    A fault does not stop the others. When all have ended the first one is raised; its notes name
    the other products that failed. An interrupt cancels the rest.

    Parameters
    ----------
    products : sequence of Product
        What to work on; a product that stands twice is worked on once.
    begin, finish : callable
        ``begin`` returns a future, which ``finish`` gets when it is done, in the calling thread.
    callback : fsspec.callbacks.Callback
        Counts products; it is called every second also if none gets ready.
    at_a_time : int, optional
        How many may have begun and not ended.
    """
    unique = list(dict.fromkeys(products))
    callback.set_size(len(unique))
    to_come = iter(unique)
    # Not concurrent.futures.wait, which goes through all futures each time that one is done.
    done: queue.SimpleQueue[tuple[Product, concurrent.futures.Future[T]]] = queue.SimpleQueue()
    results: dict[Product, Any] = {}
    faults: dict[Product, BaseException] = {}

    under_way: set[concurrent.futures.Future[T]] = set()

    def start(product: Product) -> None:
        future = begin(product)
        under_way.add(future)
        future.add_done_callback(lambda ended: done.put((product, ended)))

    try:
        for product in itertools.islice(to_come, at_a_time):
            start(product)
        while len(results) + len(faults) < len(unique):
            try:
                product, future = done.get(timeout=_TELL_EVERY_SECONDS)
            except queue.Empty:
                callback.relative_update(0)
                continue
            under_way.remove(future)
            try:
                results[product] = finish(product, future)
            except Exception as err:  # noqa: BLE001  (raised below, when the others have ended)
                faults[product] = err
            callback.relative_update(1)
            for following in itertools.islice(to_come, 1):
                start(following)
    finally:
        for future in under_way:
            future.cancel()
    if faults:
        raise _first(faults, unique)
    return [results[product] for product in products]


def _first(faults: dict[Product, BaseException], order: Sequence[Product]) -> BaseException:
    first, *others = sorted(faults, key=list(order).index)
    error = faults[first]
    if printable(first.product_id) not in str(error):
        note_once(error, f"This was while {first} was fetched.")
    note_others(error, [(other.product_id, faults[other]) for other in others], "products")
    return error
