"""What ``import hda_fsspec`` takes, against ``import fsspec``: fresh processes, by turns."""

from __future__ import annotations

import statistics

from benchmarks._serving import run_alone, verdict

ROUNDS = 31
MAX_RATIO = 1.3
_MEASURE = """\
import importlib, time
began = time.perf_counter()
importlib.import_module(given)
print(json.dumps(time.perf_counter() - began))
"""


def main() -> None:
    """Measure, and print a table of medians."""
    names = ("fsspec", "hda_fsspec")
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(ROUNDS):
        for name in names:
            seconds[name].append(run_alone(_MEASURE, name))
    print(f"medians of {ROUNDS} fresh processes each\n")
    print(f"{'':16}{'ms':>8}{'ratio':>8}{'target':>8}")
    base = statistics.median(seconds["fsspec"])
    for name in names:
        median = statistics.median(seconds[name])
        line = f"{name:16}{median * 1000:8.1f}{median / base:7.2f}x"
        if name != "fsspec":
            line += f"{MAX_RATIO:7.1f}x  {verdict(is_met=median / base < MAX_RATIO)}"
        print(line)


if __name__ == "__main__":
    main()
