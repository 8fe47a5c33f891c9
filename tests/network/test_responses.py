"""What answers mean: whatever the network sends, a value comes out, and never an exception."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import pytest
from checkout import SHARED
from costs import cpu_seconds
from hypothesis import given, settings
from hypothesis import strategies as st
from random_inputs import any_text
from rows import for_each

from hda_fsspec.network.responses import (
    MASK,
    Problem,
    QuotaState,
    content_length,
    content_range,
    delivered_name,
    parse_problem,
    quota_state,
    read_json,
    redact,
    retry_after,
)

RECORDED = SHARED / "recorded"
INNER = {
    "status_code": 429,
    "title": "Too Many Requests",
    "detail": "429, message='Too Many Requests', url='https://up.int/x'",
}
laws = settings(deadline=None, derandomize=True)


def body(value: object) -> bytes:
    """Write JSON."""
    return json.dumps(value).encode()


@for_each(
    ("status", "sent", "problem"),
    [
        (
            500,
            body({"status_code": 500, "title": "Task Error", "detail": "Internal Server Error"}),
            Problem(500, "Task Error: Internal Server Error"),
        ),
        (
            500,
            body({"status_code": 500, "title": "Task Error", "detail": json.dumps(INNER)}),
            Problem(429, f"Too Many Requests: {INNER['detail']}"),
        ),
        (500, body({"detail": INNER}), Problem(429, f"Too Many Requests: {INNER['detail']}")),
        (
            502,
            body({"detail": "504, message='Gateway Timeout'"}),
            Problem(504, "504, message='Gateway Timeout'"),
        ),
        (
            422,
            body({"detail": [{"loc": ["body", "bbox", 0], "msg": "not a number", "type": "t"}]}),
            Problem(422, "body.bbox.0 not a number"),
        ),
        (422, body({"detail": ["a", {"x": 1}, 5]}), Problem(422, "a; {'x': 1}; 5")),
        (404, body({"detail": "Not Found"}), Problem(404, "Not Found")),
        (429, body({"message": "slow down"}), Problem(429, "slow down")),
        (
            200,
            body({"error": "invalid_grant", "error_description": "Invalid user credentials"}),
            Problem(200, "invalid_grant: Invalid user credentials"),
        ),
        (
            400,
            body({"status_code": True, "detail": None}),
            Problem(400, "{'status_code': True, 'detail': None}"),
        ),
        (400, body({"status_code": 200, "title": "x"}), Problem(400, "x")),
        (400, body({"status_code": "429", "detail": "5"}), Problem(400, "5")),
        (400, body([1, 2]), Problem(400, "[1, 2]")),
        (400, b"", Problem(400, "")),
        (400, b"{}", Problem(400, "{}")),
        (400, b'{"detail": "cut', Problem(400, '{"detail": "cut')),
        (503, b"upstream\n  connect   error", Problem(503, "upstream connect error")),
        (
            503,
            b"<!DOCTYPE html><html><style>p {}</style><h1>Sorry</h1><script>x < 1</script> down",
            Problem(503, "Sorry down", is_page=True),
        ),
        (503, b"\n <HTML><body", Problem(503, "", is_page=True)),
        (503, b"\xff\xfe", Problem(503, "\ufffd\ufffd")),
    ],
)
def test_error_bodies(status: int, sent: bytes, problem: Problem) -> None:
    """Title and detail are told, and the innermost status is the one that counts."""
    assert parse_problem(status, sent) == problem


@pytest.mark.parametrize(
    ("name", "status"),
    [("02_v2_error_500_search.json", 500), ("03_v2_error_nested_429_RECONSTRUCTED.json", 429)],
)
def test_recorded_errors(name: str, status: int) -> None:
    """The errors that were recorded at the service are understood."""
    if not RECORDED.is_dir():
        pytest.skip("the folder ../shared/recorded is absent")
    document = json.loads((RECORDED / name).read_text(encoding="utf-8"))
    sent = document.get("response", document)
    problem = parse_problem(500, body(sent.get("body", sent)))

    assert problem.status == status
    assert problem.text
    assert not problem.is_page


def test_deep_nesting_is_cut_off() -> None:
    """An error in an error in an error … is told by one of them, and not followed for ever."""
    nested: Any = "the end"
    for status in range(400, 440):
        nested = json.dumps({"status_code": status, "detail": nested})[:20_000]

    assert 400 <= parse_problem(500, nested.encode()).status <= 599


@pytest.mark.slow
@for_each(
    "sent",
    [
        b"[" * 60_000,
        b'{"detail":' * 6_000,
        b'{"detail":' * 900 + b"1" + b"}" * 900,
        b'{"detail": ' + b"[" * 900 + b"]" * 900 + b"}",
        b"<" * 65_000,
        b"<html>" + b"<script" * 9_000,
        b"<html>" + b"<style>" * 9_000,
        b"<html>" + b"<a b=" * 12_000,
        b'{"detail": "' + b"x" * 60_000 + b'"}',
        b'{"status_code": ' + b"9" * 5_000 + b"}",
    ],
)
def test_hostile_bodies_are_told_in_no_time(sent: bytes) -> None:
    """Neither nesting nor length nor markup without end costs more than a moment."""
    half = sent[: len(sent) // 2]

    assert len(parse_problem(500, sent).text) <= 300
    # A cost that grows with the square is four times that of the half, and more at these lengths.
    yardstick = max(
        cpu_seconds(lambda: parse_problem(500, half)), cpu_seconds(_read_ten_thousand_words)
    )
    assert cpu_seconds(lambda: parse_problem(500, sent)) < 10 * yardstick


def _read_ten_thousand_words() -> int:
    return len(b" ".join([b"word"] * 10_000).decode().split())


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | any_text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["status_code", "title", "detail", "message", "loc", "msg", "error"]),
            inner | st.just(json.dumps(INNER)),
            max_size=4,
        )
    ),
    max_leaves=8,
)
bodies = (
    st.binary(max_size=200)
    | json_values.map(body)
    | st.builds(
        lambda whole, cut, junk: whole[:cut] + junk + whole[cut:],
        st.sampled_from([body({"detail": json.dumps(INNER)}), body({"detail": [{"loc": ["a"]}]})]),
        st.integers(0, 120),
        st.binary(max_size=4),
    )
)


@pytest.mark.slow
@laws
@given(status=st.integers(100, 999), sent=bodies)
def test_any_body_is_a_problem(status: int, sent: bytes) -> None:
    """Random and damaged bodies are told in a line, with the answer's status or an inner one."""
    problem = parse_problem(status, sent)

    assert len(problem.text) <= 300
    assert "\n" not in problem.text
    assert problem.status == status or 400 <= problem.status <= 599


