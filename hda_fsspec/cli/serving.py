"""``emulator`` and ``demo``: a local service, for tests and for a first look."""

from __future__ import annotations

import argparse
import sys

import platformdirs

# What the emulator calls the options whose names are longer there.
_LONG_NAMES = {
    "preparation": "preparation_seconds",
    "latency": "latency_seconds",
    "rate": "rate_bytes_per_second",
}
_OPTIONS = (
    *("port", "profile", "polls", "quota", "token_seconds", "paging", "sizes", "user"),
    *("fault_rate", "fault_seed", "odd"),
    *_LONG_NAMES,
)


def emulator(args: argparse.Namespace) -> None:
    """Serve a folder or a JSON catalogue until SIGINT or SIGTERM."""
    from hda_fsspec.emulator.command import serve

    given = {_LONG_NAMES.get(k, k): getattr(args, k) for k in _OPTIONS if hasattr(args, k)}
    # Not a temporary one: an emulator of the same files that is started again goes on with it.
    cache_dir = platformdirs.user_cache_path("hda_fsspec_emulator", appauthor=False)
    serve(args.source, cache_dir=cache_dir, **given)


def demo(args: argparse.Namespace) -> None:
    """Run the demo."""
    from hda_fsspec.demo import run

    run(sys.stdout, keep=args.keep)
