"""``terms``: the licences of data sets, and saying yes to them by hand."""

from __future__ import annotations

import click

from hda_fsspec.cli.commands import Options, command, command_group, json_option
from hda_fsspec.cli.terminal import echo, echo_json
from hda_fsspec.errors import LocationError
from hda_fsspec.paths.locations import Location
from hda_fsspec.printable import plural


@command_group("hda-fsspec terms list DATASET", "hda-fsspec terms accept DATASET")
def terms() -> None:
    """See and accept the licences of data sets."""


@command("hda-fsspec terms list EO:EUM:DAT:SENTINEL-3:OL_2_WFR___", group=terms, name="list")
@click.argument("dataset", metavar="[DATASET]", required=False)
@json_option
def list_terms(options: Options, dataset: str | None, is_json: bool) -> None:
    """List the licences, and whether you accepted them.

    Those of one data set, by its id or a path of it, or all.
    """
    catalogue = options.client.catalogue
    wanted = None if dataset is None else catalogue.datasets.get(_dataset(dataset)).terms
    states = catalogue.terms.status()
    shown = sorted(states) if wanted is None else wanted
    if is_json:
        echo_json([{"term_id": term, "accepted": bool(states.get(term))} for term in shown])
        return
    for term in shown:
        echo(f"{'accepted' if states.get(term) else 'NOT accepted':<12}  {term}")
    if wanted == ():
        echo(f"{dataset} has no licence that must be accepted.")


@command("hda-fsspec terms accept EO:EUM:DAT:SENTINEL-3:OL_2_WFR___", group=terms)
@click.argument("dataset", metavar="DATASET")
@json_option
def accept(options: Options, dataset: str, is_json: bool) -> None:
    """Accept the licences of a data set, for ever."""
    dataset_id = _dataset(dataset)
    accepted = options.filesystem.accept_terms(Location(dataset_id))
    if is_json:
        echo_json({"dataset_id": dataset_id, "accepted": accepted})
    elif accepted:
        echo(f"Accepted {plural(len(accepted), 'licence')} of {dataset_id}:", *accepted)
    else:
        echo(f"All licences of {dataset_id} were accepted before.")


def _dataset(text: str) -> str:
    """Return the data set that an id or a path names."""
    dataset = Location.parse(text).dataset
    if dataset is None:
        msg = f"{text!r} names no data set. An example: EO:EUM:DAT:SENTINEL-3:OL_2_WFR___"
        raise LocationError(msg)
    return dataset
