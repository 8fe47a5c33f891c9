"""``terms``: the licences of data sets, and saying yes to them by hand."""

from __future__ import annotations

import argparse

from hda_fsspec.cli.terminal import open_filesystem, plural, resolve_settings, say
from hda_fsspec.errors import LocationError
from hda_fsspec.paths.locations import Location


def list_terms(args: argparse.Namespace) -> None:
    """List all licences, or those of a data set, and whether the account accepted each."""
    from hda_fsspec.client import get_client

    catalogue = get_client(resolve_settings(args)).catalogue
    wanted = None if args.dataset is None else catalogue.dataset(_dataset(args.dataset)).terms
    states = catalogue.licences.status()
    for term in sorted(states) if wanted is None else wanted:
        say(f"{'accepted' if states.get(term) else 'NOT accepted':<12}  {term}")
    if wanted == ():
        say(f"{args.dataset} has no licence that must be accepted.")


def accept(args: argparse.Namespace) -> None:
    """Accept the licences of a data set."""
    dataset = _dataset(args.dataset)
    accepted = open_filesystem(args).accept_terms(Location(dataset))
    if not accepted:
        say(f"All licences of {dataset} were accepted before.")
        return
    say(f"Accepted {plural(len(accepted), 'licence')} of {dataset}:", *accepted)


def _dataset(text: str) -> str:
    """Return the data set that an id or a path names."""
    dataset = Location.parse(text).dataset
    if dataset is None:
        msg = f"{text!r} names no data set. An example: EO:EUM:DAT:SENTINEL-3:OL_2_WFR___"
        raise LocationError(msg)
    return dataset
