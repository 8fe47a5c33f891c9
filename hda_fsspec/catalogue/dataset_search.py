"""Search for data sets by words, period, box and family, the best matches first.

Pure functions of the entries of a catalogue.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import functools
import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from hda_fsspec.catalogue.boxes import touch
from hda_fsspec.errors import LocationError, QueryError
from hda_fsspec.paths.values import text_of_value, values_in
from hda_fsspec.records import Dataset, parse_time
from hda_fsspec.schema.parameters import hint, nearest
from hda_fsspec.schema.time_and_box import read_box, read_instant

_MAGIC = re.compile(r"[*?\[]")
_WORD = re.compile(r"[^\W_]+")
# How well a word fits: as a word of a text, as the beginning of one, anywhere.
_WHOLE, _BEGIN, _WITHIN = 4.0, 2.0, 1.0
# The title is for people, so that it counts more than the id; an abstract names what a data set is
# made from, and what it is compared with, too.
_ID_COUNTS, _ABSTRACT_COUNTS = 0.75, 0.2
_OPEN_ENDS = frozenset({"", ".."})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wanted:
    """Criteria of a search for data sets.

    Attributes
    ----------
    words : tuple of str
        Each of them must be in id, title or abstract; ``*`` and ``?`` stand for letters.
    start, end : datetime or None
        The period that they shall overlap, both ends inclusive.
    box : tuple of float or None
        The box that they shall overlap: W, S, E, N in degrees.
    family : str or None
        Which id they shall have, or the beginning of it: ``MO``, ``EO:EUM``.
    """

    words: tuple[str, ...] = ()
    start: datetime | None = None
    end: datetime | None = None
    box: tuple[float, float, float, float] | None = None
    family: str | None = None

    @classmethod
    def read(
        cls,
        words: str | Iterable[str] = (),
        *,
        period: Any = None,
        bbox: Any = None,
        family: Any = None,
    ) -> Wanted:
        """Read what a user gives; raises QueryError for what cannot be read.

        Parameters
        ----------
        words : str or several
            Words.
        period : str or a pair of dates, optional
            ``2024``, ``2024-05``, ``2020/2023``, ``2020/..``; either one of a pair may be None.
        bbox : str or four numbers, optional
            W, S, E, N.
        family : str, optional
            The beginning of an id.
        """
        texts = [words] if isinstance(words, str) else list(words)
        if family is not None and not isinstance(family, str):
            msg = f"Cannot find data sets of the family {family!r}: it is a text, such as 'EO:MO'."
            raise QueryError(msg, key="family")
        start, end = (None, None) if period is None else _period(period)
        return cls(
            words=tuple(word.casefold() for text in texts for word in text.split()),
            start=start,
            end=end,
            box=None if bbox is None else _box(bbox),
            family=family or None,
        )


def find_datasets(every: Sequence[Dataset], wanted: Wanted) -> list[Dataset]:
    """Return the data sets that fit, what fits best first.

    Those that do not tell their period or box may fit, and stand behind those of equal words that
    do. Without words they are in their order.

    Raises
    ------
    QueryError
        No data set is of the family.
    """
    members = every if wanted.family is None else _members(every, wanted.family)
    scored = []
    for number, dataset in enumerate(members):
        in_period, in_box = _in_period(dataset, wanted), _in_box(dataset, wanted)
        if in_period is False or in_box is False:
            continue
        score = _score(dataset, wanted.words)
        if score is not None:
            scored.append((-score, None in {in_period, in_box}, number, dataset))
    return [dataset for *_, dataset in sorted(scored, key=lambda match: match[:3])]


def tells_all(dataset: Dataset, wanted: Wanted) -> bool:
    """Whether the catalogue tells of a data set what is needed to say that it fits."""
    return None not in {_in_period(dataset, wanted), _in_box(dataset, wanted)}


def family_of(dataset_id: str) -> str:
    """Return who makes a data set, as its id has it: ``EO:MO`` of ``EO:MO:DAT:…``."""
    return ":".join(dataset_id.split(":")[:2])


def _members(every: Sequence[Dataset], family: str) -> list[Dataset]:
    wanted = family.strip(" :*").casefold().split(":")
    first = 0 if wanted[0] == "eo" and len(wanted) > 1 else 1

    def is_member(dataset_id: str) -> bool:
        parts = dataset_id.casefold().split(":")[first:]
        return parts[: len(wanted)] == wanted

    found = [dataset for dataset in every if is_member(dataset.dataset_id)]
    if not found and every:
        families = sorted({family_of(dataset.dataset_id) for dataset in every})
        near = nearest(family, ((name, name.partition(":")[2]) for name in families))
        msg = (
            f"There are no data sets of the family {family!r}. "
            f"{hint((), families, 'The families are')}"
        )
        raise QueryError(msg, key="family", suggestions=near)
    return found


def _score(dataset: Dataset, words: Iterable[str]) -> float | None:
    """Return how well all words fit a data set; None if one of them does not."""
    title, name = dataset.title.casefold(), dataset.dataset_id.casefold()
    total = 0.0
    for word in words:
        score = max(_fit(word, title), _ID_COUNTS * _fit(word, name))
        # Long, and asked only where it makes a difference.
        score = score or _ABSTRACT_COUNTS * _fit(word, dataset.abstract.casefold())
        if not score:
            return None
        total += score
    return total


def _fit(word: str, text: str) -> float:
    """Return how well a word, or a pattern of one, fits a text; 0 if it does not."""
    if _MAGIC.search(word):
        literal, matches = _pattern(word)
        if literal not in text:
            return 0.0
        return _BEGIN if matches(text) or any(map(matches, _WORD.findall(text))) else 0.0
    if word not in text:
        return 0.0
    begins, is_whole = _places(word)
    if is_whole(text):
        return _WHOLE
    return _BEGIN if begins(text) else _WITHIN


@functools.lru_cache(maxsize=64)
def _places(word: str) -> tuple[Any, Any]:
    """Return what finds a word at the beginning of one, and as one."""
    begin = rf"(?<![^\W_]){re.escape(word)}"
    return re.compile(begin).search, re.compile(rf"{begin}(?![^\W_])").search


@functools.lru_cache(maxsize=64)
def _pattern(word: str) -> tuple[str, Any]:
    """Return the longest part of a pattern that stands for itself, and what matches it."""
    plain = re.sub(r"\[.*\]?", "*", word)
    literal = max(re.split(r"[*?]", plain), key=len)
    return literal, re.compile(fnmatch.translate(word)).match


def _in_period(dataset: Dataset, wanted: Wanted) -> bool | None:
    """Whether a data set covers some of the period; None where that is not told."""
    if wanted.start is None and wanted.end is None:
        return True
    first, last = (
        None if text is None else parse_time(text) for text in (dataset.startdate, dataset.enddate)
    )
    if wanted.end is not None and first is not None and first > wanted.end:
        return False
    if wanted.start is not None and last is not None and last < wanted.start:
        return False
    needs_first, needs_last = wanted.end is not None, wanted.start is not None
    is_told = not (needs_first and first is None) and not (needs_last and last is None)
    return True if is_told else None


def _in_box(dataset: Dataset, wanted: Wanted) -> bool | None:
    """Whether a data set covers some of the box; None where that is not told."""
    if wanted.box is None:
        return True
    if dataset.bbox is None:
        return None
    box = [float(edge) for edge in dataset.bbox.split(",")]
    return touch(box, wanted.box) if -90 <= box[1] <= box[3] <= 90 else None


def _period(period: Any) -> tuple[datetime | None, datetime | None]:
    ends = period.split("/") if isinstance(period, str) else list(_values(period, "period"))
    if len(ends) == 1:
        ends *= 2
    if len(ends) != 2:
        msg = (
            f"A period has two ends, not {len(ends)}. Write period='2020/2023', or "
            "period='2024-05', or period='2020/..' for one without an end."
        )
        raise QueryError(msg, key="period")
    texts = ["" if end is None or end == "" else _text(end, "period") for end in ends]
    start, end = (
        None if text.strip() in _OPEN_ENDS else read_instant("period", text.strip(), last=last)
        for text, last in zip(texts, (False, True), strict=True)
    )
    if start is not None and end is not None and start > end:
        msg = f"the period {texts[0]}/{texts[1]} ends before it starts. Exchange the two."
        raise QueryError(msg, key="period")
    return start, end


def _box(bbox: Any) -> tuple[float, float, float, float]:
    values = bbox.split(",") if isinstance(bbox, str) else _values(bbox, "bbox")
    west, south, east, north = read_box("bbox", [_text(value, "bbox").strip() for value in values])
    return west, south, east, north


def _values(given: Any, key: str) -> Sequence[Any]:
    try:
        return values_in(given, key)
    except LocationError as err:
        raise QueryError(str(err), key=key) from err


def _text(value: Any, key: str) -> str:
    try:
        return text_of_value(value, key)
    except LocationError as err:
        raise QueryError(str(err), key=key) from err
