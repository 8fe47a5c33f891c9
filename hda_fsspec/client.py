"""The client: lists locations and makes products local, with all state of one account.

One :class:`Client` per settings and process holds tokens, listings, connections and everything
under way; filesystems and data sets of equal settings share it.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import contextvars
import functools
import hashlib
import logging
from collections.abc import Callable, Coroutine, Iterator, Sequence
from io import BufferedReader
from typing import TYPE_CHECKING, Any, TypeVar

from fsspec.callbacks import DEFAULT_CALLBACK

from hda_fsspec.cache.cache import Cache, Entry
from hda_fsspec.cache.locks import FileLocks
from hda_fsspec.cache.metadata import JsonStore, MetadataStore
from hda_fsspec.cache.orders import OrderBook, PlacedOrder
from hda_fsspec.catalogue.catalogue import Catalogue
from hda_fsspec.catalogue.offline import LOCAL
from hda_fsspec.concurrency.daskworkers import dask_worker
from hda_fsspec.concurrency.forks import ForkLock, on_fork
from hda_fsspec.concurrency.futures import done_future, settle, wait_for
from hda_fsspec.concurrency.resources import Resources
from hda_fsspec.concurrency.tasks import Listener, SharedTasks
from hda_fsspec.errors import HDAError, OfflineError
from hda_fsspec.fetching.fetch import Fetcher
from hda_fsspec.fetching.fetch_many import cannot_hold, fetch_together
from hda_fsspec.fetching.gather import gather_products
from hda_fsspec.fetching.local_copies import Copies
from hda_fsspec.fetching.order_desk import OrderDesk
from hda_fsspec.fetching.orders_under_way import (
    OpenOrder,
    find_open_orders,
    is_prepared,
    open_order,
)
from hda_fsspec.fetching.progress import Reporter, quietly, waiting_for
from hda_fsspec.fetching.quota import Quota, QuotaView
from hda_fsspec.fetching.readahead import Budget, ReadAhead
from hda_fsspec.fetching.throttle import RequestLimiter
from hda_fsspec.network.api import Broker, OrderStatus
from hda_fsspec.paths.locations import Location
from hda_fsspec.records import Dataset, Product
from hda_fsspec.settings import SECRET_SETTINGS, Settings

if TYPE_CHECKING:
    from hda_fsspec.fetching.shared_cache import SharedCache
    from hda_fsspec.network.session import Session

__all__ = [
    "Client",
    "Entry",
    "Listener",
    "OrderNeededError",
    "close_clients",
    "gather_products",
    "get_client",
    "open_clients",
    "quietly",
    "waiting_for",
    "without_orders",
]

T = TypeVar("T")

logger = logging.getLogger("hda_fsspec")

_CALL_THREADS = 16
_TRIES_TO_OPEN = 5
#: Of how many orders the service is asked how they stand.
_MOST_ASKED = 100


#: Set while something only looks: what is not local is not fetched then.
_orders_are_forbidden: contextvars.ContextVar[bool] = contextvars.ContextVar(
    "orders are forbidden", default=False
)


class OrderNeededError(Exception):
    """A product would have to be fetched, within :func:`without_orders`."""

    def __init__(self, product: Product) -> None:
        super().__init__(product)
        self.product = product

    def __str__(self) -> str:
        return f"{self.product} is not local"


@contextlib.contextmanager
def without_orders() -> Iterator[None]:
    """Let every fetch that this thread begins of what is not local end in OrderNeededError."""
    token = _orders_are_forbidden.set(True)
    try:
        yield
    finally:
        _orders_are_forbidden.reset(token)


class Client:
    """Listing and fetching with one set of settings.

    Parameters
    ----------
    settings : Settings
        All settings.

    Attributes
    ----------
    resources : Resources
        What belongs to this client and is known only further up, such as open files.
    is_closed : bool
        Whether another one has taken its place.
    """

    def __init__(self, settings: Settings) -> None:
        account = hashlib.sha256("\0".join(settings.account).encode()).hexdigest()[:16]
        orders = OrderBook(settings.cache_dir, account)
        self._orders = orders
        self._quota = Quota(orders)
        locks = FileLocks(settings.cache_dir)
        limiter = RequestLimiter(
            locks,
            f"requests of {account}",
            own=settings.max_connections,
            patience_seconds=settings.max_wait,
        )
        broker = Broker(
            lambda: self._session,
            max_products=settings.max_products,
            workers=settings.max_connections,
        )
        notes = MetadataStore(settings.cache_dir)
        self.settings = settings
        self.account = account
        self.resources = Resources()
        self.is_closed = False
        self.cache = Cache(settings.cache_dir, max_bytes=settings.cache_max_bytes)
        self.catalogue = Catalogue(settings, broker, notes, account, local=self._local_products)
        self._limiter = limiter
        self._sessions = Resources()
        self._broker = broker
        self._notes = notes
        self._lengths = notes.lengths
        self.copies = Copies(JsonStore(settings.cache_dir, "copies", is_own=True), self.size)
        self._tasks: SharedTasks[Entry] = SharedTasks(settings.max_connections)
        self._calls: SharedTasks[Any] = SharedTasks(_CALL_THREADS)
        self._reporter = Reporter(
            self._quota.view, is_shown=settings.progress, begin=self._in_background
        )
        self._shared = _shared_cache(settings)
        self._fetcher = Fetcher(
            settings,
            broker=broker,
            cache=self.cache,
            locks=locks,
            account=account,
            limiter=limiter,
            orders=orders,
            desk=OrderDesk(
                settings,
                broker=broker,
                catalogue=self.catalogue,
                book=orders,
                quota=self._quota,
                under_way=self._tasks,
            ),
            terms=self.catalogue.terms,
            size_of=self.size,
            on_bytes=self._reporter.tell,
            on_fetched=self._lengths.record,
            shared=self._shared,
        )
        self.reads_ahead: set[ReadAhead] = set()

    def close(self) -> None:
        """Close the idle connections and what is open; what is under way goes on.

        Whoever asks :func:`get_client` from now on gets another one.
        """
        self.is_closed = True
        session = self._sessions.find(self._open_session)
        if session is not None:
            session.close()
        self.resources.close()

    def expect_broker(self) -> None:
        """Take it for sure that the address is right: where nobody is there, somebody will be.

        So it is for a task of a Dask worker. Whoever sent it has reached the service, and a worker
        may start before its network.
        """
        self._session.expect_broker()

    @property
    def _session(self) -> Session:
        return self._sessions.get(self._open_session)

    def _open_session(self) -> Session:
        # What speaks HTTP takes longer to import than most commands take that ask nobody.
        from hda_fsspec.network.session import Session

        return Session(
            self.settings, calls=self._limiter.request, on_response=self._quota.on_response
        )

    def run(self, work: Callable[[], T]) -> concurrent.futures.Future[T]:
        """Do blocking work in a thread of this object."""

        async def call() -> T:
            return work()

        return self._in_background(call())

    def _in_background(self, work: Coroutine[Any, None, T]) -> concurrent.futures.Future[T]:
        return self._calls.submit(object(), lambda _: work)

    def datasets(self, *, refresh: bool = False) -> list[Dataset]:
        """Return all data sets; see :meth:`Datasets.all`."""
        return self.catalogue.datasets.all(refresh=refresh)

    def search(self, location: Location, *, refresh: bool = False) -> list[Product]:
        """Return the products below a location; with a pattern those that match it.

        What is raised: see :meth:`Catalogue.search`. An empty query is an empty list.
        """
        found = self.catalogue.search(location, refresh=refresh)
        if location.pattern is None:
            return list(found.values())
        return [product for product in found.values() if location.matches(product.product_id)]

    def product(self, location: Location, *, refresh: bool = False) -> Product:
        """Return the product that a location names; see :meth:`Catalogue.product`.

        A local one that no listing tells of is told by its own record: offline, and where no query
        says what to ask for.
        """
        if not refresh and (self.settings.offline or not location.query):
            known = self.catalogue.cached_product(location)
            entry = None if known is not None else self._local_entry(location)
            if entry is not None:
                self.catalogue.note_origin(location, LOCAL)
                return entry.product
        return self.catalogue.product(location, refresh=refresh)

    def product_to_open(self, location: Location) -> Product:
        """Return the record of a product that will be read: a local one costs no request.

        A listing that is still trusted decides which version it is; without one, what is local
        is good enough, and only then is the service asked.
        """
        known = self.catalogue.cached_product(location)
        if known is not None:
            return known
        entry = self._local_entry(location, touch=True)
        return self.product(location) if entry is None else entry.product

    def _local_entry(self, location: Location, *, touch: bool = False) -> Entry | None:
        named = Product(
            location.dataset or "", location.product or "", broker=self.settings.endpoint_url
        )
        return self.cache.lookup(named, touch=touch)

    def _local_products(self) -> Iterator[Product]:
        for entry in self.cache.entries():
            if entry.product.broker != self.settings.endpoint_url:
                continue
            named = Location(entry.product.dataset_id, product=entry.product.product_id)
            # Found by its name as well: the cache may hold what is of no use to these settings.
            mine = self._local_entry(named)
            if mine is not None:
                yield mine.product

    def size(self, product: Product) -> int | None:
        """Return the length of a product's file in bytes, None where it is not known.

        It is known if the product was fetched once, or if the catalogue's sizes of this data set
        have proved exact.
        """
        return self.sizes([product])[0]

    def sizes(self, products: Sequence[Product]) -> list[int | None]:
        """Return what :meth:`size` returns for each of many products."""
        return self._lengths.sizes_of(products)

    def local(self, product: Product) -> Entry | None:
        """Return the local file of a product if there is one: no network, no lock, no hash."""
        return self.cache.lookup(product)

    def under_way(self, products: Sequence[Product]) -> set[Product]:
        """Return those products that were ordered, here or by another process, and never came."""
        ordered = self._orders.ordered_of(products)
        return {product for product in ordered if self._lengths.length_of(product) is None}

    def open_orders(self) -> list[OpenOrder]:
        """Return the orders under way, here and of other processes, the newest first.

        The service is asked how each of the first of them stands, unless offline is set.
        """
        found = find_open_orders(
            self._orders, lambda p: self.cache.lookup(p, touch=False) is not None
        )
        asked = [] if self.settings.offline else found[:_MOST_ASKED]

        def ask(order: PlacedOrder) -> OrderStatus | None:
            try:
                return self._broker.status(order.download_id)
            except HDAError as err:
                logger.warning("How the order of %s stands is not known: %s", order.product, err)
                return None

        said = [self.run(functools.partial(ask, order)) for order in asked]
        statuses = [status.result() for status in said] + [None] * (len(found) - len(asked))
        return [
            open_order(order, status)
            for order, status in zip(found, statuses, strict=True)
            # What came once and was evicted is no order under way, unless it was ordered anew.
            if self._lengths.length_of(order.product) is None or is_prepared(status)
        ]

    def fetch(
        self, product: Product, listener: Listener | None = None
    ) -> concurrent.futures.Future[Entry]:
        """Make a product local; all who ask for one product at a time share one fetch.

        Parameters
        ----------
        product : Product
            Which.
        listener : callable, optional
            Told (bytes done, bytes in all or None).

        Returns
        -------
        concurrent.futures.Future of Entry
            The caller's own, who cancels it when the product is wanted no more: when all have, it
            is not ordered any more. Its exceptions are those of :meth:`Fetcher.fetch`, and
            OfflineError.
        """
        entry = self.cache.lookup(product)
        if entry is not None:
            return done_future(entry)
        if self.settings.offline:
            msg = (
                f"{product} is not in the cache "
                f"{self.settings.cache_dir}, and offline is set. Unset offline (or HDA_OFFLINE) to "
                "fetch it."
            )
            return done_future(error=OfflineError(msg))
        if _orders_are_forbidden.get():
            return done_future(error=OrderNeededError(product))
        future = self._tasks.submit(
            product, lambda task: self._fetcher.fetch(product, task), listener
        )
        self._reporter.watch(product, future)
        return future

    def open(
        self, product: Product, listener: Listener | None = None
    ) -> concurrent.futures.Future[tuple[Entry, BufferedReader]]:
        """Make a product local, as :meth:`fetch`, and open it before it can be evicted."""
        outcome: concurrent.futures.Future[tuple[Entry, BufferedReader]] = (
            concurrent.futures.Future()
        )
        holding = contextlib.ExitStack()
        holding.enter_context(self.cache.hold(product))
        outcome.add_done_callback(lambda _: holding.close())

        def attempt(left: int) -> None:
            fetch = self.fetch(product, listener)
            outcome.add_done_callback(lambda _: fetch.cancel())
            fetch.add_done_callback(lambda done: finish(done, left))

        def finish(done: concurrent.futures.Future[Entry], left: int) -> None:
            try:
                entry = done.result()
                handle = _open_or_none(entry, is_last=not left)
                if handle is None:
                    attempt(left - 1)
                    return
            except BaseException as err:  # noqa: BLE001  (whoever waits for the outcome gets it)
                settle(outcome, error=err)
                return
            if not settle(outcome, (entry, handle)):
                handle.close()

        attempt(_TRIES_TO_OPEN - 1)
        return outcome

    def read_ahead(self, products: Sequence[Product]) -> ReadAhead:
        """Return what fetches products ahead, and is told by :meth:`mark_read` what was read.

        It fetches nothing before :meth:`ReadAhead.advance`, and nothing after it is closed.
        """
        ahead = ReadAhead(self, products)
        self.reads_ahead.add(ahead)
        return ahead

    def mark_read(self, product: Product) -> None:
        """Note that a product was read by a computation that something is fetched ahead of."""
        for ahead in tuple(self.reads_ahead):
            ahead.mark_read(product)

    def fetch_all(
        self, products: Sequence[Product], *, callback: Any = DEFAULT_CALLBACK
    ) -> list[Entry]:
        """Make many products local at one time, and return their entries in order.

        Raises
        ------
        OSError
            ``ENOSPC``: the cache cannot hold them all at one time.
        HDAError
            The first fault, when all the others have ended; its notes name the others.
        """
        wanted = list(dict.fromkeys(products))
        sizes = self.sizes(wanted)
        needed, budget = sum(size or 0 for size in sizes), Budget(self)
        instead = "ask for fewer at a time, or copy them out with fs.get or fs.download."
        if not budget.fits(needed):
            raise cannot_hold(self, len(wanted), needed, instead=f"{instead} Nothing was ordered.")
        found, is_full = fetch_together(self, wanted, budget, callback, is_known=None not in sizes)
        if is_full or any(not entry.path.exists() for entry in found.values()):
            raise cannot_hold(self, len(wanted), None, kept=len(found), instead=instead)
        return [found[product] for product in products]

    def flush_shared_cache(self) -> None:
        """Wait until what was downloaded has been put into the shared cache, if there is one.

        Clients of this process whose settings differ otherwise, and have it too, are waited for.
        """
        clients = [self, *open_clients()]
        shared = [c._shared for c in clients if c._shared is not None]
        address = self.settings.shared_cache
        pending = [
            (product, future)
            for cache in dict.fromkeys(shared)
            if cache.url == address
            for product, future in cache.pending
        ]
        with waiting_for("the shared cache"):
            for product, future in pending:
                self._reporter.watch(product, future)
        for _, future in pending:
            wait_for(future)

    def header(self, product: Product) -> bytes | None:
        """Return the description of a product that was kept, whether or not it is local."""
        return self._notes.header(product)

    def with_header(self, products: Sequence[Product]) -> list[int]:
        """Return which of some products, by their numbers, :meth:`header` may tell something of."""
        return self._notes.with_header(products)

    def keep_header(self, product: Product, header: bytes) -> None:
        """Keep a description of a product; it survives the eviction of its file."""
        self._notes.put_header(product, header)

    def subset_note(self, name: str) -> Any:
        """Return what was kept under a name of a data set that the service computes, if anything.

        Names are those of :meth:`keep_subset_note`.
        """
        return self._notes.subsets.get(f"{self.settings.endpoint_url} {name}")

    def keep_subset_note(self, name: str, note: Any) -> None:
        """Keep what was learned of a data set that the service computes, as a JSON value."""
        self._notes.subsets.put(f"{self.settings.endpoint_url} {name}", note)

    def quota(self) -> QuotaView:
        """Return how the order quota of the account stands, as far as it is known; asks nobody."""
        return self._quota.view()


def _shared_cache(settings: Settings) -> SharedCache | None:
    """Return the shared cache that settings name, if they name one."""
    if settings.shared_cache is None:
        return None
    # Few have one, and filesystems of fsspec take long to load.
    from hda_fsspec.fetching.shared_cache import SharedCache

    return SharedCache(
        settings.shared_cache, settings.shared_cache_options, timeout=settings.timeout
    )


def _open_or_none(entry: Entry, *, is_last: bool) -> BufferedReader | None:
    """Open an entry; None if it was evicted in this moment, by another process or for room."""
    try:
        return entry.open()
    except FileNotFoundError:
        if is_last:
            raise
        return None


_shared: dict[tuple[Settings, tuple[str, ...], bool], Client] = {}
_of_the_parent: list[Client] = []
_shared_lock = ForkLock()


def get_client(settings: Settings) -> Client:
    """Return the one :class:`Client` of this process for these settings that is not closed."""
    # Secrets are no part of equality, but who corrects one must not get what was refused.
    secrets = tuple(repr(getattr(settings, name)) for name in SECRET_SETTINGS)
    key = (settings, secrets, settings.progress)
    with _shared_lock:
        found = _shared.get(key)
        if found is None or found.is_closed:
            found = _shared[key] = Client(settings)
    if dask_worker() is not None:
        found.expect_broker()
    return found


def open_clients() -> list[Client]:
    """Return the clients of this process."""
    with _shared_lock:
        return list(_shared.values())


def close_clients() -> None:
    """Close all clients of this process; whoever asks for one from now on gets a new one."""
    with _shared_lock:
        clients = list(_shared.values())
        _shared.clear()
    for client in clients:
        client.close()


@on_fork
def _leave_to_the_parent() -> None:
    # The child has neither the threads nor a right to the connections and files of its parent.
    for client in _shared.values():
        client.is_closed = True
    # Kept alive for ever: what ends with it would give back the parent's locks and partials, and
    # close its files.
    _of_the_parent.extend(_shared.values())
    _shared.clear()
