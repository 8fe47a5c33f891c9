"""``login``: user and password go into the rc file, and nowhere else.

The password is asked for without echo, is no option, and is never printed.
"""

from __future__ import annotations

import getpass
import warnings
from typing import TYPE_CHECKING

import click

from hda_fsspec.cli.commands import Options, command, json_option
from hda_fsspec.cli.terminal import ask, echo, echo_json, note
from hda_fsspec.errors import ConfigurationError, HDAError, note_once
from hda_fsspec.printable import printable

if TYPE_CHECKING:
    from pathlib import Path


@command("hda-fsspec login", "hda-fsspec login --check --user ann")
@click.option("--check", "is_checked", is_flag=True, help="try them at the service first")
@json_option
def login(options: Options, is_checked: bool, is_json: bool) -> None:
    """Write user and password into ~/.hdarc.

    Asks for both; other lines of the file stay, and its mode is 0600. HDA_RC names another file.
    """
    from hda_fsspec.settings import Settings, rc_path
    from hda_fsspec.settings.rcfile import read_rc, tell_exposure, write_rc

    path = rc_path()
    tell_exposure(path, say=lambda message: note(f"note: {message}"))
    known = read_rc(path).get("user")
    user = options.given.get("user") or _ask_user(known)
    password = _ask_password(user, path)
    for name, text in (("user name", user), ("password", password)):
        if not text or text != text.strip() or not text.isprintable():
            msg = (
                f"Cannot write this {name} into {path}: it is empty, or begins or ends with a "
                "space, or holds a control character. Nothing was written."
            )
            raise ConfigurationError(msg)
    address = _check(options, user, password) if is_checked else None
    if address is not None and not is_json:
        echo(f"The service at {address} accepts them.")
    write_rc(path, {"user": user, "password": password})
    if is_json:
        echo_json({"user": user, "file": str(path), "checked": is_checked})
    else:
        echo(f"Wrote user and password of {user} to {path} (mode 0600).")
    for name, source in Settings.sources(**options.given).items():
        if name in {"user", "password"} and source.startswith(("environment", "fsspec")):
            note(f"note: {source} comes before {path}")


def _ask_user(known: str | None) -> str:
    return ask(f"User name [{known}]: " if known else "User name: ") or known or ""


def _ask_password(user: str, path: Path) -> str:
    with warnings.catch_warnings():
        # Where it cannot hide what is typed, getpass warns and reads on.
        warnings.simplefilter("error", getpass.GetPassWarning)
        try:
            return getpass.getpass(f"Password of {printable(user)}: ")
        except (getpass.GetPassWarning, EOFError) as err:
            msg = (
                "Cannot ask for a password: there is no terminal that can hide it, and none is "
                "taken from a pipe. Run it in a terminal, or write "
                f"'user: ...' and 'password: ...' into {path} with an editor, mode 0600."
            )
            raise ConfigurationError(msg) from err


def _check(options: Options, user: str, password: str) -> str:
    """Return the address of the service, which accepts user and password; else raise."""
    from hda_fsspec.client import Client
    from hda_fsspec.settings import Settings

    given = {**options.given, "user": user, "password": password}
    products = Client(Settings.resolve(**given))
    try:
        products.catalogue.terms.status()
    except HDAError as err:
        note_once(err, "Nothing was written.")
        raise
    finally:
        products.close()
    return products.settings.endpoint_url
