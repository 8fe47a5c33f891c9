"""The quota of an account: what was told, what was ordered since, and when one may ask again."""

from __future__ import annotations

import errno
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from clocks import Clock

from hda_fsspec.cache.orders import OrderBook
from hda_fsspec.fetching.quota import Quota, QuotaWait
from hda_fsspec.records import Product


@pytest.fixture
def clock() -> Clock:
    """Return the clock of a test."""
    return Clock()


Make = Callable[[], Quota]


@pytest.fixture
def make(tmp_path: Path, clock: Clock) -> Make:
    """Return what makes the quota as each process has it, on one folder."""
    return lambda: Quota(
        OrderBook(tmp_path / "cache", "me", clock=clock), clock=clock, jitter=lambda: 0.0
    )


def product(number: int) -> Product:
    """Return a product."""
    return Product("EO:TEST:DAT", f"p{number}")


def tell(quota: Quota, remaining: int, reset_at: float, *, sent_at: float) -> None:
    """Answer something, with quota headers."""
    headers = {
        "X-Quota-Limit": "100",
        "X-Quota-Remaining": str(remaining),
        "X-Quota-Reset": str(int(reset_at * 1000)),
    }
    quota.on_response(headers, sent_at)


def test_a_refusal_closes_for_all(make: Make, clock: Clock) -> None:
    """The quota is closed until the time that was told, for all who ask."""
    quota, other = make(), make()
    assert quota.reserve(product(1)) is None

    assert quota.refused(product(1), clock.now + 100) == QuotaWait(100, is_used_up=True)
    assert quota.refused(product(2), clock.now + 50).seconds == 100

    assert quota.reserve(product(2)) == other.reserve(product(3)) == QuotaWait(100, is_used_up=True)
    clock.now += 101
    assert other.reserve(product(3)) is None


@pytest.mark.parametrize("reset_at", [None, 0.0, 1_600_000_000.0])
def test_untold_waits_grow(reset_at: float | None, make: Make, clock: Clock) -> None:
    """Where no time is told, or one that is over, waits double up to a bound; success resets."""
    quota = make()
    waits = []
    for _ in range(9):
        waits.append(quota.refused(product(1), reset_at).seconds)
        clock.now += waits[-1] + 1

    assert waits == [5, 10, 20, 40, 80, 160, 300, 300, 300]
    quota.granted(product(1), "id")
    assert quota.refused(product(2), reset_at).seconds == 5


def test_refusals_at_one_time_count_once(make: Make) -> None:
    """Several orders that were refused at one time do not let the wait grow several times."""
    quota = make()

    waits = [quota.refused(product(number), None).seconds for number in range(8)]

    assert max(waits) <= 10


def test_no_more_go_out_than_are_left(make: Make, clock: Clock) -> None:
    """Orders that are not answered yet count against what was told, in all processes."""
    quota, other = make(), make()
    tell(quota, 3, clock.now + 60, sent_at=clock.now)
    assert other.reserve(product(0)) is None
    assert quota.reserve(product(1)) is None
    assert quota.reserve(product(2)) is None

    closed = quota.reserve(product(3))

    assert closed is not None
    assert not closed.is_used_up
    assert closed.seconds < 1
    other.release(product(0))
    assert quota.reserve(product(3)) is None


def test_what_was_granted_since_counts(make: Make, clock: Clock) -> None:
    """What other processes got since the last telling is not asked for again."""
    quota, other = make(), make()
    tell(quota, 2, clock.now + 60, sent_at=clock.now)
    for number in (1, 2):
        clock.now += 1
        assert other.reserve(product(number)) is None
        other.granted(product(number), "id")

    assert quota.reserve(product(3)) == QuotaWait(58, is_used_up=True)
    assert quota.view().left == 0


def test_the_answer_to_an_order_counts_it_already(make: Make, clock: Clock) -> None:
    """An order whose own answer told what is left is not taken off once more."""
    quota = make()
    tell(quota, 2, clock.now + 60, sent_at=clock.now)
    sent_at = clock.now = clock.now + 1
    assert quota.reserve(product(1)) is None
    clock.now += 1
    tell(quota, 1, clock.now + 60, sent_at=sent_at)
    clock.now += 0.5
    quota.granted(product(1), "id")

    assert quota.view().left == 1
    assert quota.reserve(product(2)) is None


def test_one_goes_first_when_it_is_time(make: Make, clock: Clock) -> None:
    """At the reset nobody knows how many came back: one order goes, and its answer tells."""
    quota = make()
    tell(quota, 0, clock.now + 60, sent_at=clock.now)
    assert quota.reserve(product(1)) == QuotaWait(60, is_used_up=True)
    clock.now += 60

    assert quota.reserve(product(1)) is None
    closed = quota.reserve(product(2))
    assert closed is not None
    assert not closed.is_used_up
    tell(quota, 7, clock.now + 60, sent_at=clock.now)
    quota.granted(product(1), "id")
    assert quota.reserve(product(2)) is None


def test_a_refusal_beside_orders_that_are_left(make: Make, clock: Clock) -> None:
    """A refusal counts though headers tell of orders that are left: it may be another quota."""
    quota = make()
    tell(quota, 50, clock.now + 60, sent_at=clock.now)
    quota.refused(product(1), None)
    clock.now += 1
    tell(quota, 50, clock.now + 60, sent_at=clock.now)

    assert quota.reserve(product(1)) == QuotaWait(4, is_used_up=True)


