"""A reduction over a query of cached daily products, against open_mfdataset of the same files.

Opening is included. Each time is a fresh process, which has imported everything. "First" has the
products in the cache and nothing else; "again" has been opened before, so that the headers of what
was read are kept. ``open_mfdataset`` is measured as it comes, and told to compare nothing
("tuned"), which is what it can do at best. Results are compared.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path
from typing import Any

from benchmarks._serving import run_alone, serve, verdict

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
SERIES = {
    "DUACS, 91 days": ("cmems/duacs-med-adt-2005q2/daily", "2005-01-01", "2005-12-31", "time"),
    "EAC4, 365 days of 2 steps": (
        "cams/eac4-co-2022/daily",
        "2022-01-01",
        "2022-12-31",
        "valid_time",
    ),
}
ROUNDS = 5

_MEASURE = """\
import contextlib, time
import netCDF4, dask.array, xarray as xr
import hda_fsspec.engine.lazy_imports
from pathlib import Path
with contextlib.suppress(ImportError):
    import distributed  # Dask loads it when it first computes
xr.backends.list_engines()
xr.set_options(use_new_combine_kwarg_defaults=False)
began, worked = time.perf_counter(), time.process_time()
if given["way"].startswith("engine"):
    ds = xr.open_dataset(given["query"], engine="hda", chunks={}, storage_options=given["options"])
else:
    tuned = dict(data_vars="minimal", coords="minimal", compat="override", join="override",
                 combine="nested", concat_dim=given["dim"]) if "tuned" in given["way"] else {}
    ds = xr.open_mfdataset(sorted(Path(given["folder"]).glob("*.nc")), engine="netcdf4", **tuned)
opened = time.perf_counter() - began
result = ds.mean(given["dim"]).compute()
total = time.perf_counter() - began
seconds = time.process_time() - worked
floats = {name: each for name, each in result.data_vars.items() if each.dtype.kind == "f"}
sums = {str(name): float(each.sum()) for name, each in floats.items()}
print(json.dumps([opened, total, seconds, sums]))
"""
WAYS = ("open_mfdataset", "open_mfdataset, tuned", "engine, first", "engine, again")


def series() -> list[Any]:
    """Return a data set for each series."""
    from hda_fsspec.emulator import DatasetEntry, dated_product

    return [
        DatasetEntry(
            _dataset(title),
            [dated_product(p.name, p) for p in sorted((DATA / folder).glob("*.nc"))],
        )
        for title, (folder, *_) in SERIES.items()
    ]


def _dataset(title: str) -> str:
    return f"EO:TEST:DAT:{title.partition(',')[0].upper()}"


def main() -> None:
    """Measure, and print a table of medians; a ratio is to ``open_mfdataset`` as it comes."""
    from hda_fsspec import HDAFileSystem

    if not (DATA / "MANIFEST.tsv").is_file():
        print(f"Not run: the folder of real series {DATA} is absent.")
        return
    rows: dict[tuple[str, str], list[list[Any]]] = {}
    with tempfile.TemporaryDirectory() as scratch, serve("benchmarks.reduction:series") as served:
        for title, (folder, begin, end, dim) in SERIES.items():
            query = f"hda://{_dataset(title)}/startdate={begin}/enddate={end}"
            for turn in range(ROUNDS):
                options = served.options(Path(scratch) / f"{_dataset(title)[-4:]}-{turn}")
                HDAFileSystem(**options).prefetch(query)
                for way in WAYS:
                    given = {
                        "way": way,
                        "dim": dim,
                        "query": query,
                        "folder": str(DATA / folder),
                        "options": options,
                    }
                    rows.setdefault((title, way), []).append(run_alone(_MEASURE, given))
    print(f"mean over time, median of {ROUNDS} rounds, seconds\n")
    print(f"{'':50}{'opening':>9}{'in all':>8}{'faster':>8}{'CPU':>8}{'less':>8}")
    verdicts = []
    for title in SERIES:
        base, base_cpu = (_median(rows[title, WAYS[0]], column) for column in (1, 2))
        for way in WAYS:
            opening, total, cpu = (_median(rows[title, way], column) for column in range(3))
            label = f"{title}: {way}"
            seconds = f"{opening:9.2f}{total:8.2f}{base / total:7.2f}x"
            print(f"{label:50}{seconds}{cpu:8.2f}{base_cpu / cpu:7.2f}x")
            _check(label, rows[title, way][0][3], rows[title, WAYS[0]][0][3])
        for way in WAYS[2:]:
            faster = base / _median(rows[title, way], 1)
            told = f"{title}: {way}: {faster:.2f}x, target 1x (aim 2x)"
            verdicts.append(f"{told}: {verdict(is_met=faster >= 1)}")
    print("", *verdicts, sep="\n")


def _median(rows: list[list[Any]], column: int) -> float:
    return float(statistics.median(row[column] for row in rows))


def _check(label: str, found: dict[str, float], expected: dict[str, float]) -> None:
    import numpy as np

    if found.keys() != expected.keys() or not np.allclose(
        list(found.values()), [expected[name] for name in found], rtol=1e-6
    ):
        msg = f"{label} computes something else: {found}, not {expected}."
        raise RuntimeError(msg)


if __name__ == "__main__":
    main()
