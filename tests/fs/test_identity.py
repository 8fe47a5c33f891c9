"""What a filesystem and its files are: equality, tokens, pickles, JSON, dates and versions."""

from __future__ import annotations

import gc
import json
import os
import pickle
import subprocess
import sys
import threading
from datetime import UTC, datetime
from typing import Any

import cloudpickle
import fsspec
import pytest
from ready_processes import run_script

from hda_fsspec import HDAFileSystem
from hda_fsspec.emulator import Fault, ProductEntry, dated_product
from hda_fsspec.errors import AuthenticationError, ConfigurationError

SECRET = "s3cret-Pa55"


def in_new_process(code: str, *, stdin: bytes = b"", **environment: str) -> str:
    """Run code in a fresh interpreter and return what it printed."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("HDA_")}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        input=stdin,
        env=kept | environment,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().strip()


def environment_of(emulator: Any, bench: Any) -> dict[str, str]:
    """Return what a worker needs to have set."""
    return {**emulator.environment, "HDA_CACHE_DIR": str(bench.cache_dir)}


@pytest.mark.slow
def test_a_filesystem_pickles_without_its_password(bench: Any) -> None:
    """Settings travel, the password does not: it is found where the pickle arrives."""
    emulator = bench.start(days=2)
    fs = bench.filesystem(emulator)
    pickles = [module.dumps(fs) for module in (pickle, cloudpickle)]

    for data in pickles:
        again = pickle.loads(data)

        assert emulator.password.encode() not in data
        assert again == fs
        assert again.settings.cache_dir == fs.settings.cache_dir
        with pytest.raises(ConfigurationError, match="no password"):
            again.ls(bench.query)
    code = (
        "import pickle, sys\n"
        "for data in sys.argv[1:]:\n"
        "    fs = pickle.loads(bytes.fromhex(data))\n"
        f"    print(len(fs.ls({bench.query!r})), fs.cat({bench.path(1)!r})[:3])"
    )
    environment = {**os.environ, "HDA_PASSWORD": emulator.password}
    shown = run_script(
        code, [data.hex() for data in pickles], folder=bench.folder, environment=environment
    )
    assert shown.splitlines() == ["2 b'CDF'", "2 b'CDF'"]


@pytest.mark.slow
@pytest.mark.parametrize("module", [pickle, cloudpickle])
@pytest.mark.parametrize("position", [0, 1000, 2032])
def test_an_open_file_pickles_as_product_and_position(
    bench: Any, module: Any, position: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It opens at the same place again, here or elsewhere, and carries no bytes and no secret."""
    emulator = bench.start(days=1)
    with bench.filesystem(emulator).open(bench.path(1)) as handle:
        handle.seek(position)
        data = module.dumps(handle)

    monkeypatch.setenv("HDA_PASSWORD", emulator.password)
    with module.loads(data) as again:
        assert (again.tell(), again.read()) == (position, bench.body(1)[position:])
    assert len(data) < 1000
    assert emulator.password.encode() not in data


@pytest.mark.slow
def test_an_open_file_works_in_a_process_with_an_empty_cache(bench: Any, tmp_path: Any) -> None:
    """A worker that has not the product fetches it again by itself."""
    emulator = bench.start(days=1)
    environment = environment_of(emulator, bench)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        with HDAFileSystem().open(bench.path(1)) as handle:
            handle.seek(5)
            data = pickle.dumps(handle)

    code = (
        "import pickle, sys\n"
        "with pickle.loads(bytes.fromhex(sys.argv[1])) as f: print(f.tell(), f.size, str(f.name))"
    )
    environment = {**os.environ, **environment, "HDA_CACHE_DIR": str(tmp_path / "other")}
    shown = run_script(code, [data.hex()], folder=tmp_path, environment=environment)

    assert shown.startswith(f"5 2032 {tmp_path / 'other'}")
    assert emulator.downloads == 2


