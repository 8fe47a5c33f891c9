"""What people do at first: bare names, odd folders, wrong ids; and what an odd service does."""

from __future__ import annotations

import errno
import logging
import pickle
from pathlib import Path
from typing import Any

import pytest
from upath import UPath

from hda_fsspec.emulator import Fault, dated_product
from hda_fsspec.errors import (
    ConfigurationError,
    OrderError,
    ProductFormatError,
    QuotaError,
    TooManyProductsError,
)


def test_a_pickled_upath_has_no_password(bench: Any) -> None:
    """The password stays at home; the path, and what else was given, travel."""
    options = bench.settings(bench.start(days=1))
    path = UPath(bench.query, **options) / bench.product_id(1)

    data = pickle.dumps(path)

    assert options["password"].encode() not in data
    assert str(pickle.loads(data)) == str(path)


def test_get_into_bare_names(bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names without a folder are files of the current one."""
    fs = bench.filesystem(bench.start(days=2))
    monkeypatch.chdir(tmp_path)

    fs.get([bench.path(1), bench.path(2)], ["a.nc", "b.nc"])

    assert [Path(name).read_bytes() for name in ("a.nc", "b.nc")] == [bench.body(1), bench.body(2)]


@pytest.mark.slow
def test_get_copies_what_can_be_had(bench: Any, tmp_path: Path) -> None:
    """Where one product fails the others are copied, and the error is that of the one."""
    emulator = bench.start(days=4)
    for day in (2, 3):
        emulator.fault(Fault("order-failed", product_id=bench.product_id(day), times=None))

    with pytest.raises(OrderError) as caught:
        bench.filesystem(emulator).get(f"{bench.query}/", tmp_path / "out", recursive=True)

    told = "\n".join([str(caught.value), *caught.value.__notes__])
    assert bench.product_id(2) in told
    assert bench.product_id(3) in told
    copied = {path.name for path in (tmp_path / "out").rglob("*.nc")}
    assert copied == {bench.product_id(1), bench.product_id(4)}


@pytest.mark.slow
@pytest.mark.parametrize("status", [206, 416])
def test_a_part_that_nobody_asked_for_is_no_file(bench: Any, status: int) -> None:
    """An answer of a range to a request without one is never taken for the whole."""
    products = [dated_product("x_20240501.csv", b"time,value\n" * 400)]
    emulator = bench.start(products=products)
    emulator.fault(
        Fault("status", method="GET", path="dataaccess/download/", status=status, body="a,b\n")
    )

    assert bench.filesystem(emulator).cat(f"{bench.query}/x_20240501.csv") == products[0].source


@pytest.mark.slow
@pytest.mark.parametrize("name", ["x_20240501.nc", "x_20240501.tif", "x_20240501.SEN3"])
def test_a_destroyed_beginning_is_refused(bench: Any, name: str) -> None:
    """What begins like nothing that its name promises is damaged, and is not kept."""
    emulator = bench.start(products=[dated_product(name, bytes(5000))])
    fs = bench.filesystem(emulator)

    with pytest.raises(
        ProductFormatError, match=r"begins with b'.*, not as a file of its name does"
    ):
        fs.cat(f"{bench.query}/{name}")

    assert not list((bench.cache_dir / "v1" / "products").rglob("record.json"))


def test_raising_at_once_is_not_called_waiting(
    bench: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """With on_quota="raise" the log does not say that something waits."""
    fs = bench.filesystem(bench.start(days=2, quota=1), on_quota="raise")

    with caplog.at_level(logging.INFO, "hda_fsspec"), pytest.raises(QuotaError):
        fs.prefetch(bench.query)

    assert "Waiting" not in caplog.text


def test_a_kept_listing_is_bounded_too(bench: Any) -> None:
    """A listing that somebody kept with a larger limit is still too long for a smaller one."""
    emulator = bench.start(days=6)
    assert len(bench.filesystem(emulator, max_products=10).ls(bench.query)) == 6

    with pytest.raises(TooManyProductsError) as caught:
        bench.filesystem(emulator, max_products=5).ls(bench.query)

    assert (caught.value.found, caught.value.limit) == (6, 5)


@pytest.mark.slow
def test_the_nearest_of_many_is_named(bench: Any) -> None:
    """The hint of a misspelt id is right in a long listing as well."""
    products = [
        dated_product(f"p_{2000 + n // 300}{n % 12 + 1:02}{n % 28 + 1:02}_{n:05}.csv", b"a,b\n")
        for n in range(1000)
    ]
    wanted = products[-1].product_id
    emulator = bench.start(products=products)

    with pytest.raises(FileNotFoundError, match=wanted):
        bench.filesystem(emulator).info(
            f"hda://{bench.dataset}/bbox=-180,-90,180,90/{wanted[:-5]}.csv"
        )


def test_a_cache_folder_that_leads_nowhere(bench: Any, tmp_path: Path) -> None:
    """A dangling link as cache folder is a wrong setting, and called so."""
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "nowhere")

    with pytest.raises((ConfigurationError, OSError)) as caught:
        bench.filesystem(bench.start(days=1), cache_dir=link).cat(bench.path(1))

    assert isinstance(caught.value, ConfigurationError), errno.errorcode
    assert str(link) in str(caught.value)
