"""``open``: what a path is as a data set of xarray."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from hda_fsspec.cli.commands import Options, command, json_option
from hda_fsspec.cli.terminal import echo_block, echo_json
from hda_fsspec.errors import LocationError
from hda_fsspec.paths.locations import PROTOCOL

if TYPE_CHECKING:
    import xarray as xr

Split = str | dict[str, str | int] | None

F = TypeVar("F", bound=Callable[..., Any])


def reading_options(function: F) -> F:
    """Give a command the options that say what of a product is read."""
    member = click.option("--member", metavar="GLOB", help="files inside an archive product")
    group = click.option("--group", metavar="GROUP", help="of a netCDF-4 or HDF5 product")
    split = click.option(
        "--split",
        metavar="STEP",
        default="auto",
        callback=lambda _context, _parameter, text: parse_split(text),
        help="how a query is cut that the service computes: day, week, month, year, "
        "time=month,variable=1; none for one order  [default: auto]",
    )
    return group(member(split(function)))


def parse_split(text: str) -> Split:
    """Return the value of the option ``split`` that a text stands for.

    >>> parse_split("month"), parse_split("time=month,variable=1"), parse_split("none")
    ('month', {'time': 'month', 'variable': 1}, None)
    """
    if text.strip().lower() == "none":
        return None
    if "=" not in text:
        return text
    found: dict[str, str | int] = {}
    for part in text.split(","):
        name, _, value = (text.strip() for text in part.partition("="))
        found[name] = int(value) if value.isascii() and value.isdigit() else value
    return found


@command(
    "hda-fsspec open hda://DATASET/startdate=2024-05-01/enddate=2024-05-31",
    "hda-fsspec open --split month hda://DATASET/startdate=2000-01-01/enddate=2023-12-31",
    "hda-fsspec open --group data/ocean hda://DATASET/startdate=2024-05-01/PRODUCT",
    "hda-fsspec open --mosaic hda://DATASET/bbox=7,45,9,47",
)
@click.argument("path", metavar="PATH")
@reading_options
@click.option("--mosaic", is_flag=True, help="put raster tiles side by side, as one data set")
@json_option
def open_(  # noqa: PLR0917  (click gives them by name)
    options: Options,
    path: str,
    group: str | None,
    member: str | None,
    split: Split,
    mosaic: bool,
    is_json: bool,
) -> None:
    """Open a product or query with xarray, and show what it is.

    A product that is not local is ordered. A query is one lazy data set, of which only what tells
    how the others are is ordered: one product of each kind, unless one of it is local or was opened
    before, and seldom a second or third, where their times leave a doubt.
    """
    how = {"group": group, "member": member, "split": split, "mosaic": mosaic}
    ds = open_with_xarray(options, path, **how)
    if is_json:
        echo_json(ds.to_dict(data=False))
    else:
        echo_block(repr(ds))


def open_with_xarray(options: Options, path: str, **how: Any) -> xr.Dataset:
    """Open a path as xarray does, with the settings of the options.

    Parameters
    ----------
    options : Options
        Of the command line.
    path : str
        A product or query.
    **how
        Options of the engine.
    """
    if not path.startswith(f"{PROTOCOL}://"):
        msg = f"This opens hda:// paths, and {path!r} is none. Other files are opened in Python."
        raise LocationError(msg)
    import xarray as xr

    return xr.open_dataset(path, engine="hda", cache=False, storage_options=options.given, **how)
