"""New processes that need not import what is large: forks of one that has done just that.

They know nothing of the process that starts them but what it hands over, as with the way in which
multiprocessing starts processes otherwise, and import this package themselves. Where the start of
Python is what a test proves, or the seed of its hashes, it takes a Python of its own.
"""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing import forkserver
from pathlib import Path
from typing import Any
from unittest import mock

_CONTEXT = multiprocessing.get_context("forkserver")
_LARGE = (
    *("dask.array", "dask.multiprocessing", "xarray", "netCDF4", "pandas", "requests"),
    *("fsspec.asyn", "cfgrib", "rioxarray", "h5netcdf", "scipy.sparse", "distributed"),
)
_PATIENCE_SECONDS = 60.0


@contextlib.contextmanager
def ready_processes() -> Iterator[None]:
    """Let Dask's scheduler "processes" start such processes, in the environment of now."""
    import dask

    initializer = functools.partial(_replace_environment, dict(os.environ))
    given = {"multiprocessing.context": "forkserver", "multiprocessing.initializer": initializer}
    _ensure_server()
    with dask.config.set(given):
        yield


def run_script(
    code: str,
    arguments: Sequence[str] = (),
    *,
    folder: Path,
    environment: Mapping[str, str] | None = None,
) -> str:
    """Run a script in such a process, and return what it prints; a failure is one here.

    ``folder`` is where it writes that; ``environment`` is that of now unless it is given.
    """
    printed = folder / f"printed-{os.urandom(4).hex()}"
    given = dict(os.environ if environment is None else environment)
    _ensure_server()
    process: Any = _CONTEXT.Process(target=_run, args=(code, list(arguments), given, printed))
    process.start()
    process.join(_PATIENCE_SECONDS)
    if process.exitcode is None:
        process.kill()
        process.join()
    told = printed.read_text(encoding="utf-8")
    assert process.exitcode == 0, f"exit code {process.exitcode}:\n{told}"
    return told


def _ensure_server() -> None:
    """Start what they are forked from, if it does not run; it lasts longer than a test."""
    with mock.patch.dict(os.environ):
        for name in [name for name in os.environ if name.startswith(("HDA_", "FSSPEC_"))]:
            del os.environ[name]
        _CONTEXT.set_forkserver_preload(list(_LARGE))
        forkserver.ensure_running()


def _run(code: str, arguments: list[str], environment: dict[str, str], printed: Path) -> None:
    _replace_environment(environment)
    sys.argv = ["-c", *arguments]
    with printed.open("w", encoding="utf-8", buffering=1) as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
        sys.stdout = stream
        try:
            exec(compile(code, "<script>", "exec"), {"__name__": "__main__"})
        except BaseException:
            traceback.print_exc(file=stream)
            raise


def _replace_environment(environment: Mapping[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)
