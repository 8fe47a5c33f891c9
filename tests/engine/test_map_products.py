"""A task for each product of a query: ordered when it is computed, opened, handed to a function."""

from __future__ import annotations

import functools
import importlib
import pickle
import threading
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from ready_processes import ready_processes

import hda_fsspec
from hda_fsspec.emulator import Fault
from hda_fsspec.errors import (
    LocationError,
    OrderError,
    ProductFunctionError,
    ProductMismatchError,
    QueryError,
)

dask: Any = importlib.import_module("dask")  # its types are of no use here


def swath(day: int) -> xr.Dataset:
    """Return a product that shares its grid with no other."""
    rows = 3 + day
    return xr.Dataset(
        {
            "chl": (("rows", "columns"), np.full((rows, 4), float(day))),
            "flag": (("rows", "columns"), np.full((rows, 4), day, "i2")),
        },
        coords={"latitude": (("rows", "columns"), np.linspace(0, day, rows * 4).reshape(rows, 4))},
    )


def serve(stacks: Any, count: int = 6, **options: Any) -> list[str]:
    """Serve swaths of so many days, and return their ids."""
    files = {f"swath_202405{day:02}.nc": swath(day) for day in range(1, count + 1)}
    stacks.serve(files, **options)
    return list(files)


def tasks_of(stacks: Any, function: Any, query: Any = None, **options: Any) -> Any:
    """Return the tasks of the products that are served."""
    settings = stacks.options | options.pop("settings", {})
    return hda_fsspec.map_products(
        query or stacks.query, function, storage_options=settings, **options
    )


def total(opened: xr.Dataset) -> float:
    """Return a number that takes all values of two variables."""
    return float(opened.chl.sum() + opened.flag.sum())


def crop(opened: xr.Dataset) -> xr.Dataset:
    """Return a little of a product, lazily."""
    return opened[["chl"]].isel(rows=slice(0, 2), columns=slice(0, 2))


def fail_on_the_third(opened: xr.Dataset) -> float:
    """Fail on one product."""
    return 1.0 / float(opened.chl[0, 0] - 3.0)


TOTALS = [day * (3 + day) * 4 * 2.0 for day in range(1, 7)]


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", ["threads", "processes"])
def test_nothing_is_ordered_before_a_compute_and_then_ahead(scheduler: str, stacks: Any) -> None:
    """One task a product, in order; with one worker all orders are in preparation together."""
    ids = serve(stacks)
    stacks.emulator.hold_orders(6)

    tasks = tasks_of(stacks, total)
    repr((tasks, tasks[0], pickle.loads(pickle.dumps(tasks[1:]))))
    dask.optimize(tasks)
    assert stacks.options["password"].encode() not in pickle.dumps(tasks)
    plan = tasks.plan()
    assert (stacks.ordered, plan.orders_needed, len(tasks)) == ([], 6, 6)
    assert [product.product_id for product in plan.products] == ids
    with ready_processes():
        found = dask.compute(*tasks, scheduler=scheduler, num_workers=1)

    assert list(found) == TOTALS
    assert stacks.emulator.max_in_preparation == 6
    assert stacks.emulator.order_posts == stacks.emulator.downloads == 6
    assert tasks.plan().orders_needed == 0


@pytest.mark.slow
def test_tasks_are_of_dask(stacks: Any) -> None:
    """They can be computed each, together as a list, in part, within others, and persisted."""
    serve(stacks)
    tasks = tasks_of(stacks, total)

    assert tasks[2].compute() == TOTALS[2]
    assert len(stacks.ordered) == 1
    assert dask.delayed(sum)(tasks[:2]).compute() == sum(TOTALS[:2])
    assert tasks[-1:].compute(scheduler="sync") == TOTALS[-1:]
    assert len(stacks.ordered) == 4
    kept = tasks.persist()
    stacks.emulator.fault(Fault("order-failed", times=None))
    stacks.evict()
    assert kept.compute() == dask.compute(kept)[0] == TOTALS
    assert (kept[1].compute(), kept.plan().products) == (TOTALS[1], ())