def test_a_closed_file_pickles_as_new(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that was closed opens at its beginning."""
    emulator = bench.start(days=1)
    handle = bench.filesystem(emulator).open(bench.path(1))
    handle.close()
    monkeypatch.setenv("HDA_PASSWORD", emulator.password)

    with pickle.loads(pickle.dumps(handle)) as again:
        assert again.tell() == 0


def test_json_holds_no_password(bench: Any) -> None:
    """to_json, to_dict and back: all settings but the password."""
    fs = HDAFileSystem(user="me", password=SECRET, cache_dir=bench.cache_dir, max_orders=3)

    text = fs.to_json()
    again = HDAFileSystem.from_json(text)

    assert SECRET not in text + json.dumps(fs.to_dict(), default=str)
    assert again == fs == HDAFileSystem.from_dict(fs.to_dict())
    assert again.settings == fs.settings


def test_nothing_that_shows_a_filesystem_shows_its_password(bench: Any) -> None:
    """repr, str, storage options, token, settings and attributes without underscore."""
    fs = HDAFileSystem(user="me", password=SECRET, cache_dir=bench.cache_dir)

    shown = [repr(fs), str(fs), repr(fs.storage_options), fs.fsid, repr(fs.settings), fs._fs_token]

    assert not any(SECRET in one for one in shown)


def test_equal_settings_make_equal_filesystems(bench: Any) -> None:
    """Whatever the order of options; the password is no part of it, all other options are."""
    one = HDAFileSystem(user="me", cache_dir="/x", password=SECRET)
    same = HDAFileSystem(cache_dir="/x", user="me")
    others = [
        HDAFileSystem(user="you", cache_dir="/x"),
        HDAFileSystem(user="me", cache_dir="/y"),
        HDAFileSystem(user="me", cache_dir="/x", use_listings_cache=False),
        HDAFileSystem(user="me"),
    ]

    assert one == same
    assert hash(one) == hash(same)
    assert len({one, same, *others}) == 1 + len(others)
    assert one != fsspec.filesystem("memory")


@pytest.mark.slow
def test_tokens_are_equal_in_threads_and_processes(bench: Any) -> None:
    """Dask's names for one path do not depend on who makes them."""
    tokens: list[str] = []

    def work() -> None:
        tokens.append(HDAFileSystem(user="me", cache_dir="/x").__dask_tokenize__())

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    code = (
        "import hda_fsspec as h; fs = h.HDAFileSystem(user='me', cache_dir='/x');"
        "print(fs.__dask_tokenize__(), hash(fs))"
    )
    shown = [in_new_process(code, PYTHONHASHSEED=seed) for seed in ("1", "2")]

    fs = HDAFileSystem(user="me", cache_dir="/x")
    assert tokens == 2 * [fs.__dask_tokenize__()]
    assert shown == 2 * [f"{tokens[0]} {hash(fs)}"]


def test_a_corrected_password_is_used(bench: Any) -> None:
    """Who mistyped the password can try again in the same process."""
    emulator = bench.start(days=1)
    wrong = bench.filesystem(emulator, password="wrong")
    with pytest.raises(AuthenticationError):
        wrong.ls(bench.query)

    assert len(bench.filesystem(emulator).ls(bench.query)) == 1


def test_fsid_names_the_broker(bench: Any) -> None:
    """It is the same for all accounts, whatever form the address has, and tells no secret."""
    one = HDAFileSystem(endpoint_url="https://broker.example/hda/", user="me", password=SECRET)
    same = HDAFileSystem(endpoint_url="https://broker.example/hda/api/v1", user="you")

    assert one.fsid == same.fsid
    assert one.fsid != HDAFileSystem().fsid
    assert one.fsid.startswith("hda-")


def test_ukey_follows_the_version_in_the_catalogue(bench: Any) -> None:
    """Fetching, evicting or another query change nothing; a republished product does."""
    products = [
        dated_product(bench.product_id(day), bench.body(day), updated="2024-06-01T00:00:00Z")
        for day in (1, 2)
    ]
    emulator = bench.start(products=products)
    fs = bench.filesystem(emulator)
    before, other = fs.ukey(bench.path(1)), fs.ukey(bench.path(2))

    fs.prefetch(bench.path(1))
    narrower = f"hda://{bench.dataset}/startdate=2024-05-01/{bench.product_id(1)}"

    assert fs.ukey(bench.path(1)) == fs.ukey(narrower) == before != other
    assert fs.checksum(bench.path(1)) == int(before, 16)
    emulator.republish(bench.dataset, bench.product_id(1), bench.body(9), updated="2026-01-01")
    fs.invalidate_cache()
    assert fs.ukey(bench.path(1)) != before
    assert fs.ukey(bench.path(2)) == other
    assert fs.cat(bench.path(1)) == bench.body(9)
    assert fs.ukey(bench.query) != fs.ukey(f"hda://{bench.dataset}")


def test_ukey_does_not_depend_on_the_service(bench: Any, tmp_path: Any) -> None:
    """Another emulator, with other delays and paging, gives the same keys for the same entries."""
    keys = set()
    for number, options in enumerate(({}, {"paging": "next", "max_page": 1, "polls": 2})):
        fs = bench.filesystem(bench.start(days=2, **options), cache_dir=tmp_path / f"c{number}")
        keys.add(fs.ukey(bench.path(2)))

    assert len(keys) == 1


def test_dates_are_aware(bench: Any) -> None:
    """``created`` is the start of the interval; ``modified`` what the catalogue tells."""
    products = [
        dated_product("a_20240502.nc", b"x" * 9),
        dated_product("b_20240503.nc", b"y" * 9, updated="2024-06-01T10:00:00Z"),
        ProductEntry("c", b"z" * 9, "", ""),
    ]
    fs = bench.filesystem(bench.start(products=products))

    assert fs.created(f"{bench.query}/a_20240502.nc") == datetime(2024, 5, 2, tzinfo=UTC)
    assert fs.modified(f"{bench.query}/a_20240502.nc").date() == datetime(2024, 5, 2).date()  # noqa: DTZ001
    assert fs.modified(f"{bench.query}/b_20240503.nc") == datetime(2024, 6, 1, 10, tzinfo=UTC)
    for path in (bench.query, f"{bench.query}/c"):
        with pytest.raises(NotImplementedError, match="tells no"):
            fs.created(path)


def test_sign_is_not_offered(bench: Any) -> None:
    """There are no links that others could use."""
    with pytest.raises(NotImplementedError):
        HDAFileSystem().sign(bench.path(1))


@pytest.mark.slow
def test_a_cancelled_get_leaves_no_open_file(bench: Any, tmp_path: Any) -> None:
    """When one of many fails, fsspec cancels the others: what arrives for them is closed."""
    emulator = bench.start(days=3, preparation_seconds=0.1)
    fs = bench.filesystem(emulator)
    emulator.fault(Fault("status", method="POST", path="dataaccess/download", status=404))

    with pytest.raises(OSError, match="could not prepare"):
        fs.get(bench.query + "/", f"{tmp_path}/", recursive=True)

    assert len(fs.prefetch(bench.query)) == 3
    gc.collect()
    assert not list(tmp_path.glob("**/*.part"))
