"""The cache against a model of it: any sequence of uses, by two processes, on any state of disk."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from cached_products import accept
from clocks import Clock
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from random_inputs import examples

from hda_fsspec.cache.cache import Cache
from hda_fsspec.cache.product_entries import RECORD_NAME
from hda_fsspec.errors import ProductFormatError
from hda_fsspec.records import Product

Key = tuple[str, str]  # a product and its version


def _product(key: Key) -> Product:
    name, version = key
    return Product("EO:TEST:DAT", name, updated=f"2024-05-0{version}T00:00:00.000Z")


@dataclasses.dataclass
class _Held:
    """What the model knows of one version of a product, or of the beginning of one."""

    data: bytes
    used_at: float
    summed: bytes | None = None  # what its checksum was made of


class CacheAgainstDict(RuleBasedStateMachine):
    """Two cache objects on one folder do what a dict with a bound and times of use does."""

    BOUND = 40

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.clock = Clock()
        self.model: dict[Key, _Held] = {}
        self.partials: dict[Key, _Held] = {}
        self.holding = [contextlib.ExitStack(), contextlib.ExitStack()]
        self.in_use: list[set[str]] = [set(), set()]
        self.caches = [self.open_cache(), self.open_cache()]

    def open_cache(self) -> Cache:
        """Open the cache as a new process does."""
        return Cache(self.folder / "cache", max_bytes=self.BOUND, clock=self.clock)

    def teardown(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder)

    keys = st.tuples(st.sampled_from("abcd"), st.sampled_from("12"))
    data = st.binary(min_size=1, max_size=20)
    which = st.sampled_from([0, 1])

    @initialize(sizes=st.lists(st.integers(1, 12), max_size=4))
    def fill(self, sizes: list[int]) -> None:
        """Begin with some products, so that there is something to do from the first step."""
        for name, size in zip("abcd", sizes, strict=False):
            self.publish((name, "1"), bytes(size), 0)

    def _make_room(self, which: int, needed: int, keep: set[str]) -> set[Key]:
        """Evict in the model what the cache must evict; return the products among it."""
        everything = [*self.model.items(), *self.partials.items()]
        shortage = sum(len(each.data) for _, each in everything) + needed - self.BOUND
        evicted = set()
        for key, each in sorted(everything, key=lambda item: item[1].used_at):
            is_protected = each.used_at > self.clock.now + 60
            if shortage > 0 and not is_protected and key[0] not in keep:
                shortage -= len(each.data)
                if self.model.get(key) is each:
                    evicted.add(key)
                    del self.model[key]
                else:
                    del self.partials[key]
        return evicted

    @rule(which=which, is_late=st.booleans())
    def reopen(self, which: int, is_late: bool) -> None:
        """Go on as a new process would, at once or when protections have ended."""
        self.release(which)
        self.caches[which] = self.open_cache()
        self.clock.now += 4000 if is_late else 0

    @rule(key=keys, data=data, which=which)
    def publish(self, key: Key, data: bytes, which: int) -> None:
        """Publish a product, which evicts what was used longest ago; the first one stays."""
        self.clock.now += 100
        keep = {key[0], *self.in_use[which]}
        begun = self.partials.get(key, _Held(b"", 0.0))
        missing = max(0, len(data) - len(begun.data))
        with self.caches[which].stage(_product(key), expected_bytes=len(data)) as staging:
            assert staging.offset == len(begun.data)
            assert staging.facts.get("total") == (99 if begun.data else None)
            self._make_room(which, missing, keep)
            staging.restart()
            with staging.open() as handle:
                handle.write(data)
            entry = staging.publish(key[0], check=accept, expected_bytes=len(data))
        self.partials.pop(key, None)
        self.model.setdefault(key, _Held(data, self.clock.now))
        assert entry.path.read_bytes() == self.model[key].data
        self._make_room(which, 0, keep)

    @rule(key=keys, data=data, which=which)
    def abort(self, key: Key, data: bytes, which: int) -> None:
        """Receive a part of a product, on top of what is there: it waits for the next writer."""
        self.clock.now += 100
        begun = self.partials.pop(key, _Held(b"", 0.0))
        self.partials[key] = _Held(begun.data, begun.used_at)
        with self.caches[which].stage(_product(key)) as staging:
            self._make_room(which, 0, {key[0], *self.in_use[which]})
            assert staging.path.read_bytes() == begun.data
            with staging.open() as handle:
                handle.write(data)
            staging.remember(total=99)
        self.partials[key] = _Held(begun.data + data, self.clock.now)
        stem = staging.key
        for place in (self.folder / "cache" / "v1" / "partial").glob(f"{stem}.*"):
            if (place / ".data").read_bytes() == begun.data + data:
                for path in (*place.iterdir(), place):
                    os.utime(path, (self.clock.now, self.clock.now))

    @rule(key=keys, which=which)
    def discard(self, key: Key, which: int) -> None:
        """Give up what was received of a product."""
        self.clock.now += 100
        with self.caches[which].stage(_product(key)) as staging:
            self._make_room(which, 0, {key[0], *self.in_use[which]})
            staging.discard()
        self.partials.pop(key, None)

    @rule(key=keys, which=which)
    def lookup(self, key: Key, which: int) -> None:
        """Find what is there, which counts as a use and ends a protection."""
        self.clock.now += 100
        entry = self.caches[which].lookup(_product(key))
        if key not in self.model:
            assert entry is None
            return
        assert entry is not None
        assert entry.path.read_bytes() == self.model[key].data
        self.model[key].used_at = self.clock.now

    @precondition(lambda self: self.model)
    @rule(number=st.integers(0, 7), which=which)
    def protect(self, number: int, which: int) -> None:
        """Protect a product for an hour, for both processes."""
        key = list(self.model)[number % len(self.model)]
        entry = self.caches[which].lookup(_product(key), touch=False)
        assert entry is not None
        self.caches[which].protect(entry, seconds=3600)
        self.model[key].used_at = self.clock.now + 3600

    @rule(key=keys, which=which)
    def hold(self, key: Key, which: int) -> None:
        """Keep a product, in all its versions, from being evicted by one process."""
        self.holding[which].enter_context(self.caches[which].hold(_product(key)))
        self.in_use[which].add(key[0])

    def release(self, which: int) -> None:
        """Hold nothing any more."""
        self.holding[which].close()
        self.in_use[which].clear()

    @precondition(lambda self: self.model)
    @rule(
        needed=st.sampled_from([0, 10, 30, 50]),
        keep=st.sets(st.sampled_from("abcd"), max_size=1),
        which=which,
    )
    def evict(self, needed: int, keep: set[str], which: int) -> None:
        """Make room by hand."""
        cache = self.caches[which]
        evicted = cache.evict(needed, {_product((name, "1")).key for name in keep})
        found = {(e.product.product_id, str(e.product.updated)[9]) for e in evicted}
        assert found == self._make_room(which, needed, keep)

    @rule(name=st.sampled_from("abcd*"), which=which)
    def remove(self, name: str, which: int) -> None:
        """Remove a product in all its versions, or everything."""
        if name == "*":
            self.clear(which)
            return
        mine = [key for key in self.model if key[0] == name]
        assert (self.caches[which].remove(_product((name, "1"))) > 0) == bool(mine)
        for key in mine:
            del self.model[key]

    def clear(self, which: int) -> None:
        """Remove everything."""
        everything = [*self.model.values(), *self.partials.values()]
        assert (self.caches[which].clear() > 0) == bool(everything)
        self.model.clear()
        self.partials.clear()

    @rule(which=which, seconds=st.sampled_from([50, 250, 1000]))
    def prune(self, which: int, seconds: int) -> None:
        """Remove what was not used for some time; partials stay for a day."""
        self.caches[which].prune(older_than_seconds=seconds)
        old = [k for k, each in self.model.items() if self.clock.now - each.used_at > seconds]
        for key in old:
            del self.model[key]

    @rule(which=which)
    def verify(self, which: int) -> None:
        """Find what was altered since its checksum was made, and make one of all others."""
        told = dict(self._verdicts(which))
        assert told.keys() == self.model.keys()
        for key, each in self.model.items():
            is_altered = each.summed is not None and each.summed != each.data
            assert isinstance(told[key], ProductFormatError) == is_altered
            each.summed = each.summed or each.data

    def _verdicts(self, which: int) -> Iterator[tuple[Key, Exception | None]]:
        for entry, error in self.caches[which].verify(accept):
            yield (entry.product.product_id, str(entry.product.updated)[9]), error

    @precondition(lambda self: self.model)
    @rule(kind=st.sampled_from(["cut", "garbled record", "altered"]))
    def damage(self, kind: str) -> None:
        """Cut a file or garble its record: it is not there. Alter it: only `verify` can tell."""
        key = next(iter(self.model))
        entry = self.open_cache().lookup(_product(key), touch=False)
        assert entry is not None
        if kind == "altered":
            altered = bytes(255 - byte for byte in self.model[key].data)
            entry.path.write_bytes(altered)
            self.model[key].data = altered
            return
        if kind == "cut":
            os.truncate(entry.path, entry.size - 1)
        else:
            (entry.folder / RECORD_NAME).write_text("{")
        del self.model[key]
        # The other processes would only notice by themselves when they look it up.
        for which in (0, 1):
            self.reopen(which, is_late=False)
        self.caches[0].prune()

    @invariant()
    def agrees(self) -> None:
        """Hold exactly what the model holds, whichever process is asked."""
        for cache in self.caches:
            found = {
                (e.product.product_id, str(e.product.updated)[9]): e.path.read_bytes()
                for e in cache.entries()
            }
            assert found == {key: each.data for key, each in self.model.items()}
        usage = self.caches[0].usage()
        assert usage.bytes == sum(len(each.data) for each in self.model.values())
        assert usage.partial_bytes == sum(len(each.data) for each in self.partials.values())


TestCacheAgainstDict = pytest.mark.slow(CacheAgainstDict.TestCase)
TestCacheAgainstDict.settings = settings(
    max_examples=examples(10), stateful_step_count=25, deadline=None
)
