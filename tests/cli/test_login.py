"""``hda-fsspec login`` and ``doctor``: the account, and what must be right around it."""

from __future__ import annotations

import getpass
import io
import os
import stat
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import plants
import pytest

from hda_fsspec.cli import main
from hda_fsspec.settings import Settings, rc_path

PASSWORD = "pW:9-xKq_77Lr"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command with an answer to each question; the password must not be printed."""

    def call(*words: str, user: str = "", password: str = PASSWORD) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.stdin", io.StringIO(f"{user}\n"))
        monkeypatch.setattr("getpass.getpass", lambda prompt: password)
        capsys.readouterr()
        code = main(words)
        out, err = capsys.readouterr()
        assert not password.strip() or password not in out + err
        return code, out, err

    return call


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_login_writes_a_private_file(run: Run) -> None:
    """User and password are found by the settings then, in a file that only its owner reads."""
    before = os.umask(0)
    try:
        code, out, _ = run("login", user="ann")
    finally:
        os.umask(before)

    settings = Settings.resolve()
    assert code == 0
    assert "ann" in out
    assert (settings.user, settings.password) == ("ann", PASSWORD)
    assert rc_path() == Path.home() / ".hdarc"
    assert _mode(rc_path()) == 0o600
    assert list(Path.home().iterdir()) == [rc_path()]


def test_login_keeps_other_lines_and_tightens_the_mode(run: Run) -> None:
    """Comments and unknown keys stay where they are; user and password are replaced."""
    rc_path().write_text("# mine\nurl: https://old\nuser: bob\n\npassword: x\nuser: bob2\ntoken: t")
    rc_path().chmod(0o644)

    run("login", user="ann")

    assert rc_path().read_text().splitlines() == [
        "# mine",
        "url: https://old",
        "user: ann",
        "",
        f"password: {PASSWORD}",
        "token: t",
    ]
    assert _mode(rc_path()) == 0o600


def test_login_offers_the_user_that_is_known(run: Run) -> None:
    """An empty answer keeps the user of the file; ``--user`` asks for no name at all."""
    run("login", user="ann")

    _, _, err = run("login", user="", password="other")
    assert "[ann]" in err
    assert Settings.resolve().user == "ann"
    run("login", "--user", "eve", user="nobody")
    assert Settings.resolve().user == "eve"


def test_login_follows_hda_rc_and_a_link(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file that ``HDA_RC`` names is written; a link stays a link."""
    (tmp_path / "dotfiles").mkdir()
    target = tmp_path / "dotfiles" / "hdarc"
    target.write_text("note: here\n")
    link = tmp_path / "link"
    link.symlink_to(target)
    monkeypatch.setenv("HDA_RC", str(link))

    run("login", user="ann")

    assert link.is_symlink()
    assert target.read_text() == f"note: here\nuser: ann\npassword: {PASSWORD}\n"


@pytest.mark.parametrize("plant", [each for each in plants.PLANTS if each != "file"])
def test_login_writes_through_nothing(plant: str, run: Run, tmp_path: Path) -> None:
    """What is no list of lines is neither waited for, nor overwritten, nor written through."""
    victim = plants.Victim(tmp_path / "victim")
    victim.file.chmod(0o600)
    plants.put(plant, rc_path(), victim)
    before = rc_path().lstat()

    code, _, err = run("login", user="ann")

    if plant == "link to nothing":
        # One's own link, perhaps to a file that is not there yet.
        assert code == 0
        assert (victim.folder / "new").read_text() == f"user: ann\npassword: {PASSWORD}\n"
    else:
        assert code == 1
        assert str(rc_path()) in err
        victim.check()
    assert rc_path().lstat().st_ino == before.st_ino
    assert list(Path.home().iterdir()) == [rc_path()]


def test_login_never_writes_into_another_kind_of_file(run: Run, tmp_path: Path) -> None:
    """A link to something that is no rc file was not meant for a password."""
    other = tmp_path / "notes.txt"
    other.write_text("export A=1\n")
    rc_path().symlink_to(other)

    code, _, err = run("login", user="ann")

    assert code == 1
    assert "Nothing was written" in err
    assert f"rm {rc_path()}" in err
    assert other.read_text() == "export A=1\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes links of another user")
def test_login_follows_no_link_of_another_user(run: Run, tmp_path: Path) -> None:
    """Who can put a link there would decide which file gets the password."""
    (tmp_path / "rc").write_text("user: eve\n")
    (tmp_path / "rc").chmod(0o600)
    rc_path().symlink_to(tmp_path / "rc")
    os.chown(rc_path(), plants.ANN, plants.TEAM, follow_symlinks=False)

    code, _, err = run("login", user="ann")

    assert code == 1
    assert "belongs to another user" in err
    assert (tmp_path / "rc").read_text() == "user: eve\n"


def test_login_says_that_others_could_read_the_file(run: Run) -> None:
    """Before it asks, with the line to paste; once, although the file is read several times."""
    rc_path().write_text("user: bob\npassword: x\n")
    rc_path().chmod(0o644)

    code, _, err = run("login", user="ann")

    assert code == 0
    assert err.count("others on this machine can read or change it (mode 0644)") == 1
    assert f"Run: chmod 600 {rc_path()}" in err
    assert _mode(rc_path()) == 0o600


@pytest.mark.parametrize("password", ["", " lead", "trail ", "a\nuser: eve", "tab\there"])
def test_login_refuses_what_the_file_cannot_hold(password: str, run: Run) -> None:
    """A password that would be read back otherwise is refused, and nothing is written."""
    code, _, err = run("login", user="ann", password=password)

    assert code == 1
    assert "Nothing was written" in err
    assert not rc_path().exists()


