"""How long answers are trusted."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from conftest import Bench

from hda_fsspec.cache.metadata import JsonStore
from hda_fsspec.catalogue.answer_cache import Answers
from hda_fsspec.catalogue.json_codecs import DATASETS
from hda_fsspec.records import Dataset
from hda_fsspec.settings import Settings


def test_the_list_is_kept_for_a_day(bench: Bench) -> None:
    """Longer than listings are, and on disk; where listings are kept longer, so is it."""
    now = [1_000_000.0]
    asked = []

    def ask() -> list[Dataset]:
        asked.append(now[0])
        return [Dataset("EO:A", ("t",), "A", "b", None, "2020-01-01T00:00:00.000Z", "0,0,1,1")]

    def answers(**settings: Any) -> Answers:
        made = Settings.resolve(cache_dir=bench.cache_dir, **settings)
        store = JsonStore(bench.cache_dir, "listings", clock=lambda: now[0])
        return Answers(made, store, clock=lambda: now[0])

    first = answers().get(DATASETS, "", ask)
    now[0] += 23 * 3600
    kept = answers().get(DATASETS, "", ask)
    assert [asdict(one) for one in kept] == [asdict(one) for one in first]
    assert len(asked) == 1
    now[0] += 2 * 3600
    answers(listings_expiry_time=1e6).get(DATASETS, "", ask)
    assert len(asked) == 1
    answers().get(DATASETS, "", ask)
    assert len(asked) == 2