def test_a_service_that_is_away_is_not_asked(stacks: Any) -> None:
    """Once a query is listed, tasks are made, looked at and pickled without the service."""
    serve(stacks)
    tasks_of(stacks, total)
    stacks.bench.close()

    tasks = tasks_of(stacks, total)

    assert (len(pickle.dumps(tasks)) < 20_000, tasks.plan().orders_needed) == (True, 6)


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", ["threads", "processes"])
def test_a_cache_of_few_products(
    scheduler: str, stacks: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A product stays while its function is at work, and is ordered once though all do not fit."""
    serve(stacks, 8)
    for name in ("user", "password"):
        monkeypatch.setenv(f"HDA_{name.upper()}", stacks.options[name])
    bound = 3 * max(path.stat().st_size for path in stacks.folder.iterdir())

    tasks = tasks_of(stacks, total, settings={"cache_max_bytes": bound})
    with ready_processes():
        found = dask.compute(*tasks, scheduler=scheduler, num_workers=2)

    assert list(found) == [day * (3 + day) * 4 * 2.0 for day in range(1, 9)]
    assert stacks.emulator.order_posts == stacks.emulator.downloads == 8
    assert stacks.client.cache.usage().bytes <= bound


@pytest.mark.slow
def test_a_product_is_kept_while_its_function_is_at_work(stacks: Any) -> None:
    """Other products that come meanwhile do not drive it out; when it has ended they do."""
    serve(stacks, 5)
    bound = int(2.5 * max(path.stat().st_size for path in stacks.folder.iterdir()))
    stacks.options["cache_max_bytes"] = bound
    fs = hda_fsspec.HDAFileSystem(**stacks.options)

    def fetch(*days: int) -> None:
        for day in days:
            fs.prefetch(f"{stacks.query[:-2]}/swath_2024050{day}.nc")

    def work(opened: xr.Dataset) -> list[bool]:
        first = float(opened.chl[0, 0])
        fetch(2, 3, 4)
        is_there = stacks.client.cache.lookup(tasks.products[0], touch=False) is not None
        return [is_there, float(opened.flag[0, 0]) == first]

    tasks = tasks_of(stacks, work)

    assert tasks[0].compute(scheduler="sync") == [True, True]
    assert stacks.emulator.downloads == 4
    fetch(5, 2, 3)
    assert stacks.client.cache.lookup(tasks.products[0], touch=False) is None


def test_what_a_function_returns_is_loaded(stacks: Any) -> None:
    """Lazy results need no product any more, in containers neither."""
    serve(stacks, 2)

    (first, second) = tasks_of(stacks, lambda ds: {"crop": [crop(ds)], "all": ds}).compute()
    stacks.evict()
    downloads = stacks.emulator.downloads

    xr.testing.assert_equal(first["crop"][0], crop(swath(1)))
    xr.testing.assert_equal(second["all"], swath(2))
    assert stacks.emulator.downloads == downloads


@pytest.mark.slow
def test_results_along_a_dimension(stacks: Any) -> None:
    """Data sets are put together; times are those of the catalogue; None is left out."""
    serve(stacks, 4)

    def crop_but_one(opened: xr.Dataset) -> xr.Dataset | None:
        return None if opened.chl[0, 0] == 2 else crop(opened)

    found = tasks_of(stacks, crop_but_one)
    together = tasks_of(
        stacks, crop_but_one, drop_variables="latitude", concat_dim="time"
    ).compute()

    assert [one is None for one in found.compute()] == [False, True, False, False]
    assert together.chl.dims == ("time", "rows", "columns")
    assert together.chl[:, 0, 0].values.tolist() == [1, 3, 4]
    days = np.array(["2024-05-01", "2024-05-03", "2024-05-04"], "datetime64[ns]")
    np.testing.assert_array_equal(together.time.values, days)


def test_results_of_a_dimension_that_they_have(stacks: Any) -> None:
    """Rows of swaths lie one after another; what lacks the dimension must be the same in all."""
    serve(stacks, 3)

    rows = tasks_of(stacks, lambda ds: ds.assign(gain=2.0), concat_dim="rows").compute()
    array = tasks_of(stacks, lambda ds: ds.flag.max().drop_vars("z", errors="ignore"),
                     concat_dim="product").compute()  # fmt: skip

    assert dict(rows.sizes) == {"rows": 4 + 5 + 6, "columns": 4}
    assert rows.gain.dims == ()
    assert array.values.tolist() == [1, 2, 3]
    with pytest.raises(ProductMismatchError, match=r"3 products cannot be put together .*'rows'"):
        tasks_of(stacks, lambda ds: ds.assign(gain=ds.chl[0, 0]), concat_dim="rows").compute()


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda ds: None, r"for each of 2 products the function returned None"),
        (total, r"for swath_20240501\.nc the function returned a float"),
        (lambda ds: ds if ds.chl[0, 0] == 1 else ds.chl, r"swath_20240502\.nc .* a DataArray"),
    ],
)
def test_results_that_cannot_be_put_together(stacks: Any, function: Any, message: str) -> None:
    """The error names the first that is none, and what to do."""
    serve(stacks, 2)

    with pytest.raises(QueryError, match=message) as refused:
        tasks_of(stacks, function, concat_dim="time").compute()

    assert refused.value.key == "concat_dim"


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", ["threads", "processes"])
def test_a_function_that_fails(scheduler: str, stacks: Any) -> None:
    """The error is of this package, and names function, product and fault."""
    serve(stacks, 4)

    told = r"fail_on_the_third failed on the product swath_20240503\.nc: ZeroDivisionError"
    with ready_processes(), pytest.raises(ProductFunctionError, match=told) as failed:
        dask.compute(*tasks_of(stacks, fail_on_the_third), scheduler=scheduler, num_workers=2)

    assert failed.value.product_id == "swath_20240503.nc"
    assert pickle.loads(pickle.dumps(failed.value)).product_id == "swath_20240503.nc"
    assert f"{stacks.query[:-2]}/swath_20240503.nc" in str(failed.value)


def test_a_product_that_cannot_be_had(stacks: Any) -> None:
    """It fails as it does elsewhere; a compute of the others does not need it."""
    serve(stacks, 3)
    stacks.emulator.fault(Fault("order-failed", times=None, product_id="swath_20240502.nc"))
    tasks = tasks_of(stacks, total)

    with pytest.raises(OrderError, match=r"swath_20240502\.nc"):
        tasks.compute()

    assert dask.compute(tasks[0], tasks[2]) == (TOTALS[0], TOTALS[2])


def test_errors_of_this_package_in_a_function(stacks: Any) -> None:
    """They stay what they are, with a note of the product that was worked on."""
    serve(stacks, 1)

    def refuse(_: xr.Dataset) -> None:
        msg = "no"
        raise LocationError(msg)

    with pytest.raises(LocationError, match=r"refuse was at work on swath_20240501\.nc"):
        tasks_of(stacks, functools.partial(refuse)).compute()


def test_members_and_trees(stacks: Any, tmp_path: Path) -> None:
    """An archive is a tree of its files, unless ``member`` chooses; a data set can be one, too."""
    path = tmp_path / "p.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, day in (("Oa01", 1), ("Oa02", 2)):
            swath(day).to_netcdf(tmp_path / "one.nc")
            archive.write(tmp_path / "one.nc", f"P.SEN3/{name}.nc")
    stacks.serve({"P_20240501.SEN3": path})

    def kind(opened: Any) -> tuple[str, float]:
        one: Any = opened["Oa02"] if isinstance(opened, xr.DataTree) else opened
        return type(opened).__name__, float(one["chl"][0, 0])

    assert tasks_of(stacks, kind).compute() == [("DataTree", 2.0)]
    assert tasks_of(stacks, kind, member="Oa01.nc").compute() == [("Dataset", 1.0)]
    assert tasks_of(stacks, kind, member="Oa02.nc", as_tree=True).compute() == [("DataTree", 2.0)]
    assert stacks.emulator.orders == 1


def test_options_of_a_single_product(stacks: Any) -> None:
    """Products, patterns and lists are mapped; decoders and dropped variables are as ever."""
    serve(stacks, 3)
    paths = [f"{stacks.query[:-2]}/swath_2024050{day}.nc" for day in (3, 1)]

    found = tasks_of(stacks, lambda ds: ds, paths, drop_variables="flag", mask_and_scale=False)

    assert [product.product_id[-5:-3] for product in found.products] == ["03", "01"]
    assert [list(ds.data_vars) for ds in found.compute()] == [["chl"], ["chl"]]
    assert [ds.encoding["source"] for ds in found.compute()] == paths


@pytest.mark.parametrize(
    ("query", "options", "kind", "message"),
    [
        ("hda://", {}, LocationError, "name a data set"),
        ([], {}, FileNotFoundError, "no path was given"),
        ("nothing_*", {}, FileNotFoundError, "finds no product"),
        (None, {"chunks": {}}, TypeError, "chunks=, which belongs to a whole query"),
        (None, {"scan": True}, TypeError, "scan=, which belongs to a whole query"),
        (None, {"membr": "*"}, TypeError, "membr=, which products are not opened with"),
        (None, {"function": 3}, TypeError, "3 is none"),
        (None, {"product_engine": "nothing"}, ValueError, "Choose product_engine"),
    ],
)
def test_bad_input(stacks: Any, query: Any, options: Any, kind: Any, message: str) -> None:
    """It is told before an order."""
    serve(stacks, 1)
    function = options.pop("function", total) if "function" in options else total
    if isinstance(query, str) and not query.startswith("hda"):
        query = f"{stacks.query[:-1]}{query}"

    with pytest.raises(kind, match=message):
        hda_fsspec.map_products(
            stacks.query if query is None else query,
            function,
            storage_options=stacks.options,
            **options,
        )

    assert stacks.ordered == []


def test_products_in_several_threads(stacks: Any) -> None:
    """Functions run side by side."""
    serve(stacks, 2)
    both = threading.Barrier(2)

    found = tasks_of(stacks, lambda ds: (both.wait(20), total(ds))[1])

    assert found.compute(scheduler="threads", num_workers=2) == TOTALS[:2]
