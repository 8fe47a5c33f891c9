"""``doctor``: one line for each thing that must be right, and the next step where it is not."""

from __future__ import annotations

import dataclasses
import platform
import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hda_fsspec._version import __version__
from hda_fsspec.cli.commands import Options, command, json_option
from hda_fsspec.cli.messages import as_command_says, options_of
from hda_fsspec.cli.terminal import echo, echo_json
from hda_fsspec.errors import (
    AuthenticationError,
    BrokerError,
    ConfigurationError,
    HDAError,
    OfflineError,
)
from hda_fsspec.printable import format_bytes, plural

if TYPE_CHECKING:
    from hda_fsspec.fetching.quota import QuotaView
    from hda_fsspec.settings import Settings

_LIBRARIES = ("fsspec", "xarray", "netCDF4", "dask")
# Who calls the doctor wants an answer, not patience.
_TIMEOUT_SECONDS = 15.0


@dataclasses.dataclass(frozen=True)
class Finding:
    """The result of one check: "ok", "FAIL", or "-" for what could not be or need not be tried."""

    state: str
    what: str
    next_step: str = ""


@command(
    "hda-fsspec doctor",
    "hda-fsspec doctor --json --offline",
    "hda-fsspec doctor --probe EO:EUM:DAT:SENTINEL-3:OL_2_WFR___",
    "hda-fsspec doctor --probe DATASET --query startdate=2024-05-01/enddate=2024-05-01 --yes",
)
@click.option(
    "--probe",
    "probed",
    metavar="DATASET",
    help="ask the service for all that is not certain of it, with one order, and record it",
)
@click.option("--query", metavar="KEY=VALUE/...", help="what to probe with; by default a small one")
@click.option("--yes", "is_sure", is_flag=True, help="order without asking first")
@click.option(
    "--recording",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="where to write requests and answers; by default a new file in this folder",
)
@json_option
def doctor(
    options: Options,
    *,
    probed: str | None,
    query: str | None,
    is_sure: bool,
    recording: Path | None,
    is_json: bool,
) -> int:
    """Check settings, cache, login, quota and installation.

    One line for each, and the next step where something is wrong; the exit code is then 1. Nothing
    is ordered. With --probe a table of facts in its place: what was expected of the service, and
    what it did.
    """
    if probed is not None:
        from hda_fsspec.cli.probe import probe

        return probe(options, probed, query, recording, is_sure=is_sure, is_json=is_json)
    if query or recording or is_sure:
        msg = "--query, --recording and --yes go with --probe DATASET"
        raise click.UsageError(msg)
    failed = 0
    findings = []
    for finding in _findings(options):
        failed += finding.state == "FAIL"
        findings.append(dataclasses.asdict(finding))
        if is_json:
            continue
        echo(f"{finding.state:<4}  {finding.what}")
        if finding.next_step:
            echo(f"      -> {finding.next_step}")
    if is_json:
        echo_json(findings)
    else:
        echo("", f"{plural(failed, 'check')} failed." if failed else "All is well.")
    return 1 if failed else 0


def _told(err: Exception) -> str:
    """Return what an error says, in the words of this command."""
    return as_command_says(str(err), options_of(doctor))


def _findings(options: Options) -> Iterator[Finding]:
    from hda_fsspec.settings import Settings, rc_path

    yield from _check_installation()
    try:
        settings = options.settings
    except ConfigurationError as err:
        yield Finding("FAIL", f"settings: {_told(err)}")
        return
    yield from _show_settings(settings, Settings.sources(**options.given))
    yield _check_rc_file(rc_path())
    yield from _check_cache(settings)
    yield from _check_service(settings)


def _check_installation() -> Iterator[Finding]:
    import importlib.metadata

    yield Finding("ok", f"hda-fsspec {__version__} on Python {platform.python_version()}")
    found, missing = [], []
    for name in _LIBRARIES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    yield Finding("ok", f"libraries: {', '.join(found)}")
    if missing:
        names = " ".join(missing)
        yield Finding("FAIL", f"libraries: {names} not found", f"run: pip install {names}")
    points = importlib.metadata.entry_points(group="fsspec.specs", name="hda")
    if points:
        yield Finding("ok", "fsspec finds hda:// paths by itself")
    else:
        step = "install the package itself: pip install hda-fsspec, or pip install -e . in a clone"
        yield Finding("FAIL", "fsspec does not find hda:// paths", step)


