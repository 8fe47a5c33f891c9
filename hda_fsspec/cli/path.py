"""``path``: the path of what WEkEO's web page shows under "Show API request"."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from hda_fsspec.cli.commands import Options, command, json_option
from hda_fsspec.cli.terminal import echo_block, echo_json, echo_locations
from hda_fsspec.errors import LocationError
from hda_fsspec.paths.locations import Location
from hda_fsspec.printable import python_text


@command(
    "hda-fsspec path request.json",
    "hda-fsspec path --code request.json",
    "xclip -o | hda-fsspec path -",
)
@click.argument("request", metavar="REQUEST.json")
@click.option("--code", "is_code", is_flag=True, help="and the Python to paste")
@json_option
def path(options: Options, request: str, is_code: bool, is_json: bool) -> None:  # noqa: ARG001
    """Print the path of a request that WEkEO's web page shows.

    Copy what "Show API request" shows into a file, or give - to read it from standard input. What
    cannot be translated is said, and ends with exit code 1. Nobody is asked.
    """
    text = _read(request)
    location = Location.from_request(text)
    code = _code(location)
    if is_json:
        echo_json({"path": location.path, **({"code": code} if is_code else {})})
        return
    echo_locations(location.path)
    if is_code:
        echo_block(f"\n{code}")


def _read(request: str) -> str:
    """Return the text of a request, of a file or of standard input, with braces in front."""
    what = "standard input" if request == "-" else request
    try:
        if request == "-":
            text = "" if sys.stdin is None else sys.stdin.read()
        else:
            text = Path(request).expanduser().read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as err:
        raise _no_request(what, f"it is no text ({err})") from err
    text = text.lstrip("\ufeff \t\r\n")
    if not text.startswith("{"):
        raise _no_request(what, "it is not one JSON object")
    return text


def _no_request(what: str, why: str) -> LocationError:
    msg = (
        f"Cannot read the request in {what}: {why}. Copy the whole JSON that WEkEO's page shows "
        'under "Show API request", from { to }.'
    )
    return LocationError(msg)


def _code(location: Location) -> str:
    """Return Python that opens a path."""
    lines = [
        "import xarray as xr",
        "",
        f"query = {python_text(location.path)}",
        'ds = xr.open_dataset(query, engine="hda", chunks={})',
    ]
    return "\n".join(lines)
