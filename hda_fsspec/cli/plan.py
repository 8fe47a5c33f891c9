"""``plan``: what making a query local, or computing a selection of it, would cost."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from hda_fsspec.cli.commands import Options, command, json_option
from hda_fsspec.cli.first_and_last import slice_options
from hda_fsspec.cli.open import Split, open_with_xarray, reading_options
from hda_fsspec.cli.terminal import echo_block, echo_json
from hda_fsspec.errors import QueryError
from hda_fsspec.paths.locations import Location
from hda_fsspec.printable import format_bytes, plural, printable

if TYPE_CHECKING:
    import xarray as xr

    from hda_fsspec.client import Client, OrderNeededError
    from hda_fsspec.planning.piece_costs import PieceCosts
    from hda_fsspec.planning.plan import Plan
    from hda_fsspec.records import Product

# A clock has colons of its own.
_VALUE = r"[^:]*?T\d\d(?::\d\d){0,2}(?:\.\d+)?Z?|[^:]*"
_SELECTION = re.compile(rf"(?P<dim>[^=]+)=(?P<first>{_VALUE})(?P<is_range>:(?P<last>{_VALUE}))?")


@command(
    "hda-fsspec plan hda://DATASET/startdate=2006-01-01/enddate=2006-12-31",
    "hda-fsspec plan --split month hda://DATASET/startdate=2000-01-01/enddate=2023-12-31",
    "hda-fsspec plan --sel time=2006-04:2006-09 --sel lat=-5:5 hda://DATASET/startdate=2006-01-01",
)
@click.argument("path", metavar="PATH")
@click.option(
    "--sel",
    "selections",
    metavar="DIM=FIRST:LAST",
    multiple=True,
    help="only this part, such as time=2006-04:2006-09; can be given several times",
)
@click.option(
    "--order-template",
    "may_order",
    is_flag=True,
    help="with --sel: order the product that shows what there is to select, if none is local",
)
@reading_options
@slice_options
@json_option
def plan(  # noqa: PLR0917  (click gives them by name)
    options: Options,
    path: str,
    selections: Sequence[str],
    may_order: bool,
    group: str | None,
    member: str | None,
    split: Split,
    first: int | None,
    last: int | None,
    is_json: bool,
) -> None:
    """Show how large a query is, and what fetching it would cost.

    Or a selection of it: orders, bytes, time by the quota, and whether there is room. Nothing is
    ordered, unless --order-template allows it.
    """
    from hda_fsspec.client import OrderNeededError, without_orders
    from hda_fsspec.planning.plan import plan_of

    parsed = [_parsed(text) for text in selections]
    is_sliced = first is not None or last is not None
    if parsed and is_sliced:
        msg = "--sel goes by what is in the products, and --first and --last by their starts"
        raise click.UsageError(f"{msg}: give one of them")
    client = options.client
    found, cut = _wanted(client, path, split)
    if is_sliced:
        found = _sliced(found, cut, first, last)
    if not parsed:
        _echo(plan_of(client, found, cut), is_json=is_json)
        return
    try:
        with contextlib.nullcontext() if may_order else without_orders():
            ds = open_with_xarray(options, path, group=group, member=member, split=split)
    except OrderNeededError as err:
        raise _needs_template(path, found, err) from err
    for selection in parsed:
        ds = _select(ds, selection)
    _echo(ds.hda.plan(), is_json=is_json)


def _wanted(client: Client, path: str, split: Split) -> tuple[Sequence[Product], PieceCosts | None]:
    """Return the products of a path, or the pieces that it is cut into and what these cost."""
    import numpy as np

    from hda_fsspec.fs.info import products_of
    from hda_fsspec.lazy.product_table import ProductTable
    from hda_fsspec.planning.piece_costs import cut_of
    from hda_fsspec.stack.open_split import cut, pieces_of

    location = Location.parse(path)
    if location.product is not None or not location.query:
        return products_of(client, path), None
    grid, _ = cut(client, location, split)
    if grid is None:
        return products_of(client, path), None
    table = ProductTable(pieces_of(client, grid, datetime.now(UTC)).products, grid)
    return table, cut_of(client, [(table, np.arange(len(table)))])


def _sliced(
    found: Sequence[Product], cut: PieceCosts | None, first: int | None, last: int | None
) -> list[Product]:
    """Return the earliest or the latest products, as ls and get take them."""
    if cut is not None:
        msg = (
            "--first and --last take some of many products, and the service makes one of this "
            "query: narrow startdate and enddate in the path."
        )
        raise QueryError(msg, key="first" if last is None else "last")
    ordered = sorted(found, key=lambda product: product.startdate or "")
    return ordered[:first] if last is None else ordered[-last:]


def _echo(plan: Plan, *, is_json: bool) -> None:
    if not is_json:
        echo_block(repr(plan), is_folded=True)
        return
    names = (
        *("local", "orders_needed", "under_way", "bytes_known", "bytes_estimated", "sizes_unknown"),
        *("bytes_needed", "cache_bound", "disk_free", "disk_room", "fits_cache", "fits_disk"),
        *("fits", "quota_limit", "quota_left", "seconds_at_quota", "hours_of_quota"),
        *("fields", "split"),
    )
    facts = {name: getattr(plan, name) for name in names}
    facts["splits"] = [dataclasses.asdict(split) for split in plan.splits]
    echo_json({"products": [product.product_id for product in plan.products], **facts})


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
        ends = f"goes from {index[0]} to {index[-1]}" if len(index) else "is empty"
        kind = "number" if is_number else "date or time, such as 2006-04"
        why = "nothing lies there" if isinstance(err, KeyError) else f"write a {kind}"
        msg = f"Cannot take {text!r} of {dim!r}, which {ends}: {why}."
        raise QueryError(msg, key="sel") from err


def _value(text: str | None, *, is_number: bool) -> Any:
    if not text:
        return None
    return float(text) if is_number else text.removesuffix("Z")