def test_login_never_asks_where_the_password_would_show(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where no terminal can hide what is typed, the password is not asked for."""

    def insecure(_: str) -> str:
        warnings.warn("Can not control echo", getpass.GetPassWarning, stacklevel=1)
        return PASSWORD

    monkeypatch.setattr("sys.stdin", io.StringIO("ann\n"))
    monkeypatch.setattr("getpass.getpass", insecure)

    assert main(["login"]) == 1
    told = capsys.readouterr().err
    assert "no terminal" in told
    assert "none is taken from a pipe. Run it in a terminal, or write 'user: ...'" in told
    assert not rc_path().exists()


def test_login_check_writes_only_what_works(bench: Any, run: Run) -> None:
    """``--check`` logs in first: a refused password is an error, and nothing is written."""
    emulator = bench.start(1, password=PASSWORD)
    words = [
        "login",
        "--check",
        "--endpoint-url",
        emulator.url,
        "--cache-dir",
        str(bench.cache_dir),
    ]

    refused, _, err = run(*words, user=emulator.user, password="wrong-one")
    assert refused == 1
    assert "Nothing was written" in err
    assert not rc_path().exists()
    accepted, out, _ = run(*words, user=emulator.user)
    assert (accepted, emulator.logins) == (0, 1)
    assert "accepts them" in out
    assert rc_path().exists()


def test_login_says_what_comes_before_the_file(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that hides what was just written is named."""
    monkeypatch.setenv("HDA_PASSWORD", "of-the-environment")

    _, _, err = run("login", user="ann")

    assert "environment variable HDA_PASSWORD comes before" in err
    assert "of-the-environment" not in err


def test_doctor_finds_all_well(bench: Any, run: Run) -> None:
    """With a right login each line is ok, and says where the setting comes from."""
    emulator = bench.start(1, password=PASSWORD)
    run("login", user=emulator.user)

    code, out, _ = run(
        "doctor", "--endpoint-url", emulator.url, "--cache-dir", str(bench.cache_dir)
    )

    lines = out.splitlines()
    assert code == 0, out
    assert lines[-1] == "All is well."
    assert not [line for line in lines if line.startswith("FAIL")]
    assert f"-     endpoint_url = {emulator.url}  (argument)" in lines
    assert f"-     password = set  ({rc_path()})" in lines
    assert "-     timeout = 60.0  (default)" in lines
    for part in ("xarray ", f"login as {emulator.user} works", "file locks work", "mode 0600"):
        assert part in out
    assert "licences: 10 of 10 accepted" in out
    assert emulator.orders == 0


def test_doctor_tells_each_fault_with_its_next_step(
    bench: Any, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refused login and a readable rc file are two faults; each has a next step."""
    emulator = bench.start(1)
    rc_path().write_text(f"user: {emulator.user}\npassword: {PASSWORD}\n")
    rc_path().chmod(0o644)

    code, out, _ = run(
        "doctor", "--endpoint-url", emulator.url, "--cache-dir", str(bench.cache_dir)
    )

    assert code == 1
    failed = [line for line in out.splitlines() if line.startswith("FAIL")]
    assert [line.split()[1] for line in failed] == ["rc", "login:"]
    assert f"chmod 600 {rc_path()}" in out
    assert "hda-fsspec login" in out
    assert out.splitlines()[-1] == "2 checks failed."


@pytest.mark.parametrize("plant", ["FIFO", "folder", "link to itself"])
def test_doctor_tells_what_is_no_rc_file(plant: str, run: Run, tmp_path: Path) -> None:
    """It is a finding like others: named, and not waited for."""
    plants.put(plant, rc_path(), plants.Victim(tmp_path / "victim"))

    code, out, _ = run("doctor", "--offline", "--cache-dir", str(tmp_path / "cache"))

    assert code == 1
    assert [line for line in out.splitlines() if "FAIL" in line and str(rc_path()) in line]


def test_doctor_without_account_or_folder(bench: Any, run: Run) -> None:
    """No user, and a cache folder that everybody may write to: both are told."""
    bench.cache_dir.mkdir()
    bench.cache_dir.chmod(0o777)

    code, out, _ = run("doctor", "--cache-dir", str(bench.cache_dir))

    assert code == 1
    assert "FAIL  cache folder: The cache folder" in out
    assert "FAIL  login: Cannot log in" in out
    assert "not tried without a login" in out


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--endpoint-url", "ftp://x"], "FAIL  settings: Cannot use the value"),
        (["--offline"], "not tried, offline is set"),
    ],
)
def test_doctor_with_wrong_or_offline_settings(
    words: list[str], part: str, bench: Any, run: Run
) -> None:
    """Settings that cannot be used end the examination; offline asks nobody."""
    code, out, _ = run("doctor", *words, "--cache-dir", str(bench.cache_dir))

    assert code == (1 if "FAIL" in part else 0)
    assert part in out


def test_doctor_names_a_url_that_is_no_broker(bench: Any, run: Run) -> None:
    """An address with nothing behind it is told as such, and the login as not known."""
    emulator = bench.start(1, password=PASSWORD)
    run("login", user=emulator.user)
    url = emulator.url.replace("hda-broker", "elsewhere")

    code, out, _ = run("doctor", "--endpoint-url", url, "--cache-dir", str(bench.cache_dir))

    assert code == 1
    assert "FAIL  broker" in out
    assert "not known" in out
