"""Tests against a real service: run only where somebody asks for them, and with an account.

``HDA_LIVE=DATASET`` or ``HDA_LIVE=DATASET/startdate=…`` names what to probe; address, user and
password are found as the package finds them. One product is ordered.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from hda_fsspec.errors import HDAError
from hda_fsspec.paths.locations import Location
from hda_fsspec.probing.contact import first_contact
from hda_fsspec.probing.facts import Fact
from hda_fsspec.settings import Settings

# Before any fixture hides the environment and the home of whoever runs the tests.
_ASKED = os.environ.get("HDA_LIVE")
_RECORDING = os.environ.get("HDA_LIVE_RECORDING")


def _settings() -> Settings | None:
    if not _ASKED:
        return None
    found = Settings.resolve()
    return found if found.user and found.password else None


_SETTINGS = _settings()


@pytest.fixture(autouse=True)
def _only_loopback() -> None:
    """Lift what keeps all other tests from the network."""


@pytest.fixture(autouse=True)
def _clean_environment() -> None:
    """Leave proxies and certificates of this machine where they are."""


@pytest.fixture(scope="session")
def live_settings() -> Settings:
    """Return the account and the address; skip without them."""
    if _SETTINGS is None:
        pytest.skip("HDA_LIVE names no data set, or there is no login (see docs/first-contact.md)")
    return _SETTINGS


@pytest.fixture(scope="session")
def live_location() -> Location:
    """Return what is probed."""
    return Location.parse(f"hda://{str(_ASKED).removeprefix('hda://')}")


@pytest.fixture(scope="session")
def live_facts(
    live_settings: Settings, live_location: Location, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Fact], Path]:
    """Return all that a probe finds out, and its recording."""
    folder = tmp_path_factory.mktemp("live")
    recording = Path(_RECORDING) if _RECORDING else folder / "recording.jsonl"
    settings = dataclasses.replace(live_settings, cache_dir=folder / "cache")
    try:
        facts = list(
            first_contact(settings, live_location, may_order=lambda _: True, recording=recording)
        )
    except HDAError as err:
        pytest.fail(str(err))
    return {fact.fact: fact for fact in facts}, recording
