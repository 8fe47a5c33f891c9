"""Products that shall be in the cache at one time: fetched as far as there is room for all.

Where their lengths are known it is told beforehand whether they fit. Else orders go out as the
room allows, and none goes out any more when what arrived has filled it.
"""

from __future__ import annotations

import concurrent.futures
import errno
from collections.abc import Callable, Sequence
from typing import Any

from fsspec.callbacks import DEFAULT_CALLBACK

from hda_fsspec.cache.cache import Entry
from hda_fsspec.concurrency.futures import done_future
from hda_fsspec.fetching.gather import gather_products
from hda_fsspec.fetching.readahead import Budget, Client
from hda_fsspec.printable import format_bytes, plural
from hda_fsspec.records import Product

_Future = concurrent.futures.Future[Entry | None]


def fetch_together(
    client: Client,
    products: Sequence[Product],
    budget: Budget,
    callback: Any = DEFAULT_CALLBACK,
    *,
    is_known: bool,
    on_arrival: Callable[[Entry], object] = lambda _: None,
) -> tuple[dict[Product, Entry], bool]:
    """Fetch products in parallel, and return those that fit, and whether the cache got full.

    Parameters
    ----------
    client : Client
        Who fetches them.
    products : sequence of Product
        Which.
    budget : Budget
        The room that there is.
    callback : fsspec.callbacks.Callback
        Counts products.
    is_known : bool
        Whether their lengths are known, so that they fit for sure: all of them are then asked for
        at once, and whoever waits is told how many are left.
    on_arrival : callable
        Called with each entry that fits.

    Raises
    ------
    HDAError
        The first fault, when all the others have ended; its notes name the others.
    """
    kept: dict[Product, Entry] = {}
    is_full = False

    def begin(product: Product) -> _Future:
        return done_future() if is_full else client.fetch(product)  # type: ignore[return-value]

    def finish(product: Product, fetched: _Future) -> None:
        nonlocal is_full
        entry = fetched.result()
        if entry is None:
            return
        if not budget.fits(entry.size):
            is_full = True
            return
        budget.take(product, entry.size)
        on_arrival(entry)
        kept[product] = entry

    is_bounded = client.cache.max_bytes is not None and not is_known
    at_a_time = client.settings.max_in_flight if is_bounded else None
    if products:
        gather_products(products, begin, finish, callback, at_a_time=at_a_time)
    return kept, is_full


def cannot_hold(
    client: Client,
    count: int,
    needed: int | None,
    *,
    disk_room: int | None = None,
    is_about: bool = False,
    kept: int | None = None,
    instead: str,
) -> OSError:
    """Return the error for products that cannot be in the cache at one time.

    Parameters
    ----------
    client : Client
        Whose cache it is.
    count, needed : int
        How many they are, and of how many bytes, as far as that is known.
    disk_room : int, optional
        What the disk has room for, if that is too little; else the bound of the cache is.
    is_about : bool
        Whether the bytes are an estimate.
    kept : int, optional
        How many of them have filled the cache.
    instead : str
        What else can be done, after a comma.
    """
    cure = "Raise cache_max_bytes (HDA_CACHE_MAX_BYTES)"
    where = f"it is bounded to {format_bytes(client.cache.max_bytes or 0)}"
    if disk_room is not None:
        cure = "Free some space, set cache_dir (HDA_CACHE_DIR) to a larger disk"
        where = f"its disk has room for {format_bytes(disk_room)}"
    if kept is not None:
        where += f", and {kept} of them have filled it"
    weight = "" if needed is None else f" of {'about ' * is_about}{format_bytes(needed)}"
    msg = (
        f"The cache {client.cache.root} cannot hold these {plural(count, 'product')}{weight} at "
        f"one time: {where}. {cure}, {instead}"
    )
    return OSError(errno.ENOSPC, msg)
