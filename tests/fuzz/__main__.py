"""``python -m tests.fuzz``: fuzz for long, with atheris where it is installed.

Every target runs in a process of its own, with bounded memory. What is found is written to a
folder; put it into ``tests/fuzz/corpus/<target>/`` when it is mended, and the tests keep it so.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import re
import subprocess
import sys
from pathlib import Path

# What is fuzzed is imported where it is run: here it would only cost time.
NAMES = sorted(path.name for path in (Path(__file__).parent / "corpus").iterdir())
_MOST_MEMORY_BYTES = 2 << 30
_PACKAGE = __package__ or "tests.fuzz"


def main() -> int:
    """Fuzz the targets that are named, and return how many findings there are."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="target", help=", ".join(NAMES))
    parser.add_argument("--seconds", type=float, default=60.0, help="for each target")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--engine", choices=("atheris", "mutation"), default=_best_engine())
    parser.add_argument("--findings", type=Path, default=Path("fuzz-findings"))
    parser.add_argument("--replay", type=Path, help="run the one target on this file, once")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    names = given.targets or NAMES
    for name in names:
        if name not in NAMES:
            parser.error(f"there is no target {name!r}: there are {', '.join(NAMES)}")
    if given.replay is not None:
        return _replay(names[0], given.replay)
    if given.alone:
        return _run(names[0], given)
    return sum(_in_a_process(name, given) for name in names)


def _best_engine() -> str:
    return "atheris" if importlib.util.find_spec("atheris") else "mutation"


def _in_a_process(name: str, given: argparse.Namespace) -> int:
    command = [sys.executable, "-m"]
    if given.engine == "atheris":
        command += [f"{_PACKAGE}.with_atheris", name, str(given.seconds), str(given.seed)]
        command += [str(given.findings), str(_MOST_MEMORY_BYTES)]
    else:
        command += [_PACKAGE, name, "--alone", "--engine", given.engine]
        command += ["--seconds", str(given.seconds), "--seed", str(given.seed)]
        command += ["--findings", str(given.findings)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, errors="replace")
    said = done.stdout + done.stderr
    counted = re.findall(r"(?:Done |executed )(\d+)|^#(\d+)", said, re.MULTILINE)
    runs = max((int(a or b) for a, b in counted), default=0)
    outcome = "nothing found" if done.returncode == 0 else "FOUND:"
    print(f"{name:12}{given.engine:10}{runs:>12,} executions  {outcome}", flush=True)
    if done.returncode:
        lines = [line for line in said.splitlines() if not line.startswith(("#", "INFO:"))]
        print("\n".join(lines)[-6000:], flush=True)
    return int(done.returncode != 0)


def _run(name: str, given: argparse.Namespace) -> int:
    from .engine import bound_memory, fuzz, tell
    from .seeds import seeds_of
    from .targets import TARGETS

    logging.getLogger("hda_fsspec").setLevel(logging.CRITICAL)
    bound_memory(_MOST_MEMORY_BYTES)
    target = TARGETS[name]
    runs, findings = fuzz(target, seeds_of(target), seed=given.seed, seconds=given.seconds)
    print(f"executed {runs}")
    for finding in findings:
        tell(finding, given.findings, name)
    return len(findings)


def _replay(name: str, path: Path) -> int:
    from .engine import probe
    from .targets import TARGETS

    finding = probe(TARGETS[name].run, path.read_bytes())
    print(finding or "nothing found")
    return int(finding is not None)


if __name__ == "__main__":
    sys.exit(main())
