"""The cache against a model of it: any sequence of uses, on any state of the disk."""

from __future__ import annotations

import dataclasses
import os
import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hda_fsspec.cache import Cache, Entry
from hda_fsspec.entries import RECORD_NAME
from hda_fsspec.records import Product


class _Clock:
    """A clock that is moved by hand."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def _accept(path: Path) -> None:
    """Find every file in order."""


def _product(name: str = "p1", **facts: object) -> Product:
    return dataclasses.replace(Product("EO:TEST:DAT", name), **facts)  # type: ignore[arg-type]


def _put(cache: Cache, record: Product, data: bytes = b"data", name: str = "file.nc") -> Entry:
    with cache.stage(record, expected_bytes=len(data)) as staging:
        staging.restart()
        with staging.open() as handle:
            handle.write(data)
        return staging.publish(name, check=_accept, expected_bytes=len(data))


class CacheAgainstDict(RuleBasedStateMachine):
    """The cache does what a dict with a bound and an order of last use does."""

    BOUND = 40

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.clock = _Clock()
        self.model: dict[str, bytes] = {}  # in the order of last use
        self.held: dict[str, bytes] = {}

    @initialize()
    def start(self) -> None:
        """Open the cache."""
        self.reopen()

    def teardown(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder)

    names = st.sampled_from("abcde")
    data = st.binary(min_size=1, max_size=20)

    @rule()
    def reopen(self) -> None:
        """Go on as a new process would."""
        self.cache = Cache(self.folder / "cache", max_bytes=self.BOUND, clock=self.clock)

    @rule(name=names, data=data)
    def publish(self, name: str, data: bytes) -> None:
        """Publish a product, which evicts what was used longest ago."""
        self.clock.now += 100
        if name in self.model:
            # The same version is there already: the one that is there stays.
            assert _put(self.cache, _product(name), data).path.read_bytes() == self.model[name]
            self._shrink(len(data), name)
            return
        self._shrink(len(data), name)
        _put(self.cache, _product(name), data, name)
        self.model[name] = data

    def _shrink(self, needed: int, keep: str) -> None:
        for name in [n for n in self.model if n != keep]:
            if sum(map(len, self.model.values())) + needed <= self.BOUND:
                break
            del self.model[name]

    @rule(name=names)
    def lookup(self, name: str) -> None:
        """Find what is there, which counts as a use."""
        self.clock.now += 100
        entry = self.cache.lookup(_product(name))
        if name not in self.model:
            assert entry is None
            return
        assert entry is not None
        assert entry.path.read_bytes() == self.model[name]
        self.model[name] = self.model.pop(name)

    @rule(name=names)
    def remove(self, name: str) -> None:
        """Remove a product."""
        assert (self.cache.remove(_product(name)) > 0) == (name in self.model)
        self.model.pop(name, None)

    @precondition(lambda self: self.model)
    @rule(cut=st.booleans())
    def damage(self, cut: bool) -> None:
        """Cut a file short or garble its record: it is not there."""
        name = next(iter(self.model))
        entry = self.cache.lookup(_product(name), touch=False)
        assert entry is not None
        if cut:
            os.truncate(entry.path, entry.size - 1)
        else:
            (entry.folder / RECORD_NAME).write_text("{")
        del self.model[name]
        self.reopen()
        self.cache.prune()

    @invariant()
    def agrees(self) -> None:
        """Hold exactly what the model holds, within the bound."""
        found = {e.product.product_id: e.path.read_bytes() for e in self.cache.entries()}
        assert found == self.model
        assert self.cache.usage().bytes <= self.BOUND


TestCacheAgainstDict = CacheAgainstDict.TestCase
TestCacheAgainstDict.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)
