"""Limits of time and length for a whole response: head, body and framing.

A time-out of the socket counts from byte to byte, so that a service that sends one now and then is
waited for without end; and heads, chunks and trailers are read by libraries that bound neither
their number nor their time. So both are counted where all of them come from.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

#: An answer that is read as a whole may take so many times the setting ``timeout``.
TIMEOUTS_PER_ANSWER = 3
#: The longest answer that is read as a whole. The list of all data sets, which is the longest one,
#: has some 1,400 entries with abstracts.
MOST_BYTES = 64 << 20

# Of a body that is streamed, so much must arrive on average.
_LEAST_BYTES_PER_SECOND = 100
# What does not count as body: the head, and lines between chunks, however short those are.
_MOST_OVERHEAD_BYTES = 16 << 20
_OVERHEAD_PER_BYTE = 16
_LONGEST_LINE = 65_536


class LateError(TimeoutError):
    """An answer did not end in the time that it has as a whole."""


class TooLongError(OSError):
    """An answer goes on for longer than any answer does."""


class Allowance:
    """The time that is spent on reading one answer, and its bytes.

    Only the time in which bytes are waited for counts: not that of connecting, which has a bound of
    its own, nor that in which what arrived is written to a slow disk.

    Parameters
    ----------
    timeout : float
        The longest wait for the next byte, in seconds.
    clock : callable
        Seconds on a clock that never goes back.
    """

    def __init__(self, timeout: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._timeout = timeout
        self._clock = clock
        self._seconds = self._seconds_left = TIMEOUTS_PER_ANSWER * timeout
        self._bytes_left = MOST_BYTES + _MOST_OVERHEAD_BYTES
        self._arrived = 0

    def read(self, read: Callable[[], int], set_timeout: Callable[[float], object]) -> int:
        """Read once, and count it.

        Raises
        ------
        LateError
            The answer has taken too long.
        TimeoutError
            The next byte of it has.
        TooLongError
            It is too long.
        """
        if self._seconds_left <= 0:
            raise self._late()
        set_timeout(min(self._timeout, self._seconds_left))
        began = self._clock()
        try:
            count = read()
        except TimeoutError as err:
            if self._clock() - began >= self._seconds_left:
                raise self._late() from err
            raise
        self._seconds_left -= self._clock() - began
        self._bytes_left -= count
        if self._bytes_left < 0:
            msg = "the answer goes on for longer than any answer does"
            raise TooLongError(msg)
        return count

    def _late(self) -> LateError:
        return LateError(f"the answer did not end within {self._seconds:g} s")

    def begin_stream(self) -> None:
        """Let the rest of the answer be of any length, as long as it arrives at some rate."""
        self._seconds_left = self._seconds
        self._bytes_left = _MOST_OVERHEAD_BYTES
        self._arrived = 0

    def arrived(self, count: int) -> None:
        """Count bytes of the body of a stream, which earn time and bytes for those to come."""
        self._bytes_left += count * _OVERHEAD_PER_BYTE
        self._arrived += count
        if self._arrived >= _LEAST_BYTES_PER_SECOND * self._seconds:
            self._arrived = 0
            self._seconds_left = self._seconds


@dataclasses.dataclass(frozen=True, slots=True)
class Reply:
    """An answer: its head, and what was read of its body; the rest of a stream is to come."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    response: Any
    allowance: Allowance
    is_elsewhere: bool

    @property
    def is_cut(self) -> bool:
        """Whether it ended in its head: it has no body, nor a word of how long that is."""
        framed = {"Content-Length", "Transfer-Encoding"} & {name.title() for name in self.headers}
        return not self.body and not framed


_of_this_thread = threading.local()


@contextlib.contextmanager
def allowing(allowance: Allowance) -> Iterator[None]:
    """Count the answers whose heads this thread reads in the block by an allowance."""
    _of_this_thread.allowance = allowance
    try:
        yield
    finally:
        del _of_this_thread.allowance


class _MeteredBytes(io.RawIOBase):
    """The bytes of a socket, counted by an allowance."""

    def __init__(self, raw: io.RawIOBase, sock: Any, allowance: Allowance) -> None:
        self._raw = raw
        self._sock = sock
        self._allowance = allowance

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._allowance.read(
            lambda: self._raw.readinto(buffer) or 0,
            self._sock.settimeout,
        )

    def fileno(self) -> int:
        return self._raw.fileno()

    def close(self) -> None:
        self._raw.close()
        super().close()


class _MeteredSocket:
    """All that http.client wants of a socket to read an answer."""

    def __init__(self, sock: Any, allowance: Allowance) -> None:
        self._sock = sock
        self._allowance = allowance

    def makefile(self, _mode: str) -> io.BufferedReader:
        raw = self._sock.makefile("rb", buffering=0)
        return io.BufferedReader(_MeteredBytes(raw, self._sock, self._allowance))


class _MeteredResponse:
    """Stands before the class by which the library reads an answer, that of http.client."""

    def __init__(self, sock: Any, *args: Any, **kwargs: Any) -> None:
        allowance = getattr(_of_this_thread, "allowance", None)
        metered = sock if allowance is None else _MeteredSocket(sock, allowance)
        super().__init__(metered, *args, **kwargs)  # type: ignore[call-arg]

    def _read_status(self) -> tuple[str, int, str]:
        read: Callable[[], tuple[str, int, str]] = super()._read_status  # type: ignore[misc]
        version, status, reason = read()
        # What comes before an answer is none. Of these http.client passes over 100 alone.
        while 101 < status < 200:
            while self.fp.readline(_LONGEST_LINE) not in {b"\r\n", b"\n", b""}:  # type: ignore[attr-defined]
                pass
            version, status, reason = read()
        return version, status, reason


class _Metered:
    pass


class _Unverified(_Metered):
    # urllib3 reads it for its warning at each request alone, in place of which there is one notice
    # of ours. Its warnings could only be filtered for the whole process, and for others too.
    is_verified = property(lambda _self: True, lambda _self, _value: None)


def meter(manager: Any, *, is_verified: bool) -> None:
    """Let all connections of a pool manager of urllib3 count the answers that they read.

    Whatever classes the manager has: those for SOCKS proxies are others.
    """
    kind = _Metered if is_verified else _Unverified
    manager.pool_classes_by_scheme = {
        scheme: _derived(pool, kind if scheme == "https" else _Metered)
        for scheme, pool in manager.pool_classes_by_scheme.items()
    }


@functools.cache
def _derived(pool: Any, kind: type) -> Any:
    plain = pool.ConnectionCls
    if issubclass(plain, _Metered):
        return pool
    response = type("MeteredResponse", (_MeteredResponse, plain.response_class), {})
    connection = type(plain.__name__, (kind, plain), {"response_class": response})
    return type(pool.__name__, (pool,), {"ConnectionCls": connection})
