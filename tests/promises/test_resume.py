"""Interrupted downloads resume by Range where that is safe, otherwise they start again."""

from __future__ import annotations

import io
import random
import zipfile
from collections.abc import Mapping
from email.utils import formatdate
from typing import Any

import pytest
from rows import for_each

from hda_fsspec.cache.cache import Cache
from hda_fsspec.emulator import Emulator, Fault, RequestRecord, dated_product
from hda_fsspec.fetching.transfer import (
    OVERLAP_BYTES,
    Action,
    believed,
    plan,
    range_start,
    validators,
)
from hda_fsspec.network.responses import ResponseHead
from hda_fsspec.paths.locations import Location

_LARGE = 2_000_000
_SMALL = 300_000


def interrupted(
    bench: Any, size: int, held: int, *, body: bytes | None = None, **options: Any
) -> Emulator:
    """Start a service, and leave what a download of its product that broke off leaves."""
    content = bench.body(1, size) if body is None else body
    products = [dated_product(bench.product_id(1), content)]
    emulator: Emulator = bench.start(products=products, **options)
    fs = bench.filesystem(emulator)
    product = fs._client.product(Location.parse(bench.path(1)))
    with Cache(bench.cache_dir).stage(product) as staging:
        with staging.open() as handle:
            handle.write(content[:held])
        staging.remember(total=len(content), name="a.nc", resumed=False, **told(bench, emulator))
    return emulator


def told(bench: Any, emulator: Emulator) -> dict[str, str]:
    """Return the validators which the service tells of its product."""
    content = emulator.catalogue.product(bench.dataset, bench.product_id(1)).content  # type: ignore[union-attr]
    return {
        "etag": {"etag": content.etag},
        "last-modified": {"last_modified": formatdate(content.modified, usegmt=True)},
        "none": {},
    }[emulator.options.validators or "none"]


def gets(emulator: Emulator) -> list[RequestRecord]:
    """Return the requests for the file since the interruption."""
    return emulator.log.where(lambda r: r.method == "GET" and "download/" in r.path)


def changed(bench: Any, emulator: Emulator, body: bytes) -> None:
    """Let the service replace the file by another one of equal length."""
    emulator.republish(bench.dataset, bench.product_id(1), body)


@pytest.mark.slow
@pytest.mark.parametrize("validator", ["etag", "last-modified"])
@pytest.mark.parametrize(("size", "held"), [(_LARGE, 900_000), (_SMALL, 100_000), (_SMALL, 7)])
def test_an_equal_validator_continues(validator: str, size: int, held: int, bench: Any) -> None:
    """With an equal ETag or Last-Modified just what is missing is fetched."""
    emulator = interrupted(bench, size, held, validators=validator)

    body = bench.filesystem(emulator).cat(bench.path(1))

    assert body == bench.body(1, size)
    assert [(r.status, r.range) for r in gets(emulator)] == [(206, f"bytes={held}-")]
    assert gets(emulator)[0].bytes_sent == len(body) - held


@pytest.mark.parametrize("size", [_LARGE, _SMALL])
def test_without_validator_the_last_64_kb_are_compared(size: int, bench: Any) -> None:
    """Without a validator the last 64 kB that are held are fetched again, and must be equal."""
    emulator = interrupted(bench, size, 200_000, validators=None)

    body = bench.filesystem(emulator).cat(bench.path(1))

    assert body == bench.body(1, size)
    first = 200_000 - OVERLAP_BYTES
    assert [(r.status, r.range) for r in gets(emulator)] == [(206, f"bytes={first}-")]


def test_a_partial_of_less_than_64_kb_starts_again(bench: Any) -> None:
    """Without a validator a partial of up to 64 kB is not worth a comparison."""
    emulator = interrupted(bench, _LARGE, 60_000, validators=None)

    assert bench.filesystem(emulator).cat(bench.path(1)) == bench.body(1, _LARGE)
    assert [(r.status, r.range) for r in gets(emulator)] == [(200, None)]


def test_a_weak_etag_is_no_validator(bench: Any) -> None:
    """A weak ETag does not promise equal bytes: the last 64 kB are compared."""
    size = 3_000_000
    emulator = bench.start(days=1, size=size)
    product = emulator.catalogue.product(bench.dataset, bench.product_id(1))
    product.content.__dict__["etag"] = 'W/"same"'
    emulator.fault(Fault("cut", after_bytes=1 << 21))

    assert bench.filesystem(emulator).cat(bench.path(1)) == bench.body(1, size)
    first = (1 << 21) - OVERLAP_BYTES
    assert [(r.status, r.range) for r in gets(emulator)] == [(200, None), (206, f"bytes={first}-")]


