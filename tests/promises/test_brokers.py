"""What is kept of one broker is never taken for another's, whatever the two have in common."""

from __future__ import annotations

import contextlib
import functools
import os
import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
import xarray as xr
from dask.base import tokenize
from rows import for_each

import hda_fsspec
from hda_fsspec import HDAFileSystem
from hda_fsspec.client import close_clients, get_client
from hda_fsspec.emulator import Catalogue, Emulator, Fault, identity
from hda_fsspec.errors import BrokerError, HDAError, OfflineError
from hda_fsspec.settings import Settings

DATASET = "EO:EUM:DAT:SENTINEL-3:OL_2_WFR___"
QUERY = f"hda://{DATASET}/enddate=2024-05-31/startdate=2024-05-01"
ONE, OTHER = 1.0, 2.0


def write(folder: Path, value: float, days: int = 3) -> Path:
    """Write a catalogue whose files differ from those of others in their values alone."""
    for day in range(1, days + 1):
        path = folder / DATASET / f"sst_202405{day:02}.nc"
        path.parent.mkdir(parents=True, exist_ok=True)
        time = np.array([f"2024-05-{day:02}"], dtype="datetime64[ns]")
        values = np.full((1, 4), value * day, dtype="f4")
        xr.Dataset(
            {"sst": (("time", "x"), values)},
            coords={"time": time, "x": np.arange(4.0)},
            attrs={"broker": f"{value:.1f}"},
        ).to_netcdf(path)
    return folder


class Brokers:
    """Two services with the same data set, the same ids and no sizes; one cache folder."""

    def __init__(self, folder: Path, served: Path) -> None:
        self._folder = folder
        self._served = served
        self._running: list[Emulator] = []

    def start(self, value: float, **options: Any) -> Emulator:
        """Start the one that offers multiples of a value."""
        folder = self._served / f"of {value}"
        if not folder.exists():
            write(folder, value)
        catalogue = Catalogue.from_folder(folder)
        emulator = Emulator(catalogue, sizes="missing", **options).start()
        self._running.append(emulator)
        return emulator

    def options(self, emulator: Emulator, **more: Any) -> dict[str, Any]:
        """Return storage options for one of them."""
        account = {
            "endpoint_url": emulator.url,
            "user": emulator.user,
            "password": emulator.password,
        }
        return {**account, "cache_dir": self._folder / "cache", **more}

    def stop(self) -> None:
        """Stop all that were started."""
        for emulator in self._running:
            emulator.stop()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of what services offer, by its value."""
    return tmp_path_factory.mktemp("served")


@pytest.fixture
def brokers(tmp_path: Path, served: Path) -> Iterator[Brokers]:
    """Two services, of which none runs yet."""
    found = Brokers(tmp_path, served)
    yield found
    found.stop()


def by_cat(options: dict[str, Any]) -> float:
    """Read a value of the second product out of the bytes that the filesystem returns."""
    content = HDAFileSystem(**options).cat(f"{QUERY}/sst_20240502.nc")
    with xr.open_dataset(content, engine="h5netcdf") as ds:
        return float(ds["sst"][0, 0])


def by_product(options: dict[str, Any]) -> float:
    """Read it from the product opened as a data set."""
    path = f"{QUERY}/sst_20240502.nc"
    return float(xr.open_dataset(path, engine="hda", storage_options=options)["sst"][0, 0])


def by_bare_path(options: dict[str, Any]) -> float:
    """Read it from the product that is named without a query."""
    path = f"hda://{DATASET}/sst_20240502.nc"
    return float(xr.open_dataset(path, engine="hda", storage_options=options)["sst"][0, 0])


def by_stack(options: dict[str, Any]) -> float:
    """Read it from the whole query as one lazy data set."""
    ds = xr.open_dataset(QUERY, engine="hda", storage_options=options, chunks={})
    assert ds.attrs.get("broker") in {None, f"{float(ds['sst'][0, 0]):.1f}"}
    return float(ds["sst"][1, 0])


def by_scan(options: dict[str, Any]) -> float:
    """Read it from the whole query, of which all headers are known."""
    ds = xr.open_dataset(QUERY, engine="hda", storage_options=options, scan=True)
    return float(ds["sst"][1, 0])


def by_open_mfdataset(options: dict[str, Any]) -> float:
    """Read it the classical way."""
    with hda_fsspec.open_mfdataset(QUERY, storage_options=options) as ds:
        return float(ds["sst"][1, 0])


def by_tree(options: dict[str, Any]) -> float:
    """Read it from the products of the query as a tree."""
    tree = xr.open_datatree(QUERY, engine="hda", storage_options=options)
    return float(tree["sst_20240502.nc"].to_dataset()["sst"][0, 0])


WAYS = (by_cat, by_product, by_bare_path, by_stack, by_scan, by_open_mfdataset, by_tree)


@pytest.mark.slow
@pytest.mark.parametrize("same_process", [True, False])
def test_values_are_those_of_the_broker_that_was_asked(
    brokers: Brokers, same_process: bool
) -> None:
    """Same data set, same ids, no sizes: each broker's values, in turn, online and offline."""
    one, other = brokers.options(brokers.start(ONE)), brokers.options(brokers.start(OTHER))

    for options, value in ((one, ONE), (other, OTHER), (one, ONE)):
        for way in WAYS if same_process else (by_cat, by_product, by_scan):
            assert way(options) == 2 * value, way
            if not same_process:
                close_clients()
    for options, value in ((one, ONE), (other, OTHER)):
        for way in WAYS:
            assert way({**options, "offline": True}) == 2 * value, way


