"""What comes from outside, random and mutated: typed errors only, soon, and in little memory.

For long: ``python -m tests.fuzz``. Here the inputs of past findings run, and a few mutations.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from checkout import ROOT
from fuzz.engine import fuzz, probe
from fuzz.mutate import mutate
from fuzz.seeds import seeds_of
from fuzz.targets import CORPUS, TARGETS, Target
from ready_processes import run_script
from rows import for_each

_RUNS = 30

_FUZZ = f"""
import os, runpy, sys
os.chdir({str(ROOT)!r})
sys.path.insert(0, {str(ROOT)!r})
try:
    runpy.run_module("tests.fuzz", run_name="__main__")
except SystemExit as ended:
    assert ended.code == 0
"""

each_target = pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS.keys())


@pytest.mark.slow
@for_each("path", sorted(CORPUS.glob("*/*")))
def test_what_was_found_once_stays_mended(path: Path) -> None:
    """Each input of the corpus, past findings among them, is read or refused as promised."""
    finding = probe(TARGETS[path.parent.name].run, path.read_bytes())

    assert finding is None, str(finding)


@pytest.mark.slow
@each_target
def test_mutations_are_read_or_refused(target: Target) -> None:
    """A fixed number of mutations of real inputs bring only the errors that are documented."""
    runs, findings = fuzz(target, seeds_of(target), seed=20240501, runs=_RUNS)

    assert findings == [], "\n".join(map(str, findings))
    assert runs == _RUNS


@for_each("target", TARGETS.values())
def test_every_target_has_good_inputs(target: Target) -> None:
    """Mutations begin with inputs that are read to their end, so that they get far."""
    seeds = seeds_of(target)

    assert len(seeds) >= 4
    assert {path.name for path in CORPUS.iterdir()} == set(TARGETS)
    assert max(map(len, target.corpus()), default=0) <= 20_000


def test_a_broken_promise_is_found() -> None:
    """An error that no reader documents is found, once for each place that raises it."""

    def breaks(data: bytes) -> None:
        if b"\xff" in data:
            raise KeyError(data)
        if not data:
            raise OSError(5, "as a disk would")

    runs, findings = fuzz(Target(breaks), [b"some data"], seed=1, runs=400)

    assert runs == 400
    assert {type(finding.error) for finding in findings} == {KeyError, OSError}
    assert len(findings) == 2
    assert all("breaks" in str(finding) for finding in findings)


@pytest.mark.slow
def test_a_loop_without_end_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """An input that takes too long is a finding, whatever its target catches."""
    monkeypatch.setattr("fuzz.engine.LONGEST_SECONDS", 1)

    def loops(_: bytes) -> None:
        until = time.monotonic() + 20
        while time.monotonic() < until:
            try:
                time.sleep(0.01)
            except Exception as err:
                raise AssertionError from err

    finding = probe(loops, b"x")

    assert finding is not None
    assert "more than 1 s" in str(finding.error)


def test_the_same_seed_gives_the_same_inputs() -> None:
    """A run can be repeated."""
    import random

    first, second = (
        [mutate(b'{"a": [1, 2, {"b": null}]}', [b"xyz"], chance, is_json=True) for _ in range(200)]
        for chance in (random.Random(5), random.Random(5))
    )

    assert first == second
    assert len(set(first)) > 100


@pytest.mark.slow
def test_the_command_runs_and_counts(tmp_path: Path) -> None:
    """``python -m tests.fuzz`` runs a target in a process of its own and says how many inputs."""
    words = ["location", "--engine", "mutation", "--seconds", "0.3"]

    told = run_script(_FUZZ, [*words, "--findings", str(tmp_path / "findings")], folder=tmp_path)

    assert "nothing found" in told
    assert int(told.split()[2].replace(",", "")) > 10
