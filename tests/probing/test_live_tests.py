"""The tests against a real service work, and say what is otherwise: here it is the emulator."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from checkout import ROOT


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

    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "0", "-q", "-p", "no:cacheprovider", "tests/live"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )

    assert "1 failed, 3 passed" in ended.stdout, ended.stdout
    assert "limit 99" in ended.stdout
    assert emulator.orders == 1
    assert emulator.password not in recording.read_text()