def test_an_overtaken_answer_is_old_news(make: Make, clock: Clock) -> None:
    """An answer to an earlier request that comes later does not count; a clock set back does."""
    quota = make()
    tell(quota, 5, clock.now + 60, sent_at=clock.now)
    tell(quota, 9, clock.now + 60, sent_at=clock.now - 1)
    assert quota.view().left == 5

    clock.now -= 3600
    tell(quota, 8, clock.now + 60, sent_at=clock.now)
    assert quota.view().left == 8


def test_a_killed_process_holds_nothing_up_for_long(make: Make, clock: Clock) -> None:
    """An order without answer counts as taken in after some minutes, as none after an hour."""
    quota, killed = make(), make()
    tell(quota, 1, clock.now + 7200, sent_at=clock.now)
    clock.now += 1
    assert killed.reserve(product(1)) is None
    assert quota.reserve(product(2)) != QuotaWait(7199, is_used_up=True)

    clock.now += 200
    assert quota.reserve(product(2)) == QuotaWait(6999, is_used_up=True)
    clock.now += 3600
    assert quota.reserve(product(2)) is None


@pytest.mark.slow
@pytest.mark.parametrize(
    "headers",
    [{}, {"X-Quota-Remaining": "many"}, {"X-Quota-Limit": "100"}, {"X-Quota-Remaining": ""}],
)
def test_without_headers_all_go_out(headers: dict[str, str], make: Make, clock: Clock) -> None:
    """Where the service tells nothing nobody is held back; it will refuse what is too much."""
    quota = make()
    quota.on_response(headers, clock.now)

    assert [quota.reserve(product(number)) for number in range(60)] == [None] * 60
    assert quota.view().left is None


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b'{"limit": "x"}', b'{"else": 1}', b"7"])
def test_garbled_news_are_none(text: bytes, make: Make, clock: Clock, tmp_path: Path) -> None:
    """What another process kept counts only if it can be read."""
    quota = make()
    tell(quota, 5, clock.now + 60, sent_at=clock.now)
    (tmp_path / "cache" / "v1" / "quota" / "me" / "told.json").write_bytes(text)

    assert make().reserve(product(1)) is None
    assert quota.view().left == 4


@pytest.mark.slow
def test_two_never_both_take_the_last(tmp_path: Path) -> None:
    """Of many that ask for one order at one time, in as many processes, at most one may go."""
    for turn in range(15):
        root = tmp_path / str(turn)
        quotas = [Quota(OrderBook(root, "me")) for _ in range(6)]
        for quota in quotas:
            tell(quota, 1, time.time() + 60, sent_at=time.time())
        start = threading.Barrier(len(quotas))
        gone: list[int] = []

        def ask(
            number: int, quotas: list[Quota], start: threading.Barrier, gone: list[int]
        ) -> None:
            start.wait()
            if quotas[number].reserve(product(number)) is None:
                gone.append(number)

        threads = [
            threading.Thread(target=ask, args=(number, quotas, start, gone)) for number in range(6)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert len(gone) <= 1


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EMFILE, errno.ESTALE, errno.EIO])
def test_a_folder_that_cannot_be_written(
    code: int, make: Make, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a disk that fails orders go out all the same, by what the service tells."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(code, "no")

    monkeypatch.setattr("hda_fsspec.cache.folder.Folder.write", refuse)
    quota = make()
    tell(quota, 1, clock.now + 60, sent_at=clock.now)

    assert quota.reserve(product(1)) is None
    quota.granted(product(1), "id")
    tell(quota, 0, clock.now + 60, sent_at=clock.now)
    assert quota.reserve(product(2)) == QuotaWait(60, is_used_up=True)


def test_a_poll_that_overtakes_an_order_hides_nothing(make: Make, clock: Clock) -> None:
    """An order whose answer comes after that of a later request still counts."""
    quota = make()
    tell(quota, 2, clock.now + 60, sent_at=clock.now)
    assert quota.reserve(product(1)) is None
    order_sent_at = clock.now = clock.now + 1
    tell(quota, 2, clock.now + 60, sent_at=order_sent_at + 1)  # the poll: the order is not in it
    clock.now += 2
    tell(quota, 1, clock.now + 60, sent_at=order_sent_at)
    quota.granted(product(1), "id")

    assert quota.view().left == 0


@pytest.mark.parametrize("seconds", [1e6, 1.7e12])
def test_an_absurd_reset_is_none(seconds: float, make: Make, clock: Clock) -> None:
    """A time in another unit, or far away, closes orders no longer than one that is not told."""
    quota = make()
    tell(quota, 0, clock.now + seconds, sent_at=clock.now)

    assert quota.refused(product(1), clock.now + seconds).seconds <= 5
    clock.now += 6
    assert make().reserve(product(2)) is None


def test_a_kept_absurd_time_is_none(make: Make, clock: Clock, tmp_path: Path) -> None:
    """What an earlier version may have kept of such a time means nothing."""
    quota = make()
    quota.refused(product(1), clock.now + 60)
    kept = tmp_path / "cache" / "v1" / "quota" / "me" / "told.json"
    kept.write_text(json.dumps(json.loads(kept.read_text()) | {"closed_until": 1e15}))

    assert make().reserve(product(1)) is None


def test_the_first_answer_of_a_process_keeps_what_others_were_told(
    make: Make, clock: Clock
) -> None:
    """A refusal that another process met is not forgotten over headers that tell of some left."""
    make().refused(product(1), clock.now + 3000)
    other = make()

    tell(other, 50, clock.now + 60, sent_at=clock.now)

    assert other.reserve(product(2)) == QuotaWait(3000, is_used_up=True)
    assert make().reserve(product(3)) == QuotaWait(3000, is_used_up=True)
