"""``orders``: what was ordered and has not come, since when, and how the quota stands."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING

from hda_fsspec.cli.commands import Options, command, json_option
from hda_fsspec.cli.terminal import echo, echo_json, echo_table, local_time, note
from hda_fsspec.printable import duration, plural

if TYPE_CHECKING:
    from hda_fsspec.fetching.quota import QuotaView


@command("hda-fsspec orders", "hda-fsspec orders --json")
@json_option
def orders(options: Options, is_json: bool) -> None:
    """Show the orders under way, since when, and how the quota stands.

    What is "being prepared" is in the queue of the service, for minutes or hours: nothing here
    makes it faster. Orders are those of your account on this cache, of the last week; what was
    interrupted is taken up again by the next get or open, and costs no quota. What still waits for
    quota is not among them. Nothing is ordered.
    """
    client = options.client
    found = client.open_orders()
    quota = client.quota()
    now = time.time()
    if is_json:
        listed = [
            {
                "dataset_id": order.product.dataset_id,
                "product_id": order.product.product_id,
                "state": order.state,
                "message": order.message,
                "placed_at": order.placed_at,
                "download_id": order.download_id,
            }
            for order in found
        ]
        echo_json({"orders": listed, "quota": dataclasses.asdict(quota)})
        return
    rows = [
        (
            (order.state or "ordered") + (f": {order.message}" if order.message else ""),
            f"{local_time(order.placed_at)}, {duration(now - order.placed_at)} ago",
            order.product.product_id,
        )
        for order in found
    ]
    if rows:
        echo_table([("STATE", "ORDERED", "PRODUCT"), *rows], whole=[2])
        echo("")
    else:
        note("no orders under way")
    if quota.closed_until is not None and quota.closed_until > now:
        # Only the process that waits knows for what.
        note("what a running get or open waits to order is not listed until it is ordered")
    echo(f"quota: {describe_quota(quota, now)}")


def describe_quota(quota: QuotaView, now: float) -> str:
    """Say in words how the quota stands, and when an order is possible again."""
    if quota.closed_until is not None and quota.closed_until > now:
        ends_in = duration(quota.closed_until - now)
        limit = "" if quota.limit is None else f"all {plural(quota.limit, 'order')} an hour are "
        until = local_time(quota.closed_until)
        return f"{limit}used up; the next one goes out at {until}, in {ends_in}"
    if quota.limit is None or quota.left is None:
        return "the service has not told it yet"
    return f"{quota.left} of {plural(quota.limit, 'order')} an hour left"
