"""Settings: resolved once per use, in one stated order, into one frozen value.

This is the only module that reads the environment and the rc file. It does not know what the
settings are for.
"""

from __future__ import annotations

import dataclasses
import decimal
import difflib
import functools
import json
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import fsspec
import platformdirs
from fsspec.config import conf as fsspec_config
from fsspec.registry import registry as fsspec_registry

from hda_fsspec.errors import ConfigurationError
from hda_fsspec.localpaths import can_be_path, local_path, remote_scheme
from hda_fsspec.settings.rcfile import read_rc

DEFAULT_URL = "https://gateway.prod.wekeo2.eu/hda-broker/"  # hda 2.40, BROKER_URL

_UNITS = {"": 1, "B": 1} | {
    f"{prefix}{suffix}": base ** (power + 1)
    for power, prefix in enumerate("KMGTP")
    for suffix, base in (("", 1000), ("B", 1000), ("IB", 1024))
}
_PORTS = {"http": 80, "https": 443}
_NO_NAMES = frozenset({".", ".."})
_NONE_WORDS = frozenset({"none", "null", "unbounded", "unlimited"})


def _boolean(value: object) -> bool:
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    if word in {"1", "true", "yes", "on"}:
        return True
    if word in {"0", "false", "no", "off"}:
        return False
    raise ValueError("give true or false")


def _seconds(value: object) -> float:
    try:
        number = float(str(value))
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        raise ValueError("give a positive number of seconds")
    return number


def _count(value: object) -> int:
    text = str(value).strip().replace("_", "")
    if not re.fullmatch(r"[0-9]{1,18}", text) or int(text) < 1:
        raise ValueError("give a whole number above zero")
    return int(text)


def _bytes(value: object) -> int | None | Literal["auto"]:
    if value is None:
        return None
    text = str(value).strip().replace("_", "")
    if text.lower() in _NONE_WORDS:
        return None
    if text.lower() == "auto":
        return "auto"
    match = re.fullmatch(r"([0-9]{1,18}(?:\.[0-9]{1,9})?)\s*([A-Za-z]*)", text)
    if match is None or match.group(2).upper() not in _UNITS:
        raise ValueError('give a size such as 10_000, "200GB" or "none"')
    return int(decimal.Decimal(match.group(1)) * _UNITS[match.group(2).upper()])


def _on_quota(value: object) -> Literal["wait", "raise"]:
    if value == "wait":
        return "wait"
    if value == "raise":
        return "raise"
    raise ValueError('give "wait" or "raise"')


def _text(value: object) -> str:
    text = str(value)
    # Bytes of the environment that are not UTF-8 come as halves of surrogate pairs.
    if any("\ud800" <= char <= "\udfff" for char in text):
        raise ValueError("it holds bytes that are not UTF-8; give it as UTF-8 text")
    return text


def _path_text(value: object) -> str:
    text = os.fsdecode(value) if isinstance(value, (bytes, os.PathLike)) else str(value)
    if not can_be_path(text):
        raise ValueError("no path can hold its characters")
    return text


def _verify(value: object) -> bool | str:
    try:
        return _boolean(value)
    except ValueError:
        path = Path(os.path.expanduser(_path_text(value)))  # noqa: PTH111  (raises for no home)
    try:
        path.stat()
    except OSError as err:
        msg = f"give true, false, or the path of a CA bundle that is there ({err.strerror})"
        raise ValueError(msg) from err
    if not os.access(path, os.R_OK):
        raise ValueError("give a CA bundle that this process may read")
    return str(path)


@functools.lru_cache(maxsize=64)
def _address(value: object) -> str:
    """Return the one spelling of a broker's address: what is kept of a broker is found by it.

    Scheme and host are in lower case, the scheme's own port and ``api/v1`` are left out, and it
    ends in a slash.
    """
    text = _text(value).strip()
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        msg = f"give an address such as {DEFAULT_URL}"
        raise ValueError(msg)
    if parts.port == 0 or parts.query or parts.fragment:
        raise ValueError("give scheme, host and path alone")
    if parts.username or parts.password:
        raise ValueError("give user and password as settings of their own, not in the address")
    host = parts.hostname.removesuffix(".")
    host = f"[{host}]" if ":" in host else host
    port = "" if parts.port in {None, _PORTS[parts.scheme]} else f":{parts.port}"
    path = re.sub(r"/{2,}", "/", parts.path).rstrip("/").removesuffix("/api/v1").rstrip("/")
    return f"{parts.scheme}://{host}{port}{path}/"


def _folder(value: object) -> Path:
    text = _path_text(value)
    if text.startswith("/"):
        return _absolute(text)
    if remote_scheme(value) is not None:
        raise ValueError("give a local folder")
    return Path(os.path.abspath(local_path(value)))  # noqa: PTH100  (absolute, not resolved)


