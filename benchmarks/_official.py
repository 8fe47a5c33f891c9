"""The official client, as a user would call it, against an emulator."""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks._serving import Served


def version() -> str:
    """Return the version of the official client that is installed."""
    return importlib.metadata.version("hda")


def connect(served: Served, **options: Any) -> Any:
    """Return a client for an emulator, as it comes but for the progress bar."""
    import hda

    logging.getLogger("hda").setLevel(logging.CRITICAL)
    configuration = hda.Configuration(**served.account, path="/nonexistent")
    return hda.Client(configuration, progress=False, **options)


def download(client: Any, query: Mapping[str, Any], target: Path) -> list[Path]:
    """Download a search into a folder, and return the files."""
    target.mkdir(exist_ok=True)
    # It announces each file on standard output, where the table belongs.
    with contextlib.redirect_stdout(io.StringIO()):
        client.search(dict(query)).download(str(target))
    return sorted(target.iterdir())
