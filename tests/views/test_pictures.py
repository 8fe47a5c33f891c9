"""The bar of time and the map: what is counted where, and which part of the world is drawn."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree as ET

import pytest
from rows import for_each

from hda_fsspec.views.outlines import outlines_of
from hda_fsspec.views.timebar import Interval, draw_times
from hda_fsspec.views.worldmap import Drawn, draw_map, place_of

FIRST = datetime(2024, 5, 1, tzinfo=UTC)
DAY = timedelta(days=1)
MOMENT = timedelta(minutes=3)
STATES = ("hda-missing", "hda-cached")


def _most(intervals: list[Interval]) -> int:
    """Return the number at the top of a bar of time."""
    picture = ET.fromstring(draw_times(intervals, STATES))
    texts = [element.text or "" for element in picture.iter("text")]
    assert texts[0] == "products"
    return int(texts[3])


@for_each(("days", "most"), [(1, 1), (2, 1), (7, 1), (31, 1), (365, 10)])
def test_each_part_of_a_period_counts_what_is_in_it(days: int, most: int) -> None:
    """One product after the other is one at a time, and of a year ten in ten days."""
    daily = [(FIRST + n * DAY, FIRST + (n + 1) * DAY, STATES[n % 2]) for n in range(days)]

    assert _most(daily) == most
    assert _most([*daily, *daily]) == 2 * most


def test_short_products_are_counted_where_they_are() -> None:
    """A pass a day of two satellites is two a day, all along."""
    passes = [
        (FIRST + n * DAY + hour, FIRST + n * DAY + hour + MOMENT, STATES[0])
        for n in range(31)
        for hour in (timedelta(hours=9), timedelta(hours=23, minutes=58))
    ]
    picture = draw_times(passes, STATES)

    assert _most(passes) == 2
    [path] = re.findall(r'class="hda-bar hda-missing" d="([^"]*)"', picture)
    assert path.count("M") == 1  # one bar from end to end


def test_one_moment_and_ages_can_be_drawn() -> None:
    """A single instant, and all that a date may be."""
    ages = (datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, tzinfo=UTC), STATES[1])

    assert _most([(FIRST, FIRST, STATES[0])]) == 1
    assert _most([ages]) == 1


def _drawn(*boxes: str, state: str = STATES[0]) -> list[Drawn]:
    return [Drawn(outlines_of(None, box), state, f"<{box}>") for box in boxes]


@for_each(
    ("boxes", "place"),
    [
        (["-5,40,5,50"], "12°W to 12°E, 39°N to 51°N"),
        (["175,-5,178,0", "-178,-5,-175,0"], "168°E to 168°W, 8.5°S to 3.5°N"),
        (["175,-5,-175,5"], "168°E to 168°W, 6°S to 6°N"),
        (["-180,-90,180,90"], "the whole Earth"),
        (["0,0,1,1", "120,0,121,1", "-120,0,-119,1"], "the whole Earth"),
        (["0,85,1,90"], "11.5°W to 12.5°E, 78°N to 90°N"),
    ],
)
def test_the_map_shows_where_the_footprints_are(boxes: list[str], place: str) -> None:
    """With land around them, over the date line, too; what lies all around is on a world map."""
    assert place_of(_drawn(*boxes)) == place


def test_what_crosses_an_edge_of_the_map_is_drawn_at_both() -> None:
    """On a map of the world a box over the date line has two ends."""
    world = _drawn("-180,-90,180,90", "175,0,-175,10", state=STATES[1])
    picture, count = draw_map(world, STATES)
    shapes = {path.findtext("title"): path.get("d") for path in ET.fromstring(picture).iter("path")}

    assert count == 2
    crossing = shapes["<175,0,-175,10>"] or ""
    assert [int(x) for x in re.findall(r"M(-?\d+)", crossing)] == [-1850, 1750]


@pytest.mark.slow
def test_many_footprints_are_drawn_in_part() -> None:
    """Evenly chosen, and it is told how many; equal ones are drawn once."""
    many = _drawn(
        *(f"{n % 340 - 170},{n % 80 - 40},{n % 340 - 169},{n % 80}" for n in range(20_000))
    )
    picture, count = draw_map(many, STATES)
    assert 1_000 < count < 20_000
    assert len(picture) < 220_000

    outlines = outlines_of(None, "0,0,1,1")
    picture, count = draw_map([Drawn(outlines, STATES[0], "a")] * 20_000, STATES)
    assert count == 20_000
    assert len(picture) < 60_000


def test_an_outline_that_would_fill_the_picture_is_left_out() -> None:
    """One that goes around the Earth many times is shown as often, which is bounded."""
    spiral = [[(i * 179) % 360 - 180, 10 + i % 7] for i in range(63)]
    told = json.dumps({"type": "MultiPolygon", "coordinates": [[[*spiral, spiral[0]]]] * 32})
    plain = Drawn(outlines_of(None, "0,0,1,1"), STATES[0], "a")
    picture, count = draw_map([Drawn(outlines_of(told, None), STATES[0], "b"), plain], STATES)
    assert count == 1
    assert len(picture) < 100_000


def test_labels_are_text() -> None:
    """A label is the title of its outline, and no markup."""
    picture, _ = draw_map([Drawn(outlines_of(None, "0,0,1,1"), STATES[0], "<x>&")], STATES)

    assert "<title>&lt;x&gt;&amp;</title>" in picture
