"""The benchmarks can be run: each has what ``python -m benchmarks`` calls."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path

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


@pytest.mark.slow
@pytest.mark.parametrize("client", ["hda", "hda_fsspec"])
def test_both_clients_get_what_is_compared(
    client: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each of them finds all products of an emulator in another process, and downloads them."""
    monkeypatch.syspath_prepend(ROOT)
    monkeypatch.chdir(ROOT)  # where the processes find what they run
    pytest.importorskip("hda", reason="the official client is not installed")
    serving, stage, faults = (
        importlib.import_module(f"benchmarks.{name}")
        for name in ("_serving", "_stage", "under_faults")
    )
    source, folder = tmp_path / "source", tmp_path / "client"
    faults.make_products(source, 2, 4_000)
    folder.mkdir()

    with serving.serve("benchmarks._stage:products_in", str(source)) as served:
        here = stage.Stage(served, client, folder, source)
        run = here.start().wait(60)

        assert (run.raised, run.logged) == (None, [])
        assert served.count().whole_files == 2
        assert here.files() == "2 complete"


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