@for_each(
    ("headers", "state"),
    [
        ({}, QuotaState()),
        (
            {"X-Quota-Limit": "100", "X-Quota-Remaining": "5", "X-Quota-Reset": "1714557600"},
            QuotaState(100, 5, 1714557600.0),
        ),
        ({"X-Quota-Reset": "1714557600000"}, QuotaState(reset_at=1714557600.0)),
        ({"X-Quota-Reset": "1714557600123.5"}, QuotaState(reset_at=1714557600.1235)),
        ({"X-Quota-Remaining": " 0 "}, QuotaState(remaining=0)),
        ({"X-Quota-Remaining": "-1", "X-Quota-Limit": "many"}, QuotaState()),
        ({"X-Quota-Reset": "2024-05-01T00:00:00Z"}, QuotaState()),
        ({"X-Quota-Reset": "nan"}, QuotaState()),
        ({"X-Quota-Reset": "9" * 400}, QuotaState()),
        ({"X-Quota-Limit": "100, 100"}, QuotaState()),
        ({"X-Quota-Limit": ""}, QuotaState()),
    ],
)
def test_quota_headers(headers: dict[str, str], state: QuotaState) -> None:
    """Seconds and milliseconds are told apart; what is missing or garbage is not known."""
    assert quota_state(headers) == state


