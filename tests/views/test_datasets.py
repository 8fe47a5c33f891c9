"""Data sets that were found: a sequence that shows itself, asked for once a day."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import Bench

from hda_fsspec import HDAFileSystem
from hda_fsspec.emulator import Catalogue, DatasetEntry, Emulator
from hda_fsspec.errors import QueryError

HOSTILE = "</td><script>alert(1)</script>\x1b[2J\u202e"


@pytest.fixture
def found(bench: Bench) -> Any:
    """Return a filesystem over sixty data sets, and its emulator."""
    entries = [
        DatasetEntry(
            f"EO:MO:DAT:SET_{n}",
            [],
            title=f"Set {n} {HOSTILE}",
            abstract=f"Chlorophyll {HOSTILE} " * 30,
            period=("1998-01-01", "2010-12-31") if n % 2 else None,
        )
        for n in range(60)
    ]
    with Emulator(Catalogue(entries)) as emulator:
        yield bench.filesystem(emulator), emulator


def test_data_sets_are_found_and_shown(found: Any) -> None:
    """By the words of an abstract, too; what may fit or not is said; nothing is markup."""
    fs, emulator = found
    view = fs.datasets("chloro* set", period="2005")

    assert len(view) == 60
    assert {one.startdate is None for one in view[:30]} == {False}
    assert isinstance(view[:3], type(view))
    assert view[:3].ids == view.ids[:3]
    assert view[0] == next(iter(view))
    html, text = view._repr_html_(), repr(view[:3])
    assert "30 of them may or may not fit" in html
    assert "… 20 more" in html
    assert "<script" not in html
    assert "1998-01-01 to 2010-12-31" in html
    assert text.startswith("3 data sets of 60\n  EO:MO:DAT:SET_1\n")
    assert not {"\x1b", "\u202e"} & {*html, *text}
    assert len(html) < 60_000
    assert len(fs.datasets(["chlorophyll"], family="MO", bbox=(0, 0, 1, 1))) == 60
    assert fs.datasets("nothing of the kind").ids == []
    with pytest.raises(QueryError, match="no data sets of the family"):
        fs.datasets(family="EUM")
    assert emulator.count("GET", "datasets") == 1


def test_the_list_can_be_asked_for_anew(found: Any) -> None:
    """``refresh`` goes around what is kept, which another process finds, too."""
    fs, emulator = found
    fs.datasets()
    HDAFileSystem(**fs.storage_options).datasets()
    assert emulator.count("GET", "datasets") == 1
    fs.datasets(refresh=True)
    assert emulator.count("GET", "datasets") == 2
