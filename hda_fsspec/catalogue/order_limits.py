"""The sizes of orders that the service refused, by data set: later pieces are smaller.

Nothing tells these limits before, and they change. What was refused once is remembered, so that
queries are cut into pieces that fit.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable

from hda_fsspec.cache.metadata import JsonStore
from hda_fsspec.errors import HDAError, QueryError
from hda_fsspec.paths.locations import Location
from hda_fsspec.printable import printable
from hda_fsspec.schema.schema import Schema
from hda_fsspec.subsets.piece_grid import PieceGrid
from hda_fsspec.subsets.query_axes import Axes
from hda_fsspec.subsets.sizes import Limit, load, refine, split_that_fits, unit_of

logger = logging.getLogger("hda_fsspec")

#: For so long a process does not ask again for what was refused: limits are lifted, too.
_REMEMBERED_SECONDS = 600.0


@dataclasses.dataclass(eq=False, repr=False)
class Limits:
    """The limits of the data sets of one broker.

    Parameters
    ----------
    broker : str
        Its canonical address.
    store : JsonStore
        Where they are kept.
    schema_of : callable
        Returns the schema of a data set.
    clock : callable
        Seconds that go on whatever is done to the time of day.
    """

    broker: str
    store: JsonStore
    schema_of: Callable[[str], Schema]
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        #: The least that was refused of each data set in this process, how, and when.
        self._refused: dict[str, tuple[Limit, str, float]] = {}
        #: What was said of each request that was refused in this process, and when.
        self._said: dict[str, tuple[str, float]] = {}

    def of(self, dataset_id: str) -> tuple[Limit, ...]:
        """Return what pieces of a data set may not exceed, as far as it is known."""
        note = self.store.get(self._name(dataset_id))
        found = note.items() if isinstance(note, dict) else ()
        return tuple(
            Limit(unit, float(most))
            for unit, most in found
            if isinstance(most, (int, float)) and most > 0
        )

    def refused(self, location: Location, why: str) -> str:
        """Take note that a request was refused as too large; return what to do, as a sentence.

        Parameters
        ----------
        location : Location
            The request, as a path.
        why : str
            What the service said: a limit in it is believed.
        """
        dataset_id = location.dataset or ""
        self._said[location.path] = why, self.clock()
        try:
            whole = self._grid(location)
            asked = Limit(unit_of(whole), load(whole))
            least, *_ = self._refused.get(dataset_id, (asked, why))
            if asked.unit == least.unit and asked.most <= least.most:
                self._refused[dataset_id] = asked, why, self.clock()
            finer = refine(whole, 0, why)
        except HDAError:
            return self.advice(location, why)
        unit, most = unit_of(finer), load(finer)
        known = {limit.unit: limit.most for limit in self.of(dataset_id)}
        # Else it was known before that as much as this is too large.
        if most < known.get(unit, float("inf")) and not asked.most > known.get(unit, asked.most):
            self.store.put(self._name(dataset_id), {**known, unit: most})
        return self.advice(location, why)

    def advice(self, location: Location, why: str) -> str:
        """Return what to do about a request that was refused as too large, as a sentence."""
        try:
            advised = split_that_fits(self._grid(location), 0, why)
        except QueryError as err:
            return str(err)
        except HDAError as err:
            logger.debug("No split of %s is known that would fit: %s", location.path, err)
            return "Ask for fewer variables, levels or times, or a smaller box."
        return (
            f"It is too large for one order; split={advised!r} would fit, and so will "
            'split="auto" when the query is opened anew.'
        )

    def refusal(self, location: Location, *, was_taken: bool = False) -> str | None:
        """Return what the service said just now of a request no larger than this one, if anything.

        Of what it took once, only what it said of this very request counts.
        """
        said = self._said.get(location.path)
        if said is not None and self._is_recent(said[1]):
            return said[0]
        least = self._refused.get(location.dataset or "")
        if was_taken or least is None or not self._is_recent(least[2]):
            return None
        whole = self._grid(location)
        is_less = unit_of(whole) != least[0].unit or load(whole) < least[0].most
        return None if is_less else least[1]

    def _is_recent(self, then: float) -> bool:
        return self.clock() - then < _REMEMBERED_SECONDS

    def _grid(self, location: Location) -> PieceGrid:
        return PieceGrid(Axes.of(location.directory, self.schema_of(location.dataset or "")))

    def _name(self, dataset_id: str) -> str:
        return f"{self.broker} limit {printable(dataset_id)}"
