"""The answer to a request for a file: a pure decision from request, options and faults.

It decides headers and which bytes go out. It sends nothing.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from email.utils import formatdate

from hda_fsspec.emulator.content import Content, variant
from hda_fsspec.emulator.faults import Fault
from hda_fsspec.emulator.messages import Answer, FilePlan, Request
from hda_fsspec.emulator.options import EmulatorOptions

_RANGE = re.compile(r"bytes=(\d*)-(\d*)\Z")


@dataclasses.dataclass(frozen=True)
class Served:
    """A product as it is delivered: its content and its name."""

    content: Content
    name: str


def parse_range(text: str | None, total: int) -> tuple[int, int] | str | None:
    """Return start and stop of a Range header, "unsatisfiable", or None to ignore it.

    >>> parse_range("bytes=5-", 10), parse_range("bytes=-3", 10), parse_range("bytes=10-", 10)
    ((5, 10), (7, 10), 'unsatisfiable')
    """
    match = _RANGE.match(text or "")
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        start, stop = max(0, total - int(last)), total
    else:
        start, stop = int(first), min(total, int(last) + 1 if last else total)
    return (start, stop) if start < stop else "unsatisfiable"


def answer_file(
    request: Request,
    served: Served,
    options: EmulatorOptions,
    faults: Mapping[str, Fault],
    *,
    number: int,
) -> Answer:
    """Decide the answer to a HEAD or GET of a file.

    Parameters
    ----------
    faults : mapping
        The faults that this request meets, by kind.
    number : int
        How often the file was fetched before, which tells apart the bodies of "other-bytes".
    """
    content = _spoil(served.content, faults, number)
    headers = _headers(content, served.name, options, faults)
    part = _part(request, content, headers, options, faults)
    if part == "unsatisfiable":
        headers["Content-Range"] = f"bytes */{content.length}"
        return Answer(416, headers)
    start, stop = (0, content.length) if isinstance(part, str) or part is None else part
    status = 200 if part is None else 206
    if status == 206:
        total = content.length
        if "range-other-total" in faults:
            value = faults["range-other-total"].value
            total = total + 1 if value is None else int(value)
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{total}"
    plan = _plan(FilePlan(content, start, stop), options, faults)
    if plan.framing == "length":
        wrong = faults.get("wrong-length")
        claimed = stop - start + (0 if wrong is None else int(wrong.value or 0))
        headers["Content-Length"] = str(max(0, claimed))
    elif plan.framing == "chunked" and request.method == "GET":
        headers["Transfer-Encoding"] = "chunked"
    return Answer(status, headers, file=plan, ending=plan.ending)


def _spoil(content: Content, faults: Mapping[str, Fault], number: int) -> Content:
    if "truncated-file" in faults:
        after = faults["truncated-file"].after_bytes
        content = Content(content.read(0, content.length // 2 if after is None else after))
    if "other-bytes" in faults:
        content = Content(variant(content.read(), number))
    return content


def _headers(
    content: Content, name: str, options: EmulatorOptions, faults: Mapping[str, Fault]
) -> dict[str, str]:
    headers = {"Content-Type": "application/octet-stream"}
    if "name" in faults:
        name = str(faults["name"].value)
    if name:
        quoted = f'"{name}"' if options.quoted_names else name
        headers["Content-Disposition"] = f"attachment; filename={quoted}"
    if options.ranges:
        headers["Accept-Ranges"] = "bytes"
    if "no-validator" not in faults:
        if options.validators == "etag":
            headers["ETag"] = content.etag
        elif options.validators == "last-modified":
            headers["Last-Modified"] = formatdate(content.modified, usegmt=True)
    return headers


def _part(
    request: Request,
    content: Content,
    headers: Mapping[str, str],
    options: EmulatorOptions,
    faults: Mapping[str, Fault],
) -> tuple[int, int] | str | None:
    """Return the part that is asked for, None for the whole, or "unsatisfiable"."""
    if "range-416" in faults:
        return "unsatisfiable"
    if request.method != "GET" or not options.ranges or "range-ignored" in faults:
        return None
    condition = request.headers.get("If-Range")
    if condition is not None and condition not in (
        headers.get("ETag"),
        headers.get("Last-Modified"),
    ):
        return None
    return parse_range(request.headers.get("Range"), content.length)


def _plan(plan: FilePlan, options: EmulatorOptions, faults: Mapping[str, Fault]) -> FilePlan:
    framing = "length" if options.content_length else "chunked"
    ending = "keep"
    cut_at = None
    rate = options.rate_bytes_per_second
    if "no-length" in faults:
        framing = "close" if faults["no-length"].value == "close" else "chunked"
    if framing == "close" or "wrong-length" in faults:
        ending = "close"
    if "cut" in faults:
        after = faults["cut"].after_bytes
        cut_at, ending = (plan.stop - plan.start) // 2 if after is None else after, "close"
    if "reset" in faults:
        cut_at, ending = faults["reset"].after_bytes, "reset"
    if "stall" in faults:
        after = faults["stall"].after_bytes
        cut_at, ending = (plan.stop - plan.start) // 2 if after is None else after, "stall"
    if "slow" in faults:
        rate = float(faults["slow"].value or 1000)
    return dataclasses.replace(
        plan, cut_at=cut_at, framing=framing, ending=ending, rate_bytes_per_second=rate
    )
