"""Waiting is never silent where somebody looks, and always where nobody does."""

from __future__ import annotations

import concurrent.futures
import importlib.util
import io
import logging
import sys
import types
from typing import Any

import pytest
from looking import UNKNOWN, Looking
from rows import for_each

from hda_fsspec.fetching import progress
from hda_fsspec.fetching.progress import Line, Wait, somebody_looks, what_to_say
from hda_fsspec.fetching.quota import QuotaView
from hda_fsspec.records import Product

PRODUCT = Product("EO:TEST:DAT:DAILY", "a.nc")
OTHER = Product("EO:TEST:DAT:DAILY", "b.nc")


def a_fetch() -> concurrent.futures.Future[Any]:
    """Return what never ends by itself."""
    return concurrent.futures.Future()


def test_nothing_is_said_too_early() -> None:
    """For two seconds nothing is said, and then it is."""
    waits = [Wait(PRODUCT, 100.0), Wait(OTHER, 101.9)]

    assert what_to_say([], 200.0, UNKNOWN) is None
    assert what_to_say(waits, 101.9, UNKNOWN) is None
    said = what_to_say(waits, 102.0, UNKNOWN)
    assert said is not None
    assert said.startswith("hda: waiting for a.nc and 1 more since ")
    assert said.endswith(" (0:00:02); 2 of 2 left")


@for_each(
    ("quota", "says"),
    [
        (UNKNOWN, None),
        (QuotaView(100, None, None), None),
        (QuotaView(100, 85, None), "; 85 of 100 orders an hour left"),
        (QuotaView(100, 0, 4000.0), "; order quota used up until "),
        (QuotaView(100, 3, 3000.0), "; 3 of 100 orders an hour left"),
    ],
)
def test_the_quota_is_told_as_far_as_it_is_known(quota: QuotaView, says: str | None) -> None:
    """A quota that is closed goes before what is left of it; an unknown one is not mentioned."""
    said = what_to_say([Wait(PRODUCT, 0.0)], 3661.0, quota)

    assert said is not None
    assert "(1:01:01)" in said
    assert ("quota" in said or "orders" in said) is (says is not None)
    assert (says or "") in said


def test_a_line_has_room_for_long_names() -> None:
    """Names as long as those of satellites leave room in 80 columns for since when."""
    name = "S3A_OL_2_WFR____20240501T095858_20240501T100158_20240502T182024_0179_112_022_2160.SEN3"
    waits = [Wait(Product("EO:X", name), 0.0), Wait(OTHER, 0.0)]

    short = what_to_say(waits, 60.0, UNKNOWN, longest_name=34)
    full = what_to_say(waits, 60.0, UNKNOWN)

    assert short is not None
    assert full is not None
    assert "S3A_OL_2_WFR____2…12_022_2160.SEN3 and 1 more since " in short
    assert len(short.partition(";")[0]) < 100
    assert name in full


def test_what_arrives_is_counted() -> None:
    """Bytes are told of what is downloaded; the whole only where all lengths are known."""
    known = Wait(PRODUCT, 0.0, received=1_500_000, size=4_000_000)
    unknown = Wait(OTHER, 0.0, received=500_000)

    one = what_to_say([known, Wait(OTHER, 0.0)], 9.0, UNKNOWN, finished=3)
    both = what_to_say([known, unknown], 9.0, UNKNOWN)

    assert one is not None
    assert both is not None
    assert "; 2 of 5 left; downloading 1: 1.5 of 4.0 MB" in one
    assert "; downloading 2: 2.0 MB" in both


def test_a_purpose_is_told_and_an_end_takes_the_line_away() -> None:
    """What a product is for stands behind it; when all have come nothing is shown any more."""
    looking = Looking()
    reporter = looking.make()
    first, second = a_fetch(), a_fetch()
    with progress.waiting_for("the template of hda://X"):
        reporter.watch(PRODUCT, first)
    reporter.watch(OTHER, second)

    assert looking.after(1.9) is None
    assert "a.nc (the template of hda://X) and 1 more" in str(looking.after(0.1))
    reporter.tell(PRODUCT, 7_000_000, None)
    assert "downloading 1: 7.0 MB" in str(looking.after(1))
    first.set_result(None)
    assert "waiting for b.nc since" in str(looking.after(1))
    assert "1 of 2 left" in str(looking.shown[-1])
    second.set_exception(OSError())
    assert looking.shown[-1] is None
    assert reporter.look() is None


def test_a_new_wait_is_counted_anew() -> None:
    """After all have come, the next wait begins with its own two seconds and its own count."""
    looking = Looking()
    reporter = looking.make()
    first = a_fetch()
    reporter.watch(PRODUCT, first)
    looking.after(5)
    first.set_result(None)
    reporter.watch(OTHER, a_fetch())

    assert looking.after(1) is None
    assert str(looking.after(1)).endswith("(0:00:02)")


def test_who_left_is_not_waited_for() -> None:
    """What nobody wants any more is not told, though it is under way; whoever comes again is."""
    looking = Looking()
    reporter = looking.make()
    first, second = a_fetch(), a_fetch()
    reporter.watch(PRODUCT, first)
    reporter.watch(PRODUCT, second)
    first.cancel()
    assert "a.nc" in str(looking.after(2))

    second.cancel()
    assert looking.after(1) is None
    reporter.watch(PRODUCT, a_fetch())
    assert looking.after(1) is None
    assert str(looking.after(1)).endswith("(0:00:02)")