def _show_settings(settings: Settings, sources: dict[str, str]) -> Iterator[Finding]:
    from hda_fsspec.settings import SECRET_SETTINGS

    for name, source in sources.items():
        value = getattr(settings, name)
        if name in SECRET_SETTINGS:
            value = "set" if value else "not set"
        yield Finding("-", f"{name} = {'not set' if value is None else value}  ({source})")


def _check_rc_file(path: Path) -> Finding:
    from hda_fsspec.settings.rcfile import chmod_line, exposure

    try:
        facts = path.stat()
        message = exposure(path)
    except FileNotFoundError:
        return Finding("-", f"rc file {path}: not there")
    except OSError as err:
        return Finding("FAIL", f"rc file {path}: {err.strerror}", "hda-fsspec login writes another")
    mode = stat.S_IMODE(facts.st_mode)
    if not stat.S_ISREG(facts.st_mode):
        step = "remove it; hda-fsspec login writes another"
        return Finding("FAIL", f"rc file {path}: it is no file", step)
    if message is not None:
        step = f"others may read your password; run: {chmod_line(path)}"
        return Finding("FAIL", f"rc file {path}: mode {mode:04o}", step)
    return Finding("ok", f"rc file {path}: mode {mode:04o}")


def _check_cache(settings: Settings) -> Iterator[Finding]:
    from hda_fsspec.cache.cache import Cache
    from hda_fsspec.cache.locks import FileLocks

    cache = Cache(settings.cache_dir, max_bytes=settings.cache_max_bytes)
    try:
        cache.prepare()
        lock = FileLocks(cache.root).acquire("doctor")
        mode = stat.S_IMODE(cache.root.stat().st_mode)
        free, bound, usage = shutil.disk_usage(cache.root).free, cache.max_bytes, cache.usage()
    except (HDAError, OSError) as err:
        yield Finding("FAIL", f"cache folder: {_told(err)}")
        return
    yield Finding("ok", f"cache folder {cache.root}: mode {mode:04o}, can be written to")
    told = "no bound" if bound is None else f"bound {format_bytes(bound)}"
    room = (
        f"cache size: {format_bytes(usage.total_bytes)}, {told}, disk has {format_bytes(free)} free"
    )
    if bound is not None and usage.total_bytes + free < bound:
        step = (
            "the disk is full before the bound is reached; lower HDA_CACHE_MAX_BYTES or free space"
        )
        yield Finding("FAIL", room, step)
    else:
        yield Finding("ok", room)
    # None: another process looks at this moment, so the lock works.
    if lock is None or lock.is_shared:
        yield Finding("ok", "file locks work")
    else:
        step = "results stay right, but processes may order one product twice; use another disk"
        yield Finding("FAIL", "file locks do not work there", step)
    if lock is not None:
        lock.release()


def _show_quota(quota: QuotaView) -> Finding:
    from hda_fsspec.cli.orders import describe_quota

    now = time.time()
    is_closed = quota.closed_until is not None and quota.closed_until > now
    step = "what is asked for now waits until then by itself; what was ordered before does not"
    return Finding(
        "-" if is_closed or quota.left is None else "ok",
        f"order quota: {describe_quota(quota, now)}",
        step if is_closed else "",
    )


def _check_service(settings: Settings) -> Iterator[Finding]:
    from hda_fsspec.client import Client

    quick = dataclasses.replace(settings, timeout=min(settings.timeout, _TIMEOUT_SECONDS))
    products = Client(quick)
    broker, login = f"broker {settings.endpoint_url}", f"login as {settings.user}"
    try:
        states = products.catalogue.terms.status()
    except OfflineError:
        yield Finding("-", f"{broker}: not tried, offline is set")
    except ConfigurationError as err:
        yield Finding("-", f"{broker}: not tried without a login")
        yield Finding("FAIL", f"login: {_told(err)}")
    except AuthenticationError as err:
        yield Finding("ok", f"{broker} answers")
        yield Finding(
            "FAIL", f"login: {_told(err)}", "hda-fsspec login --check writes and tries another"
        )
    except BrokerError as err:
        yield Finding("FAIL", f"{broker}: {_told(err)}")
        yield Finding("-", f"{login}: not known")
    except HDAError as err:
        yield Finding("FAIL", f"{broker}: {_told(err)}")
    else:
        yield Finding("ok", f"{broker} answers")
        yield Finding("ok", f"{login} works")
        accepted = sum(states.values())
        step = "" if accepted == len(states) else "hda-fsspec terms list shows which"
        yield Finding("ok", f"licences: {accepted} of {len(states)} accepted", step)
        yield _show_quota(products.quota())
    finally:
        products.close()
