"""Which data sets fit words, a period, a box and a family, and which of them come first."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pytest
from rows import for_each

from hda_fsspec.catalogue.dataset_search import Wanted, find_datasets, tells_all
from hda_fsspec.errors import QueryError
from hda_fsspec.records import Dataset

TITLES = {
    "EO:MO:DAT:SST_GLO": "Global Ocean Sea Surface Temperature",
    "EO:MO:DAT:CHL_MED": "Mediterranean Sea, Bio-Geo-Chemical, Chlorophyll-a",
    "EO:EUM:DAT:SENTINEL-3:OL_2_WFR___": "OLCI Level 2 Ocean Colour Full Resolution",
    "EO:EUM:DAT:SENTINEL-3:SL_2_WST___": "SLSTR Level 2 Sea Surface Temperature (SST)",
    "EO:MO:DAT:SEAICE": "Arctic Ocean Sea Ice Concentration",
    "EO:X:DAT:UNTITLED": "",
}
#: What a data set is also told to hold, far down in its abstract.
ABSTRACTS = {"EO:EUM:DAT:SENTINEL-3:OL_2_WFR___": "Chlorophyll and suspended matter."}


def _named(names: list[Dataset]) -> list[str]:
    return [one.dataset_id.rpartition(":")[2] for one in names]


def _find(*words: str) -> list[str]:
    every = [Dataset(name, title=t, abstract=ABSTRACTS.get(name, "")) for name, t in TITLES.items()]
    return _named(find_datasets(every, Wanted.read(words)))


@for_each(
    ("words", "found"),
    [
        ([], ["SST_GLO", "CHL_MED", "OL_2_WFR___", "SL_2_WST___", "SEAICE", "UNTITLED"]),
        (["sea", "ice", "concentration"], ["SEAICE"]),
        (["SEA ICE"], ["SEAICE"]),
        (["chlorophyll", "med*"], ["CHL_MED"]),
        (["chloro*"], ["CHL_MED", "OL_2_WFR___"]),  # in the title, then in an abstract alone
        (["chloro"], ["CHL_MED", "OL_2_WFR___"]),
        (["suspended", "olci"], ["OL_2_WFR___"]),
        (["sst"], ["SL_2_WST___", "SST_GLO"]),  # in the title, then in the id alone
        (["temperature", "global"], ["SST_GLO"]),
        (["sentinel-3", "colour"], ["OL_2_WFR___"]),
        (["untit?ed"], ["UNTITLED"]),
        (["EO:MO:*"], ["SST_GLO", "CHL_MED", "SEAICE"]),
        (["[x"], []),
        (["sea", "nowhere"], []),
    ],
)
def test_words_find_data_sets(words: list[str], found: list[str]) -> None:
    """All words must be there; whole words come first, then titles, ids, and abstracts last."""
    assert _find(*words) == found


def test_a_whole_word_comes_before_a_part() -> None:
    """Titles that have the word come before those that have it within another."""
    every = [
        Dataset("A", title="seabed"),
        Dataset("B", title="the sea"),
        Dataset("C", title="sub-seas"),
    ]

    assert _named(find_datasets(every, Wanted.read("sea"))) == ["B", "A", "C"]


DATED = [
    Dataset("EO:A:OLD", startdate="1990-01-01T00:00:00.000Z", enddate="1999-12-31T23:59:59.999Z"),
    Dataset("EO:A:OPEN", startdate="2000-01-01T00:00:00.000Z"),
    Dataset("EO:B:UNTOLD"),
    Dataset("EO:B:NEW", startdate="2020-01-01T00:00:00.000Z", enddate="2021-06-30T23:59:59.999Z"),
]


@for_each(
    ("period", "found"),
    [
        ("1995", ["OLD", "UNTOLD"]),
        ("1999-12", ["OLD", "UNTOLD"]),
        ("2021/..", ["NEW", "OPEN", "UNTOLD"]),
        ("../1999", ["OLD", "UNTOLD"]),
        ("1999-12-31/2000-01-01", ["OLD", "OPEN", "UNTOLD"]),
        ((None, "1980"), ["UNTOLD"]),
        ((date(2020, 5, 1), datetime(2020, 5, 2, tzinfo=UTC)), ["NEW", "OPEN", "UNTOLD"]),
        (np.array(["2020-05", "2020-06"], "M8[M]"), ["NEW", "OPEN", "UNTOLD"]),
        (np.datetime64("2021-06-30"), ["NEW", "OPEN", "UNTOLD"]),
    ],
)
def test_a_period_is_overlapped(period: Any, found: list[str]) -> None:
    """A data set fits that covers some of it; what does not tell may fit, and stands behind."""
    wanted = Wanted.read(period=period)
    datasets = find_datasets(DATED, wanted)

    told = [one for one in datasets if tells_all(one, wanted)]
    assert sorted(_named(datasets)) == sorted(found)
    assert datasets[: len(told)] == told


@for_each(
    ("box", "fits"),
    [
        ("175,-10,-175,10", ["FIJI", "WORLD"]),  # over the date line, both
        ([170, -20, 179, -15], ["FIJI", "WORLD"]),
        ((-179.5, -20, -179, -15), ["FIJI", "WORLD"]),
        ((1, 40, 10, 50), ["WORLD"]),
        ((350, 40, 352, 50), ["BISCAY", "WORLD"]),  # longitudes to 360 are meant, too
        ("-9,44,-8,45", ["BISCAY", "WORLD"]),
        ((-180, -90, 180, 90), ["BISCAY", "FIJI", "WORLD"]),
        ("0,-80,10,-70", ["WORLD"]),
    ],
)
def test_a_box_is_overlapped(box: Any, fits: list[str]) -> None:
    """Boxes over the date line and either way to count longitudes are understood."""
    every = [
        Dataset("EO:A:BISCAY", bbox="-10,40,0,50"),
        Dataset("EO:A:FIJI", bbox="170,-25,-170,-5"),
        Dataset("EO:A:WORLD", bbox="-180,-90,180,90"),
        Dataset("EO:A:ODD", bbox="0,95,1,99"),
    ]

    assert _named(find_datasets(every, Wanted.read(bbox=box))) == [*fits, "ODD"]


@for_each(
    ("family", "found"),
    [
        ("MO", ["SST_GLO", "CHL_MED", "SEAICE"]),
        ("eo:mo", ["SST_GLO", "CHL_MED", "SEAICE"]),
        ("EO:EUM:DAT:SENTINEL-3:*", ["OL_2_WFR___", "SL_2_WST___"]),
        ("EUM:DAT", ["OL_2_WFR___", "SL_2_WST___"]),
    ],
)
def test_a_family_is_the_beginning_of_ids(family: str, found: list[str]) -> None:
    """In any case, with or without EO, as deep as it is given."""
    every = [Dataset(name) for name in TITLES]

    assert _named(find_datasets(every, Wanted.read(family=family))) == found


@for_each(
    ("given", "says"),
    [
        ({"family": "EUMETSAT"}, "The families are 'EO:EUM', 'EO:MO', 'EO:X'"),
        ({"family": 5}, "it is a text"),
        ({"period": "last week"}, "is not a date or time"),
        ({"period": "2024/2023"}, "ends before it starts"),
        ({"period": ("2020", "2021", "2022")}, "two ends, not 3"),
        ({"period": object()}, "give text, a number, a date"),
        ({"bbox": "1,2,3"}, "four numbers, not 3"),
        ({"bbox": (1, 50, 2, 40)}, "lies north of north"),
        ({"bbox": 5}, "four numbers, not 1"),
        ({"bbox": [float("nan"), 1, 2, 3]}, "Cannot use nan"),
    ],
)
def test_what_cannot_be_meant_is_said(given: dict[str, Any], says: str) -> None:
    """An unknown family, and what is no period or box, are errors and not an empty answer."""
    every = [Dataset(name) for name in TITLES]

    with pytest.raises(QueryError, match=says) as caught:
        find_datasets(every, Wanted.read(**given))
    assert caught.value.key in given


def test_a_record_tells_period_and_box() -> None:
    """They are read as the catalogue has them; what it does not tell is None."""
    source = {
        "tempextent_begin": "1998",
        "tempextent_end": "2023-02",
        "abstract": "What it is",
        "location": {"coordinates": [[170, -5], [-170, -25]]},
    }
    told = Dataset.from_json({"dataset_id": "EO:A", "metadata": {"_source": source}})
    flat = Dataset.from_json({"dataset_id": "EO:A", **source})
    assert (flat.startdate, flat.bbox, flat.abstract) == (told.startdate, told.bbox, told.abstract)
    odd = {"tempextent_begin": "2023-02-31", "tempextent_end": "Not Available", "location": [1]}

    assert told.startdate == "1998-01-01T00:00:00.000Z"
    assert told.enddate == "2023-02-28T23:59:59.999Z"
    assert told.bbox == "170,-25,-170,-5"
    assert told.abstract == "What it is"
    unread = Dataset.from_json({"dataset_id": "EO:A", "metadata": {"_source": odd}})
    assert (unread.startdate, unread.enddate, unread.bbox) == (None, None, None)
