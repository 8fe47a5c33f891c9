"""The options that take some of many products: the earliest ones, or the latest ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def slice_options(function: F) -> F:
    """Give a command the options ``--first N`` and ``--last N``, of which one can be given."""

    def check(ctx: click.Context, param: click.Parameter, value: int | None) -> int | None:
        other = "last" if param.name == "first" else "first"
        if value is not None and ctx.params.get(other) is not None:
            msg = "--first and --last do not go together"
            raise click.UsageError(msg, ctx)
        return value

    def add(name: str, text: str) -> None:
        number = click.IntRange(min=1)
        click.option(name, type=number, metavar="N", callback=check, help=text)(function)

    add("--last", "only the N latest products")
    add("--first", "only the N earliest products")
    return function


def take(
    found: Sequence[dict[str, Any]], first: int | None, last: int | None
) -> list[dict[str, Any]]:
    """Return the first or the last of some listed products by their starts, or all as they are.

    Those that tell no start come first.
    """
    if first is None and last is None:
        return list(found)
    ordered = sorted(found, key=lambda info: info.get("startdate") or "")
    return ordered[:first] if last is None else ordered[-last:]