@pytest.mark.slow
@pytest.mark.parametrize("size", [_LARGE, _SMALL])
def test_nothing_that_arrived_is_lost(size: int, bench: Any) -> None:
    """What arrived before a body broke off is kept to the last byte, and not fetched again."""
    emulator = bench.start(days=1, size=size)
    emulator.fault(Fault("cut", after_bytes=200_000))

    assert bench.filesystem(emulator).cat(bench.path(1)) == bench.body(1, size)
    assert [r.range for r in gets(emulator)] == [None, "bytes=200000-"]


@pytest.mark.slow
@pytest.mark.parametrize("validator", ["etag", "last-modified", None])
def test_changed_content_starts_again(validator: str | None, bench: Any) -> None:
    """A file that was replaced meanwhile is fetched as a whole: never half of each."""
    emulator = interrupted(bench, _LARGE, 900_000, validators=validator)
    changed(bench, emulator, bench.body(9, _LARGE))

    assert bench.filesystem(emulator).cat(bench.path(1)) == bench.body(9, _LARGE)
    assert [r.status for r in gets(emulator)] == [206, 200]


def test_changed_length_starts_again(bench: Any) -> None:
    """A file that became longer meanwhile is fetched as a whole, even if it begins the same."""
    emulator = interrupted(bench, _LARGE, 900_000, validators=None)
    changed(bench, emulator, bench.body(1, _LARGE) + b"more")

    assert bench.filesystem(emulator).cat(bench.path(1)) == bench.body(1, _LARGE) + b"more"
    assert [r.status for r in gets(emulator)] == [206, 200]


@pytest.mark.slow
@pytest.mark.parametrize("validator", ["etag", None])
@pytest.mark.parametrize(
    ("fault", "statuses"),
    [
        ("range-ignored", [200]),
        ("range-other-total", [206, 200]),
        ("range-416", [416, 200]),
        ("no-validator", [206, 200]),
    ],
)
def test_a_range_that_is_not_served(
    fault: str, statuses: list[int], validator: str | None, bench: Any
) -> None:
    """A 200 is never appended; another total, a 416, a lost validator: it starts again."""
    emulator = interrupted(bench, _LARGE, 900_000, validators=validator)
    emulator.fault(Fault(fault))

    assert bench.filesystem(emulator).cat(bench.path(1)) == bench.body(1, _LARGE)
    expected = [206] if fault == "no-validator" and validator is None else statuses
    assert [r.status for r in gets(emulator)] == expected


def test_bytes_of_which_nothing_is_known_are_fetched_again(bench: Any) -> None:
    """Where the facts of a partial are lost, as in a power cut, it is not trusted."""
    emulator = interrupted(bench, _SMALL, 200_000)
    (facts,) = bench.cache_dir.rglob(".facts.json")
    facts.write_bytes(b"")

    assert bench.filesystem(emulator).cat(bench.path(1)) == bench.body(1, _SMALL)
    assert [(r.status, r.range) for r in gets(emulator)] == [(200, None)]


