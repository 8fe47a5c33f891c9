"""User and password: where they come from, and where the password never goes."""

from __future__ import annotations

import copy
import logging
import os
import pickle
import subprocess
import sys
from pathlib import Path

import cloudpickle
import plants
import pytest
from rows import for_each

from hda_fsspec.errors import ConfigurationError
from hda_fsspec.settings import Settings, rcfile

SECRET = "s3cret:with:colons"


def rc(text: str, path: str = "~/.hdarc") -> Path:
    """Write an rc file, which only its owner reads."""
    file = Path(path).expanduser()
    file.write_text(text, encoding="utf-8")
    file.chmod(0o600)
    return file


@for_each(
    "text",
    [
        f"user:me\npassword:{SECRET}\n",
        f"user: me\npassword: {SECRET}",
        f"  user :  me  \r\n\tpassword\t:\t{SECRET}\t\r\n",
        f"# password: other\nuser: me\nverify: false\n\nno colon\npassword: {SECRET}\n",
        f"password: {SECRET}\nuser: other\nuser: me\n",
        f"\ufeffuser: me\npassword: {SECRET}",
        f"user: me\npassword: {SECRET}\nuser:\npassword:\n",
    ],
)
def test_forms_of_the_rc_file(text: str) -> None:
    """One ``key: value`` on a line, split at the first colon; the last line of a key counts."""
    rc(text)
    settings = Settings.resolve()

    assert (settings.user, settings.password) == ("me", SECRET)


def test_the_file_that_hda_rc_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``HDA_RC`` names the rc file, with ~ for the home, and the usual one is not read then."""
    rc("user: usual\npassword: usual\n")
    rc("user: named\npassword: named\n", "~/other.rc")
    monkeypatch.setenv("HDA_RC", "~/other.rc")
    assert Settings.resolve().user == "named"
    monkeypatch.setenv("HDA_RC", str(tmp_path / "absent"))
    assert Settings.resolve().user is None
    monkeypatch.setenv("HDA_RC", "")
    assert Settings.resolve().user == "usual"


def test_a_url_line_is_ignored_with_one_log_line(caplog: pytest.LogCaptureFixture) -> None:
    """Old files hold addresses of services that are gone: said once, not at every use."""
    rc(f"url: https://dead.int/databroker\nuser: me\npassword: {SECRET}\n")
    caplog.set_level(logging.DEBUG, logger="hda_fsspec")
    found = [Settings.resolve() for _ in range(3)]

    assert {settings.endpoint_url for settings in found} == {Settings().endpoint_url}
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert "HDA_URL" in caplog.text
    assert "dead.int" not in caplog.text
    assert SECRET not in caplog.text


def test_a_changed_file_is_read_again() -> None:
    """A password that was corrected counts at the next use, without a restart."""
    file = rc("user: me\npassword: first\n")
    assert Settings.resolve().password == "first"
    os.utime(file, ns=(1, 1))
    file.write_text("user: me\npassword: second\n")
    assert Settings.resolve().password == "second"
    file.unlink()
    assert Settings.resolve().password is None


def test_an_unreadable_file_is_told() -> None:
    """A file that is there but cannot be read is an error, unless nothing is needed of it."""
    file = Path("~/.hdarc").expanduser()
    file.write_bytes(b"user: me\npassword: \xff\xfe\n")
    with pytest.raises(ConfigurationError, match=r"\.hdarc"):
        Settings.resolve()
    assert Settings.resolve(user="a", password="b").user == "a"
    file.unlink()
    file.mkdir()
    with pytest.raises(ConfigurationError, match=r"\.hdarc"):
        Settings.resolve(user="a")


def test_a_file_that_others_can_read_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """At its first use the log says so, with the line that makes it private; then no more."""
    file = rc(f"user: me\npassword: {SECRET}\n", "~/it's mine.rc")
    for mode in (0o640, 0o604, 0o620, 0o602):
        file.chmod(mode)
        rcfile._told.clear()
        rcfile._known.clear()
        caplog.clear()
        for _ in range(3):
            assert rcfile.read_rc(file)["password"] == SECRET
        (told,) = caplog.records
        assert told.levelname == "WARNING"
        assert f"mode {mode:04o}" in told.getMessage()
        command = told.getMessage().partition("Run: ")[2]
        subprocess.run(command, shell=True, check=True)
        assert file.stat().st_mode & 0o777 == 0o600
    assert SECRET not in caplog.text


def test_a_private_file_or_one_without_a_password_is_not_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What is private, or holds nothing that is secret, is no reason for a word."""
    rc(f"user: me\npassword: {SECRET}\n")
    assert Settings.resolve().password == SECRET
    file = rc("user: me\n", "~/user.rc")
    file.chmod(0o644)
    assert rcfile.read_rc(file) == {"user": "me"}

    assert caplog.records == []


