"""``open``: what a path is as a data set of xarray."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from hda_fsspec.cli.commands import Options, command, json_option
from hda_fsspec.cli.terminal import echo_block, echo_json

if TYPE_CHECKING:
    import xarray as xr

F = TypeVar("F", bound=Callable[..., Any])


def reading_options(function: F) -> F:
    """Give a command the options that say what of a product is read."""
    member = click.option("--member", metavar="GLOB", help="files inside an archive product")
    group = click.option("--group", metavar="GROUP", help="of a netCDF-4 or HDF5 product")
    return group(member(function))


@command(
    "hda-fsspec open hda://DATASET/startdate=2024-05-01/enddate=2024-05-31",
    "hda-fsspec open --group data/ocean hda://DATASET/startdate=2024-05-01/PRODUCT",
)
@click.argument("path", metavar="PATH")
@reading_options
@json_option
def open_(
    options: Options, path: str, group: str | None, member: str | None, is_json: bool
) -> None:
    """Open a product or query with xarray, and show what it is.

    A product that is not local is ordered. A query is one lazy data set, of which only what tells
    how the others are is ordered: one product of each kind, unless one of it is local or was opened
    before, and seldom a second or third, where their times leave a doubt.
    """
    ds = open_with_xarray(options, path, group=group, member=member)
    if is_json:
        echo_json(ds.to_dict(data=False))
    else:
        echo_block(repr(ds))


def open_with_xarray(
    options: Options, path: str, *, group: str | None, member: str | None
) -> xr.Dataset:
    """Open a path as xarray does, with the settings of the options."""
    import xarray as xr

    return xr.open_dataset(
        path,
        engine="hda",
        cache=False,
        storage_options=options.given,
        group=group,
        member=member,
    )
