"""Errors are a tree over built-in ones, and survive every way in which they can travel."""

from __future__ import annotations

import copy
import errno
import pickle
import subprocess
import sys
from typing import Any

import cloudpickle
import pytest
from rows import for_each

from hda_fsspec import errors

TREE: list[tuple[type[errors.HDAError], type[BaseException], dict[str, Any]]] = [
    (errors.HDAError, Exception, {}),
    (errors.ConfigurationError, ValueError, {}),
    (errors.LocationError, ValueError, {}),
    (errors.QueryError, ValueError, {"key": "a", "suggestions": ("b", "c")}),
    (errors.TooManyProductsError, ValueError, {"found": 20_000, "limit": 10_000}),
    (errors.AuthenticationError, PermissionError, {}),
    (errors.TermsNotAcceptedError, PermissionError, {"dataset_id": "EO:X", "terms": ("t",)}),
    (errors.QuotaError, OSError, {"reset_at": 1.5e9}),
    (errors.OrderError, OSError, {"product_id": "p", "download_id": "d"}),
    (errors.OrderTimeoutError, TimeoutError, {"product_id": "p", "download_id": "d"}),
    (errors.DownloadError, OSError, {"expected": 10, "received": 5}),
    (errors.ProductFormatError, OSError, {}),
    (errors.ProductMismatchError, ValueError, {}),
    (errors.ProductFunctionError, RuntimeError, {"product_id": "p"}),
    (errors.OfflineError, OSError, {}),
    (errors.BrokerError, OSError, {"status": 503}),
]
KINDS = pytest.mark.parametrize(
    ("kind", "builtin", "attributes"), TREE, ids=[kind.__name__ for kind, *_ in TREE]
)
MESSAGE = "Tried 'this' on that.\nIt said: 100% no. Do something else."


def test_the_table_is_complete() -> None:
    """Every error of the module is in the table above."""
    kinds = {
        each
        for each in vars(errors).values()
        if isinstance(each, type) and issubclass(each, errors.HDAError)
    }

    assert kinds == {kind for kind, *_ in TREE}


@KINDS
def test_errors_are_of_the_tree_and_built_in(
    kind: type[errors.HDAError], builtin: type[BaseException], attributes: dict[str, Any]
) -> None:
    """An error is caught as ours and as the built-in one, and reads as its message."""
    error = kind(MESSAGE, **attributes)

    assert isinstance(error, errors.HDAError)
    assert isinstance(error, builtin)
    assert str(error) == MESSAGE
    assert error.args == (MESSAGE,)
    assert repr(error) == f"{kind.__name__}({MESSAGE!r})"
    assert {name: getattr(error, name) for name in attributes} == attributes
    assert all(getattr(kind(MESSAGE), name) in (None, ()) for name in attributes)


@pytest.mark.slow
@KINDS
@for_each(
    "travel",
    [
        *(lambda e, p=p: pickle.loads(pickle.dumps(e, p)) for p in range(2, 6)),
        copy.copy,
        copy.deepcopy,
        lambda e: cloudpickle.loads(cloudpickle.dumps(e)),
    ],
)
def test_errors_travel(
    kind: type[errors.HDAError],
    builtin: type[BaseException],
    attributes: dict[str, Any],
    travel: Any,
) -> None:
    """Pickles and copies keep message, attributes, notes and errno."""
    error = kind(MESSAGE, **attributes)
    error.add_note("in product p")
    again = travel(error)

    assert type(again) is kind
    assert str(again) == MESSAGE
    assert again.args == error.args
    assert {name: getattr(again, name) for name in attributes} == attributes
    assert again.__notes__ == ["in product p"]
    assert getattr(again, "errno", None) == getattr(error, "errno", None)
    again.add_note("more")
    if travel is not copy.copy:
        assert error.__notes__ == ["in product p"]


def test_sequences_are_kept_as_tuples() -> None:
    """Lists given to an error cannot be changed behind its back."""
    terms = ["a"]
    error = errors.TermsNotAcceptedError("m", terms=terms)
    terms.append("b")

    assert error.terms == ("a",)
    assert errors.QueryError("m", suggestions=["x"]).suggestions == ("x",)


def test_quota_has_its_errno() -> None:
    """Callers that look at numbers find the one of quotas."""
    assert errors.QuotaError("m").errno == errno.EDQUOT
    assert pickle.loads(pickle.dumps(errors.QuotaError("m"))).errno == errno.EDQUOT


def test_errors_cross_processes() -> None:
    """A worker that has not imported the module yet gets the same error."""
    error = errors.DownloadError("cut", expected=10, received=5)
    code = (
        "import pickle, sys; e = pickle.loads(sys.stdin.buffer.read());"
        "print(type(e).__name__, e, e.expected, e.received)"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], input=pickle.dumps(error), capture_output=True, check=True
    )

    assert done.stdout.split() == [b"DownloadError", b"cut", b"10", b"5"]


def test_subclasses_with_a_cause_keep_it_in_place() -> None:
    """The cause is there where the error was raised, as for any exception."""
    with pytest.raises(errors.BrokerError) as caught:
        _raise_with_cause()

    assert isinstance(caught.value.__cause__, KeyError)


def _raise_with_cause() -> None:
    try:
        raise KeyError("a")
    except KeyError as err:
        msg = "m"
        raise errors.BrokerError(msg, status=500) from err
