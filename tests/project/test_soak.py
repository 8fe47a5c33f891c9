"""A small soak: the benchmark that is run at length before a release, with a few products."""

from __future__ import annotations

import importlib
import re

import pytest
from checkout import ROOT
from clusters import forked_workers


@pytest.mark.slow
def test_a_cluster_survives_answers_that_are_spoilt_at_random(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Sixteen products at 10 % faults: right values, one order and one download each, no leak."""
    size = ["--products", "16", "--blocks", "2", "--workers", "2", "--again", "1"]
    monkeypatch.syspath_prepend(ROOT)
    monkeypatch.chdir(ROOT)  # where the emulator, in its process, finds what it serves
    soak = importlib.import_module("benchmarks.soak")

    with forked_workers():
        soak.main([*size, "--fault-rate", "0.1"])  # which ends with an error if one is not met

    told = capsys.readouterr().out
    assert "NOT MET" not in told
    assert told.count(": met") == 7
    spoilt = re.search(r"(\d+) answers spoilt", told)
    assert spoilt is not None
    assert int(spoilt[1]) > 4
    assert "one new order for each product (16 of 16)" in told
