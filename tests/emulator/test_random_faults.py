"""Faults by chance: how many, which, and the same again with the same seed."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from hda_fsspec.emulator import Emulator
from hda_fsspec.emulator.messages import Request
from hda_fsspec.emulator.random_faults import IN_FILES, KINDS, RandomFaults
from hda_fsspec.errors import ConfigurationError

FILE = "/hda-broker/api/v1/dataaccess/download/"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hda_fsspec.network.retries._FIRST_DELAY_SECONDS", 0.005)
    monkeypatch.setattr("hda_fsspec.network.retries._LONGEST_DELAY_SECONDS", 0.02)
    monkeypatch.setattr("hda_fsspec.emulator.random_faults._HANG_SECONDS", 0.01)
    monkeypatch.setattr("hda_fsspec.emulator.random_faults._SLOW_SECONDS", 0.02)
    monkeypatch.setattr("hda_fsspec.emulator.state._YOUNG_SECONDS", 0.3)


def asked(method: str, download_id: str) -> Request:
    """Return a request for a file, or for the state of its order."""
    return Request(method, f"{FILE}{download_id}", {}, {"Authorization": "Bearer token"})


def draws(chance: RandomFaults, count: int) -> list[str]:
    """Return what is drawn as each of some products is polled once and fetched twice."""
    kinds = []
    for number in range(count):
        for method in ("HEAD", "GET", "GET"):
            found = chance.draw(asked(method, f"id-{number}"), f"product-{number}", 1000)
            kinds += [fault.kind for fault in found]
    return kinds


@pytest.mark.slow
def test_so_large_a_share_is_spoilt() -> None:
    """Of many answers the share that was asked for is spoilt, by all kinds about equally often."""
    chance = RandomFaults(0.05, 1)

    kinds = draws(chance, 10_000)

    assert len(kinds) / 30_000 == pytest.approx(0.05, abs=0.005)
    assert sum(chance.drawn.values()) == len(kinds)
    assert set(chance.drawn) == set(KINDS) - {"cut-json"}
    assert min(chance.drawn[kind] for kind in IN_FILES) > 40


def test_the_same_job_meets_the_same_faults() -> None:
    """A seed decides, whatever the order of requests and the ids of orders."""
    forward, backward, other = RandomFaults(0.3, 7), RandomFaults(0.3, 7), RandomFaults(0.3, 8)
    numbers = range(300)

    def met(chance: RandomFaults, numbers: Any, ids: str) -> dict[int, list[str]]:
        return {
            number: [
                fault.kind
                for _ in range(3)
                for fault in chance.draw(asked("GET", f"{ids}{number}"), f"product {number}", 50)
            ]
            for number in numbers
        }

    first = met(forward, numbers, "a")

    assert met(backward, reversed(numbers), "b") == first
    assert met(other, numbers, "a") != first


def test_threads_count_each_request_once() -> None:
    """Many threads draw together what one would draw alone."""
    alone, shared = RandomFaults(0.5, 3), RandomFaults(0.5, 3)
    expected = Counter(draws(alone, 200))
    threads = [threading.Thread(target=_draw_part, args=(shared, part)) for part in range(4)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sum(shared.drawn.values()) == sum(expected.values())
    assert shared.drawn == alone.drawn


def _draw_part(chance: RandomFaults, part: int) -> None:
    for number in range(part, 200, 4):
        for method in ("HEAD", "GET", "GET"):
            chance.draw(asked(method, f"other-{number}"), f"product-{number}", 1000)


def test_what_is_drawn_fits_the_request() -> None:
    """Bodies of files are spoilt where there are some, tokens expire where one is sent."""
    chance = RandomFaults(1.0, 1)
    login = Request("POST", "/identity/gettoken", {}, {})
    poll = asked("HEAD", "id")

    at_login = {fault.kind for _ in range(200) for fault in chance.draw(login, None, None)}
    at_poll = {fault.kind for _ in range(200) for fault in chance.draw(poll, "product", 1000)}

    assert at_login == {"status", "reset", "html", "hang", "cut-json"}
    assert at_poll == {"status", "reset", "html", "hang", "expired"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_client_survives_each_kind(kind: str, bench: Any) -> None:
    """Whatever spoils a third of all answers, a job ends with the right bytes."""
    # A token must grow old enough to expire.
    preparation = 0.4 if kind == "expired" else 0.0
    emulator: Emulator = bench.start(
        days=4,
        size=20_000,
        preparation_seconds=preparation,
        fault_rate=0.33,
        fault_seed=2,
        fault_kinds=(kind,),
    )
    fs = bench.filesystem(emulator)

    paths = fs.prefetch(bench.query)

    got = [Path(path).read_bytes() for path in paths]
    assert got == [bench.body(day, 20_000) for day in range(1, 5)]
    assert emulator.orders == 4
    assert emulator.chance_faults[kind] > 0
    assert (len(emulator.tokens_issued) > 2) == (kind == "expired")


def test_nothing_is_spoilt_unasked(bench: Any) -> None:
    """Without a rate no answer is spoilt; a scripted fault goes before one by chance."""
    emulator = bench.start(days=3)
    bench.filesystem(emulator).prefetch(bench.query)

    assert emulator.chance_faults == {}
    assert all(not record.faults for record in emulator.log)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"fault_rate": 1.5}, "from 0 to 1"),
        ({"fault_rate": 0.1, "fault_kinds": ("429",)}, "draws no fault '429'"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], said: str, bench: Any) -> None:
    """A share beyond one, or a kind that cannot be drawn, is refused at once."""
    with pytest.raises(ConfigurationError, match=said):
        bench.start(**options)
