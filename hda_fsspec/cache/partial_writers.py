"""Names of the writers of partial files, which tell other processes whether they are alive.

A name says on which machine, by which process, and since when; nothing here touches the files.
"""

from __future__ import annotations

import enum
import functools
import hashlib
import os
import platform
import re
import uuid
from pathlib import Path

#: Stands in place of a writer in the name of what its writer has given up.
RELEASED = "released"

#: A writer that cannot be asked is given up when its file did not change for so long: far longer
#: than the time-outs of a transfer.
PATIENCE_SECONDS = 600.0

_ENDED = -1

_WRITER = re.compile(r"(?P<host>[0-9a-f]{12})\.(?P<pid>\d+)\.(?P<start>\d+)\.[0-9a-f]{32}\Z")


class Liveness(enum.Enum):
    """The state of the writer of a partial file, as far as it is known."""

    ALIVE = "alive"
    GONE = "gone"
    UNKNOWN = "unknown"


def new_writer() -> str:
    """Return a name for a new writer in this process, as a part of a file name."""
    pid = os.getpid()
    return f"{_host()}.{pid}.{_start_of(pid) or 0}.{uuid.uuid4().hex}"


def new_released() -> str:
    """Return a name that says: nobody writes this any more."""
    return f"{RELEASED}.{uuid.uuid4().hex}"


def liveness(writer: str) -> Liveness:
    """Tell whether the writer of that name may still be writing.

    GONE is certain: it said so itself, or its process does not exist. UNKNOWN is for writers on
    other machines, in other containers, or before the last reboot.
    """
    if writer.startswith(f"{RELEASED}."):
        return Liveness.GONE
    match = _WRITER.match(writer)
    if match is None or match["host"] != _host():
        return Liveness.UNKNOWN
    pid, start = int(match["pid"]), int(match["start"])
    if not _exists(pid):
        return Liveness.GONE
    now = _start_of(pid)
    if now == _ENDED:
        return Liveness.GONE
    if not start or now is None:
        # Without start times a number that is used again cannot be told from the same process.
        return Liveness.ALIVE if pid == os.getpid() else Liveness.UNKNOWN
    return Liveness.ALIVE if now == start else Liveness.GONE


def is_abandoned(writer: str, *, idle_seconds: float) -> bool:
    """Whether a partial file, untouched for so long, may be taken from the writer of that name."""
    state = liveness(writer)
    return state is Liveness.GONE or (state is Liveness.UNKNOWN and idle_seconds > PATIENCE_SECONDS)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    except OverflowError:
        return False
    return True


def _start_of(pid: int) -> int | None:
    """Return when a process started, in clock ticks since boot; None where it cannot be told.

    A process that was killed keeps its number until its parent asks for it: ``_ENDED``.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        # The second field is the program's name, which may hold spaces and brackets.
        fields = text.rpartition(")")[2].split()
        return _ENDED if fields[0] in {"Z", "X"} else int(fields[19])
    except (OSError, ValueError, IndexError):
        return None


@functools.cache
def _host() -> str:
    """Return a short name for this machine since this boot, as this container sees it.

    Two containers may share disk and host name while each counts its processes from 1: process
    numbers mean something only where all three agree.
    """
    facts = [platform.node()]
    try:
        facts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
        facts.append(str(Path("/proc/self/ns/pid").readlink()))
    except OSError:
        facts.append("-")
    return hashlib.sha256("\0".join(facts).encode()).hexdigest()[:12]