@pytest.mark.parametrize("way", ["setting", "call", "nobody looks"])
def test_where_nothing_is_shown_the_log_is_told(way: str, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is shown of what is quiet; the log gets a line, and one a minute after it."""
    looking = Looking()
    reporter = looking.make(is_shown=way != "setting")
    looking.is_looked_at = way != "nobody looks"
    with progress.quietly(is_so=way == "call"), caplog.at_level(logging.INFO, "hda_fsspec"):
        reporter.watch(PRODUCT, a_fetch())
        for _ in range(124):
            looking.after(1)

    assert looking.shown == []
    assert len(caplog.messages) == 3
    assert "waiting for a.nc" in caplog.messages[0]
    assert "(0:02:02)" in caplog.messages[2]


def test_a_terminal_that_is_gone_stops_nothing() -> None:
    """A screen that cannot be written is not written again, and the fetch ends as ever."""
    looking = Looking()
    reporter = looking.make()

    def fail(_: str | None) -> None:
        looking.shown.append("tried")
        raise ValueError("I/O operation on closed file")

    reporter.screen = types.SimpleNamespace(show=fail)
    fetch = a_fetch()
    reporter.watch(PRODUCT, fetch)
    looking.after(3)
    looking.after(3)
    fetch.set_result("here")

    assert looking.shown.count("tried") == 1
    assert fetch.result() == "here"


def test_it_looks_while_there_is_something_to_wait_for() -> None:
    """Looking begins with the first wait, once, and ends after the last one."""
    looking = Looking()
    begun: list[Any] = []
    reporter = looking.make(begin=begun.append)
    first, second = a_fetch(), a_fetch()

    reporter.watch(PRODUCT, first)
    looking.clock.now += 0.5
    reporter.watch(OTHER, second)
    [look_on] = begun
    assert look_on.send(None) == 1.5
    looking.clock.now += 1.5
    assert look_on.send(None) == 1.0
    assert "a.nc and 1 more" in str(looking.shown[-1])
    first.set_result(None)
    second.set_result(None)
    assert looking.shown[-1] is None
    with pytest.raises(StopIteration):
        look_on.send(None)

    reporter.watch(PRODUCT, a_fetch())
    assert len(begun) == 2
    begun[1].close()


def test_it_looks_on_for_what_is_wanted_again() -> None:
    """What was left alone and is wanted again before it looked is looked at from then on."""
    looking = Looking()
    begun: list[Any] = []
    reporter = looking.make(begin=begun.append)
    left, again = a_fetch(), a_fetch()
    reporter.watch(PRODUCT, left)
    left.cancel()
    looking.clock.now += 9
    reporter.watch(PRODUCT, again)

    [look_on] = begun
    assert look_on.send(None) == 2.0
    looking.clock.now += 2
    assert look_on.send(None) == 1.0
    assert str(looking.shown[-1]).endswith("(0:00:02)")
    again.set_result(None)
    with pytest.raises(StopIteration):
        look_on.send(None)


def test_nobody_looks_at_a_test_nor_at_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither under pytest, nor in a child process, nor in a worker of Dask; else at a terminal."""
    terminal = io.StringIO()
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stderr", terminal)
    assert not somebody_looks()
    assert somebody_looks({})

    worker, client = types.SimpleNamespace(_instances={1}), types.SimpleNamespace(_instances=set())
    cluster = {"distributed": types.SimpleNamespace(Worker=worker, Client=client)}
    assert not somebody_looks(cluster)
    client._instances.add(2)
    assert somebody_looks(cluster)

    with monkeypatch.context() as child:
        child.setattr("multiprocessing.parent_process", object)
        assert not somebody_looks({})
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert not somebody_looks({})
    monkeypatch.setattr(sys, "stderr", None)
    assert not somebody_looks({})
    shell = types.SimpleNamespace(config={"IPKernelApp": {}})
    notebook = types.SimpleNamespace(get_ipython=lambda: shell)
    assert somebody_looks({"IPython": notebook})


def test_the_names_by_which_a_worker_is_known_exist() -> None:
    """Dask has the registers that are asked for whether this process is a worker."""
    distributed = pytest.importorskip("distributed")

    assert len(distributed.Worker._instances) >= 0
    assert len(distributed.Client._instances) >= 0


def test_the_line_is_drawn_in_place_and_taken_away(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line on standard error changes in place; standard output stays empty."""
    line = Line()
    line.show("hda: one")
    line.show("hda: two")
    line.show(None)
    line.show(None)

    out, err = capsys.readouterr()
    assert out == ""
    assert "hda: one" in err
    assert "hda: two" in err
    assert "\n" not in err
    assert err.rstrip(" ").endswith("\r")


def test_in_a_notebook_with_widgets_the_line_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    """It changes in place, is no markup, and is closed at the end; standard error stays empty."""
    if importlib.util.find_spec("ipywidgets") is None:
        pytest.skip("ipywidgets is not installed")
    shell = types.SimpleNamespace(config={"IPKernelApp": {}})
    line = Line({"IPython": types.SimpleNamespace(get_ipython=lambda: shell)})
    line.show("hda: one")
    text = line._bar.container.children[-1]
    line.show("hda: <b>two")

    assert text.value.endswith("&lt;b&gt;two")
    container = line._bar.container
    line.show(None)
    assert container.comm is None or container.layout.display == "none"
    assert capsys.readouterr().err == ""
