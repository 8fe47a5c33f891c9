"""What is expected of the service is so; what is not known of it is seen."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from hda_fsspec import HDAFileSystem, Location
from hda_fsspec.emulator import Catalogue, Emulator
from hda_fsspec.probing.contact import first_contact
from hda_fsspec.probing.facts import FAILED, OTHERWISE, Fact
from hda_fsspec.settings import Settings

Found = tuple[dict[str, Fact], Path]


def test_nothing_fails(live_facts: Found) -> None:
    """Every fact could be asked for."""
    facts, _ = live_facts

    assert [fact for fact in facts.values() if fact.state == FAILED] == []


def test_what_is_expected_is_so(live_facts: Found) -> None:
    """A fact that is otherwise is told, each with what was seen."""
    facts, _ = live_facts

    assert [fact for fact in facts.values() if fact.state == OTHERWISE] == []


def test_the_recording_replays(live_facts: Found, tmp_path: Path) -> None:
    """It holds no secret, and the emulator gives the same facts from it."""
    facts, recording = live_facts
    with Emulator(Catalogue(), replay=recording) as replay:
        dataset = facts["search"].seen.partition(": ")[2]
        settings = Settings.resolve(**replay.storage_options)
        again = {
            fact.fact: fact
            for fact in first_contact(
                settings, Location.parse(dataset), may_order=lambda _: True, sleep=lambda _: None
            )
        }

    assert {name: fact.state for name, fact in again.items()} == {
        name: fact.state for name, fact in facts.items()
    }


def test_the_package_lists_and_opens(
    live_settings: Settings, live_location: Location, live_facts: Found, tmp_path: Path
) -> None:
    """The product that was probed is listed, and its order repeated and read."""
    facts, recording = live_facts
    if not live_location.query:
        pytest.skip("HDA_LIVE names a data set, and no query that could be listed")
    text = recording.read_text()
    assert str(live_settings.password) not in text
    assert not re.search(rf"(?<!\w){re.escape(str(live_settings.user))}(?!\w)", text)
    given = {
        field.name: getattr(live_settings, field.name)
        for field in dataclasses.fields(live_settings)
        if field.name in {"endpoint_url", "user", "password", "verify"}
    }
    fs = HDAFileSystem(**given, cache_dir=tmp_path / "cache")
    infos = {info["product_id"]: info for info in fs.ls(live_location, detail=True)}

    assert "search" in facts
    assert infos
