"""Finding from the command line: data sets by words, and paths of what WEkEO's page shows."""

from __future__ import annotations

import ast
import io
import json
from pathlib import Path
from typing import Any

import pytest

from hda_fsspec.cli import main
from hda_fsspec.emulator import Catalogue, DatasetEntry, Emulator

DATASETS = {
    "EO:MO:DAT:SST_GLO": "Global Ocean Sea Surface Temperature",
    "EO:MO:DAT:CHL_MED": "Mediterranean Sea, Bio-Geo-Chemical, Chlorophyll-a",
    "EO:EUM:DAT:SENTINEL-3:OL_2_WFR___": "OLCI Level 2 Ocean Colour Full Resolution",
    "EO:EUM:DAT:SENTINEL-3:SL_2_WST___": "SLSTR Level 2 Sea Surface Temperature (SST)",
    "EO:MO:DAT:SEAICE": "Arctic Ocean Sea Ice Concentration",
    "EO:X:DAT:UNTITLED": "",
}
V2 = {
    "dataset_id": "EO:EUM:DAT:SENTINEL-3:OL_2_WFR___",
    "bbox": [-6.0, 43, -1, 46],
    "startdate": "2024-05-01T00:00:00.000Z",
    "enddate": "2024-05-02",
    "type": "OL_2_WFR___",
    "sat": "",
    "itemsPerPage": 200,
    "startIndex": 0,
}
PATH = (
    "hda://EO:EUM:DAT:SENTINEL-3:OL_2_WFR___/bbox=-6,43,-1,46/enddate=2024-05-02/"
    "startdate=2024-05-01T00:00:00.000Z/type=OL_2_WFR___"
)
V1: dict[str, Any] = {
    "datasetId": "EO:TEST:DAT:X",
    "boundingBoxValues": [{"name": "bbox", "bbox": [-6.0, 43, -1, 46]}],
    "dateRangeSelectValues": [{"name": "time", "start": "2024-05-01", "end": "2024-05-02"}],
    "stringChoiceValues": [{"name": "type", "value": "a b"}],
    "multiStringSelectValues": [{"name": "var", "value": ["u", "v"]}],
}


