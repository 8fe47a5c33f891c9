"""Listing 10,000 products at a latency of 50 ms: ``fs.ls`` against the official ``hda`` client.

Every answer of the emulator, in a process of its own, comes 50 ms late, as over a long line. Each
line is a fresh process; login and everything else that a listing needs is part of its time, import
is told apart. The second listing of this package finds the first one on disk.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import _official
from benchmarks._serving import run_alone, serve, verdict
from benchmarks.open_query import PRODUCTS, QUERY

LATENCY_SECONDS = 0.05
ROUNDS = 5
MIN_RATIO = 3.0
MAX_KEPT_SECONDS = 0.3
OURS, KEPT, THEIRS = "ls, empty cache", "ls, listing on disk", "hda, search"
_WHAT = {OURS: "ours, asking", KEPT: "ours, kept", THEIRS: "hda"}

_MEASURE = """\
import time
began = time.perf_counter()
if given["what"] == "hda":
    import logging, warnings
    import hda
    logging.getLogger("hda").setLevel(logging.CRITICAL)
    imported = time.perf_counter()
    client = hda.Client(hda.Configuration(**given["account"], path="/nonexistent"), progress=False)
    found = len(client.search(given["request"]))
else:
    import fsspec, hda_fsspec.fs.filesystem, hda_fsspec.client
    if given["what"] == "ours, asking":
        import hda_fsspec.network.session  # which the first request would load
    imported = time.perf_counter()
    fs = fsspec.filesystem("hda", **given["options"])
    found = len(fs.ls(given["query"], detail=True))
ended = time.perf_counter()
print(json.dumps([found, ended - imported, imported - began]))
"""


def measure(scratch: Path) -> dict[str, tuple[float, float]]:
    """Return the median seconds of each way, and those of its import."""
    request = {
        "dataset_id": QUERY.split("/")[2],
        "startdate": "1900-01-01T00:00:00.000Z",
        "enddate": "2179-12-31T23:59:59.999Z",
    }
    seen: dict[str, list[tuple[float, float]]] = {}
    make = "benchmarks.open_query:many_products"
    with serve(make, str(scratch), options={"latency_seconds": LATENCY_SECONDS}) as served:
        for number in range(ROUNDS):
            options = served.options(scratch / f"cache-{number}")
            for name in (OURS, KEPT, THEIRS):
                given: dict[str, Any] = {
                    "what": _WHAT[name],
                    "options": options,
                    "account": served.account,
                    "query": QUERY,
                    "request": request,
                }
                found, seconds, importing = run_alone(_MEASURE, given)
                if found != PRODUCTS:
                    msg = f"{name} found {found} products of {PRODUCTS}."
                    raise RuntimeError(msg)
                seen.setdefault(name, []).append((seconds, importing))
    return {
        name: (statistics.median(s for s, _ in each), statistics.median(i for _, i in each))
        for name, each in seen.items()
    }


def main() -> None:
    """Measure, and print a table of medians; a ratio is to the official client."""
    with tempfile.TemporaryDirectory() as scratch:
        seconds = measure(Path(scratch))
    print(
        f"{PRODUCTS} products, latency {LATENCY_SECONDS * 1000:.0f} ms, hda "
        f"{_official.version()}, median of {ROUNDS} rounds\n"
    )
    print(f"{'':24}{'seconds':>9}{'import, s':>11}{'ratio':>8}{'target':>9}")
    base = seconds[THEIRS][0]
    for name, (median, importing) in seconds.items():
        line = f"{name:24}{median:9.3f}{importing:11.3f}{base / median:7.1f}x"
        if name == OURS:
            line += f"{MIN_RATIO:8.0f}x  {verdict(is_met=base / median >= MIN_RATIO)}"
        if name == KEPT:
            line += f"{MAX_KEPT_SECONDS:7.1f} s  {verdict(is_met=median < MAX_KEPT_SECONDS)}"
        print(line)


if __name__ == "__main__":
    main()
