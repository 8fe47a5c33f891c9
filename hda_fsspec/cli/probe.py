"""``doctor --probe``: what a service does, beside what is expected of it, as a table."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from hda_fsspec._version import __version__
from hda_fsspec.cli.commands import Options
from hda_fsspec.cli.terminal import (
    ask,
    echo,
    echo_json,
    echo_table,
    is_terminal,
    note,
)
from hda_fsspec.filenames import plain_name
from hda_fsspec.paths.locations import PROTOCOL, Location
from hda_fsspec.printable import format_bytes, plural, printable

if TYPE_CHECKING:
    from hda_fsspec.probing.facts import Fact
    from hda_fsspec.probing.query import ProbePlan


def probe(
    options: Options,
    dataset: str,
    query: str | None,
    recording: Path | None,
    *,
    is_sure: bool,
    is_json: bool,
) -> int:
    """Probe a service, and print what was found out, also if that ends early."""
    import sys

    from hda_fsspec.probing.contact import first_contact
    from hda_fsspec.probing.facts import FAILED

    settings = options.settings
    path = dataset if dataset.startswith(f"{PROTOCOL}://") else f"{PROTOCOL}://{dataset}"
    location = Location.parse(f"{path.rstrip('/')}/{query.strip('/')}" if query else path)
    target = recording or _new_file(location.dataset or "service")
    note(f"{settings.endpoint_url} is probed; requests and answers go to {target}")

    def may_order(plan: ProbePlan) -> bool:
        size = "of unknown size" if plan.size is None else f"of {format_bytes(plan.size)}"
        note(f"{plan.location.path} finds {plan.product_id}, {size}")
        note("it is ordered (twice over, which is said to count once), fetched, and not kept")
        return is_sure or ask("Order it? [y/N] ").lower() in {"y", "yes"}

    facts: list[Fact] = []
    try:
        for fact in first_contact(settings, location, may_order=may_order, recording=target):
            facts.append(fact)
            if is_terminal(sys.stderr):
                note(f"{fact.fact}: {fact.state}")
    finally:
        failed = sum(fact.state == FAILED for fact in facts)
        if is_json:
            echo_json(
                {
                    "service": settings.endpoint_url,
                    "dataset": location.path,
                    "version": __version__,
                    "recording": str(target),
                    "facts": [dataclasses.asdict(fact) for fact in facts],
                }
            )
        elif facts:
            _echo_facts(facts)
            echo("", f"{plural(len(facts), 'fact')}, {failed} not found out. Recorded: {target}")
    return 1 if failed else 0


def _echo_facts(facts: Sequence[Fact]) -> None:
    """Write a row for each fact; on a terminal long cells are folded."""
    import sys

    head = ("fact", "", "expected", "seen")
    rows = [(fact.fact, fact.state, fact.expected, fact.seen) for fact in facts]
    if not is_terminal(sys.stdout):
        echo_table([head, *rows])
        return
    from rich.table import Table
    from rich.text import Text

    from hda_fsspec.cli.progress import console_of

    table = Table(box=None, pad_edge=False)
    for name, ratio in zip(head, (3, 2, 4, 6), strict=True):
        table.add_column(name, ratio=ratio, overflow="fold")
    encoding = sys.stdout.encoding or "utf-8"
    for row in rows:
        shown = (printable(cell).encode(encoding, "backslashreplace") for cell in row)
        table.add_row(*(Text(cell.decode(encoding)) for cell in shown))
    console_of(sys.stdout).print(table)


def _new_file(dataset: str) -> Path:
    """Return a name for a recording that is not taken here."""
    day = datetime.now(UTC).strftime("%Y%m%d")
    stem = f"hda-probe-{plain_name(dataset.replace(':', '-'))}-{day}"
    names = itertools.chain([stem], (f"{stem}-{number}" for number in itertools.count(2)))
    return next(path for name in names if not (path := Path(f"{name}.jsonl")).exists())
