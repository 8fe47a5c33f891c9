"""Lazy data in other processes: understood, or with a clear word about why not."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import cloudpickle
import pytest
from clusters import VALUES, Job

from hda_fsspec.errors import ConfigurationError
from hda_fsspec.workers import pickling
from hda_fsspec.workers.pickling import UnpickledElsewhere, pack, unpack


class Fragile:
    """Cannot be made again."""

    def __reduce__(self) -> tuple[Any, ...]:
        return int, ("not a number",)


@pytest.mark.parametrize("dumps", [pickle.dumps, cloudpickle.dumps])
def test_large_parts_are_stored_once(dumps: Any) -> None:
    """What several values have in common is in one pickle once, and is one object afterwards."""
    table = bytes(range(256)) * 40

    text = dumps([_Packed({"table": table, "name": number}) for number in range(20)])

    assert len(text) < 2 * len(table)
    values = pickle.loads(text)
    assert [value["name"] for value in values] == list(range(20))
    assert len({id(value["table"]) for value in values}) == 1
    assert values[0]["table"] == table


class _Packed:
    """Pickles as a packed value."""

    def __init__(self, value: object) -> None:
        self._value = value

    def __reduce__(self) -> tuple[Any, ...]:
        return unpack, pack(self._value)


def test_another_version_passes_it_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a process of another version cannot read it hands on unchanged."""
    given = pack({"a": b"x" * 1000})
    state = pickling.PICKLE_FORMAT
    monkeypatch.setattr(pickling, "PICKLE_FORMAT", state + 1)
    strange = unpack(*given)
    assert isinstance(strange, UnpickledElsewhere)
    with pytest.raises(ConfigurationError, match=rf"state {state}.*state {state + 1}.*on host"):
        strange[0]
    with pytest.raises(ConfigurationError, match="cannot read it"):
        _ = strange.shape

    text = pickle.dumps(strange)

    monkeypatch.undo()
    assert pickle.loads(text) == {"a": b"x" * 1000}


def test_what_cannot_be_made_is_told_when_it_is_used() -> None:
    """A failure of unpickling is no exception yet: that would end a Dask worker without a word."""
    strange = unpack(*pack(Fragile()))

    with pytest.raises(ConfigurationError, match="ValueError: invalid literal"):
        strange[0]
    assert not hasattr(strange, "_private")


def test_a_bad_setting_is_told_when_data_are_read(
    stacks: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lazy data unpickle under settings that cannot be used, and name them when they are read."""
    text = pickle.dumps(Job(stacks).ds["sst"].variable)
    monkeypatch.setenv("HDA_TIMEOUT", "soon")

    variable = pickle.loads(text)

    with pytest.raises(ConfigurationError, match=r"'soon' of setting 'timeout'.*HDA_TIMEOUT"):
        variable.compute(scheduler="synchronous")


@pytest.mark.slow
def test_a_deep_copy_keeps_the_password(stacks: Any) -> None:
    """A deep copy of a lazy data set reads what the data set itself can read."""
    Job(stacks)
    ds = stacks.open(chunks=None)

    twin = copy.deepcopy(ds)

    assert twin["sst"].mean("x").values.tolist() == pytest.approx(VALUES.tolist())


def test_a_name_in_dask_does_not_depend_on_the_password(stacks: Any) -> None:
    """The same products have the same name in a graph, whoever reads them into which cache."""
    job = Job(stacks)
    other = stacks.open(chunks={}, settings={"timeout": 5.0})

    assert other["sst"].data.name == job.ds["sst"].data.name
    assert job.ds["sst"].data.name.startswith("open_dataset-sst-")
    assert job.ds["sst"].chunk({"x": 7}).data.name != job.ds["sst"].data.name
