"""The view of data sets that were found: which there are, when and where, and by whom."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import overload

from hda_fsspec.catalogue.dataset_search import Wanted, find_datasets, tells_all
from hda_fsspec.printable import flat, lines, plural, printable
from hda_fsspec.records import Dataset
from hda_fsspec.views import markup
from hda_fsspec.views.formatting import ends_of, period_of

_FIRST_ROWS, _LAST_ROWS = 40, 0
_FIRST_LINES = 20
_ABSTRACT_CHARACTERS = 280
_TITLE_COLUMNS = 72


class DatasetsView(Sequence[Dataset]):
    """Data sets, what fits best first, as a sequence that shows itself; slices are views, too.

    Parameters
    ----------
    datasets : sequence of Dataset
        What was found.
    wanted : Wanted
        What it was to fit.
    among : int
        How many there are in all.

    Attributes
    ----------
    datasets : tuple of Dataset
        The records.
    among : int
        How many there are in all.
    """

    def __init__(self, datasets: Sequence[Dataset], wanted: Wanted, among: int) -> None:
        self.datasets = tuple(datasets)
        self._wanted = wanted
        self.among = among

    @overload
    def __getitem__(self, index: int) -> Dataset: ...
    @overload
    def __getitem__(self, index: slice) -> DatasetsView: ...
    def __getitem__(self, index: int | slice) -> Dataset | DatasetsView:
        if isinstance(index, slice):
            return DatasetsView(self.datasets[index], self._wanted, self.among)
        return self.datasets[index]

    def __len__(self) -> int:
        return len(self.datasets)

    def __iter__(self) -> Iterator[Dataset]:
        return iter(self.datasets)

    def __eq__(self, other: object) -> bool:
        return self.datasets == other.datasets if isinstance(other, DatasetsView) else False

    def __hash__(self) -> int:
        return hash(self.datasets)

    @property
    def ids(self) -> list[str]:
        """The ids of the data sets."""
        return [dataset.dataset_id for dataset in self.datasets]

    def __repr__(self) -> str:
        head, between, _ = ends_of(self.datasets, _FIRST_LINES, 0)
        rows = [text for dataset in head for text in _text(dataset)]
        more = [f"  … {between:,} more"] if between else []
        return lines(self._title(), *rows, *more, *filter(None, [self.remark]))

    def _repr_html_(self) -> str:
        head, between, tail = ends_of(self.datasets, _FIRST_ROWS, _LAST_ROWS)
        more = [(f"… {between:,} more",)] if between else []
        rows = [(d.dataset_id, _what(d), period_of(d.startdate, d.enddate)) for d in head]
        untold = self.remark
        parts = [
            markup.title(self._title()),
            None if untold is None else markup.note(untold),
            markup.table(
                ("data set", "what it is", "period"),
                [*rows, *more, *((d.dataset_id, _what(d), "") for d in tail)],
                classes=("hda-id", None, "hda-fixed"),
            )
            if self.datasets
            else None,
        ]
        return markup.view(*parts)

    def _title(self) -> str:
        return f"{plural(len(self), 'data set')} of {self.among:,}"

    @property
    def remark(self) -> str | None:
        """A remark on those that may fit or not; None where all do."""
        count = sum(not tells_all(dataset, self._wanted) for dataset in self.datasets)
        if not count:
            return None
        return (
            f"{count:,} of them may or may not fit, since the catalogue does not tell their period "
            "or box. They stand last among those that the words fit alike."
        )


def find_view(every: Sequence[Dataset], wanted: Wanted) -> DatasetsView:
    """Return the view of those data sets that fit; raises QueryError for an unknown family."""
    return DatasetsView(find_datasets(every, wanted), wanted, len(every))


def _text(dataset: Dataset) -> Iterator[str]:
    yield f"  {printable(dataset.dataset_id)}"
    title = printable(flat(dataset.title))
    title = title if len(title) <= _TITLE_COLUMNS else f"{title[: _TITLE_COLUMNS - 1]}…"
    period = period_of(dataset.startdate, dataset.enddate)
    yield f"      {title}  [{period}]" if period != "not told" else f"      {title}"


def _what(dataset: Dataset) -> markup.Markup:
    abstract = flat(dataset.abstract)
    if len(abstract) > _ABSTRACT_CHARACTERS:
        abstract = f"{abstract[:_ABSTRACT_CHARACTERS].rpartition(' ')[0]} …"
    return markup.joined(
        markup.element("div", flat(dataset.title)),
        None if abstract == flat(dataset.title) else markup.note(abstract),
    )