def test_retry_after() -> None:
    """Seconds or a date, never in the past; garbage is not known."""
    now = 1714557600.0
    date = datetime.fromtimestamp(now + 90, UTC)

    assert retry_after({}, now) is None
    assert retry_after({"Retry-After": "120"}, now) == 120
    assert retry_after({"Retry-After": "0.5"}, now) == 0.5
    assert retry_after({"Retry-After": format_datetime(date, usegmt=True)}, now) == 90
    assert retry_after({"Retry-After": date.strftime("%d %b %Y %H:%M:%S -0000")}, now) == 90
    assert retry_after({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, now) == 0
    for garbage in ("", "soon", "-5", "inf", "1e9", "32 Foo 2024", "Wed, 99 Oct 9999 99:99:99 GMT"):
        assert retry_after({"Retry-After": garbage}, now) is None


@for_each(
    ("headers", "length"),
    [
        ({"Content-Length": "10"}, 10),
        ({"Content-Length": " 0 "}, 0),
        ({"Content-Length": "10", "Content-Encoding": "identity"}, 10),
        ({"Content-Length": "10", "Content-Encoding": "gzip"}, None),
        ({"Content-Length": "-1"}, None),
        ({"Content-Length": "10, 10"}, None),
        ({"Content-Length": "0x10"}, None),
        ({"Content-Length": "9" * 30}, None),
        ({}, None),
    ],
)
def test_content_length(headers: dict[str, str], length: int | None) -> None:
    """The length is that of the stored file: not of an encoded one, and not of garbage."""
    assert content_length(headers) == length


@for_each(
    ("value", "meant"),
    [
        ("bytes 5-9/10", (5, 10)),
        (" bytes  0-0/* ", (0, None)),
        ("bytes */10", None),
        ("bytes 5-9", None),
        ("items 5-9/10", None),
        ("bytes 5-9/10, bytes 0-1/10", None),
        ("bytes -5-9/10", None),
        ("", None),
    ],
)
def test_content_range(value: str, meant: tuple[int, int | None] | None) -> None:
    """First byte and total; anything unclear is no range."""
    assert content_range({"Content-Range": value}) == meant


@for_each(
    ("value", "name"),
    [
        ("attachment; filename=S3A.SEN3.zip", "S3A.SEN3.zip"),
        ('attachment; filename="S3A.SEN3.zip"; size=5', "S3A.SEN3.zip"),
        ('ATTACHMENT; FileName = "a b;c.nc"', "a b;c.nc"),
        (r'attachment; filename="a\"b\\c.nc"', 'a"b\\c.nc'),
        ("attachment; filename=x.nc; filename*=UTF-8''%C3%A9.nc", "é.nc"),
        ("attachment; filename*=iso-8859-1'en'%E9.nc", "é.nc"),
        ("attachment; filename=x.nc; filename*=idna''%C3%A9..nc", "x.nc"),
        ("attachment; filename=x.nc; filename*=unicode_escape''%5Cx00", "x.nc"),
        ("attachment; filename=x.nc; filename*=no-such''a", "x.nc"),
        ("attachment; filename=../../etc/passwd", "../../etc/passwd"),
        ('attachment; filename="/abs/\x00"', "/abs/\x00"),
        ('attachment; filename="unterminated', "unterminated"),
        ('attachment; filename=""', None),
        ("attachment; filename=", None),
        ("attachment; filename=;", None),
        ("attachment", None),
        ("", None),
    ],
)
def test_delivered_names(value: str, name: str | None) -> None:
    """The name is told as sent, hostile or not: whoever writes the file must clean it."""
    assert delivered_name({"Content-Disposition": value}) == name


header_texts = any_text(max_size=60) | st.lists(
    st.sampled_from(
        ["filename", "*", "=", '"', "\\", ";", "'", "utf-8", "%FF", "bytes ", "5-9/", "1"]
    )
).map("".join)


@pytest.mark.slow
@laws
@given(value=header_texts)
def test_any_header_is_read_or_not_known(value: str) -> None:
    """No text of a header leads to an exception."""
    names = ("Content-Length", "Content-Encoding", "Content-Range", "Content-Disposition")
    quota = ("X-Quota-Limit", "X-Quota-Remaining", "X-Quota-Reset")
    headers = dict.fromkeys((*names, *quota, "Retry-After"), value)

    assert isinstance(quota_state(headers), QuotaState)
    assert (retry_after(headers, 0.0) or 0.0) >= 0
    assert (content_length({"Content-Length": value}) or 0) >= 0
    assert isinstance(content_range(headers), tuple | None)
    assert delivered_name(headers) != ""


@for_each("secret", ["pä$$ w/ö", 'with "quotes" and \\', "a'b", "plain"])
def test_secrets_are_replaced_however_they_are_written(secret: str) -> None:
    """As they are, as JSON or Python write them, or percent-encoded: none is left in a text."""
    echo = (
        f"{secret} {json.dumps({'password': secret})} { {'p': secret} } p%C3%A4%24%24%20w%2F%C3%B6"
    )
    text = redact(echo, ["pä$$ w/ö", secret])

    assert secret not in text
    assert json.dumps(secret)[1:-1] not in text
    assert "p%C3%A4" not in text
    assert text.count("***") >= 3


def test_json_is_read_as_it_is() -> None:
    """In whatever encoding of Unicode; what is none is told as the library does."""
    sent = json.dumps({"message": "é", "features": ["p%40ss", 1.5, None]})

    for encoding in ("utf-8", "utf-16", "utf-32"):
        assert read_json(sent.encode(encoding)) == json.loads(sent)
    for broken in (b"", b"{", b"\xff\xfe{", b"[" * 100_000):
        with pytest.raises((ValueError, RecursionError)):
            read_json(broken)


@for_each("name", ["données_é.nc", "日本 語.nc", "plain.nc"])
@for_each("quote", ['"', ""])
def test_a_file_name_in_bare_utf_8(name: str, quote: str) -> None:
    """Headers come as Latin-1; a name that was sent as UTF-8 is read as it was meant."""
    value = f"attachment; filename={quote}{name}{quote}".encode().decode("latin-1")

    assert delivered_name({"Content-Disposition": value}) == name


def test_a_file_name_in_latin_1() -> None:
    """A name that is no UTF-8 stays as HTTP says: Latin-1."""
    assert delivered_name({"Content-Disposition": 'filename="donn\xe9es.nc"'}) == "données.nc"


@for_each(
    "written",
    [
        *("p%C3%A4%20s%2F%27x", "p%c3%a4%20s%2f%27x", "p%C3%A4+s%2F%27x", "p%c3%a4+s%2f%27x"),
        *("pä s\\/'x", "p\\u00e4 s\\/'x", "pä s/&#x27;x", "pä s/&#39;x", "p&#228; s/&#x27;x"),
        *("p&auml;%20s%2F&apos;x", "p%25C3%25A4%2520s%252f%2527x", "p%E4 s/'x", "p\\xe4 s/'x"),
        *("%70%C3%A4%20%73%2f%27%78", "\\u0070\\u00E4\\u0020s\\/\\'x", "p&amp;#228; s/&amp;#x27;x"),
        *("p%5Cu00e4%20s%2F%27x", "p\\&#x75;00e4 s/&#x27;x", "p\\xc3\\xa4 s/'x", "pÃ¤ s/'x"),
        *("cMOkIHMvJ3g=", "cMOkIHMvJ3g", "70c3a420732f2778", "70C3A420732F2778", "cMOkIHMvJ3g%3D"),
    ],
)
def test_other_ways_to_write_a_secret(written: str) -> None:
    """However a service writes a password that it quotes, it is not shown."""
    assert redact(f"user=x&password={written}&a=1", ["pä s/'x"]) == f"user=x&password={MASK}&a=1"


@for_each("encode", [base64.b64encode, base64.urlsafe_b64encode])
@for_each("user", ["u", "me", "someone@example.eu", ""])
def test_user_and_password_as_a_header_writes_them(
    user: str, encode: Callable[[bytes], bytes]
) -> None:
    """Base64 of both is masked as a whole, whoever the user is and whatever follows."""
    for after in ("", "\n", "@x"):
        pair = encode(f"{user}:correct?>horse~{after}".encode()).decode()
        for quoted in (pair, pair.rstrip("=")):
            said = f"Authorization: Basic {quoted}"
            assert redact(said, ["correct?>horse~"]) == f"Authorization: Basic {MASK}"
