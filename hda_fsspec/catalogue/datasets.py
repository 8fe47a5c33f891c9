"""The data sets of a broker: their entries, the licences they name, and the schemas of queries."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from hda_fsspec.catalogue.answer_cache import Answers
from hda_fsspec.catalogue.json_codecs import DATASET, DATASETS, QUERYABLE
from hda_fsspec.errors import BrokerError, HDAError, not_there
from hda_fsspec.network.api import Broker
from hda_fsspec.network.optional_requests import UnavailableError
from hda_fsspec.paths.renamed_datasets import RENAMED
from hda_fsspec.records import Dataset
from hda_fsspec.schema.parameters import nearest
from hda_fsspec.schema.schema import Schema
from hda_fsspec.settings import Settings

logger = logging.getLogger("hda_fsspec")


class Datasets:
    """The data sets of one broker.

    Parameters
    ----------
    settings : Settings
        The address, for messages.
    broker : Broker
        Whom to ask.
    answers : Answers
        What was asked before.
    """

    def __init__(self, settings: Settings, broker: Broker, answers: Answers) -> None:
        self._settings = settings
        self._broker = broker
        self._answers = answers

    def all(self, *, refresh: bool = False, is_convenience: bool = False) -> list[Dataset]:
        """Return all data sets, sorted by id; the list is trusted for a day."""

        def ask() -> list[Dataset]:
            found = self._broker.datasets(is_convenience=is_convenience)
            return sorted(found, key=lambda dataset: dataset.dataset_id)

        found: list[Dataset] = self._answers.get(DATASETS, "", ask, refresh=refresh)
        return found

    def get(self, dataset_id: str, *, refresh: bool = False) -> Dataset:
        """Return one data set; raises FileNotFoundError that names the nearest ids."""
        return self._get(dataset_id, lambda: self._broker.dataset(dataset_id), refresh=refresh)

    def get_if_told(self, dataset_id: str, *, refresh: bool = False) -> Dataset:
        """Return one data set like `get`; UnavailableError where the service does not tell."""

        def ask() -> Dataset:
            return self._broker.conveniences.ask(
                f"the entry of {dataset_id}",
                lambda: self._broker.dataset(dataset_id, is_convenience=True),
                "Which licences it has, and whether it is there, the service itself will say.",
            )

        return self._get(dataset_id, ask, refresh=refresh)

    def schema(self, dataset_id: str) -> Schema:
        """Return the schema of a data set's queries; raises FileNotFoundError like `get`.

        Where the service has none that can be read it is an open one: keys and values then go out
        as they are, and the service judges them.
        """

        def ask() -> Mapping[str, Any]:
            try:
                document = self._broker.queryable(dataset_id)
            except FileNotFoundError as err:
                if not self._may_exist(dataset_id):
                    raise self._not_found(dataset_id) from err
                msg = f"{err}, but there is such a data set"
                raise BrokerError(msg, status=404) from err
            Schema.from_queryable(dataset_id, document)  # what cannot be read is not kept
            return document

        def ask_as_convenience() -> Mapping[str, Any]:
            return self._broker.conveniences.ask(
                f"the schema of {dataset_id}",
                ask,
                "Its queries go out as they are written, and the service judges them.",
                silence=False,
            )

        try:
            document = self._answers.get(QUERYABLE, dataset_id, ask_as_convenience)
        except UnavailableError:
            return Schema(dataset_id, is_open=True)
        return Schema.from_queryable(dataset_id, document)

    def _get(self, dataset_id: str, ask_broker: Callable[[], Dataset], *, refresh: bool) -> Dataset:
        def ask() -> list[Dataset]:
            try:
                return [ask_broker()]
            except FileNotFoundError as err:
                raise self._not_found(dataset_id) from err

        known = self._answers.recall(DATASETS, "")
        if known is not None and not refresh:
            for dataset in known:
                if dataset.dataset_id == dataset_id:
                    return dataset  # type: ignore[no-any-return]
        found: list[Dataset] = self._answers.get(DATASET, dataset_id, ask, refresh=refresh)
        return found[0]

    def _may_exist(self, dataset_id: str) -> bool:
        """Whether the service has a data set, or does not say that it has none."""
        try:
            self.get_if_told(dataset_id)
        except FileNotFoundError:
            return False
        except UnavailableError:
            pass
        return True

    def _not_found(self, dataset_id: str) -> FileNotFoundError:
        near: tuple[str, ...] = ()
        renamed = RENAMED.get(dataset_id)
        try:
            known = self.all(is_convenience=True)
            near = nearest(dataset_id, ((d.dataset_id, d.title) for d in known))
        except HDAError as err:
            logger.debug("No suggestion for %s: %s", dataset_id, err)
        by_words = " Find one by words: fs.datasets('…'), or hda-fsspec datasets …"
        hint = f" The nearest: {', '.join(near)}." if near else by_words
        hint = f" Since version 2 of the service it is {renamed}." if renamed else hint
        msg = f"There is no data set {dataset_id!r} at {self._settings.endpoint_url}.{hint}"
        return not_there(msg)