def _shared_folder(value: object) -> str | None:
    """Return the address of a folder of any filesystem; a local one as ``file://``."""
    text = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(text, str):
        raise TypeError("give an address such as s3://bucket/prefix")
    text = _path_text(text.strip())
    if text.lower() in _NONE_WORDS:
        return None
    scheme, is_url, rest = text.partition("://")
    scheme = scheme.lower()
    if text.startswith(("/", "~")) or (is_url and scheme in {"file", "local"}):
        return f"file://{_folder(rest if is_url else text)}"
    if not is_url or not re.fullmatch(r"[a-z][a-z0-9+._-]*", scheme):
        raise ValueError("give an address such as s3://bucket/prefix")
    if "::" in text or scheme == "hda":
        raise ValueError("give the address of one filesystem that can be written to")
    if scheme not in fsspec_registry and scheme not in fsspec.available_protocols():
        msg = f"fsspec knows no filesystem {scheme!r}"
        raise ValueError(msg)
    if re.search(r":[^@]*@", rest) or "?" in rest:
        raise ValueError("give credentials in shared_cache_options, not in the address")
    if not _NO_NAMES.isdisjoint(rest.split("/")):
        raise ValueError("give it without '.' and '..'")
    return f"{scheme}://{rest}"


def _storage_options(value: object) -> Mapping[str, Any]:
    """Return storage options, which the environment has as JSON."""
    try:
        options = json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        options = None
    if not isinstance(options, Mapping) or not all(isinstance(name, str) for name in options):
        raise ValueError("give a dict of storage options, or one as JSON")
    return dict(options)


@functools.lru_cache(maxsize=64)
def _absolute(text: str) -> Path:
    return Path(os.path.abspath(text))  # noqa: PTH100


