"""The benchmarks can be run: each has what ``python -m benchmarks`` calls."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import subprocess
import sys

import pytest
from checkout import ROOT

NAMES = sorted(
    module.name
    for module in pkgutil.iter_modules([str(ROOT / "benchmarks")])
    if not module.name.startswith("__")
)


@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_has_a_main(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each module imports, says what it measures, and a public one has a main for no arguments."""
    monkeypatch.syspath_prepend(ROOT)
    pytest.importorskip("hda", reason="the official client is not installed")

    module = importlib.import_module(f"benchmarks.{name}")

    assert module.__doc__
    if not name.startswith("_"):
        assert inspect.signature(module.main).bind().args == ()
        assert module.main.__doc__


def test_an_unknown_benchmark_is_refused() -> None:
    """A name that is none is answered with those that there are."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "nonesuch"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.returncode == 1
    assert all(name in done.stderr for name in NAMES if not name.startswith("_"))
