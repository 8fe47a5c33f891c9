"""``open`` and ``plan``: what a path is as a data set, and what a selection of it would cost."""

from __future__ import annotations

import argparse
import contextlib
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hda_fsspec.cli.terminal import (
    format_bytes,
    given_settings,
    plural,
    resolve_settings,
    say_block,
)
from hda_fsspec.errors import QueryError
from hda_fsspec.paths.locations import Location
from hda_fsspec.printable import printable

if TYPE_CHECKING:
    import xarray as xr

    from hda_fsspec.client import OrderNeededError
    from hda_fsspec.records import Product

# A clock has colons of its own.
_VALUE = r"[^:]*?T\d\d(?::\d\d){0,2}(?:\.\d+)?Z?|[^:]*"
_SELECTION = re.compile(rf"(?P<dim>[^=]+)=(?P<first>{_VALUE})(?P<is_range>:(?P<last>{_VALUE}))?")


def open_(args: argparse.Namespace) -> None:
    """Open a product, or a query as one lazy data set, and print what it is."""
    say_block(repr(_open(args)))


def plan(args: argparse.Namespace) -> None:
    """Print what making a query local, or computing a selection of it, would cost."""
    from hda_fsspec.client import OrderNeededError, get_client, without_orders
    from hda_fsspec.fs.info import products_of
    from hda_fsspec.planning.plan import plan_of

    selections = [_parsed(text) for text in args.sel]
    client = get_client(resolve_settings(args))
    found = products_of(client, args.path)
    if not selections:
        say_block(repr(plan_of(client, found)))
        return
    try:
        with contextlib.nullcontext() if args.order_template else without_orders():
            ds = _open(args)
    except OrderNeededError as err:
        raise _needs_template(args.path, found, err) from err
    for selection in selections:
        ds = _select(ds, selection)
    say_block(repr(ds.hda.plan()))


def _needs_template(path: str, found: Sequence[Product], err: OrderNeededError) -> QueryError:
    product, wanted = err.product, printable(err.product.product_id)
    size = "" if product.size is None else f" (about {format_bytes(product.size)})"
    location = Location.parse(path)
    without = "" if location.product else ", or narrow startdate and enddate in the path"
    msg = (
        f"Cannot tell what --sel selects of {location.path}: its {plural(len(found), 'product')} "
        f"can be selected from by what stands in one of them, and {wanted}{size}, "
        f"which is needed for that, is not local. Nothing was ordered. Leave --sel out{without}: "
        "that is planned from the listing. Or add --order-template, which orders it, and seldom "
        "one or two others where the times of the products cannot be told by one."
    )
    return QueryError(msg, key="sel")


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


def _parsed(text: str) -> re.Match[str]:
    match = _SELECTION.fullmatch(text)
    if match is None:
        msg = f"Cannot read --sel {text!r}: write DIM=VALUE or DIM=FIRST:LAST."
        raise QueryError(msg, key="sel")
    return match


def _select(ds: xr.Dataset, match: re.Match[str]) -> xr.Dataset:
    """Select what ``DIM=VALUE`` or ``DIM=FIRST:LAST`` says."""
    dim, text = match["dim"], match[0]
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
