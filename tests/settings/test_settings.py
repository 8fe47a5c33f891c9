"""Where a setting comes from, what its texts mean, and what is refused."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import fsspec
import pytest
from rows import for_each

from hda_fsspec.errors import ConfigurationError
from hda_fsspec.settings import DEFAULT_URL, SETTING_NAMES, Settings


@pytest.fixture(autouse=True)
def fsspec_config(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Give the configuration that fsspec has for this protocol, empty."""
    config: dict[str, Any] = {}
    monkeypatch.setitem(fsspec.config.conf, "hda", config)
    return config


#: Each setting with four values: argument, fsspec config, environment (text), and what they mean.
SAMPLES: dict[str, tuple[Any, Any, str, tuple[Any, Any, Any]]] = {
    "endpoint_url": (
        "https://a.int/hda-broker",
        "https://b.int",
        "http://c.int/x/api/v1/",
        ("https://a.int/hda-broker/", "https://b.int/", "http://c.int/x/"),
    ),
    "user": ("a", "b", "c", ("a", "b", "c")),
    "password": ("a", "b", "c:d", ("a", "b", "c:d")),
    "accept_terms": (True, "false", "yes", (True, False, True)),
    "cache_dir": ("/a", Path("/b"), "/c/", (Path("/a"), Path("/b"), Path("/c"))),
    "shared_cache": ("s3://a", "/b", "file:///c/", ("s3://a", "file:///b", "file:///c")),
    "shared_cache_options": ({"a": 1}, {"b": 2}, '{"c": 3}', ({"a": 1}, {"b": 2}, {"c": 3})),
    "cache_max_bytes": (10_000, "2GB", "1_000", (10_000, 2_000_000_000, 1000)),
    "on_quota": ("raise", "wait", "raise", ("raise", "wait", "raise")),
    "max_wait": (5, "6", "0.5", (5.0, 6.0, 0.5)),
    "max_orders": (5, "6", "1_0", (5, 6, 10)),
    "max_connections": (5, "6", "7", (5, 6, 7)),
    "offline": (True, False, "0", (True, False, False)),
    "timeout": (5.5, "6", "7", (5.5, 6.0, 7.0)),
    "listings_expiry_time": (5, 6, "7", (5.0, 6.0, 7.0)),
    "max_products": (5, "6", "7", (5, 6, 7)),
    "progress": (False, "yes", "0", (False, True, False)),
    "verify": (False, "true", "no", (False, True, False)),
}


