"""One file of up to 1 GiB: rate and memory of ``fs.prefetch`` against ``curl`` and ``hda``.

The emulator, in a process of its own, sends a sparse netCDF-4 file from the page cache with
sendfile, so that clients and disk are what is measured. Each download is a fresh process that
writes to the same disk. ``curl`` gets the same URL with a token and writes a plain file; this
package also orders, checks and publishes the file, and has it on the disk (fsync) when it says so,
so ``curl`` followed by ``sync`` is shown as well. Memory is the peak resident set of the process,
imports included.
"""

from __future__ import annotations

import dataclasses
import math
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests

from benchmarks import _official
from benchmarks._serving import Served, run_alone, serve, verdict

DATASET = "EO:TEST:DAT:LARGE"
MEGABYTES = (64, 256, 1024)
ROUNDS = 7
ROUNDS_OF_HDA = 1
MAX_PEAK_MEGABYTES = 150
#: How much more memory the largest file may need than the smallest.
MAX_GROWTH_MEGABYTES = 10
OURS, CURL, CURL_SYNC, HDA = "prefetch", "curl", "curl, then sync", "hda"
#: The smallest ratios of rates.
TARGETS = {CURL: 0.8, CURL_SYNC: 0.8, HDA: 1.0}

_PEAK = """\
def peak():
    # Not that of getrusage, which begins with what the parent had when it started this process.
    with open("/proc/self/status") as status:
        [told] = [line for line in status if line.startswith("VmHWM:")]
    return int(told.split()[1]) * 1024 / 1e6
"""
_PREFETCH = """\
import time
import fsspec, hda_fsspec.client
fs = fsspec.filesystem("hda", **given["options"])
began = time.perf_counter()
[path] = fs.prefetch(given["path"])
seconds = time.perf_counter() - began
print(json.dumps([path, seconds, peak()]))
"""
_HDA = """\
import contextlib, io, logging, time
from pathlib import Path
import hda
logging.getLogger("hda").setLevel(logging.CRITICAL)
client = hda.Client(hda.Configuration(**given["account"], path="/nonexistent"), progress=False)
found = client.search(given["request"])
# Without the pause of two seconds in which it waits for the order.
[product] = [each for each in found.results if each["id"] == given["name"]]
order = client.post({"dataset_id": found.dataset, "product_id": product["id"],
                     "location": product["properties"]["location"]}, "dataaccess/download")
began = time.perf_counter()
with contextlib.redirect_stdout(io.StringIO()):
    client.stream(order["download_id"], 0, given["target"])
seconds = time.perf_counter() - began
[path] = Path(given["target"]).iterdir()
print(json.dumps([str(path), seconds, peak()]))
"""


def large_products(folder: str) -> list[Any]:
    """Return one data set of the products in a folder."""
    from hda_fsspec.emulator import DatasetEntry, dated_product

    files = sorted(Path(folder).iterdir())
    return [DatasetEntry(DATASET, [dated_product(path.name, path) for path in files])]


def make_file(path: Path, megabytes: int) -> None:
    """Write a netCDF-4 file, nearly all of which is a hole."""
    import netCDF4

    with netCDF4.Dataset(path, "w") as file:
        file.createDimension("x", megabytes << 18)
        # One block without fill values is as long as its last value says.
        variable = file.createVariable("value", "f4", ("x",), fill_value=False, contiguous=True)
        variable[-1] = 1.0
    # Into the page cache: the first client should not pay for the others.
    with path.open("rb") as again:
        while again.read(1 << 20):
            pass


def name_of(megabytes: int) -> str:
    """Return the name of the file of a size, which tells its date too."""
    return f"large_20240101_{megabytes:04}MiB.nc"


def download_url(served: Served, name: str) -> tuple[str, str]:
    """Order a product, and return the URL of its file and a token."""
    login = served.url.replace("/hda-broker/", "/identity/gettoken")
    body = {"username": served.user, "password": served.password}
    with requests.Session() as session:
        token = str(session.post(login, json=body).json()["access_token"])
        session.headers["Authorization"] = f"Bearer {token}"
        api = f"{served.url}api/v1/dataaccess"
        found = session.post(f"{api}/search", json={"dataset_id": DATASET}).json()["features"]
        [product] = [each for each in found if each["id"] == name]
        order = {
            "dataset_id": DATASET,
            "product_id": name,
            "location": product["properties"]["location"],
        }
        answer = session.post(f"{api}/download", json=order).json()
    return f"{api}/download/{answer['download_id']}", token


@dataclasses.dataclass(frozen=True)
class Seen:
    """One download: megabytes a second, and the peak memory in megabytes (NaN: not measured)."""

    rate: float
    peak: float


