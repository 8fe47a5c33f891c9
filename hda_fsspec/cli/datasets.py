"""``open`` and ``plan``: what a path is as a data set, and what a selection of it would cost."""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING, Any

from hda_fsspec.cli.terminal import given_settings, say
from hda_fsspec.errors import QueryError

if TYPE_CHECKING:
    import xarray as xr

# A clock has colons of its own.
_VALUE = r"[^:]*?T\d\d(?::\d\d){0,2}(?:\.\d+)?Z?|[^:]*"
_SELECTION = re.compile(rf"(?P<dim>[^=]+)=(?P<first>{_VALUE})(?P<is_range>:(?P<last>{_VALUE}))?")


def open_(args: argparse.Namespace) -> None:
    """Open a product, or a query as one lazy data set, and print what it is."""
    say(repr(_open(args)))


def plan(args: argparse.Namespace) -> None:
    """Print what computing a data set, or a selection of it, would cost."""
    ds = _open(args)
    for text in args.sel:
        ds = _select(ds, text)
    say(repr(ds.hda.plan()))


def _open(args: argparse.Namespace) -> xr.Dataset:
    import xarray as xr

    return xr.open_dataset(
        args.path,
        engine="hda",
        cache=False,
        storage_options=given_settings(args),
        group=args.group,
        member=args.member,
    )


def _select(ds: xr.Dataset, text: str) -> xr.Dataset:
    """Select what ``DIM=VALUE`` or ``DIM=FIRST:LAST`` says."""
    match = _SELECTION.fullmatch(text)
    if match is None:
        msg = f"Cannot read --sel {text!r}: write DIM=VALUE or DIM=FIRST:LAST."
        raise QueryError(msg, key="sel")
    dim = match["dim"]
    if dim not in ds.indexes:
        known = ", ".join(sorted(map(str, ds.indexes))) or "none"
        msg = f"Cannot select by {dim!r}: the data set has no such index. It has: {known}."
        raise QueryError(msg, key="sel")
    index = ds.indexes[dim]
    is_number = index.dtype.kind in "iuf"
    try:
        first, last = (_value(match[name], is_number=is_number) for name in ("first", "last"))
        if not match["is_range"]:
            nearest: dict[str, Any] = {"method": "nearest"} if is_number else {}
            return ds.sel({dim: first}, **nearest)
        if is_number and index.is_monotonic_decreasing and len(index) > 1:
            # People say from south to north, whichever way the data lie.
            first, last = last, first
        return ds.sel({dim: slice(first, last)})
    except (KeyError, ValueError, TypeError) as err:
        ends = f"{index[0]} to {index[-1]}" if len(index) else "nothing to nothing"
        msg = f"Cannot take {text!r} of {dim!r}, which goes from {ends}: {err}."
        raise QueryError(msg, key="sel") from err


def _value(text: str | None, *, is_number: bool) -> Any:
    if not text:
        return None
    return float(text) if is_number else text.removesuffix("Z")
