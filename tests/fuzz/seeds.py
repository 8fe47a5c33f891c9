"""What fuzzing begins with: the corpus, and what is made or lies beside the repository."""

from __future__ import annotations

import runpy
from pathlib import Path

from .targets import TARGETS, Target

_SHARED = Path(__file__).resolve().parents[3] / "shared"
_MOST_BYTES = 1 << 14
_JSON_TARGETS = ("request", "queryable", "broker", "notes", "body")


def seeds_of(target: Target) -> list[bytes]:
    """Return the corpus of a target; also good files of each format, and what was recorded."""
    seeds = target.corpus()
    if target is TARGETS["formats"]:
        made = runpy.run_path(str(Path(__file__).parents[1] / "sample_files.py"))
        seeds += [sample.content for sample in made["SAMPLES"].values()]
        seeds += _small_files(_SHARED / "data")
    elif target is TARGETS["references"]:
        seeds += _small_files(_SHARED / "data")
    elif target.name in _JSON_TARGETS:
        seeds += _small_files(_SHARED / "recorded", ".json")
    return [data for data in seeds if len(data) <= _MOST_BYTES]


def _small_files(folder: Path, suffix: str = "") -> list[bytes]:
    """Return the contents of small files below a folder, none where it is absent."""
    return [
        path.read_bytes()
        for path in sorted(folder.rglob(f"*{suffix}"))
        if path.is_file() and path.stat().st_size <= _MOST_BYTES
    ]