_CONVERTERS: Mapping[str, Callable[[object], Any]] = {
    "endpoint_url": _address,
    "user": _text,
    "password": _text,
    "accept_terms": _boolean,
    "cache_dir": _folder,
    "shared_cache": _shared_folder,
    "shared_cache_options": _storage_options,
    "cache_max_bytes": _bytes,
    "on_quota": _on_quota,
    "max_wait": _seconds,
    "max_orders": _count,
    "max_connections": _count,
    "offline": _boolean,
    "timeout": _seconds,
    "listings_expiry_time": _seconds,
    "max_products": _count,
    "progress": _boolean,
    "verify": _verify,
}
#: What no pickle, token, message or repr holds.
SECRET_SETTINGS = ("password", "shared_cache_options")
_OFFICIAL_URL = "HDA_URL"  # what the official client reads; our own name for it counts first
_VARIABLES = (
    ("endpoint_url", _OFFICIAL_URL),
    *((name, f"HDA_{name.upper()}") for name in _CONVERTERS),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """Every setting, with its default. Make one with :meth:`resolve`.

    Settings are hashable and equal by value, secrets and progress left out. A pickle carries what
    was given explicitly, the broker's address and the user; the process that unpickles it resolves
    the rest, the secrets above all, from its own environment.

    Attributes
    ----------
    endpoint_url : str
        Address of the broker, with or without ``api/v1``.
    user, password : str or None
        Credentials; needed at the first request only.
    accept_terms : bool
        Whether to accept licences without being asked.
    cache_dir : Path
        The cache folder.
    shared_cache : str or None
        Address of a folder of any fsspec filesystem that machines without a common disk share: a
        product is looked for in it before it is ordered, and put there when it was downloaded.
    shared_cache_options : mapping
        Storage options of that filesystem, its secrets among them; they stay in this process.
    cache_max_bytes : int, None or "auto"
        Bound of the cache in bytes; None for no bound; "auto" for the smaller of 50 GB and half
        of the free disk at first use.
    on_quota : {"wait", "raise"}
        What to do when the orders of the hour are used up.
    max_wait : float
        Longest wait for one order, for quota without any order going out, or until a request is
        tried for the last time, in seconds.
    max_orders : int
        Orders in preparation at one time, per account.
    max_connections : int
        Sockets per process.
    offline : bool
        Never touch the network.
    timeout : float
        Seconds without an answer after which a request has failed.
    listings_expiry_time : float
        Seconds for which a listing is trusted.
    max_products : int
        The longest listing.
    progress : bool
        Whether to say on a terminal or in a notebook what is waited for. It is no part of
        equality: data sets are the same with it and without.
    verify : bool or str
        TLS verification, or the path of a CA bundle.
    """

    endpoint_url: str = DEFAULT_URL
    user: str | None = None
    password: str | None = dataclasses.field(default=None, repr=False, compare=False)
    accept_terms: bool = False
    cache_dir: Path = dataclasses.field(
        default_factory=lambda: Path(platformdirs.user_cache_dir("hda_fsspec", appauthor=False))
    )
    shared_cache: str | None = None
    shared_cache_options: Mapping[str, Any] = dataclasses.field(
        default_factory=dict, repr=False, compare=False
    )
    cache_max_bytes: int | None | Literal["auto"] = "auto"
    on_quota: Literal["wait", "raise"] = "wait"
    max_wait: float = 6 * 3600.0
    max_orders: int = 20
    max_connections: int = 8
    offline: bool = False
    timeout: float = 60.0
    listings_expiry_time: float = 3600.0
    max_products: int = 10_000
    progress: bool = dataclasses.field(default=True, repr=False, compare=False)
    verify: bool | str = True
    _given: tuple[tuple[str, Any], ...] = dataclasses.field(default=(), repr=False, compare=False)

    @classmethod
    def resolve(cls, **given: Any) -> Settings:
        """Resolve all settings: argument, fsspec config, environment, rc file, default.

        An argument that is None counts as not given, but ``cache_max_bytes=None``, which asks for
        no bound. An empty environment variable counts as absent. A password is taken only from a
        source that does not name another user.

        Raises
        ------
        ConfigurationError
            A setting is unknown, or its value cannot be used; the message says where it was found.
        """
        found = _find(given)
        kept = {
            k: found[k][1]
            for k, v in given.items()
            if k not in SECRET_SETTINGS and (v is not None or k == "cache_max_bytes")
        }
        values = {name: value for name, (_, value) in found.items()}
        return cls(**values, _given=tuple(sorted(kept.items())))

    @classmethod
    def sources(cls, **given: Any) -> dict[str, str]:
        """Return for each setting where :meth:`resolve` finds it; "default" if nowhere."""
        found = _find(given)
        return {name: found[name][0] if name in found else "default" for name in _CONVERTERS}

    def __reduce__(self) -> tuple[Any, ...]:
        return _resolve_again, (
            {**dict(self._given), "endpoint_url": self.endpoint_url, "user": self.user},
        )

    @property
    def account(self) -> tuple[str, str]:
        """The account that orders and quota belong to: the broker's address and the user."""
        return (self.endpoint_url, self.user or "")

    @property
    def max_in_flight(self) -> int:
        """The number of products that may be under way: in preparation, or arriving."""
        return self.max_orders + self.max_connections


def _find(given: Mapping[str, Any]) -> dict[str, tuple[str, Any]]:
    """Return each setting that stands somewhere: where, and its converted value."""
    explicit = {k: v for k, v in given.items() if v is not None or k == "cache_max_bytes"}
    config = {k: v for k, v in dict(fsspec_config.get("hda", {})).items() if v is not None}
    variables = {name: variable for name, variable in _VARIABLES if os.environ.get(variable)}
    environment = {name: os.environ[variable] for name, variable in variables.items()}
    sources: list[tuple[str, Mapping[str, Any]]] = [
        ("argument", explicit),
        ("fsspec config 'hda'", config),
        ("environment variable", environment),
    ]
    for source, values in sources:
        refuse_unknown_settings(values, source)
    user = next((str(values["user"]) for _, values in sources if "user" in values), None)
    if user is None or not any(
        "password" in values and str(values.get("user", user)) == user for _, values in sources
    ):
        sources.append((str(rc_path()), read_rc(rc_path())))
    found: dict[str, tuple[str, Any]] = {}
    present = set().union(*(values for _, values in sources))
    for name, convert in _CONVERTERS.items():
        for source, values in sources if name in present else ():
            if name not in values or (name == "password" and _is_of_another(values, found)):
                continue
            where = f"{source} {variables[name]}" if values is environment else source
            found[name] = (where, _convert(name, values[name], convert, where))
            break
    return found


def _resolve_again(given: dict[str, Any]) -> Settings:
    return Settings.resolve(**given)


def _is_of_another(values: Mapping[str, Any], found: Mapping[str, tuple[str, Any]]) -> bool:
    user = values.get("user")
    return user is not None and "user" in found and str(user) != found["user"][1]


def refuse_unknown_settings(names: Iterable[str], source: str) -> None:
    """Raise ConfigurationError for the first name that is no setting, naming the nearest ones."""
    unknown = sorted(set(names) - SETTING_NAMES)
    if unknown:
        near = _nearest_names(unknown[0])
        hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
        msg = (
            f"Unknown setting {unknown[0]!r} ({source}).{hint} "
            f"The settings are: {', '.join(_CONVERTERS)}."
        )
        raise ConfigurationError(msg)


def _nearest_names(unknown: str) -> list[str]:
    word = unknown.lower()
    of_parts = [name for name in _CONVERTERS if word in name.split("_")]
    return of_parts or difflib.get_close_matches(word, _CONVERTERS, n=2)


def _convert(name: str, value: Any, convert: Callable[[object], Any], source: str) -> Any:
    try:
        return convert(value)
    except (ValueError, TypeError, OverflowError) as err:
        # An address may hold a password, where it is refused for just that.
        is_secret = name in {*SECRET_SETTINGS, "shared_cache"} or "@" in str(value)
        shown = "" if is_secret else f" {value!r}"
        msg = f"Cannot use the value{shown} of setting {name!r} ({source}): {err}."
        raise ConfigurationError(msg) from err


def rc_path() -> Path:
    """Return the path of the rc file: what ``HDA_RC`` names, else ``~/.hdarc``."""
    given = os.environ.get("HDA_RC") or "~/.hdarc"
    try:
        return Path(local_path(given))
    except ValueError as err:
        msg = f"Cannot use HDA_RC as the rc file: {err}. Name a local file."
        raise ConfigurationError(msg) from err


SETTING_NAMES = frozenset(_CONVERTERS)