@pytest.mark.slow
def test_a_port_that_is_used_again_is_another_broker(brokers: Brokers) -> None:
    """An emulator that gets the port of an earlier one does not get its cache."""
    first = brokers.start(ONE)
    port = int(first.url.split(":")[2].split("/")[0])
    for way in WAYS:
        assert way(brokers.options(first)) == 2 * ONE, way
    first.stop()

    second = brokers.start(OTHER, port=port)

    for way in reversed(WAYS):
        assert way(brokers.options(second)) == 2 * OTHER, way
    assert second.orders > 0
    for way in WAYS:
        assert way(brokers.options(first, offline=True)) == 2 * ONE, way


@pytest.mark.slow
def test_an_emulator_that_is_started_again_finds_its_cache(brokers: Brokers) -> None:
    """Over the same files and at the same port it has the same address: nothing is ordered."""
    first = brokers.start(ONE)
    port = int(first.url.split(":")[2].split("/")[0])
    assert by_stack(brokers.options(first)) == 2 * ONE
    first.stop()

    again = brokers.start(ONE, port=port)

    assert again.url == first.url
    close_clients()
    assert by_stack(brokers.options(again)) == 2 * ONE
    assert again.orders == 0


@pytest.mark.slow
@for_each("change", ["bytes of equal length", "times kept", "more files", "none"])
@for_each("large", [False, True])
def test_a_folder_that_changed_is_another_broker(
    tmp_path: Path, change: str, large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What tells two folders apart is their content, however little of it differs."""
    if large:
        reads_nothing = functools.partial(identity.name_of, read_bytes=0)
        monkeypatch.setattr("hda_fsspec.emulator.emulator.name_of", reads_nothing)
    folder = write(tmp_path / "served", ONE)
    path = next((folder / DATASET).iterdir())

    def url() -> str:
        with Emulator(Catalogue.from_folder(folder), port=port) as emulator:
            return emulator.url

    port = 0
    port = int(url().split(":")[2].split("/")[0])
    before = url()
    assert url() == before
    if change == "more files":
        shutil.copyfile(path, path.with_name("sst_20240509.nc"))
    elif change == "none":
        copy = shutil.copyfile(path, tmp_path / "copy")
        copy.replace(path)  # of files that are read it is the content that counts
        assert (url() == before) is not large
        return
    else:
        facts = path.stat()
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
        if change == "times kept":
            os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
            assert path.stat().st_mtime_ns == facts.st_mtime_ns

    assert url() != before


def test_an_address_of_an_earlier_emulator_is_refused(brokers: Brokers) -> None:
    """Whoever still has the address of another emulator at this port is told the right one."""
    first = brokers.start(ONE)
    port = int(first.url.split(":")[2].split("/")[0])
    lazy = xr.open_dataset(QUERY, engine="hda", storage_options=brokers.options(first), chunks={})
    first.stop()
    second = brokers.start(OTHER, port=port)

    with pytest.raises(HDAError, match=r"The emulator at this port is http.*") as caught:
        lazy["sst"][2].compute()
    assert second.url in str(caught.value)
    bare = {**brokers.options(second), "endpoint_url": f"http://127.0.0.1:{port}/hda-broker/"}
    with pytest.raises(BrokerError, match="The emulator at this port is") as caught:
        HDAFileSystem(**bare).ls(QUERY)
    assert second.url in str(caught.value)
    assert requests.get(f"http://127.0.0.1:{port}/", timeout=5).status_code == 404
    assert second.orders == 0


@for_each(
    "spelling",
    [
        "{scheme}://{place}/hda-broker",
        "{scheme}://{place}/hda-broker/",
        "{scheme}://{place}/hda-broker/api/v1",
        " {scheme}://{place}//hda-broker/api/v1/ ",
        "{upper_scheme}://{upper_place}/hda-broker//",
        "{scheme}://{place}:{port}/hda-broker/",
        "{scheme}://{place}.:{port}/hda-broker",
    ],
)
@for_each("scheme", ["http", "https"])
def test_all_spellings_of_an_address_are_one_broker(spelling: str, scheme: str) -> None:
    """With or without ``api/v1``, slashes, the scheme's own port, and in capitals."""
    names = {"scheme": scheme, "place": "h.int", "port": {"http": 80, "https": 443}[scheme]}
    upper = {"upper_scheme": scheme.upper(), "upper_place": "H.Int"}

    settings = Settings.resolve(endpoint_url=spelling.format(**names, **upper))

    assert settings.endpoint_url == f"{scheme}://h.int/hda-broker/"
    assert settings.account == Settings.resolve(endpoint_url=f"{scheme}://h.int/hda-broker").account


def test_the_default_is_one_broker_with_its_address() -> None:
    """Whoever writes the address of the public gateway out finds what is kept under the default."""
    written = Settings.resolve(endpoint_url="HTTPS://Gateway.Prod.WEkEO2.eu:443/hda-broker/api/v1")

    assert written.endpoint_url == Settings.resolve().endpoint_url
    assert written == Settings.resolve()


def test_other_ports_paths_and_schemes_are_other_brokers() -> None:
    """What may lead to another service is never taken for the same one."""
    addresses = ["http://[::1]:80/x", "http://[::1]:8080/x", "https://[::1]/x", "http://[::1]/X"]

    found = [Settings.resolve(endpoint_url=address).endpoint_url for address in addresses]

    assert found == [
        "http://[::1]/x/",
        "http://[::1]:8080/x/",
        "https://[::1]/x/",
        "http://[::1]/X/",
    ]


@pytest.mark.slow
def test_spellings_share_what_is_kept(brokers: Brokers) -> None:
    """What was fetched under one spelling is local under every other."""
    emulator = brokers.start(ONE)
    assert by_stack(brokers.options(emulator)) == 2 * ONE
    orders = emulator.orders

    spelled = {
        **brokers.options(emulator),
        "endpoint_url": f"HTTP{emulator.url.removeprefix('http')}api/v1",
    }
    close_clients()

    assert by_stack(spelled) == 2 * ONE
    assert by_product({**spelled, "offline": True}) == 2 * ONE
    assert emulator.orders == orders


@pytest.mark.slow
def test_nothing_else_is_shared(brokers: Brokers) -> None:
    """Sizes, orders, quota, licences, listings and headers are a broker's own."""
    one, other = brokers.start(ONE), brokers.start(OTHER)
    fs = HDAFileSystem(**brokers.options(one))
    fs.prefetch(QUERY)
    xr.open_dataset(QUERY, engine="hda", storage_options=brokers.options(one), scan=True)

    stranger = HDAFileSystem(**brokers.options(other))
    theirs = get_client(Settings.resolve(**brokers.options(other)))

    with pytest.raises(OfflineError):
        HDAFileSystem(**brokers.options(other, offline=True)).ls(QUERY)
    assert [info["size"] for info in stranger.ls(QUERY, detail=True)] == [None] * 3
    assert all(info["size"] for info in fs.ls(QUERY, detail=True))
    product = theirs.search(hda_fsspec.Location.parse(QUERY))[0]
    assert theirs.header(product) is None
    assert theirs.local(product) is None
    assert fs.ukey(f"{QUERY}/{product.product_id}") != stranger.ukey(
        f"{QUERY}/{product.product_id}"
    )
    stranger.prefetch(QUERY)
    assert other.orders == 3
    assert other.count("PUT", "termsaccepted") == one.count("PUT", "termsaccepted")


@pytest.mark.slow
def test_a_lazy_expression_over_two_brokers(brokers: Brokers) -> None:
    """Two data sets of equal paths in one computation have names, plans and values of their own."""
    both = [
        xr.open_dataset(QUERY, engine="hda", storage_options=brokers.options(each), chunks={})
        for each in (brokers.start(ONE), brokers.start(OTHER))
    ]

    assert tokenize(both[0]["sst"].variable) != tokenize(both[1]["sst"].variable)
    assert both[0]["sst"].data.name != both[1]["sst"].data.name
    difference = both[1]["sst"] - both[0]["sst"]
    assert len(difference.hda.products) == 6
    assert difference.hda.plan().orders_needed == 4  # each has its template
    assert difference.compute().to_numpy()[:, 0].tolist() == [1.0, 2.0, 3.0]
    copies = [pickle.loads(pickle.dumps(each)) for each in both]
    with contextlib.ExitStack() as left:
        for options, copied, value in zip(brokers._running, copies, (ONE, OTHER), strict=True):
            left.enter_context(_environment(options))
            assert float(copied["sst"][2, 0]) == 3 * value


@contextlib.contextmanager
def _environment(emulator: Emulator) -> Iterator[None]:
    """Log in with the account that a process finds in its environment."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("HDA_USER", "HDA_PASSWORD"):
            patch.setenv(name, emulator.environment[name])
        yield


@pytest.mark.slow
def test_an_interrupted_download_is_not_gone_on_with_from_another(brokers: Brokers) -> None:
    """The first half of one broker's file never gets the second half of another's."""
    one, other = brokers.start(ONE), brokers.start(OTHER)
    one.fault(Fault("cut", times=None))
    one.fault(Fault("range-416", times=None))
    path = f"{QUERY}/sst_20240502.nc"
    with pytest.raises(OSError, match="broke off"):
        HDAFileSystem(**brokers.options(one)).cat(path)

    assert by_cat(brokers.options(other)) == 2 * OTHER
    assert not other.log.where(lambda record: record.range is not None)