def test_the_samples_are_complete() -> None:
    """Every setting of the table is tested, and every field of the class is a setting."""
    fields = {field.name for field in dataclasses.fields(Settings)} - {"_given"}

    assert set(SAMPLES) == SETTING_NAMES == fields


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_the_first_source_counts(
    name: str, fsspec_config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Argument before fsspec config before environment before rc file before default."""
    argument, config, text, expected = SAMPLES[name]
    rc = Path("~/.hdarc").expanduser()
    rc.write_text("user: rc-user\npassword: rc-password\nurl: https://rc.int\ntimeout: 1\n")
    default = getattr(Settings(), name)
    of_rc = {"user": "rc-user", "password": "rc-password"}.get(name, default)

    assert getattr(Settings.resolve(), name) == of_rc
    monkeypatch.setenv(f"HDA_{name.upper()}", text)
    assert getattr(Settings.resolve(), name) == expected[2]
    fsspec_config[name] = config
    assert getattr(Settings.resolve(), name) == expected[1]
    assert getattr(Settings.resolve(**{name: argument}), name) == expected[0]
    if name != "cache_max_bytes":
        assert getattr(Settings.resolve(**{name: None}), name) == expected[1]
    fsspec_config[name] = None
    assert getattr(Settings.resolve(), name) == expected[2]
    monkeypatch.setenv(f"HDA_{name.upper()}", "")
    assert getattr(Settings.resolve(), name) == of_rc
    rc.unlink()
    assert getattr(Settings.resolve(), name) == default


def test_defaults() -> None:
    """The defaults are those of the table in the documentation."""
    settings = Settings.resolve()

    assert settings == Settings()
    assert settings.endpoint_url == DEFAULT_URL
    assert settings.cache_dir == Path("~/.cache/hda_fsspec").expanduser()
    assert (settings.user, settings.password) == (None, None)
    assert settings.cache_max_bytes == "auto"
    assert (settings.max_wait, settings.max_orders, settings.max_connections) == (21600, 20, 8)
    assert (settings.timeout, settings.listings_expiry_time) == (60, 3600)
    assert settings.max_products == 10_000
    assert settings.verify is True


@for_each(
    ("given", "meant"),
    [
        (None, None),
        ("none", None),
        ("None", None),
        (" unlimited ", None),
        ("auto", "auto"),
        (10_000, 10_000),
        ("10_000", 10_000),
        (1e9, 1_000_000_000),
        (0, 0),
        ("200GB", 200 * 10**9),
        ("200 gb", 200 * 10**9),
        ("1.5T", 1_500_000_000_000),
        ("1GiB", 2**30),
        ("0.5KiB", 512),
        ("7B", 7),
        ("9007199254740993", 9007199254740993),
    ],
)
def test_forms_of_the_bound(given: Any, meant: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes are bytes, or text with a unit of 1000 or 1024; None and "none" mean no bound."""
    assert Settings.resolve(cache_max_bytes=given).cache_max_bytes == meant
    if isinstance(given, str):
        monkeypatch.setenv("HDA_CACHE_MAX_BYTES", given)
        assert Settings.resolve().cache_max_bytes == meant


def test_no_bound_as_an_argument_beats_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """``cache_max_bytes=None`` is a value of its own."""
    monkeypatch.setenv("HDA_CACHE_MAX_BYTES", "1GB")

    assert Settings.resolve(cache_max_bytes=None).cache_max_bytes is None
    assert Settings.resolve().cache_max_bytes == 10**9


@for_each(
    "address",
    [
        "https://h.int/hda-broker",
        "https://h.int/hda-broker/",
        "https://h.int/hda-broker/api/v1",
        "https://h.int/hda-broker/api/v1/",
        " https://h.int/hda-broker//api/v1// ".replace("//api", "/api"),
    ],
)
def test_forms_of_the_address(address: str) -> None:
    """With or without ``api/v1`` and slashes at the end, the address is the same."""
    assert Settings.resolve(endpoint_url=address).endpoint_url == "https://h.int/hda-broker/"


@for_each("word", ["1", "true", "True", "YES", "on"])
def test_words_for_true(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Switches of the environment are words."""
    monkeypatch.setenv("HDA_OFFLINE", word)
    assert Settings.resolve().offline is True
    monkeypatch.setenv("HDA_VERIFY", word)
    assert Settings.resolve().verify is True


def test_verify_may_be_a_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of certificates is given by its path, which must exist."""
    bundle = tmp_path / "home" / "ca.pem"
    bundle.write_text("-----BEGIN CERTIFICATE-----")
    monkeypatch.setenv("HDA_VERIFY", "~/ca.pem")

    assert Settings.resolve().verify == str(bundle)
    assert Settings.resolve(verify=bundle).verify == str(bundle)


def test_the_cache_folder_is_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative folder is one of the working directory of that moment; ~ is the home."""
    monkeypatch.chdir(tmp_path)

    assert Settings.resolve(cache_dir="a/../b").cache_dir == tmp_path / "b"
    assert Settings.resolve(cache_dir="~/c").cache_dir == tmp_path / "home" / "c"


@for_each(
    ("name", "value"),
    [
        ("endpoint_url", "h.int/hda-broker"),
        ("endpoint_url", "ftp://h.int"),
        ("endpoint_url", "https://"),
        ("endpoint_url", "http://[::1"),
        ("endpoint_url", "http://h.int:port/"),
        ("endpoint_url", "http://h.int:99999/"),
        ("endpoint_url", "https://h.int/?token=1"),
        ("endpoint_url", "https://h.int/#x"),
        ("accept_terms", "maybe"),
        ("accept_terms", 2),
        ("cache_max_bytes", "-1"),
        ("cache_max_bytes", "10XB"),
        ("cache_max_bytes", "GB"),
        ("cache_max_bytes", math.inf),
        ("cache_max_bytes", True),
        ("on_quota", "Wait"),
        ("max_wait", 0),
        ("max_wait", "-5"),
        ("max_wait", "nan"),
        ("max_wait", "inf"),
        ("max_wait", "6h"),
        ("max_orders", 0),
        ("max_orders", 1.5),
        ("max_orders", True),
        ("max_orders", "many"),
        ("timeout", False),
        ("offline", "2"),
        ("max_products", "1e4"),
        ("verify", "/no/such/bundle.pem"),
    ],
)
def test_values_that_cannot_be_used(name: str, value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the setting, the value, where it was found, and what to give."""
    with pytest.raises(ConfigurationError) as caught:
        Settings.resolve(**{name: value})
    assert f"{name!r} (argument): " in str(caught.value)
    assert repr(value) in str(caught.value)

    monkeypatch.setenv(f"HDA_{name.upper()}", str(value))
    with pytest.raises(ConfigurationError, match=f"HDA_{name.upper()}"):
        Settings.resolve()


def test_an_address_with_a_password_is_refused_without_showing_it() -> None:
    """Credentials in the address would be logged with it, so they are settings of their own."""
    with pytest.raises(ConfigurationError) as caught:
        Settings.resolve(endpoint_url="https://me:s3cret@h.int/")

    assert "s3cret" not in str(caught.value)
    assert "user and password as settings" in str(caught.value)


def test_the_official_name_of_the_address(
    fsspec_config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """HDA_URL, which the official client reads, is the address unless HDA_ENDPOINT_URL is set."""
    monkeypatch.setenv("HDA_URL", "https://official.int/hda-broker")
    assert Settings.resolve().endpoint_url == "https://official.int/hda-broker/"
    assert Settings.sources()["endpoint_url"] == "environment variable HDA_URL"
    monkeypatch.setenv("HDA_ENDPOINT_URL", "https://ours.int/")
    assert Settings.resolve().endpoint_url == "https://ours.int/"
    assert Settings.sources()["endpoint_url"] == "environment variable HDA_ENDPOINT_URL"
    monkeypatch.setenv("HDA_ENDPOINT_URL", "")
    assert Settings.resolve().endpoint_url == "https://official.int/hda-broker/"
    fsspec_config["endpoint_url"] = "https://config.int"
    assert Settings.resolve().endpoint_url == "https://config.int/"
    fsspec_config.clear()
    monkeypatch.setenv("HDA_URL", "official.int")
    with pytest.raises(ConfigurationError, match=r"'endpoint_url' .environment variable HDA_URL"):
        Settings.resolve()


def test_unknown_names(fsspec_config: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A typo is an error that lists the settings; other HDA variables are not ours to judge."""
    monkeypatch.setenv("HDA_UNKNOWN", "1")
    with pytest.raises(ConfigurationError, match=r"'time_out' \(argument\).*timeout"):
        Settings.resolve(time_out=5)
    with pytest.raises(ConfigurationError, match="'_given'"):
        Settings.resolve(_given=())
    for unknown in ("url", "URL", "endpoint"):
        with pytest.raises(ConfigurationError, match="Did you mean 'endpoint_url'"):
            Settings.resolve(**{unknown: "https://h.int"})
    fsspec_config["cachedir"] = "/x"
    with pytest.raises(ConfigurationError, match=r"'cachedir' \(fsspec config 'hda'\)"):
        Settings.resolve()


def test_sources_tell_where_a_setting_comes_from(
    fsspec_config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each setting has a source that a person understands."""
    fsspec_config["timeout"] = 5
    monkeypatch.setenv("HDA_OFFLINE", "1")
    rc = Path("~/.hdarc").expanduser()
    rc.write_text("user: u\npassword: p\n")
    sources = Settings.sources(max_orders=3)

    assert set(sources) == SETTING_NAMES
    assert sources["max_orders"] == "argument"
    assert sources["timeout"] == "fsspec config 'hda'"
    assert sources["offline"] == "environment variable HDA_OFFLINE"
    assert sources["password"] == str(rc)
    assert sources["endpoint_url"] == "default"