@for_each("plant", ["FIFO", "socket", "device", "folder", "link to itself"])
def test_what_is_no_file_is_told_and_not_waited_for(plant: str, tmp_path: Path) -> None:
    """A FIFO under the name of the rc file holds nothing up."""
    plants.put(plant, Path("~/.hdarc").expanduser(), plants.Victim(tmp_path / "victim"))

    with pytest.raises(ConfigurationError, match=r"Cannot read user and password from .*\.hdarc"):
        Settings.resolve()
    assert Settings.resolve(user="a", password="b").user == "a"


def test_a_link_to_a_file_is_read(tmp_path: Path) -> None:
    """Many keep their rc files elsewhere."""
    (tmp_path / "rc").write_text(f"user: me\npassword: {SECRET}\n")
    (tmp_path / "rc").chmod(0o600)
    Path("~/.hdarc").expanduser().symlink_to(tmp_path / "rc")

    assert Settings.resolve().password == SECRET


def test_a_password_of_another_user_is_never_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A source that names another user keeps its password; one that names nobody gives it."""
    rc("user: filed\npassword: of-filed\n")
    monkeypatch.setenv("HDA_USER", "env")
    monkeypatch.setenv("HDA_PASSWORD", "of-env")

    assert Settings.resolve().password == "of-env"
    assert Settings.resolve(user="other").password is None
    assert Settings.resolve(user="other", password="given").password == "given"
    assert Settings.resolve(user="filed").password == "of-filed"
    monkeypatch.delenv("HDA_USER")
    assert Settings.resolve(user="other").password == "of-env"
    assert Settings.resolve().user == "filed"
    monkeypatch.delenv("HDA_PASSWORD")
    assert Settings.resolve(user="other").password is None


def test_the_password_is_no_part_of_the_value() -> None:
    """No repr, pickle, hash or comparison shows or needs the password."""
    settings = Settings.resolve(user="me", password=SECRET, timeout=5)
    other = Settings.resolve(user="me", password="another", timeout=5)

    assert SECRET not in repr(settings)
    assert SECRET not in str(settings)
    assert settings == other
    assert hash(settings) == hash(other)
    for dumps in (pickle.dumps, cloudpickle.dumps):
        assert SECRET.encode() not in dumps(settings)
    assert b"s3cret" not in pickle.dumps(copy.deepcopy(settings))


def test_settings_differ_by_value() -> None:
    """Any other setting tells two apart, however it was found."""
    assert Settings.resolve(timeout=5) == Settings.resolve(timeout="5")
    assert Settings.resolve(timeout=5) != Settings.resolve(timeout=6)
    assert Settings.resolve(user="a") != Settings.resolve(user="b")
    assert Settings.resolve(user="a").account == (Settings().endpoint_url, "a")
    assert Settings.resolve().account == (Settings().endpoint_url, "")


@pytest.mark.slow
def test_another_process_takes_its_own_credentials(tmp_path: Path) -> None:
    """A pickle carries what was given, address and user; the rest is of where it is unpickled."""
    rc("user: here\npassword: of-here\n")
    settings = Settings.resolve(endpoint_url="http://127.0.0.1:1/", timeout=5, cache_max_bytes=None)
    home = tmp_path / "worker"
    home.mkdir()
    environment = {**os.environ, "HOME": str(home), "HDA_TIMEOUT": "9", "HDA_MAX_ORDERS": "3"}
    code = (
        "import pickle, sys; s = pickle.loads(sys.stdin.buffer.read());"
        "print(s.user, s.password, s.endpoint_url, s.timeout, s.cache_max_bytes, s.max_orders,"
        "s.cache_dir)"
    )

    def unpickled() -> list[str]:
        done = subprocess.run(
            [sys.executable, "-c", code],
            input=pickle.dumps(settings),
            env=environment,
            capture_output=True,
            check=True,
        )
        return done.stdout.decode().split()

    assert unpickled()[:6] == ["here", "None", "http://127.0.0.1:1/", "5.0", "None", "3"]
    (home / ".hdarc").write_text("user: here\npassword: of-worker\n")
    environment.pop("XDG_CACHE_HOME")
    assert unpickled()[1] == "of-worker"
    assert unpickled()[6] == str(home / ".cache" / "hda_fsspec")
    (home / ".hdarc").write_text("user: somebody\npassword: of-somebody\n")
    assert unpickled()[:2] == ["here", "None"]