class Ways:
    """The ways to get one file, each a fresh process; they return seconds and peak megabytes."""

    def __init__(self, served: Served, name: str, folder: Path) -> None:
        self._served = served
        self._name = name
        self._folder = folder

    def prefetch(self) -> tuple[Path, float, float]:
        """Get it with this package."""
        path = f"hda://{DATASET}/startdate=2024-01-01/enddate=2024-01-01/{self._name}"
        options = self._served.options(self._folder / "cache")
        path, seconds, peak = run_alone(_PEAK + _PREFETCH, {"options": options, "path": path})
        return Path(path), seconds, peak

    def hda(self) -> tuple[Path, float, float]:
        """Get it with the official client."""
        given = {
            "account": self._served.account,
            "request": {"dataset_id": DATASET},
            "name": self._name,
            "target": str(self._folder / "hda"),
        }
        path, seconds, peak = run_alone(_PEAK + _HDA, given)
        return Path(path), seconds, peak

    def curl(self) -> tuple[Path, float, float]:
        """Get it with curl."""
        return self._curl(["curl"])

    def curl_and_sync(self) -> tuple[Path, float, float]:
        """Get it with curl, and have it on the disk."""
        return self._curl(["sh", "-c", 'curl "$@" && sync "$0"'])

    def _curl(self, command: list[str]) -> tuple[Path, float, float]:
        url, token = download_url(self._served, self._name)
        target = self._folder / "curl"
        shell = [str(target)] if command[0] == "sh" else []
        arguments = ["-sSf", "-H", f"Authorization: Bearer {token}", "-o", str(target), url]
        began = time.perf_counter()
        subprocess.run([*command, *shell, *arguments], check=True)
        return target, time.perf_counter() - began, float("nan")


def measure(served: Served, megabytes: int, scratch: Path) -> list[dict[str, Seen]]:
    """Return what was seen of each way, round by round."""
    rounds = []
    source = scratch / "products" / name_of(megabytes)
    for number in range(ROUNDS):
        folder = scratch / f"{megabytes}-{number}"
        folder.mkdir()
        ways = Ways(served, source.name, folder)
        chosen: dict[str, Callable[[], tuple[Path, float, float]]] = {OURS: ways.prefetch}
        if shutil.which("curl"):
            chosen |= {CURL: ways.curl, CURL_SYNC: ways.curl_and_sync}
        if number < ROUNDS_OF_HDA:
            chosen[HDA] = ways.hda
        seen = {}
        # In one order and in the other, since what the machine does meanwhile changes.
        for name, way in list(chosen.items())[:: -1 if number % 2 else 1]:
            path, seconds, peak = way()
            if path.stat().st_size != source.stat().st_size:
                msg = f"{name} got {path.stat().st_size} bytes of {source.stat().st_size}."
                raise RuntimeError(msg)
            seen[name] = Seen(path.stat().st_size / seconds / 1e6, peak)
            path.unlink()
            # So that nobody pays for what the one before has left to the disk.
            subprocess.run(["sync"], check=True)
        rounds.append(seen)
        shutil.rmtree(folder)
    return rounds


def main() -> None:
    """Measure, and print a table; a ratio is the median of those of the rounds."""
    seen: dict[int, list[dict[str, Seen]]] = {}
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        (scratch / "products").mkdir()
        for megabytes in MEGABYTES:
            make_file(scratch / "products" / name_of(megabytes), megabytes)
        make = "benchmarks.one_large_file:large_products"
        with serve(make, str(scratch / "products")) as served:
            for megabytes in MEGABYTES:
                seen[megabytes] = measure(served, megabytes, scratch)
    print(
        f"hda {_official.version()}, medians of {ROUNDS} rounds ({ROUNDS_OF_HDA} of hda), peak "
        "memory the largest\n"
    )
    print(f"{'':28}{'MB/s':>8}{'peak, MB':>10}")
    for megabytes, rounds in seen.items():
        for way in rounds[0]:
            every = [each[way] for each in rounds if way in each]
            rate = statistics.median(each.rate for each in every)
            peak = max(each.peak for each in every)
            shown = "-" if math.isnan(peak) else f"{peak:.0f}"
            print(f"{f'{megabytes} MiB, {way}':28}{rate:8.0f}{shown:>10}")
    print()
    _print_verdicts(seen)


def _print_verdicts(seen: dict[int, list[dict[str, Seen]]]) -> None:
    largest = seen[MEGABYTES[-1]]
    for other, target in TARGETS.items():
        if other not in largest[0]:
            print(f"rate to that of {other}: not measured, since curl is not installed")
            continue
        ratio = statistics.median(
            each[OURS].rate / each[other].rate for each in largest if other in each
        )
        met = verdict(is_met=ratio >= target)
        print(f"rate to that of {other}: {ratio:.2f}x, target {target}x  {met}")
    peaks = {size: max(each[OURS].peak for each in rounds) for size, rounds in seen.items()}
    peak, growth = peaks[MEGABYTES[-1]], peaks[MEGABYTES[-1]] - peaks[MEGABYTES[0]]
    met = verdict(is_met=peak < MAX_PEAK_MEGABYTES)
    print(f"peak: {peak:.0f} MB, target {MAX_PEAK_MEGABYTES} MB  {met}")
    met = verdict(is_met=growth < MAX_GROWTH_MEGABYTES)
    print(f"16 times the size takes {growth:.1f} MB more, target {MAX_GROWTH_MEGABYTES} MB  {met}")


if __name__ == "__main__":
    main()
