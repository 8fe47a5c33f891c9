"""What a new process does before it shows what is kept on the disk: as little as can be."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from checkout import ROOT

_PROGRAM = """
import json, sys
import fsspec
from hda_fsspec.settings import Settings

given = json.loads(sys.argv[1])
fs = fsspec.filesystem("hda", **given["options"])
resolved, resolve = [], Settings.resolve
Settings.resolve = lambda **options: resolved.append(options) or resolve(**options)
print(json.dumps([len(fs.ls(given["query"])), len(resolved)]))
"""


@pytest.mark.slow
def test_a_kept_listing_resolves_the_settings_once(bench: Any) -> None:
    """A new process reads environment and rc file once to list what another one has listed."""
    emulator = bench.start(days=3)
    bench.filesystem(emulator).ls(bench.query)
    before = len(emulator.log.where(lambda _: True))
    options = {**bench.settings(emulator), "cache_dir": str(bench.cache_dir)}

    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, json.dumps({"options": options, "query": bench.query})],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )

    assert json.loads(done.stdout) == [3, 1]
    assert len(emulator.log.where(lambda _: True)) == before
