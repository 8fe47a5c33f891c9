"""A body goes to the disk in pieces, whatever its length: memory does not grow with the file."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import pytest

from hda_fsspec.cache.cache import Cache
from hda_fsspec.emulator import Emulator, dated_product
from hda_fsspec.fetching.transfer import Received, transfer
from hda_fsspec.network.api import Broker
from hda_fsspec.paths.locations import Location

_LONG = 20_000_000
_LARGEST_PIECE = 1 << 20


class _Watched:
    """A staging that notes what is written into it, and which parts the disk is given."""

    def __init__(self, staging: Any) -> None:
        self._staging = staging
        self.pieces: list[int] = []
        self.settled: list[tuple[int, int]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._staging, name)

    def open(self) -> Any:
        handle = self._staging.open()
        write = handle.write

        def watch(piece: bytes) -> int:
            self.pieces.append(len(piece))
            return int(write(piece))

        handle.write = watch
        return handle

    def settle(self, handle: Any, start: int, stop: int) -> None:
        self.settled.append((start, stop))
        self._staging.settle(handle, start, stop)


def _end_of(work: Coroutine[Any, None, Received]) -> Received:
    while True:
        try:
            work.send(None)
        except StopIteration as end:
            received: Received = end.value
            return received


@pytest.fixture
def served(bench: Any) -> Emulator:
    """Serve one long product."""
    body = bench.body(1, _LONG)
    emulator: Emulator = bench.start(products=[dated_product(bench.product_id(1), body)])
    return emulator


@pytest.mark.slow
@pytest.mark.parametrize("held", [0, 3_000_000])
def test_a_long_body_in_pieces(held: int, served: Emulator, bench: Any) -> None:
    """No piece is larger than 1 MiB, and the disk is given the file part by part, in order."""
    products = bench.filesystem(served)._client
    product = products.product(Location.parse(bench.path(1)))
    body = served.catalogue.product(bench.dataset, bench.product_id(1)).content.read()  # type: ignore[union-attr]
    broker = Broker(lambda: products._session, max_products=10, workers=1)

    with Cache(bench.cache_dir).stage(product) as staging:
        if held:
            etag = served.catalogue.product(bench.dataset, bench.product_id(1)).content.etag  # type: ignore[union-attr]
            with staging.open() as handle:
                handle.write(body[:held])
            staging.remember(total=len(body), etag=etag)
        place = _Watched(staging)
        received = _end_of(transfer(broker, broker.order(product), place, lambda *_: None))
        entry = staging.publish(received.name or "", expected_bytes=received.total)

    assert entry.path.read_bytes() == body
    assert max(place.pieces) <= _LARGEST_PIECE
    assert sum(place.pieces) == len(body) - held
    starts, stops = zip(*place.settled, strict=True)
    assert starts == (held, *stops[:-1])
    assert stops == tuple(sorted(stops))
    assert len(body) - stops[-1] < stops[-1] - starts[-1] + _LARGEST_PIECE


@pytest.mark.slow
def test_a_disk_that_takes_no_advice(
    served: Emulator, bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a system has no such advice, or refuses it, a file arrives all the same."""

    def refuse(*_: Any) -> None:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr("os.posix_fadvise", refuse)
    assert len(bench.filesystem(served).cat(bench.path(1))) > _LONG
    monkeypatch.delattr("os.posix_fadvise")
    other = bench.filesystem(served, cache_dir=bench.folder / "other")
    assert len(other.cat(bench.path(1))) > _LONG
