"""More products in one call than files may be open at one time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

#: More than the process may have descriptors: beyond the nine that it begins with, 35.
COUNT = 40
VERBS = ("cat", "get", "download")
OF_LOCAL_ONES = ("cat", "get", "cat_ranges", "getitems")
PROGRAM = """
import json, os, resource, sys
import hda_fsspec.client  # so that no fork has to import it
from hda_fsspec import HDAFileSystem
settings, query, target = json.loads(sys.argv[1])
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

def run(fs, verb, target):
    names = fs.ls(query, detail=False)
    resource.setrlimit(resource.RLIMIT_NOFILE, (44, hard))
    if verb == "cat":
        return list(fs.cat(names).values())
    if verb == "cat_ranges":
        return fs.cat_ranges(names, 0, None, on_error="raise")
    if verb == "getitems":
        return list(fs.get_mapper(query).getitems([n.rpartition("/")[2] for n in names]).values())
    if verb == "get":
        fs.get(names, [f"{target}/{number}" for number in range(len(names))])
        return [open(f"{target}/{number}", "rb").read() for number in range(len(names))]
    return [open(path, "rb").read() for path in fs.download(query, target)]

for turn, verb in enumerate(sys.argv[2:]):
    if "again" not in verb:
        settings["cache_dir"] += str(turn)
    if pid := os.fork():
        assert os.waitpid(pid, 0) == (pid, 0)
        continue
    found = run(HDAFileSystem(**settings), verb.removesuffix(" again"), f"{target}/{turn}")
    print(json.dumps([verb, [len(body) for body in found]]))
    break
"""


@pytest.mark.slow
def test_more_products_than_files_may_be_open(bench: Any, tmp_path: Path) -> None:
    """Files are opened as they are read, wherever the products come from, and none is missing."""
    emulator = bench.start_many(COUNT)
    given = {key: str(value) for key, value in bench.settings(emulator).items()}
    arguments = json.dumps([given, bench.query, str(tmp_path / "out")])
    verbs = [*VERBS, *(f"{verb} again" for verb in OF_LOCAL_ONES)]  # of products that are local

    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, arguments, *verbs],
        check=False,
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    found = dict(map(json.loads, done.stdout.splitlines()))
    assert found == dict.fromkeys(verbs, [len(bench.body(1))] * COUNT)
    assert emulator.downloads == COUNT * len(VERBS)


@pytest.mark.slow
def test_bytes_of_many_cost_one_order_each(bench: Any) -> None:
    """A cache that holds five products is enough to read fifteen, and none is ordered twice."""
    emulator = bench.start(days=15)
    fs = bench.filesystem(emulator, cache_max_bytes=5 * 2032)

    found = fs.cat(f"{bench.query}/*")

    assert list(found.values()) == [bench.body(day) for day in range(1, 16)]
    assert emulator.orders == emulator.downloads == 15
