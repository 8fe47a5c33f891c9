"""More products in one call than files may be open at one time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

COUNT = 120
PROGRAM = """
import json, resource, sys
from hda_fsspec import HDAFileSystem
settings, query, target = json.loads(sys.argv[1])
verb, is_local = sys.argv[2], sys.argv[3] == "local"
fs = HDAFileSystem(**settings)
names = fs.ls(query, detail=False)
if is_local:
    fs.prefetch(query)
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
if verb == "cat":
    found = list(fs.cat(names).values())
elif verb == "cat_ranges":
    found = fs.cat_ranges(names, 0, None, on_error="raise")
elif verb == "getitems":
    found = list(fs.get_mapper(query).getitems([n.rpartition("/")[2] for n in names]).values())
elif verb == "get":
    fs.get(names, [f"{target}/{number}" for number in range(len(names))])
    found = [open(f"{target}/{number}", "rb").read() for number in range(len(names))]
else:
    found = [open(path, "rb").read() for path in fs.download(query, target)]
print(json.dumps([len(body) for body in found]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("verb", "where"),
    [
        *((verb, "not local") for verb in ("cat", "cat_ranges", "getitems", "get", "download")),
        *((verb, "local") for verb in ("cat", "get")),
    ],
)
def test_more_products_than_files_may_be_open(
    bench: Any, tmp_path: Path, verb: str, where: str
) -> None:
    """Files are opened as they are read, wherever the products come from, and none is missing."""
    emulator = bench.start_many(COUNT)
    given = {key: str(value) for key, value in bench.settings(emulator).items()}
    arguments = json.dumps([given, bench.query, str(tmp_path / "out")])

    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, arguments, verb, where],
        check=False,
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout) == [len(bench.body(1))] * COUNT


@pytest.mark.slow
def test_bytes_of_many_cost_one_order_each(bench: Any) -> None:
    """A cache that holds ten products is enough to read thirty, and none is ordered twice."""
    emulator = bench.start(days=30)
    fs = bench.filesystem(emulator, cache_max_bytes=10 * 2032)

    found = fs.cat(f"{bench.query}/*")

    assert list(found.values()) == [bench.body(day) for day in range(1, 31)]
    assert emulator.orders == emulator.downloads == 30
