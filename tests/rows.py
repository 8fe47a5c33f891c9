"""One test for a table of inputs that prove one thing, at the price of one test."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest


def for_each(
    names: str | Sequence[str], rows: Iterable[Any]
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Run a test with each row of a table in turn, as :func:`pytest.mark.parametrize` does.

    All rows are one test, which ends with the first row that fails, and says which that was;
    without rows it is skipped, as it is where all of them are. Each row has an empty ``tmp_path``
    and a ``monkeypatch`` of its own; other fixtures they share: what one row does to these, the
    next one finds.
    """
    keys = [names] if isinstance(names, str) else list(names)
    table = [[row] if isinstance(names, str) else list(row) for row in rows]
    if not table:
        # As those of files that are absent, and as parametrize does it.
        return pytest.mark.skip(reason="its table has no rows here")

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(test)
        def run(**given: Any) -> None:
            left_out: list[BaseException] = []
            for number, row in enumerate(table):
                own = dict(zip(keys, row, strict=True))
                with pytest.MonkeyPatch.context() as monkeypatch:
                    fresh = _fresh(given, number, monkeypatch)
                    try:
                        test(**given | fresh | own)
                    except pytest.skip.Exception as err:
                        left_out.append(err)
                    except BaseException as err:
                        err.add_note(f"in row {number} of the table: {own!r}")
                        raise
            if len(left_out) == len(table):
                raise left_out[0]

        signature = inspect.signature(test)
        left = [one for name, one in signature.parameters.items() if name not in keys]
        run.__signature__ = signature.replace(parameters=left)  # type: ignore[attr-defined]
        return run

    return decorate


def _fresh(given: dict[str, Any], number: int, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return the fixtures that no two rows share."""
    fresh: dict[str, Any] = {}
    if "tmp_path" in given:
        folder: Path = given["tmp_path"] / f"row-{number}"
        folder.mkdir()
        fresh["tmp_path"] = folder
    if "monkeypatch" in given:
        fresh["monkeypatch"] = monkeypatch
    return fresh
