"""A small soak: the benchmark that is run at length before a release, with a few products."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
from checkout import ROOT


@pytest.mark.slow
def test_a_cluster_survives_answers_that_are_spoilt_at_random() -> None:
    """Sixteen products at 10 % faults: right values, one order and one download each, no leak."""
    size = ["--products", "16", "--blocks", "2", "--workers", "2", "--again", "1"]
    arguments = [*size, "--fault-rate", "0.1"]

    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.soak", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "NOT MET" not in done.stdout
    assert done.stdout.count(": met") == 7
    spoilt = re.search(r"(\d+) answers spoilt", done.stdout)
    assert spoilt is not None
    assert int(spoilt[1]) > 4
    assert "one new order for each product (16 of 16)" in done.stdout
