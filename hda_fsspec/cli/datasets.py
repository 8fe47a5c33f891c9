"""``datasets``: which data sets there are, by words, period, box and family."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence

import click

from hda_fsspec.cli.commands import Options, command, json_option
from hda_fsspec.cli.terminal import echo_json, echo_table, is_terminal, note
from hda_fsspec.errors import not_there
from hda_fsspec.printable import plural


@command(
    "hda-fsspec datasets sea surface temperature",
    "hda-fsspec datasets 'chloro*' mediterranean --period 2020/2023",
    "hda-fsspec datasets ice --bbox 10,53,30,66 --family MO",
    "hda-fsspec datasets --json sentinel-3",
)
@click.argument("words", metavar="[WORDS]...", nargs=-1)
@click.option(
    "--period",
    metavar="START/END",
    help="what they cover some of, such as 2024, 2024-05, 2020/2023 or 2020/..",
)
@click.option("--bbox", metavar="W,S,E,N", help="the box in degrees that they cover some of")
@click.option("--family", metavar="NAME", help="the beginning of their ids, such as MO or EO:EUM")
@click.option("--refresh", is_flag=True, help="ask for the list anew, which is kept for a day")
@json_option
def datasets(  # noqa: PLR0917  (click gives them by name)
    options: Options,
    words: Sequence[str],
    period: str | None,
    bbox: str | None,
    family: str | None,
    refresh: bool,
    is_json: bool,
) -> None:
    """Find data sets by words of their titles, ids and abstracts.

    All words must be there, in any order and case; * and ? stand for letters. What fits best comes
    first. Those that do not tell their period or box may fit, and are counted at the end.
    """
    from hda_fsspec.catalogue.dataset_search import Wanted
    from hda_fsspec.views.datasets import find_view

    # Not by the filesystem, the import of which takes as long as all the rest.
    wanted = Wanted.read(words, period=period, bbox=bbox, family=family)
    view = find_view(options.client.datasets(refresh=refresh), wanted)
    if is_json:
        echo_json([dataclasses.asdict(dataset) for dataset in view])
        return
    if not view:
        told = " ".join(words)
        filtered = [name for name, value in (("--period", period), ("--bbox", bbox)) if value]
        filtered += ["--family"] if family else []
        without = f", or {' or '.join(filtered)}" if filtered else ""
        msg = (
            f"None of the {plural(view.among, 'data set')} has all of {told!r} in its title, id or "
            f"abstract{' and fits the rest' if filtered else ''}. Leave a word out{without}, or "
            "write its beginning and *; hda-fsspec datasets lists all."
        )
        raise not_there(msg)
    rows = [("DATA SET", "TITLE"), *((dataset.dataset_id, dataset.title) for dataset in view)]
    echo_table(rows, whole=[0])
    if is_terminal(sys.stdout):
        note(f"{plural(len(view), 'data set')} of {view.among}")
    if view.remark is not None:
        note(view.remark)
