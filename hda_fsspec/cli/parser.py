"""The words of the command line: commands, their options, and the help that explains them.

It imports no command: each one is named as text and loaded when it runs.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any, NoReturn

from hda_fsspec._version import __version__
from hda_fsspec.localpaths import local_path
from hda_fsspec.printable import printable

_DESCRIPTION = """\
Copernicus data of WEkEO as files. A query is a path:
  hda://DATASET/startdate=2024-05-01/enddate=2024-05-02/PRODUCT
User and password come from HDA_USER and HDA_PASSWORD, or from ~/.hdarc."""

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}


def build_parser() -> argparse.ArgumentParser:
    """Return the parser; what it parses has ``command``, the name of the function to call."""
    common = _common_options()
    parser = _Parser(
        prog="hda-fsspec",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[common],
    )
    parser.add_argument("--version", action="version", version=f"hda-fsspec {__version__}")
    commands = _Commands(parser, common, "command")
    _add_looking(commands)
    _add_datasets(commands)
    _add_licences(commands)
    _add_cache(commands)
    _add_account(commands)
    _add_serving(commands)
    return parser


class _Parser(argparse.ArgumentParser):
    """Repeats nothing raw of what was pasted into a command."""

    def error(self, message: str) -> NoReturn:
        """Print a usage error, and exit."""
        super().error(printable(message))


class _Commands:
    """Adds commands to a parser; all of them take the common options."""

    def __init__(
        self, parser: argparse.ArgumentParser, common: argparse.ArgumentParser, title: str
    ) -> None:
        self._common = common
        self._group = parser.add_subparsers(metavar=title.upper(), required=True)

    def add(self, name: str, command: str, text: str) -> argparse.ArgumentParser:
        """Add a command that runs ``module:function`` of this package."""
        parser = self._group.add_parser(
            name, help=text, description=f"{text[0].upper()}{text[1:]}.", parents=[self._common]
        )
        parser.set_defaults(command=f"hda_fsspec.cli.{command}")
        return parser

    def nest(self, name: str, text: str) -> _Commands:
        """Add a command that has commands of its own."""
        parser = self._group.add_parser(name, help=text, parents=[self._common])
        return _Commands(parser, self._common, "command")


def _common_options() -> argparse.ArgumentParser:
    # Suppressed defaults: an option counts before and after the command's name.
    common = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    group = common.add_argument_group("settings")
    group.add_argument("--endpoint-url", metavar="URL", help="address of the broker")
    group.add_argument("--user", help="user name; the password is never an option")
    group.add_argument("--cache-dir", metavar="DIR", help="the cache folder")
    group.add_argument("--offline", action="store_true", help="never touch the network")
    group.add_argument(
        "--debug", action="store_true", help="show the log, and the traceback of an error"
    )
    return common


def _add_looking(commands: _Commands) -> None:
    ls = commands.add("ls", "looking:ls", "list data sets, or the products of a query or pattern")
    ls.add_argument("-l", dest="is_long", action="store_true", help="with size, start and title")
    ls.add_argument("path", metavar="PATH", nargs="?", default="hda://")
    info = commands.add("info", "looking:info", "show what is known of a path")
    info.add_argument("--json", action="store_true", help="as one JSON object")
    info.add_argument("path", metavar="PATH")
    get = commands.add("get", "fetching:get", "copy products into a folder, and print the paths")
    get.usage = "hda-fsspec get [options] PATH... [FOLDER]"
    get.add_argument(
        "--delivered-names",
        action="store_true",
        help="name files as the service delivers them, not by product id",
    )
    get.add_argument(
        "paths",
        metavar="PATH",
        nargs="+",
        help="products, queries and patterns, then a local folder (by default this one)",
    )


def _add_datasets(commands: _Commands) -> None:
    opened = commands.add(
        "open", "datasets:open_", "open a product or query with xarray, and show what it is"
    )
    plan = commands.add(
        "plan",
        "datasets:plan",
        "show what fetching a query, or a selection of it, would cost; orders nothing",
    )
    plan.add_argument(
        "--sel",
        metavar="DIM=FIRST:LAST",
        action="append",
        default=[],
        help="only this part, such as time=2006-04:2006-09; can be given several times",
    )
    plan.add_argument(
        "--order-template",
        action="store_true",
        help="with --sel: order the product that shows what there is to select, if none is local",
    )
    for command in (opened, plan):
        command.add_argument("--group", metavar="GROUP", help="of a netCDF-4 or HDF5 product")
        command.add_argument("--member", metavar="GLOB", help="files inside an archive product")
        command.add_argument("path", metavar="PATH")


def _add_licences(commands: _Commands) -> None:
    terms = commands.nest("terms", "see and accept the licences of data sets")
    listing = terms.add(
        "list", "licences:list_terms", "list licences and whether you accepted them"
    )
    listing.add_argument("dataset", metavar="DATASET", nargs="?")
    accept = terms.add("accept", "licences:accept", "accept the licences of a data set, for ever")
    accept.add_argument("dataset", metavar="DATASET")


def _add_cache(commands: _Commands) -> None:
    cache = commands.nest("cache", "look after the cache folder")
    cache.add("ls", "caching:ls", "list the products, last used first")
    cache.add("du", "caching:du", "show how much the cache holds and may hold")
    prune = cache.add("prune", "caching:prune", "remove what is of no use, down to the bound")
    prune.add_argument(
        "--older-than", metavar="AGE", type=_age, help="and what was not used for 30d, 12h, 2w, ..."
    )
    verify = cache.add("verify", "caching:verify", "read every product again and check it")
    verify.add_argument("--remove", action="store_true", help="remove what is damaged")
    clear = cache.add("clear", "caching:clear", "remove all products, headers, listings")
    clear.add_argument("--yes", action="store_true", help="do not ask")


def _add_account(commands: _Commands) -> None:
    login = commands.add("login", "account:login", "write user and password into ~/.hdarc")
    login.add_argument("--check", action="store_true", help="try them at the service first")
    commands.add("doctor", "doctor:doctor", "check settings, cache, login and installation")


def _names(text: str) -> tuple[str, ...]:
    return tuple(filter(None, text.split(",")))


def _add_serving(commands: _Commands) -> None:
    emulator = commands.add(
        "emulator", "serving:emulator", "serve a folder as the service would, until interrupted"
    )
    emulator.add_argument(
        "source",
        metavar="DIR_OR_JSON",
        type=Path,
        help="one sub-folder per data set, or a JSON file",
    )

    def option(name: str, kind: Any, metavar: str, text: str) -> None:
        emulator.add_argument(
            name, type=kind, metavar=metavar, default=argparse.SUPPRESS, help=text
        )

    option("--port", int, "PORT", "by default a free one")
    option("--profile", str, "NAME", "catalogue times: day (the default), month, exact, ...")
    option("--polls", int, "N", "status polls before an order is ready")
    option("--preparation", float, "SECONDS", "time that an order is being prepared")
    option("--latency", float, "SECONDS", "added to every answer")
    option("--rate", float, "BYTES", "bytes per second of a download")
    option("--quota", int, "N", "new orders per hour")
    option("--fault-rate", float, "SHARE", "spoil so large a share of all answers at random")
    option("--fault-seed", int, "N", "which answers that is")
    option("--odd", _names, "NAMES", "answers that are odd for good, such as head-405,schema-404")
    option("--token-seconds", float, "SECONDS", "life of a token")
    option("--paging", str, "STYLE", "total or next")
    option("--sizes", str, "KIND", "sizes in the catalogue: exact, ND, estimate or missing")
    demo = commands.add("demo", "serving:demo", "show the main job on real products, locally")
    demo.add_argument("--keep", metavar="DIR", type=_folder, help="keep products and cache here")


def _folder(text: str) -> Path:
    try:
        return Path(local_path(text))
    except ValueError as err:
        raise argparse.ArgumentTypeError(str(err)) from err


def _age(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", text.strip().lower())
    if match is None:
        msg = f"{text!r} is no age: write a number and s, m, h, d or w, such as 30d"
        raise argparse.ArgumentTypeError(msg)
    return float(match.group(1)) * _SECONDS[match.group(2)]
