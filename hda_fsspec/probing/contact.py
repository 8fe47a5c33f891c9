"""A first contact from its beginning to its end: looking, asking for consent, one order."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from hda_fsspec.network.session import Session
from hda_fsspec.paths.locations import Location
from hda_fsspec.printable import printable
from hda_fsspec.probing.conversation import Conversation
from hda_fsspec.probing.facts import Fact, left_open
from hda_fsspec.probing.order import OrderProbe, quota_facts
from hda_fsspec.probing.probe import MOST_BYTES, MOST_REQUESTS, Probe
from hda_fsspec.probing.query import ProbePlan
from hda_fsspec.probing.recording import Recording
from hda_fsspec.settings import Settings


def first_contact(
    settings: Settings,
    dataset: Location,
    *,
    may_order: Callable[[ProbePlan], bool],
    recording: Path | None = None,
    sleep: Callable[[float], object] = time.sleep,
    most_requests: int = MOST_REQUESTS,
    most_bytes: int = MOST_BYTES,
) -> Iterator[Fact]:
    """Find out what is uncertain of a service, and yield each fact as it is known.

    At most one product is ordered, the smallest that the query finds, and the order is posted
    twice to see whether that counts. Nothing is accepted, and nothing is left in the cache.

    Parameters
    ----------
    settings : Settings
        Address and account.
    dataset : Location
        A data set, of which a small query is made, or a query.
    may_order : callable
        Told what would be ordered; returns whether it may be.
    recording : Path, optional
        A new file, for requests and answers without secrets.
    sleep : callable
        How to wait some seconds for the order.
    most_requests, most_bytes : int
        Bounds of requests, and of what is read of the file.

    Raises
    ------
    ConfigurationError
        No login is set, the path is no data set and no query, or the file cannot be written.
    OfflineError
        The setting ``offline`` forbids it.
    """
    session = Session(settings)
    record = Recording(recording, settings.user, settings.password)
    talk = Conversation(session, record, most_requests)

    def shown(fact: Fact) -> Fact:
        # A service may quote in its answers what it was sent.
        told = {
            name: printable(record.redacted(text))
            for name, text in dataclasses.asdict(fact).items()
        }
        return Fact(**told)

    try:
        probe = Probe(talk, dataset, user=settings.user, password=settings.password)
        record.begin(broker=settings.endpoint_url, dataset=dataset.path)
        yield from map(shown, probe.look())
        plan = probe.plan
        if plan is None:
            return
        if not may_order(plan):
            yield from map(shown, quota_facts(talk))
            yield left_open("what an order tells", "nothing was ordered")
            return
        with tempfile.TemporaryDirectory(prefix="hda-probe-") as folder:
            order = OrderProbe(
                talk, plan, probe.schema, Path(folder), sleep=sleep, most_bytes=most_bytes
            )
            yield from map(shown, order.look())
    finally:
        record.close()
        session.close()
