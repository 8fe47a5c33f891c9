"""A process beside this one that uses the netCDF and GRIB libraries, so that this one does not.

The libraries are not safe for threads. Were files read and made in the threads of the emulator,
then whoever opens a file in the same process meanwhile, as a test of a client does, would crash it.
The process starts when it is first needed and ends with this one.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import os
import pickle
import signal
import struct
import subprocess
import sys
from collections.abc import Callable
from typing import Any, BinaryIO

from hda_fsspec.emulator.process_lock import ProcessLock
from hda_fsspec.errors import ConfigurationError

_LENGTH = struct.Struct(">Q")
_PATIENCE_SECONDS = 10.0
_PROGRAM = "import sys; sys.path[:] = {path!r}; from {module} import answer; answer()"


class Worker:
    """One process, which makes one call after the other. Safe for threads."""

    def __init__(self) -> None:
        self._lock = ProcessLock()
        self._process: subprocess.Popen[bytes] | None = None

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Return what a function of some module returns there, or raise what it raises.

        Raises
        ------
        ConfigurationError
            The process ended.
        """
        with self._lock:
            process = self._started()
            try:
                _send(process.stdin, (function.__module__, function.__qualname__, args))
                is_good, result = _receive(process.stdout)
            except (EOFError, OSError, pickle.UnpicklingError) as err:
                self._end()
                msg = (
                    f"The process in which the emulator calls {function.__qualname__} ended. "
                    "Ask again; if it ends again, the source may be damaged."
                )
                raise ConfigurationError(msg) from err
        if not is_good:
            raise result
        return result

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            program = _PROGRAM.format(path=sys.path, module=__name__)
            # Without buffers: a fork while a call goes out would leave a copy of it in the child,
            # which would send it again.
            self._process = subprocess.Popen(  # noqa: S603 - its own program
                [sys.executable, "-c", program],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
            )
        return self._process

    def close(self) -> None:
        """End the process; the next call starts another one."""
        with self._lock:
            self._end()

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            # Said, and not told by the end of the pipe: a child that was forked holds that open.
            with contextlib.suppress(OSError):
                _send(process.stdin, None)
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    with contextlib.suppress(OSError):
                        stream.close()
            try:
                process.wait(_PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def forget(self) -> None:
        """Leave the process, in a child that was forked, to the parent that it belongs to."""
        process, self._process = self._process, None
        if process is not None:
            process.returncode = 0
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    stream.close()


class _Here(Worker):
    """Makes calls in this process, which is the one beside another."""

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Return what a function returns."""
        return function(*args)


_workers: dict[int, Worker] = {}


def call(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function in the process beside this one; see :meth:`Worker.call`."""
    # A process that was forked has no share in the worker of its parent.
    _forget_others()
    return _workers.setdefault(os.getpid(), Worker()).call(function, *args)


def _forget_others() -> None:
    for pid in [pid for pid in list(_workers) if pid != os.getpid()]:
        worker = _workers.pop(pid, None)
        if worker is not None:
            worker.forget()


@atexit.register
def close() -> None:
    """End the process beside this one."""
    _forget_others()
    worker = _workers.pop(os.getpid(), None)
    if worker is not None:
        worker.close()


def answer() -> None:
    """Answer calls from standard input until it ends."""
    # The key that interrupts a program reaches this process, too, which ends with its input.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    source, target = sys.stdin.buffer, os.fdopen(os.dup(1), "wb", buffering=0)
    # Whatever a library prints must not be taken for an answer.
    os.dup2(2, 1)
    _workers[os.getpid()] = _Here()
    while True:
        try:
            asked = _receive(source)
        except EOFError:
            return
        if asked is None:
            return
        module, name, args = asked
        try:
            result = True, getattr(importlib.import_module(module), name)(*args)
        except Exception as err:  # noqa: BLE001 - it is raised where the call came from
            result = False, _sendable(err)
        _send(target, result)


def _sendable(err: Exception) -> Exception:
    """Return an error that arrives: those of some libraries are made of what cannot be sent."""
    try:
        pickle.loads(pickle.dumps(err))  # noqa: S301 - what was just made
    except Exception:  # noqa: BLE001 - whatever its own methods raise
        return ConfigurationError(f"{type(err).__name__}: {err}")
    return err


def _send(stream: BinaryIO | Any, value: Any) -> None:
    data = pickle.dumps(value)
    left = memoryview(_LENGTH.pack(len(data)) + data)
    while left:
        left = left[stream.write(left) :]


def _receive(stream: BinaryIO | Any) -> Any:
    (length,) = _LENGTH.unpack(_exactly(stream, _LENGTH.size))
    return pickle.loads(_exactly(stream, length))  # noqa: S301 - of a process that this one started


def _exactly(stream: BinaryIO | Any, length: int) -> bytes:
    read = bytearray()
    while len(read) < length:
        piece = stream.read(length - len(read))
        if not piece:
            msg = "the other process ended"
            raise EOFError(msg)
        read += piece
    return bytes(read)