@pytest.fixture
def emulator(bench: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Serve the data sets, where the environment leads."""
    entries = [DatasetEntry(name, [], title=title) for name, title in DATASETS.items()]
    with Emulator(Catalogue(entries)) as emulator:
        for name, value in emulator.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("HDA_CACHE_DIR", str(bench.cache_dir))
        yield emulator


def test_datasets_are_listed_and_kept(emulator: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """A table of ids and titles; the list is asked for once, and is then there offline, too."""
    assert main(["datasets", "sea", "surface"]) == 0
    lines = capsys.readouterr().out.splitlines()
    asked = len(emulator.log)
    assert main(["--offline", "datasets", "--json", "ice"]) == 0
    found = json.loads(capsys.readouterr().out)

    assert [line.split(maxsplit=1) for line in lines] == [
        ["DATA", "SET                           TITLE"],
        ["EO:EUM:DAT:SENTINEL-3:SL_2_WST___", "SLSTR Level 2 Sea Surface Temperature (SST)"],
        ["EO:MO:DAT:SST_GLO", "Global Ocean Sea Surface Temperature"],
    ]
    assert [(one["dataset_id"], one["title"]) for one in found] == [
        ("EO:MO:DAT:SEAICE", DATASETS["EO:MO:DAT:SEAICE"])
    ]
    assert {"abstract", "startdate", "enddate", "bbox", "terms"} <= found[0].keys()
    assert len(emulator.log) == asked
    assert emulator.orders == 0


def test_words_that_find_nothing(emulator: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """It is said how many were looked at and what to do; JSON is an empty list."""
    assert main(["datasets", "sea", "nowhere"]) == 1
    out, err = capsys.readouterr()
    assert main(["datasets", "--json", "nowhere"]) == 0

    assert out == ""
    assert err.startswith("hda-fsspec: error: None of the 6 data sets has all of 'sea nowhere'")
    assert json.loads(capsys.readouterr().out) == []


def test_data_sets_of_a_period_box_and_family(
    emulator: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """Options stand for the filters; what the list does not tell is said on standard error."""
    assert main(["datasets", "--period", "2020/..", "--bbox=0,0,1,1", "--family", "mo"]) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 4
    assert err.startswith("hda-fsspec: 3 of them may or may not fit")

    assert main(["datasets", "sea", "nowhere", "--family", "MO"]) == 1
    assert "Leave a word out, or --family" in capsys.readouterr().err
    assert main(["datasets", "--family", "NASA"]) == 1
    assert "The families are 'EO:EUM', 'EO:MO', 'EO:X'" in capsys.readouterr().err
    assert main(["datasets", "--period", "soon"]) == 1
    assert "is not a date or time" in capsys.readouterr().err


def test_info_of_a_data_set_is_what_it_can_be_asked(
    bench: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All keys, and a path to start from that the shell and ``ls`` take."""
    choices = [f"choice_{n}" for n in range(40)]
    emulator = bench.start(3, entry={"parameters": {"type": choices}, "title": "Sea"})
    for name, value in emulator.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HDA_CACHE_DIR", str(bench.cache_dir))

    assert main(["info", f"hda://{bench.dataset}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"dataset_id: {bench.dataset}"
    assert "title: Sea" in lines
    [row] = [line for line in lines if line.startswith("type ")]
    assert "one of 40" in row
    assert "32 more" in row
    assert f"All choices of a key: hda-fsspec info hda://{bench.dataset} type" in lines
    path = lines[lines.index("Start from:") + 1]

    assert main(["ls", path]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert main(["info", "--json", f"hda://{bench.dataset}"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["path"] == path
    assert told["keys"][-1]["choices"] == choices
    assert told["type"] == "directory"
    assert emulator.orders == 0


@pytest.mark.parametrize("words", [["hda://{}", "type"], ["hda://{}/type"], ["{}", "type"]])
def test_all_choices_of_one_key(
    words: list[str],
    bench: Any,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """``info DATASET KEY``, or the key in the place of a product, lists all that it takes."""
    choices = [f"choice_{n}" for n in range(40)]
    emulator = bench.start(1, entry={"parameters": {"type": choices}})
    for name, value in emulator.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HDA_CACHE_DIR", str(bench.cache_dir))
    given = [word.format(bench.dataset) for word in words]

    assert main(["info", *given]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert main(["info", "--json", *given]) == 0
    told = json.loads(capsys.readouterr().out)

    assert lines[0] == "key: type"
    assert lines[1].startswith("takes: ")
    assert [line.strip() for line in lines[lines.index("choices:") + 1 :]] == choices
    assert (told["key"], told["choices"]) == ("type", choices)
    assert emulator.orders == 0


def test_a_key_that_is_none(
    bench: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is an error that names the nearest key and all of them."""
    emulator = bench.start(1, entry={"parameters": {"type": ["a", "b"]}})
    for name, value in emulator.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HDA_CACHE_DIR", str(bench.cache_dir))

    assert main(["info", f"hda://{bench.dataset}", "typ"]) == 1
    err = capsys.readouterr().err
    assert "'typ' is no key of" in err
    assert "Did you mean 'type'?" in err
    assert "It has: startdate, enddate, bbox, type." in err


def test_a_path_of_a_request(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The path is canonical; paging and what is empty is no part of it. Nobody is asked."""
    file = tmp_path / "request.json"
    file.write_text(json.dumps(V2), encoding="utf-8-sig")

    assert main(["path", str(file)]) == 0
    assert capsys.readouterr() == (f"{PATH}\n", "")
    assert main(["path", "--json", str(file)]) == 0
    assert json.loads(capsys.readouterr().out) == {"path": PATH}
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["request.json"]


def test_a_path_of_standard_input(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was copied comes through a pipe as well, in the form of before, too."""
    monkeypatch.setattr("sys.stdin", io.StringIO(f"\n {json.dumps(V1)}\n"))

    assert main(["path", "-"]) == 0

    assert capsys.readouterr().out == (
        "hda://EO:TEST:DAT:X/bbox=-6,43,-1,46/enddate=2024-05-02/startdate=2024-05-01/"
        "type=a%20b/var=u,v\n"
    )


@pytest.mark.parametrize(
    "value", ["plain", 'a"+__import__("os")+"', "\\", "海", "a\nb", "{x}", "'"]
)
def test_code_to_paste_opens_that_path(
    value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """``--code`` prints Python that opens the path, whatever a value holds, and nothing else."""
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps({"dataset_id": "EO:X", "k": value})))

    assert main(["path", "--code", "-"]) == 0

    path, empty, *code = capsys.readouterr().out.splitlines()
    assert empty == ""
    tree = ast.parse("\n".join(code))
    [text] = [node.value for node in ast.walk(tree) if isinstance(node, ast.Assign)][:1]
    assert ast.literal_eval(text) == path
    assert [type(node).__name__ for node in tree.body] == ["Import", "Assign", "Assign"]
    assert 'engine="hda"' in code[-1]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "it is not one JSON object"),
        ("[1, 2]", "it is not one JSON object"),
        ("hda://EO:X", "it is not one JSON object"),
        ("{", "it is not JSON"),
        ('{"a": 1}', "it has no 'dataset_id'"),
        (json.dumps({**V2, "filter": {"cloud": 1}}), "value of 'filter'"),
        (json.dumps({**V2, "n": float("nan")}), "value of 'n'"),
        (json.dumps({**V1, "rangeValues": [{"name": "x"}]}), "Cannot translate rangeValues"),
        (json.dumps({**V1, "boundingBoxValues": V1["boundingBoxValues"] * 2}), "has 2 bounding"),
        ("{" * 100_000, "it is not JSON"),
    ],
    ids=range(10),
)
def test_what_cannot_be_translated_is_said(
    text: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No path that asks for something else: one message, and exit code 1."""
    file = tmp_path / "request.json"
    file.write_text(text)

    assert main(["path", str(file)]) == 1

    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("hda-fsspec: error: Cannot ")
    assert says in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("what", ["nowhere.json", ".", "latin.json"])
def test_a_request_that_is_no_text(
    what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file that is not there, a folder and another encoding are told as such."""
    (tmp_path / "latin.json").write_bytes(b'{"dataset_id": "\xe9"}')

    assert main(["path", str(tmp_path / what)]) == 1

    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("hda-fsspec: error: ")
    assert str(tmp_path) in err
