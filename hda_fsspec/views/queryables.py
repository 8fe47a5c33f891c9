"""The view of what a data set can be asked: its keys, what they take, and a path to start from."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from hda_fsspec.client import Client
from hda_fsspec.errors import LocationError, OfflineError
from hda_fsspec.network.optional_requests import UnavailableError
from hda_fsspec.paths.locations import Location
from hda_fsspec.printable import escaped, flat, lines, printable
from hda_fsspec.records import Dataset, format_time
from hda_fsspec.schema.parameters import Parameter, nearest, text_of
from hda_fsspec.schema.schema import Schema
from hda_fsspec.schema.time_and_box import END, START
from hda_fsspec.views import markup
from hda_fsspec.views.example_query import find_starting_point
from hda_fsspec.views.formatting import day_of, period_of

logger = logging.getLogger("hda_fsspec")

_SHOWN_CHOICES = 8
_SHOWN_CHARACTERS = 160


@dataclasses.dataclass(frozen=True, slots=True)
class Queryable:
    """One key of a query.

    Attributes
    ----------
    key : str
        As it stands in a path.
    native : str
        The data set's own name of it.
    type : str
        What it takes, in words: "text", "number", "date or time", "box W,S,E,N", "one of 3", ….
    choices : tuple of str
        The only values that it takes, all of them; empty if any.
    titles : tuple of str
        The titles of the choices.
    default : tuple of str
        What the service proposes; empty if nothing.
    minimum, maximum : str or None
        The range of a number or a date.
    is_list : bool
        Whether it takes several values, with commas between.
    pattern : str
        A regular expression that values match; empty if any do.
    """

    key: str
    native: str
    type: str
    choices: tuple[str, ...] = ()
    titles: tuple[str, ...] = ()
    default: tuple[str, ...] = ()
    minimum: str | None = None
    maximum: str | None = None
    is_list: bool = False
    pattern: str = ""

    @classmethod
    def of(cls, key: str, parameter: Parameter) -> Queryable:
        """Describe a parameter under the name that it has in a path."""
        ends = (parameter.minimum, parameter.maximum), (parameter.earliest, parameter.latest)
        numbers = (None if end is None else text_of(end) for end in ends[0])
        dates = (None if end is None else format_time(end) for end in ends[1])
        low, high = (number or date for number, date in zip(numbers, dates, strict=True))
        return cls(
            key=key,
            native=parameter.name,
            type=_type_of(parameter),
            choices=tuple(choice.text for choice in parameter.choices),
            titles=tuple(choice.title for choice in parameter.choices),
            default=tuple(map(text_of, parameter.default)),
            minimum=low,
            maximum=high,
            is_list=parameter.is_list is not False and not parameter.is_box,
            pattern=parameter.pattern,
        )

    @property
    def range(self) -> str:
        """Its range in short: days of dates; empty where it has none."""
        if self.minimum is None and self.maximum is None:
            return ""
        is_date = "T" in f"{self.minimum}{self.maximum}"
        low, high = (
            end if end is None or not is_date else day_of(end)
            for end in (self.minimum, self.maximum)
        )
        return f"{'…' if low is None else low} to {'…' if high is None else high}"

    @property
    def short_choices(self) -> str:
        """Its choices, or as many as are read with ease, and how many more there are."""
        shown = self._shown()
        left = len(self.choices) - len(shown)
        return ", ".join(shown) + (f", … {left:,} more" if left else "")

    @property
    def is_shortened(self) -> bool:
        """Whether :attr:`short_choices` are not all of them."""
        return len(self._shown()) < len(self.choices)

    def _shown(self) -> list[str]:
        shown: list[str] = []
        for choice in self.choices:
            too_long = sum(map(len, shown)) + len(choice) > _SHOWN_CHARACTERS
            if len(shown) == _SHOWN_CHOICES or (too_long and shown):
                break
            shown.append(printable(flat(choice)))
        return shown


class QueryablesView(Mapping[str, Queryable]):
    """The keys of a data set and what they take; it shows itself as a table.

    ``view["variable"].choices`` are all choices of a key; the data set's own names of time and box
    are understood, too.

    Parameters
    ----------
    schema : Schema
        Of its queries.
    dataset : Dataset or None
        Its entry, where the service tells it.
    now : datetime
        Aware; the path to start from asks for nothing later.
    """

    def __init__(self, schema: Schema, dataset: Dataset | None, *, now: datetime) -> None:
        self.dataset_id = schema.dataset_id
        self.dataset = dataset
        self.is_open = schema.is_open
        start = find_starting_point(schema, dataset, now=now)
        #: A path to start from, which asks for little.
        self.path = Location(schema.dataset_id, start.query).path
        #: What a query must hold according to the service, and no value could be proposed for.
        self.needs = start.needs
        self._natives = {native: name for name, native in schema.native_names.items()}
        self._by_key = _queryables(schema)

    def __getitem__(self, key: str) -> Queryable:
        found = self._by_key.get(self._natives.get(key, key))
        if found is None:
            near = nearest(key, ([name] for name in self._by_key))
            meant = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
            msg = f"{printable(key)!r} is no key of {printable(self.dataset_id)}.{meant}"
            raise KeyError(msg)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_key)

    def __len__(self) -> int:
        return len(self._by_key)

    def to_json(self) -> dict[str, Any]:
        """Return all of it as JSON values."""
        told: dict[str, Any] = {"dataset_id": self.dataset_id}
        if self.dataset is not None:
            told |= dataclasses.asdict(self.dataset)
        told |= {"path": self.path, "needs": list(self.needs)}
        return {**told, "keys": [dataclasses.asdict(queryable) for queryable in self.values()]}

    @property
    def facts(self) -> list[tuple[str, str]]:
        """The facts about the data set, with the name of each."""
        dataset = self.dataset
        if dataset is None:
            return []
        told = [
            ("title", flat(dataset.title)),
            ("period", period_of(dataset.startdate, dataset.enddate)),
            ("box", dataset.bbox or ""),
            ("licences", ", ".join(dataset.terms)),
        ]
        return [(name, text) for name, text in told if text]

    @property
    def rows(self) -> list[tuple[str, str, str, str]]:
        """The table: key, what it takes, default, choices or range."""
        return [
            (_named(queryable), queryable.type, ",".join(queryable.default), _limits(queryable))
            for queryable in self.values()
        ]

    @property
    def remarks(self) -> list[str]:
        """Further remarks."""
        told = []
        if self.is_open:
            told.append(
                "The service tells no schema of this data set: keys and values go out as they are "
                "written, and the service judges them."
            )
        if self.needs:
            told.append(
                f"The service says that a query needs {', '.join(self.needs)}, too: add "
                f"{'/'.join(f'{name}=…' for name in self.needs)} with a value of your own."
            )
        return told

    def __repr__(self) -> str:
        facts = [f"  {name}: {text}" for name, text in self.facts]
        rows = [("KEY", "TAKES", "DEFAULT", "CHOICES OR RANGE"), *self.rows]
        shown = [tuple(map(printable, row)) for row in rows]
        widths = [max(map(len, column)) for column in zip(*shown, strict=True)][:-1]
        table = ["  ".join(["", *map(str.ljust, row, widths), row[-1]]).rstrip() for row in shown]
        start = ["Start from:", f"  {self.path}"]
        return lines(
            escaped(self.dataset_id),
            *facts,
            *(table if self._by_key else []),
            *start,
            *self.remarks,
        )

    def _repr_html_(self) -> str:
        abstract = None if self.dataset is None else flat(self.dataset.abstract)
        facts = [(name, text) for name, text in self.facts if name != "title"]
        title = dict(self.facts).get("title")
        parts = [
            markup.title(self.dataset_id),
            None if title is None else markup.element("div", title),
            markup.note(abstract) if abstract and abstract != title else None,
            markup.facts(facts) if facts else None,
            markup.table(
                ("key", "takes", "default", "choices or range"),
                self.rows,
                classes=("hda-code hda-fixed", "hda-fixed", "hda-code hda-fixed", None),
            )
            if self._by_key
            else None,
            markup.note("A path to start from:"),
            markup.path_line(self.path),
            *(markup.note(remark) for remark in self.remarks),
        ]
        return markup.view(*parts)


def view_queryables(
    client: Client, location: Location, *, now: datetime | None = None
) -> QueryablesView:
    """Return what the data set of a path can be asked, now if no other time is given.

    Raises
    ------
    LocationError
        The path is that of all data sets.
    FileNotFoundError
        There is no such data set; and whatever else the service answers.
    """
    if location.dataset is None:
        msg = (
            f"Cannot tell what {location.path} can be asked, which is all data sets: name one; "
            "fs.datasets('words') finds it."
        )
        raise LocationError(msg)
    datasets = client.catalogue.datasets
    schema = datasets.schema(location.dataset)
    try:
        dataset = datasets.get_if_told(location.dataset)
    except (UnavailableError, OfflineError, FileNotFoundError) as err:
        # It only adds to what the schema tells.
        logger.debug("No entry of %s for the view of its keys: %s", location.dataset, err)
        dataset = None
    if dataset is None and schema.is_open:
        # Neither of the two has told that there is such a data set.
        dataset = datasets.get(location.dataset)
    return QueryablesView(schema, dataset, now=now or datetime.now(UTC))


def _queryables(schema: Schema) -> dict[str, Queryable]:
    """Return all keys, the common names in front; a name of its own stands for none twice."""
    natives = schema.native_names
    found = {}
    for key in schema.keys:
        if key in natives.values():
            continue
        parameter = schema.named.get(natives.get(key, key))
        if parameter is None:  # dates, where the data set has lists of days
            lists = ", ".join(schema.date_lists)
            found[key] = Queryable(key, lists, "date or time")
        else:
            found[key] = Queryable.of(key, parameter)
    return found


def _named(queryable: Queryable) -> str:
    return (
        queryable.key
        if queryable.key == queryable.native
        else f"{queryable.key} ({queryable.native})"
    )


def _limits(queryable: Queryable) -> str:
    if queryable.choices:
        return queryable.short_choices
    return queryable.range or (f"matches {queryable.pattern}" if queryable.pattern else "")


def _type_of(parameter: Parameter) -> str:
    if parameter.is_box:
        return "box W,S,E,N"
    if parameter.choices:
        count = len(parameter.choices)
        return f"{'some' if parameter.is_list is not False else 'one'} of {count:,}"
    if parameter.is_time or parameter.name in {START, END}:
        return "date or time"
    kind = _kind_of(parameter.kinds)
    return f"list of {kind}s" if parameter.is_list and kind else kind or "any value"


def _kind_of(kinds: frozenset[str]) -> str:
    if not kinds:
        return ""
    if kinds <= {"integer"}:
        return "whole number"
    if kinds <= {"number", "integer"}:
        return "number"
    return "true or false" if kinds == {"boolean"} else "text"