def archive(head: int, count: int = 1) -> bytes:
    """Return a ZIP of members that differ in their first bytes only, by ``head``."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as target:
        for number in range(count):
            member = zipfile.ZipInfo(f"member-{number}.bin", date_time=(1980, 1, 1, 0, 0, 0))
            rest = random.Random(number).randbytes(500_000)
            target.writestr(member, bytes([head]) * 1000 + rest)
    return buffer.getvalue()


def test_a_zip_of_two_halves_is_refused_by_its_crc(bench: Any) -> None:
    """A resumed ZIP whose last 64 kB were equal, but not its beginning, is fetched as a whole."""
    emulator = interrupted(bench, 0, 300_000, body=archive(1), validators=None)
    changed(bench, emulator, archive(2))

    assert bench.filesystem(emulator).cat(bench.path(1)) == archive(2)
    assert [r.status for r in gets(emulator)] == [206, 200]
    assert emulator.orders == 1


@pytest.mark.slow
@pytest.mark.parametrize("validator", ["etag", "last-modified", None])
def test_a_zip_made_on_the_fly(validator: str | None, bench: Any) -> None:
    """A ZIP whose bytes differ at each call is whole, and opens, after an interruption."""
    body = archive(1, count=6)
    emulator = bench.start(
        products=[dated_product(bench.product_id(1), body)], validators=validator
    )
    emulator.fault(Fault("other-bytes", times=None))
    emulator.fault(Fault("cut", after_bytes=(1 << 21) + 9))

    got = bench.filesystem(emulator).cat(bench.path(1))

    assert len(got) == len(body)
    with zipfile.ZipFile(io.BytesIO(got)) as opened:
        assert opened.testzip() is None
        assert sorted(opened.namelist()) == [f"member-{number}.bin" for number in range(6)]


_FACTS = {"total": 1000, "etag": '"a"', "name": "a.nc"}
_PLAIN = {"total": 1000, "name": "a.nc"}
_PART = {"Content-Range": "bytes 400-999/1000", "ETag": '"a"'}
_WRITE, _APPEND, _RESTART = Action.WRITE, Action.APPEND, Action.RESTART


@for_each(
    ("status", "headers", "first_byte", "facts", "expected"),
    [
        (202, {}, 0, {}, (Action.WAIT, None)),
        (202, {}, 400, _FACTS, (Action.WAIT, None)),
        (200, {"Content-Length": "1000"}, 0, {}, (_WRITE, 1000)),
        (200, {}, 0, {}, (_WRITE, None)),
        (200, {"Content-Length": "1000", "Content-Encoding": "gzip"}, 0, {}, (_WRITE, None)),
        (200, {"Content-Length": "1000"}, 400, _FACTS, (_WRITE, 1000)),
        (200, {"Content-Length": "77"}, 400, _FACTS, (_WRITE, 77)),
        (206, _PART, 400, _FACTS, (_APPEND, 1000)),
        (206, _PART, 400, _PLAIN, (_APPEND, 1000)),
        (206, _PART, 400, {"name": "a.nc", "total": None}, (_APPEND, 1000)),
        (206, {**_PART, "ETag": '"b"'}, 400, _FACTS, (_RESTART, None)),
        (206, {**_PART, "ETag": 'W/"a"'}, 400, _FACTS, (_RESTART, None)),
        (206, {"Content-Range": "bytes 400-999/1000"}, 400, _FACTS, (_RESTART, None)),
        (206, {**_PART, "Content-Range": "bytes 400-999/1001"}, 400, _FACTS, (_RESTART, None)),
        (206, {**_PART, "Content-Range": "bytes 400-999/*"}, 400, _FACTS, (_RESTART, None)),
        (206, {**_PART, "Content-Range": "bytes 399-999/1000"}, 400, _FACTS, (_RESTART, None)),
        (206, {**_PART, "Content-Range": "bytes 400-450/300"}, 400, _PLAIN, (_RESTART, None)),
        (206, {**_PART, "Content-Range": "words 400-999/1000"}, 400, _FACTS, (_RESTART, None)),
        (206, {"ETag": '"a"'}, 400, _FACTS, (_RESTART, None)),
        (206, {**_PART, "Content-Encoding": "gzip"}, 400, _FACTS, (_RESTART, None)),
        (416, {}, 400, _FACTS, (_RESTART, None)),
        (416, {}, 400, {**_FACTS, "total": 400}, (Action.DONE, 400)),
        (416, {}, 400, {"total": None, "name": None}, (_RESTART, None)),
    ],
)
def test_the_plan(
    status: int,
    headers: Mapping[str, str],
    first_byte: int,
    facts: Mapping[str, Any],
    expected: tuple[Action, int | None],
) -> None:
    """What is done with each kind of answer when 400 bytes are held."""
    answer = ResponseHead(status, headers)

    assert plan(answer, held=400, first_byte=first_byte, facts=facts) == expected


@for_each(
    ("held", "facts", "expected"),
    [
        (0, {}, 0),
        (500_000, {}, 0),
        (500_000, _FACTS, 500_000),
        (500_000, {"total": 9, "last_modified": "Mon"}, 500_000),
        (500_000, _PLAIN, 500_000 - OVERLAP_BYTES),
        (OVERLAP_BYTES, _PLAIN, 0),
        (10, _PLAIN, 0),
    ],
)
def test_where_a_range_starts(held: int, facts: Mapping[str, Any], expected: int) -> None:
    """What is asked for depends on the bytes held, and on what is known of them."""
    assert range_start(held, facts) == expected


def test_what_counts_as_validator() -> None:
    """A strong ETag and Last-Modified tell two states apart; a weak or empty one does not."""
    assert validators({"ETag": '"a"', "Last-Modified": "Mon"}) == {
        "etag": '"a"',
        "last_modified": "Mon",
    }
    assert validators({"ETag": 'W/"a"', "Last-Modified": " "}) == {}


def test_what_others_remembered_is_believed_if_it_can_be(bench: Any) -> None:
    """Beside the bytes of a half lies what anybody may have written; it ends in no traceback."""
    wrong: dict[str, Any] = {"total": "1000", "name": ["x"], "etag": {}, "resumed": "no"}
    assert believed({**wrong, "last_modified": "Mon", "more": 1}) == {"last_modified": "Mon"}
    assert believed({**_FACTS, "resumed": True, "total": None}) == {
        key: value for key, value in {**_FACTS, "resumed": True}.items() if key != "total"
    }
    emulator = bench.start(1, size=200_000)
    fs = bench.filesystem(emulator)
    (product,) = fs._client.search(Location.parse(bench.query))
    with fs._client.cache.stage(product) as staging:
        with staging.open() as handle:
            handle.write(bench.body(1, 200_000)[:100_000])
        staging.remember(**wrong)

    assert fs.cat(bench.path(1)) == bench.body(1, 200_000)
