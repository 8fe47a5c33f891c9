"""``doctor --probe`` prints what a service does, and writes a recording that can be replayed."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from hda_fsspec.cli import main
from hda_fsspec.emulator import Catalogue, Emulator


@pytest.fixture
def emulator(bench: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Where the environment leads; the working folder is empty."""
    running = bench.start(3, quota=100)
    for name, value in running.environment.items():
        monkeypatch.setenv(name, value)
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    return running


def test_a_table_and_a_recording(
    emulator: Emulator, bench: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """A row for each fact, a new file each time, code 0 where all could be asked."""
    query = "startdate=2024-05-01/enddate=2024-05-02"
    arguments = ["doctor", "--probe", bench.dataset, "--query", query, "--yes"]

    assert [main(arguments), main(arguments)] == [0, 0]

    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0].split()[:1] == ["fact"]
    assert any(line.startswith("Range of the first byte") for line in lines)
    assert emulator.password not in out + err
    assert "count once" in err
    first, second = sorted(Path().iterdir())
    assert str(first) in out
    assert str(second) in out
    assert emulator.orders == 1  # the second time it is a repetition
    assert len(first.read_text().splitlines()) > 20


@pytest.mark.parametrize(("answer", "orders"), [("y\n", 1), ("\n", 0), ("", 0)])
def test_it_asks_before_it_orders(
    answer: str,
    orders: int,
    emulator: Emulator,
    bench: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Only a yes orders; where nobody answers nothing is."""
    read, write = os.pipe()
    os.write(write, answer.encode())
    os.close(write)
    with open(read) as stdin:  # noqa: PTH123 - a descriptor
        monkeypatch.setattr(sys, "stdin", stdin)
        assert main(["doctor", "--probe", f"hda://{bench.dataset}", "--json"]) == 0

    out, err = capsys.readouterr()
    told = json.loads(out)
    assert emulator.orders == orders
    assert "Order it?" in err
    assert Path(told["recording"]).is_file()
    assert ("delivered name" in {fact["fact"] for fact in told["facts"]}) == bool(orders)


def test_what_fails_gives_code_1(
    emulator: Emulator, bench: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """A query that finds nothing is a row, and the code tells."""
    query = "startdate=1999-05-01/enddate=1999-05-02"

    assert main(["doctor", "--probe", bench.dataset, "--query", query, "--yes"]) == 1

    assert "it finds nothing: give another --query" in capsys.readouterr().out
    assert main(["doctor", "--probe", bench.dataset, "--query", "nonsense=1", "--yes"]) == 1
    assert "is no key of this data set" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--yes"])
    assert ended.value.code == 2


def test_the_emulator_replays(emulator: Emulator, bench: Any, tmp_path: Path) -> None:
    """``emulator --replay FILE`` takes no folder beside it, and names another address."""
    recording = tmp_path / "r.jsonl"
    assert main(["doctor", "--probe", bench.dataset, "--yes", "--recording", str(recording)]) == 0
    for words in ([], [str(tmp_path), "--replay", str(recording)]):
        with pytest.raises(SystemExit) as ended:
            main(["emulator", *words])
        assert ended.value.code == 2
    with Emulator(Catalogue(), replay=recording) as one, Emulator(Catalogue()) as none:
        assert one.url.split("/")[3] != none.url.split("/")[3]
