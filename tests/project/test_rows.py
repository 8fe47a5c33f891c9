"""Tables of inputs: every row is run, by itself, and the one that fails is named."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
from rows import for_each


def test_every_row_is_run_with_a_folder_of_its_own(tmp_path: Path) -> None:
    """Rows see neither the files nor the environment of each other."""
    seen: list[tuple[int, str]] = []

    @for_each("number", [1, 2])
    @for_each(("name", "text"), [("a", "A"), ("b", "B")])
    def test(number: int, name: str, text: str, tmp_path: Path) -> None:
        assert list(tmp_path.iterdir()) == []
        (tmp_path / name).write_text(text)
        seen.append((number, name + text))

    test(tmp_path=tmp_path)

    assert seen == [(1, "aA"), (1, "bB"), (2, "aA"), (2, "bB")]
    assert list(inspect.signature(test).parameters) == ["tmp_path"]


def test_the_row_that_fails_is_named() -> None:
    """The error of a row tells the row, and those after it are not run."""
    run: list[int] = []

    @for_each("number", [1, 2, 3])
    def test(number: int) -> None:
        run.append(number)
        assert number != 2

    with pytest.raises(AssertionError) as caught:
        test()

    assert run == [1, 2]
    assert caught.value.__notes__ == ["in row 1 of the table: {'number': 2}"]


def test_a_table_has_rows() -> None:
    """A test of nothing is skipped, and a row that lacks a value is an error."""

    @for_each("number", [])
    def empty(number: int) -> None:
        del number

    assert [mark.name for mark in vars(empty)["pytestmark"]] == ["skip"]
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        for_each(("a", "b"), [(1,)])(lambda a, b: None)()


def test_a_row_that_is_skipped_skips_no_other() -> None:
    """The test is skipped where all of its rows are."""
    seen = []

    @for_each("number", [1, 2, 3])
    def some(number: int) -> None:
        if number < 3:
            pytest.skip("not here")
        seen.append(number)

    some()
    assert seen == [3]

    @for_each("number", [1, 2])
    def none(number: int) -> None:
        pytest.skip(f"not {number}")

    with pytest.raises(pytest.skip.Exception, match="not 1"):
        none()
