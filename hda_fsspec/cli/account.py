"""``login``: user and password go into the rc file, and nowhere else.

The password is asked for without echo, is no option, and is never printed.
"""

from __future__ import annotations

import argparse
import getpass
import warnings

from hda_fsspec.cli.terminal import ask, given_settings, remark, say
from hda_fsspec.errors import ConfigurationError, HDAError, note_once
from hda_fsspec.printable import printable
from hda_fsspec.settings import Settings, rc_path
from hda_fsspec.settings.rcfile import read_rc, tell_exposure, write_rc


def login(args: argparse.Namespace) -> None:
    """Ask for user and password, and write them into the rc file."""
    path = rc_path()
    tell_exposure(path, say=lambda message: remark(f"note: {message}"))
    known = read_rc(path).get("user")
    user = getattr(args, "user", None) or _ask_user(known)
    password = _ask_password(user)
    for name, text in (("user name", user), ("password", password)):
        if not text or text != text.strip() or not text.isprintable():
            msg = (
                f"Cannot write this {name} into {path}: it is empty, or begins or ends with a "
                "space, or holds a control character. Nothing was written."
            )
            raise ConfigurationError(msg)
    if args.check:
        _check(args, user, password)
    write_rc(path, {"user": user, "password": password})
    say(f"Wrote user and password of {user} to {path} (mode 0600).")
    for name, source in Settings.sources(**given_settings(args)).items():
        if name in {"user", "password"} and source.startswith(("environment", "fsspec")):
            remark(f"note: {source} comes before {path}")


def _ask_user(known: str | None) -> str:
    return ask(f"User name [{known}]: " if known else "User name: ") or known or ""


def _ask_password(user: str) -> str:
    with warnings.catch_warnings():
        # Where it cannot hide what is typed, getpass warns and reads on.
        warnings.simplefilter("error", getpass.GetPassWarning)
        try:
            return getpass.getpass(f"Password of {printable(user)}: ")
        except (getpass.GetPassWarning, EOFError) as err:
            msg = (
                "Cannot ask for a password: there is no terminal that can hide it. Write "
                f"'user: ...' and 'password: ...' into {rc_path()} with an editor, mode 0600."
            )
            raise ConfigurationError(msg) from err


def _check(args: argparse.Namespace, user: str, password: str) -> None:
    from hda_fsspec.client import Client

    given = {**given_settings(args), "user": user, "password": password}
    client = Client(Settings.resolve(**given))
    try:
        client.catalogue.licences.status()
    except HDAError as err:
        note_once(err, "Nothing was written.")
        raise
    finally:
        client.close()
    say(f"The service at {client.settings.endpoint_url} accepts them.")
