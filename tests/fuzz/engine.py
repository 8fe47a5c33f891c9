"""Runs a target on many inputs, and says what it found."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import random
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType

from .mutate import mutate
from .targets import Broken, Target

LONGEST_SECONDS = 10
MOST_INPUTS = 2000


class TooSlow(BaseException):
    """One input took too long: nothing may catch it on the way."""


@dataclasses.dataclass(frozen=True)
class Finding:
    """An input that breaks a promise, and how."""

    data: bytes
    error: BaseException

    @property
    def where(self) -> tuple[str, str]:
        """What findings of one cause have in common: the promise, or the line that raised."""
        frames = traceback.extract_tb(self.error.__traceback__)
        if isinstance(self.error, Broken) or not frames:
            return type(self.error).__name__, str(self.error)
        return type(self.error).__name__, f"{frames[-1].filename}:{frames[-1].lineno}"

    def save(self, folder: Path, name: str) -> Path:
        """Write the input to a folder, under a name that tells the target."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{name}-{hashlib.sha256(self.data).hexdigest()[:12]}"
        path.write_bytes(self.data)
        return path

    def __str__(self) -> str:
        text = "".join(traceback.format_exception(self.error, limit=-6))
        return f"{self.data[:200]!r}\n{text}"


def probe(run: Callable[[bytes], None], data: bytes) -> Finding | None:
    """Run a target on one input; None if it keeps its promise in time."""
    try:
        with _in_time(LONGEST_SECONDS):
            run(data)
    except KeyboardInterrupt:
        raise
    except BaseException as err:
        return Finding(data, err)
    return None


def fuzz(
    target: Target,
    seeds: Sequence[bytes],
    *,
    seed: int,
    runs: int | None = None,
    seconds: float | None = None,
) -> tuple[int, list[Finding]]:
    """Run a target on mutations of some inputs.

    Parameters
    ----------
    target : Target
        What to run.
    seeds : sequence of bytes
        Good and bad inputs to begin with.
    seed : int
        The same seed gives the same inputs.
    runs, seconds
        When to end: after so many inputs, or so much time.

    Returns
    -------
    int, list of Finding
        How many inputs were run, and one finding for each place that raised.
    """
    chance = random.Random(seed)
    inputs = [*seeds, b"", b"{}", b"[]"]
    found: dict[tuple[str, str], Finding] = {}
    until = None if seconds is None else time.monotonic() + seconds
    done = 0
    while (runs is None or done < runs) and (until is None or time.monotonic() < until):
        data = mutate(chance.choice(inputs), seeds, chance, is_json=target.is_json)
        finding = probe(target.run, data)
        done += 1
        if finding is not None:
            found.setdefault(finding.where, finding)
        elif chance.random() < 0.02 and len(inputs) < MOST_INPUTS:
            inputs.append(data)  # mutations of mutations reach further
    return done, list(found.values())


@contextlib.contextmanager
def _in_time(seconds: int) -> Iterator[None]:
    def ring(_: int, __: FrameType | None) -> None:
        msg = f"one input took more than {seconds} s"
        raise TooSlow(msg)

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def bound_memory(most_bytes: int) -> None:
    """Let what asks for more memory fail with a MemoryError, which is a finding."""
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (most_bytes, most_bytes))
    os.environ["OMP_NUM_THREADS"] = "1"


def tell(finding: Finding, folder: Path, name: str) -> None:
    """Save a finding, and print where it is and what it is."""
    print(f"{finding.save(folder, name)}: {finding}", flush=True)
