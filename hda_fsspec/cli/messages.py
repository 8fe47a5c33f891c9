"""Messages as the command line says them: options and commands in the place of Python's words.

What has no option is said to be Python's. Paths stay as they are: their keys are no options.
"""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Collection

import click

#: Functions of the filesystem, and the commands that do the same.
_COMMANDS = {
    "accept_terms": "terms accept",
    "datasets": "datasets",
    "download": "get",
    "find": "ls",
    "get": "get",
    "glob": "ls",
    "ls": "ls",
    "prefetch": "get",
    "query": "info",
    "queryables": "info",
}

#: Arguments of Python, some of which are options of some commands.
_ARGUMENTS = (
    *("allow_partial", "bbox", "combine", "concat_dim", "concat_variables", "drop_variables"),
    *("engine", "family", "filter_by_keys", "grid_tolerance", "group", "max_nodes", "member"),
    *("mosaic", "on_missing", "on_overlap", "period", "preprocess", "product_coord"),
    *("product_engine", "product_engine_kwargs", "refresh", "scan", "skip_existing", "split"),
    *("storage_options", "target_options", "use_cftime"),
)

#: Settings, which are options of all commands or variables of the environment.
_SETTINGS = (
    *("cache_dir", "cache_max_bytes", "endpoint_url", "listings_expiry_time", "max_connections"),
    *("max_orders", "max_products", "max_wait", "on_quota", "shared_cache"),
    "shared_cache_options",
)

#: Keys of queries have these names, too: they are options only of commands that have them.
_KEYS = {"bbox", "period", "family"}

_OPTION_NAMES = {"target_options": "target-option"}

_TEXT = r""""(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'"""
_CALL = rf"\((?:{_TEXT}|[^()'\"])*\)"
_VALUE = rf"{_TEXT}|\{{(?:{_TEXT}|[^{{}}\"']|\{{[^{{}}]*\}})*\}}|\[[^\[\]]*\]|…|[\w.+-]*\w"

#: In an example, a file of a name of one's own, which no command makes.
_OWN_NAME = "'name'"

#: What several functions do one command does.
_REPEATED = re.compile(r"(hda-fsspec [a-z]+\b)(?:(?:, | and | or )\1)+")

_WORDS = re.compile(
    rf"""
    (?P<path>hda://\S*)
    | (?P<twice>\bfs\.\w+{_CALL},\ or\ (?:on\ the\ command\ line:\ )?(?=hda-fsspec\ ))
    | \bfs\.(?P<function>\w+)(?:{_CALL})?
    | (?P<python>\b(?:xr|hda_fsspec|fsspec|cfgrib|ds)\.[a-z_]\w*(?:\.\w+)*(?:{_CALL})?)
    | \b(?P<name>{"|".join(_ARGUMENTS)})=(?P<value>{_VALUE})?
    | \b(?P<bare>{"|".join(name for name in _ARGUMENTS if "_" in name)})\b
    | \b(?P<left_out>split|member|group)(?=\ out\b)
    | \b(?P<setting>{"|".join(_SETTINGS)})\b(?:\ \((?P<variable>HDA_[A-Z_]+)\))?
    """,
    re.VERBOSE,
)


def options_of(command: click.Command | None) -> set[str]:
    """Return the long options of a command, without the dashes."""
    params = [] if command is None else command.params
    return {name[2:] for param in params for name in param.opts if name.startswith("--")}


def as_command_says(text: str, options: Collection[str]) -> str:
    """Return a message in the words of a command.

    Parameters
    ----------
    text : str
        What is said to who writes Python.
    options : collection of str
        The options that the command has, without the dashes.

    >>> as_command_says('Choose with member="a b.nc", or with scan=True.', {"member"})
    "Choose with --member 'a b.nc', or with scan=True (in Python)."
    """
    return "\n".join(_line(line, options) for line in text.split("\n"))


def _line(line: str, options: Collection[str]) -> str:
    is_said = False

    def said(match: re.Match[str]) -> str:
        nonlocal is_said
        told = _said(match, options)
        if told is not None:
            return told
        # Once for a line: what follows is plainly of the same kind.
        told = match[0] if is_said else f"{match[0]} (in Python)"
        is_said = True
        return told

    return _REPEATED.sub(r"\1", _WORDS.sub(said, line))


def _said(match: re.Match[str], options: Collection[str]) -> str | None:
    """Return the words for those of Python; None if there are none."""
    told: str | None = None
    name = match["name"] or match["bare"] or match["left_out"]
    if match["path"] or (name in _KEYS and name not in options):
        told = match[0]
    elif match["twice"]:
        told = ""
    elif match["function"]:
        command = _COMMANDS.get(match["function"])
        told = f"hda-fsspec {command}" if command and _OWN_NAME not in match[0] else None
    elif match["setting"]:
        option = _option(match["setting"], options)
        variable = match["variable"] or f"HDA_{match['setting'].upper()}"
        told = variable if option is None else option
        told += f" ({variable})" if option and match["variable"] else ""
    elif name and (option := _option(name, options)):
        value = _shell_value(match["value"])
        told = option if value is None else f"{option} {value}"
    return told


def _option(name: str, options: Collection[str]) -> str | None:
    """Return the option of an argument; None if there is none."""
    option = _OPTION_NAMES.get(name, name.replace("_", "-"))
    return f"--{option}" if option in options else None


def _shell_value(text: str | None) -> str | None:
    """Return what follows an option for a value of Python; None if nothing does.

    >>> _shell_value("{'time': 'month', 'variable': 1}"), _shell_value("None")
    ('time=month,variable=1', 'none')
    """
    if text is None or text == "True":
        return None
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text  # it stands for one, as … does
    if value is None:
        return "none"
    if isinstance(value, dict):
        return shlex.quote(",".join(f"{key}={item}" for key, item in value.items()))
    return shlex.quote(str(value))
