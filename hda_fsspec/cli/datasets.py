"""``datasets``: which data sets there are, by words."""

from __future__ import annotations

import fnmatch
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from hda_fsspec.cli.commands import Options, command, json_option
from hda_fsspec.cli.terminal import echo_json, echo_table, is_terminal, note
from hda_fsspec.errors import not_there
from hda_fsspec.printable import plural

if TYPE_CHECKING:
    from hda_fsspec.records import Dataset

_MAGIC = re.compile(r"[*?\[]")
# How well a word fits: as a word of the title, as the beginning of one, anywhere. The title is for
# people, so that it counts more than the id.
_WHOLE, _BEGIN, _WITHIN = 4.0, 2.0, 1.0
_ID_COUNTS = 0.75


@command(
    "hda-fsspec datasets sea surface temperature",
    "hda-fsspec datasets 'chloro*' mediterranean",
    "hda-fsspec datasets --json sentinel-3",
)
@click.argument("words", metavar="[WORDS]...", nargs=-1)
@json_option
def datasets(options: Options, words: Sequence[str], is_json: bool) -> None:
    """Find data sets by words of their titles and ids.

    All words must be there, in any order and case; * and ? stand for letters. What fits best comes
    first. The list of all is kept for as long as listings are, so that it is seldom asked for.
    """
    every = options.client.datasets()
    found = rank(every, words)
    if is_json:
        echo_json([{"dataset_id": one.dataset_id, "title": one.title} for one in found])
        return
    if not found:
        told = " ".join(words)
        msg = (
            f"No title or id of the {plural(len(every), 'data set')} holds all of {told!r}. Leave "
            "a word out, or write its beginning and *; hda-fsspec datasets lists all."
        )
        raise not_there(msg)
    rows = [("DATA SET", "TITLE"), *((one.dataset_id, one.title) for one in found)]
    echo_table(rows, whole=[0])
    if is_terminal(sys.stdout):
        note(f"{plural(len(found), 'data set')} of {len(every)}")


def rank(every: Sequence[Dataset], words: Sequence[str]) -> list[Dataset]:
    """Return the data sets of which each word is in title or id, what fits best first.

    Without words all of them, in their order.
    """
    wanted = [word.casefold() for text in words for word in text.split()]
    scored = []
    for dataset in every:
        title, name = dataset.title.casefold(), dataset.dataset_id.casefold()
        scores = [max(_score(word, title), _ID_COUNTS * _score(word, name)) for word in wanted]
        if all(scores):
            scored.append((sum(scores), dataset))
    # Sorting keeps the order of what fits alike.
    return [dataset for _, dataset in sorted(scored, key=lambda pair: -pair[0])]


def _score(word: str, text: str) -> float:
    """Return how well a word, or a pattern of one, fits a text; 0 if it does not."""
    parts = re.findall(r"[^\W_]+", text)
    if _MAGIC.search(word):
        return _BEGIN if any(fnmatch.fnmatchcase(part, word) for part in [*parts, text]) else 0.0
    if word in parts:
        return _WHOLE
    if word not in text:
        return 0.0
    return _BEGIN if any(part.startswith(word) for part in parts) else _WITHIN
