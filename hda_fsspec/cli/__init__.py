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
            sys.stdout.flush()
    except KeyboardInterrupt:
        sys.stderr.write("\nhda-fsspec: interrupted\n")
        return _INTERRUPTED
    except BrokenPipeError:
        _close_stdout()
        return _PIPE_CLOSED
    except (HDAError, OSError) as err:
        if is_debug:
            raise
        sys.stderr.write(f"hda-fsspec: error: {_explain(err)}\n")
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


def _explain(err: BaseException) -> str:
    if isinstance(err, OSError) and not isinstance(err, HDAError) and err.strerror:
        # Not str(err), which begins with a number in brackets.
        text = f"{err.strerror}: {err.filename}" if err.filename is not None else err.strerror
    else:
        text = str(err) or type(err).__name__
    return "\n".join([text, *getattr(err, "__notes__", [])])


def _close_stdout() -> None:
    # The interpreter flushes standard output when it ends, and would complain again.
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
