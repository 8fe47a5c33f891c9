"""The tests against a real service work, and say what is otherwise: here it is the emulator."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from checkout import ROOT
from ready_processes import run_script

_TESTS = f"""
import os, pytest
os.chdir({str(ROOT)!r})
pytest.main(["-n", "0", "-q", "-p", "no:cacheprovider", "tests/live"])
"""


@pytest.mark.slow
def test_they_pass_where_all_is_as_expected(bench: Any, tmp_path: Path) -> None:
    """With an address, an account and a query they run, and fail for what is otherwise."""
    emulator = bench.start(2, quota=99)
    recording = tmp_path / "live.jsonl"
    query = "startdate=2024-05-01/enddate=2024-05-01"
    environment = {
        **os.environ,
        **emulator.environment,
        "HDA_LIVE": f"{bench.dataset}/{query}",
        "HDA_LIVE_RECORDING": str(recording),
    }

    told = run_script(_TESTS, folder=tmp_path, environment=environment)

    assert "1 failed, 3 passed" in told, told
    assert "limit 99" in told
    assert emulator.orders == 1
    assert emulator.password not in recording.read_text()
