"""Pickling of lazy data for other processes, and notes on the worker where it failed.

A pickle is read by the code of another process, perhaps of another version, in an environment of
its own. It knows neither products nor xarray.
"""

from __future__ import annotations

import io
import os
import pickle
from pathlib import Path
from typing import Any

import cloudpickle

from hda_fsspec._version import __version__
from hda_fsspec.concurrency.daskworkers import dask_worker
from hda_fsspec.errors import ConfigurationError, note_once

#: Counted up whenever what lazy data pickles as means something else to the code that reads it.
PICKLE_FORMAT = 2

# From so many bytes on, what several variables have in common is worth to be stored once.
_SHARED_BYTES = 256


class _Packer(cloudpickle.Pickler):  # type: ignore[misc]
    """Pickles, but for large byte strings: those go along outside, where they can be shared."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, protocol=5)
        self.large: list[bytes] = []

    def persistent_id(self, value: object) -> int | None:
        """Return the number of a large byte string, None for anything else."""
        if type(value) is not bytes or len(value) < _SHARED_BYTES:
            return None
        self.large.append(value)
        return len(self.large) - 1


class _Unpacker(pickle.Unpickler):
    def __init__(self, payload: bytes, large: tuple[bytes, ...]) -> None:
        super().__init__(io.BytesIO(payload))
        self._large = large

    def persistent_load(self, number: Any) -> bytes:
        return self._large[int(number)]


def pack(value: object) -> tuple[Any, ...]:
    """Return the arguments with which :func:`unpack` makes the value again."""
    file = io.BytesIO()
    packer = _Packer(file)
    packer.dump(value)
    return (PICKLE_FORMAT, __version__, file.getvalue(), *packer.large)


def unpack(state: int, version: str, payload: bytes, *large: bytes) -> Any:
    """Make a value again; where that cannot be done, what is returned raises when it is used.

    Dask unpickles tasks outside of any task. An exception there ends the worker, and with it the
    message; the computation would wait for another worker for ever.
    """
    given = (state, version, payload, *large)
    if state != PICKLE_FORMAT:
        msg = (
            f"hda_fsspec {version} made this lazy data (state {state}), and hda_fsspec "
            f"{__version__} (state {PICKLE_FORMAT}) cannot read it"
        )
        return UnpickledElsewhere(given, msg)
    try:
        return _Unpacker(payload, large).load()
    except ConfigurationError as err:
        return UnpickledElsewhere(given, str(err))
    except Exception as err:  # noqa: BLE001  (raised when it is used)
        msg = (
            f"hda_fsspec {version} made this lazy data, and hda_fsspec {__version__} cannot read "
            f"it: {type(err).__name__}: {err}"
        )
        return UnpickledElsewhere(given, msg)


class UnpickledElsewhere:
    """Lazy data that this process cannot read; it says why when it is used.

    It goes on to other processes just as it came, so that a scheduler need not understand it.

    Parameters
    ----------
    given : tuple
        The arguments of :func:`unpack`.
    why : str
        What the error says.
    """

    def __init__(self, given: tuple[Any, ...], why: str) -> None:
        self._given = given
        self._why = why

    def __reduce__(self) -> tuple[Any, ...]:
        return unpack, self._given

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        raise self._error()

    def __getitem__(self, key: object) -> Any:
        raise self._error()

    def __call__(self, *_: Any) -> Any:
        """Raise the error, as whatever else is done with it."""
        raise self._error()

    def _error(self) -> ConfigurationError:
        _, version, *_ = self._given
        step = (
            ""
            if version == __version__
            else " Install one and the same version where data sets are opened and on all workers."
        )
        return ConfigurationError(f"{self._why.rstrip('.')} (seen {describe_process()}).{step}")


def describe_process() -> str:
    """Say which process this is: host and number, and which Dask worker, if it is one."""
    process = f"on host {os.uname().nodename!r}, process {os.getpid()}"
    worker = dask_worker()
    if worker is None:
        return process
    return f"{process}, Dask worker {worker.name!r} at {worker.address}"


def add_worker_note(err: BaseException, *, user: str | None, cache_dir: Path) -> None:
    """Note on an error of a Dask worker where it was raised, and with what.

    Elsewhere nothing is noted: who sees the error is where it was raised.
    """
    if dask_worker() is not None:
        note_once(
            err,
            f"Raised {describe_process()}: hda_fsspec {__version__}, user {user!r}, cache folder "
            f"{cache_dir}. A worker takes its password, and each setting that was not given as an "
            "argument, from its own environment or rc file.",
        )
