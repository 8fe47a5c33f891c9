"""What a recording holds of odd answers: no secret, and lines that can be replayed."""

import base64
import json
import zlib
from pathlib import Path
from typing import Any

import pytest
from rows import for_each

from hda_fsspec.emulator.replay import Replay
from hda_fsspec.errors import ConfigurationError
from hda_fsspec.probing.recording import FORMAT, Recording

_TOKEN, _PASSWORD = "token-of-the-day", "s3cret/password"


def _recorded(
    folder: Path,
    body: bytes = b"",
    *,
    user: str = "ann",
    token: str = _TOKEN,
    file: bytes | None = None,
) -> dict[str, Any]:
    """Record an answer, see that it can be replayed, and return it as it stands there."""
    path, fetched = folder / "recording.jsonl", folder / "file"
    if file is not None:
        fetched.write_bytes(file)
    recording = Recording(path, user, _PASSWORD)
    recording.begin(broker="http://broker.example")
    recording.hide(token)
    request = {"method": "GET", "path": "/x"}
    headers = {"ETag": '"x1"', "Content-Length": "9"}
    source = None if file is None else fetched
    recording.add(request, status=200, headers=headers, body=body, file=source)
    recording.close()
    Replay(path)
    line = json.loads(path.read_text(encoding="utf-8").split("\n")[1])
    assert line["request"] == request
    answer: dict[str, Any] = line["response"]
    assert answer["headers"] == headers
    return answer


def _unpacked(answer: dict[str, Any]) -> bytes:
    return zlib.decompress(base64.b64decode(answer["base64"]))


def test_bodies_that_are_no_text_hold_no_secret(tmp_path: Path) -> None:
    """What is packed was looked through before."""
    told = f"Zugriff f\xfcr {_TOKEN}, {_PASSWORD}".encode("latin-1")
    answer = _recorded(tmp_path, told)
    assert _unpacked(answer) == "Zugriff f\xfcr TOKEN-1, PASSWORD".encode("latin-1")


@pytest.mark.parametrize("more", [0, 1 << 20], ids=["short", "long"])
def test_files_hold_no_secret(tmp_path: Path, more: int) -> None:
    """A page in the place of a file may quote the request; its length is that of what is kept."""
    answer = _recorded(tmp_path, file=f"<p>{_TOKEN} {_PASSWORD}</p>".encode() + bytes(more))
    assert _unpacked(answer) == b"<p>TOKEN-1 PASSWORD</p>" + bytes(more)
    assert answer["length"] == 23 + more


def test_files_without_a_secret_are_kept_as_they_are(tmp_path: Path) -> None:
    """The name of a user stands in data by chance."""
    data = b"CDF\x01 ann " + bytes(range(256)) * 2000
    assert _unpacked(_recorded(tmp_path, file=data)) == data


def test_a_secret_across_the_parts_of_a_long_text_is_found(tmp_path: Path) -> None:
    """Long texts are looked through in parts."""
    text = ("x" * 262_140 + " " + _TOKEN + " ") * 3
    answer = _recorded(tmp_path, text.encode())
    assert answer["text"] == text.replace(_TOKEN, "TOKEN-1")


def test_half_of_a_pair_and_ends_of_lines_in_texts_are_recorded(tmp_path: Path) -> None:
    """Whatever JSON can say is kept, each answer in one line."""
    told = {"half": "\ud800", "ends": "a\u2028b\u0085c\x0c"}
    answer = _recorded(tmp_path, json.dumps(told).encode())
    assert answer["json"] == told


def test_texts_as_deep_as_can_be_read_are_recorded(tmp_path: Path) -> None:
    """JSON that is too deep to be looked through is a text."""
    deep = "[" * 900 + f'"{_TOKEN}"' + "]" * 900
    answer = _recorded(tmp_path, deep.encode())
    assert _TOKEN not in json.dumps(answer)


@for_each("token", ["a", '"', "\\", "status"])
@for_each("user", ["json", "12"])
def test_secrets_that_look_like_the_format_leave_it_alone(
    tmp_path: Path, token: str, user: str
) -> None:
    """Names and numbers of the format are no quotations."""
    body = json.dumps({"access_token": token, user: int(user) if user == "12" else user})
    answer = _recorded(tmp_path, body.encode(), user=user, token=token)
    assert answer["json"] == {"access_token": "TOKEN-1", "USER": "USER"}


@for_each(
    "line",
    [
        {"request": "x", "response": {"status": 200}},
        {"request": {"method": "GET", "path": "/", "query": [1]}, "response": {"status": 200}},
        {"request": {"method": "GET", "path": "/"}, "response": {"status": 200, "headers": [1]}},
        {"request": {"method": "GET", "path": "/"}, "response": {"status": float("inf")}},
    ],
)
def test_what_is_no_recording_is_told_so(tmp_path: Path, line: object) -> None:
    """A file that was written by hand may hold anything."""
    path = tmp_path / "recording.jsonl"
    path.write_text(f"{json.dumps({'format': FORMAT})}\n{json.dumps(line)}\n")
    with pytest.raises(ConfigurationError, match="Cannot replay"):
        Replay(path)
