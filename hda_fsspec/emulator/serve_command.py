"""The emulator as a command: prints how to reach it, then serves until it is interrupted."""

from __future__ import annotations

import shlex
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

from hda_fsspec.emulator.catalogue import Catalogue
from hda_fsspec.emulator.emulator import Emulator, random_password

_LOOK_SECONDS = 0.5


def serve(
    folder_or_json: Path | None,
    *,
    port: int = 0,
    profile: str = "day",
    cache_dir: Path | None = None,
    out: TextIO | None = None,
    **options: Any,
) -> None:
    """Serve a folder, or what a JSON file lists, until SIGINT or SIGTERM.

    First prints ``export HDA_URL=…``, and the same for ``HDA_USER``, ``HDA_PASSWORD`` and
    ``HDA_CACHE_DIR``, one a line as a shell takes them, and nothing else. The password is a new one
    each time unless ``password`` is given.

    Parameters
    ----------
    folder_or_json : Path or None
        See :meth:`Catalogue.from_folder` and :meth:`Catalogue.from_json`; None for none at all.
    port : int
        0 for a free one.
    profile : str
        Of the catalogue times of a folder.
    cache_dir : Path, optional
        The cache folder to name; without it there is no line for one.
    out : TextIO or None
        Where to print; None for standard output.
    **options
        Of :class:`Emulator`.
    """
    if folder_or_json is None:
        catalogue = Catalogue()
    elif (path := Path(folder_or_json)).is_file():
        catalogue = Catalogue.from_json(path)
    else:
        catalogue = Catalogue.from_folder(path, profile=profile)
    options.setdefault("password", random_password())
    stopped = threading.Event()
    restore = _stop_on_signals(stopped)
    try:
        with Emulator(catalogue, port=port, **options) as emulator:
            environment = dict(emulator.environment)
            if cache_dir is not None:
                environment["HDA_CACHE_DIR"] = str(cache_dir)
            lines = [f"export {name}={shlex.quote(v)}\n" for name, v in environment.items()]
            stream = sys.stdout if out is None else out
            stream.write("".join(lines))
            stream.flush()
            # A signal that comes just before the thread sleeps does not wake it.
            while not stopped.wait(_LOOK_SECONDS):
                pass
    finally:
        for number, handler in restore.items():
            signal.signal(number, handler)


def _stop_on_signals(stopped: threading.Event) -> dict[int, Any]:
    """Let SIGINT and SIGTERM set an event; return the handlers that were there before."""
    if threading.current_thread() is not threading.main_thread():
        return {}

    def stop(_number: int, _frame: FrameType | None) -> None:
        stopped.set()

    return {int(number): signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
