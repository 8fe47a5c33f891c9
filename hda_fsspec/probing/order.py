"""The one order of a probe, and its file."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

from hda_fsspec.network.responses import (
    content_length,
    content_range,
    delivered_name,
)
from hda_fsspec.probing.contents import look_at_id, look_into
from hda_fsspec.probing.conversation import Conversation, Exchange
from hda_fsspec.probing.facts import FAILED, Fact, compared, left_open, settled
from hda_fsspec.probing.probe import MOST_BYTES, guarded
from hda_fsspec.probing.query import ProbePlan
from hda_fsspec.schema.schema import Schema

_MOST_POLLS = 40
_FIRST_WAIT_SECONDS = 2.0
_LONGEST_WAIT_SECONDS = 120.0
_RANGE_BYTES = 64 << 10
_FILES = frozenset({200, 206})
_TOLD_HEADERS = ("ETag", "Last-Modified", "Accept-Ranges", "Content-Type", "Content-Encoding")


class OrderProbe:
    """The part of a probe that orders a product.

    Parameters
    ----------
    talk : Conversation
        With the service.
    plan : ProbePlan
        What to order.
    schema : Schema
        That of the data set.
    folder : Path
        Where the file may lie.
    sleep : callable
        How to wait some seconds.
    most_bytes : int
        A longer file is not fetched to its end.
    """

    def __init__(
        self,
        talk: Conversation,
        plan: ProbePlan,
        schema: Schema,
        folder: Path,
        *,
        sleep: Callable[[float], object] = time.sleep,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self._talk = talk
        self._plan = plan
        self._schema = schema
        self._folder = folder
        self._sleep = sleep
        self._most_bytes = most_bytes
        self._id = ""
        self._head: Exchange | None = None

    def look(self) -> Iterator[Fact]:
        """Order, wait, fetch, and look into the file."""
        yield from guarded("id of the product", lambda: look_at_id(self._plan))
        yield from guarded("order", self._order)
        if not self._id:
            return
        yield from guarded("waiting", self._wait)
        if self._head is None:
            return
        yield from guarded("file", self._fetch)

    def _order(self) -> Iterator[Fact]:
        body = {"dataset_id": self._plan.dataset_id, "product_id": self._plan.product_id}
        if self._plan.locator:
            body["location"] = self._plan.locator
        before = _quota(self._talk, "X-Quota-Remaining")
        seen = self._talk.ask("POST", "dataaccess/download", body=body)
        told = seen.get("download_id")
        if not isinstance(told, str) or not told:
            yield Fact("order", "200 and a download_id", seen.says, FAILED)
            return
        self._id = told
        yield compared("order", "200, 201 or 202", seen.says, is_as_expected=seen.status < 300)
        middle = _quota(self._talk, "X-Quota-Remaining")
        again = self._talk.ask("POST", "dataaccess/download", body=body)
        is_same = again.get("download_id") == told
        after = _quota(self._talk, "X-Quota-Remaining")
        yield settled(
            "the order repeated",
            f"{again.says}, {'the same' if is_same else 'another'} download_id",
            "the same, or another one",
        )
        yield from quota_facts(self._talk)
        if middle is None or after is None:
            yield left_open("quota of a repeated order", "no X-Quota-Remaining", "none")
        else:
            told = f"left before, after, after the repetition: {before}, {middle}, {after}"
            yield compared(
                "quota of a repeated order", "none", told, is_as_expected=after >= middle
            )

    @property
    def _path(self) -> str:
        return f"dataaccess/download/{quote(self._id, safe='')}"

    def _wait(self) -> Iterator[Fact]:
        statuses: list[int] = []
        wait = _FIRST_WAIT_SECONDS
        head = self._talk.ask("HEAD", self._path)
        listed = self._talk.ask("GET", "dataaccess/downloads", query={"download_id": self._id})
        yield settled("the list of orders", f"{listed.says}: {_words(listed)}", "200, a status")
        if head.status == 202:
            early = self._first_byte()
            what, is_so = "GET before it is ready", early.status == 202
            if early.status in _FILES:
                yield left_open(what, f"{early.says}: it may have become ready meanwhile", "202")
            else:
                yield compared(what, "202", early.says, is_as_expected=is_so)
        is_refused = head.status >= 400
        if is_refused:
            yield compared("HEAD of an order", "202, then 200", head.says, is_as_expected=False)
        state = self._first_byte() if is_refused else head
        while state.status == 202 and len(statuses) < _MOST_POLLS:
            statuses.append(state.status)
            self._sleep(wait)
            wait = min(1.3 * wait, _LONGEST_WAIT_SECONDS)
            state = self._first_byte() if is_refused else self._talk.ask("HEAD", self._path)
        what = "GET of an order" if is_refused else "HEAD of an order"
        if state.status == 202:
            told = f"still being prepared after {len(statuses)} polls; what is in the file is open"
            yield Fact(what, "202, then 200", told, FAILED)
            return
        told = f"{len(statuses)} times 202, then {state.says}"
        if state.status >= 400:
            listed = self._talk.ask("GET", "dataaccess/downloads", query={"download_id": self._id})
            yield Fact(what, "202, then 200", f"{told}; the list: {_words(listed)}", FAILED)
            return
        self._head = head if is_refused else state
        is_so = state.status in _FILES
        yield compared(what, "202, then 200", told, is_as_expected=is_so)

    def _first_byte(self) -> Exchange:
        return self._talk.ask("GET", self._path, byte_range="bytes=0-0", most_bytes=_RANGE_BYTES)

    def _fetch(self) -> Iterator[Fact]:
        head = self._head
        if head is None:
            return
        length = content_length(head.headers) if head.status == 200 else None
        yield compared(
            "Content-Length of HEAD", "there, as a rule", length, is_as_expected=length is not None
        )
        yield compared(
            "name of HEAD",
            "Content-Disposition",
            delivered_name(head.headers),
            is_as_expected=delivered_name(head.headers) is not None,
        )
        target = self._folder / "file"
        part = self._first_byte()
        yield _range(part)
        if 300 <= part.status < 400:
            where = str(part.headers.get("Location", "")).partition("?")[0]
            yield settled("where the file is", f"{part.status} to {where}", "at the broker")
            yield left_open("the file", "it is elsewhere; fs.open follows, and the probe does not")
            return
        whole = self._talk.ask("GET", self._path, to_file=target, most_bytes=self._most_bytes)
        if whole.status != 200:
            yield Fact("GET of the file", "200", whole.says, FAILED)
            return
        yield from self._transfer(whole, length)
        if not whole.is_whole:
            why = f"the file has more than {self._most_bytes} bytes; give a --query of less"
            yield left_open("what the file holds", why)
            return
        with target.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        yield settled("SHA-256 of the file", digest, "differs between archives made on the fly")
        name = delivered_name(whole.headers) or ""
        yield from guarded(
            "what the file holds",
            lambda: look_into(target, name, self._plan, self._schema, self._folder / "scratch"),
        )

    def _transfer(self, whole: Exchange, length: int | None) -> Iterator[Fact]:
        told = content_length(whole.headers)
        framing = whole.headers.get("Transfer-Encoding") or ("by length" if told else "by its end")
        yield compared(
            "Content-Length of the file",
            "its length",
            f"{told}, {whole.length} came ({framing}); HEAD said {length}",
            is_as_expected=told == whole.length,
        )
        size = self._plan.size
        if size is None:
            yield left_open("the catalogue's size is exact", "the catalogue tells none")
        else:
            is_so = size == whole.length
            yield compared(
                "the catalogue's size is exact",
                "but for EO:MO, and archives made on the fly",
                f"{size} in the catalogue, {whole.length} came",
                is_as_expected=is_so,
            )
        name = delivered_name(whole.headers)
        yield settled(
            "delivered name", name or "none", f"{self._plan.product_id}, perhaps a suffix"
        )
        for header in (
            "ETag",
            "Last-Modified",
            "Accept-Ranges",
            "Content-Type",
            "Content-Encoding",
        ):
            yield settled(header, whole.headers.get(header) or "not there")
        end = whole.length - 1
        tail = self._talk.ask(
            "GET", self._path, byte_range=f"bytes={end}-", most_bytes=_RANGE_BYTES
        )
        same = tail.headers.get("ETag") == whole.headers.get("ETag")
        told_range = content_range(tail.headers)
        is_so = tail.status == 206 and told_range == (end, whole.length) and tail.length == 1
        yield compared(
            "Range of the last byte",
            "206 and the right total, or 200",
            f"{tail.says}, Content-Range {tail.headers.get('Content-Range')}, ETag "
            f"{'the same' if same else 'another'}",
            is_as_expected=is_so or tail.status == 200,
        )


def _range(part: Exchange) -> Fact:
    total = content_range(part.headers)
    told = f"{part.says}, Content-Range {part.headers.get('Content-Range')}, {part.length} bytes"
    if part.status == 206 and total is not None and total[0] == 0 and part.length == 1:
        return settled("Range of the first byte", f"honoured: {told}", "206, or 200 for ignored")
    if part.status == 200:
        return settled("Range of the first byte", f"ignored: {told}", "206, or 200 for ignored")
    return settled("Range of the first byte", f"refused: {told}", "206, or 200 for ignored")


def _words(listed: Exchange) -> str:
    """Return what the list of orders says of them."""
    told = listed.get("features")
    orders = [f for f in told if isinstance(f, dict)] if isinstance(told, list) else []
    words = (f"{f.get('status')} {f.get('message') or ''}".strip() for f in orders[:5])
    return ", ".join(words) or "none"


def _quota(talk: Conversation, header: str) -> int | None:
    """Return what the last answer that has a header says in it."""
    for _, seen in reversed(talk.all):
        told = str(seen.headers.get(header, "")).strip()
        if told:
            return int(told) if told.isascii() and told.isdigit() else None
    return None


def quota_facts(talk: Conversation) -> Iterator[Fact]:
    """Tell what the headers of all answers so far say of the quota."""
    with_them = sorted(
        {what.partition("?")[0] for what, s in talk.all if "X-Quota-Limit" in s.headers}
    )
    if not with_them:
        yield left_open("quota headers", f"on none of {len(talk.all)} answers", "on all answers")
        return
    limit, reset = _quota(talk, "X-Quota-Limit"), _quota(talk, "X-Quota-Reset")
    calls = {what.replace(" /", " ").split("/")[0] for what in with_them}
    told = f"limit {limit}, on {len(with_them)} kinds of calls ({', '.join(sorted(calls))})"
    yield compared("quota headers", "limit 100, on all answers", told, is_as_expected=limit == 100)
    if reset is None:
        yield left_open("unit of X-Quota-Reset", "it is not there, or no number", "ms, or s")
        return
    unit = "ms since 1970" if reset > 10**11 else "s since 1970" if reset > 10**9 else "s from now"
    yield settled("unit of X-Quota-Reset", f"{unit}: {reset}", "ms, or s")
