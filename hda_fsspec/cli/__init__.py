"""The command line: what the filesystem and the cache do, said in words and numbers.

It decides nothing about products. Commands are loaded when they run, so that ``--version`` and
``--help`` answer at once.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pkgutil
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from hda_fsspec.cli.parser import build_parser
from hda_fsspec.cli.terminal import tell
from hda_fsspec.errors import HDAError

__all__ = ["main"]

_INTERRUPTED = 130  # 128 + SIGINT, as shells have it
_PIPE_CLOSED = 141  # 128 + SIGPIPE


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Parameters
    ----------
    arguments : sequence of str, optional
        The words after the program's name; None for those of this process.
    """
    args = build_parser().parse_args(arguments)
    is_debug = getattr(args, "debug", False)
    try:
        command: Any = pkgutil.resolve_name(args.command)
        with _log_on_stderr(is_debug):
            code: int | None = command(args)
            if sys.stdout is not None:
                sys.stdout.flush()
    except KeyboardInterrupt:
        tell("", "hda-fsspec: interrupted")
        return _INTERRUPTED
    except BrokenPipeError:
        _close_stdout()
        return _PIPE_CLOSED
    except Exception as err:
        if is_debug:
            raise
        _leave_stdout()
        first, *more = _explain(err)
        tell(f"hda-fsspec: error: {first}", *more)
        return 1
    return code or 0


@contextlib.contextmanager
def _log_on_stderr(is_debug: bool) -> Iterator[None]:
    """Show the log; without debug only what Python shows by itself, which are warnings."""
    if not is_debug:
        yield
        return
    logger = logging.getLogger("hda_fsspec")
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


def _explain(err: Exception) -> list[str]:
    """Return what an error says, in lines."""
    text = str(err) or type(err).__name__
    if isinstance(err, OSError) and not isinstance(err, HDAError) and err.strerror:
        # Not str(err), which begins with a number in brackets.
        text = f"{err.strerror}: {err.filename}" if err.filename is not None else err.strerror
    elif not isinstance(err, (HDAError, OSError)):
        text = f"{type(err).__name__}: {text} (--debug shows where it comes from)"
    first, *more = text.split("\n")
    if not isinstance(err, HDAError):
        # Not ours: whatever it quotes, no line of it looks like one of this program.
        more = [f"  {line}" for line in more]
    notes = "\n".join(getattr(err, "__notes__", []))
    return [first, *more, *(notes.split("\n") if notes else [])]


def _leave_stdout() -> None:
    """Write what is still to be written to standard output, or drop it if that is what failed."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        _close_stdout()


def _close_stdout() -> None:
    # The interpreter flushes standard output when it ends, and would complain again.
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
