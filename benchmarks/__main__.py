"""Run all benchmarks, or those named: ``python -m benchmarks [NAME …]``."""

from __future__ import annotations

import importlib
import pkgutil
import sys

import benchmarks


def main(wanted: list[str]) -> None:
    """Run the benchmarks of these names, all if there are none."""
    names = [module.name for module in pkgutil.iter_modules(benchmarks.__path__)]
    names = [name for name in names if not name.startswith("_")]
    unknown = sorted(set(wanted) - set(names))
    if unknown:
        sys.exit(f"There is no benchmark {unknown[0]!r}: choose of {', '.join(names)}.")
    for name in wanted or names:
        print(f"## {name}\n")
        importlib.import_module(f"benchmarks.{name}").main()
        print()


if __name__ == "__main__":
    main(sys.argv[1:])
