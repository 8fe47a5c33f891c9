"""Trees: the groups of a product, the files of an archive product, the products of a query."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import xarray as xr
from ready_processes import run_script

from hda_fsspec import Location
from hda_fsspec.client import close_clients, get_client
from hda_fsspec.emulator import Fault, dated_product
from hda_fsspec.errors import ConfigurationError, OrderError, ProductFormatError, QueryError
from hda_fsspec.settings import Settings


@pytest.fixture(scope="module")
def grouped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a netCDF-4 file with a root, a group and a group within."""
    path = tmp_path_factory.mktemp("files") / "grouped.nc"
    root = xr.Dataset(coords={"x": [1.0, 2.0]}, attrs={"title": "root"})
    root.to_netcdf(path, engine="netcdf4")
    for number, group in enumerate(("PRODUCT", "PRODUCT/DETAIL", "METADATA")):
        values = xr.Dataset({"a": ("x", [number, number + 0.5], {"units": "m"})})
        values.to_netcdf(path, group=group, mode="a", engine="netcdf4")
    return path


class Served:
    """Products behind an emulator, and what it costs to open them."""

    def __init__(self, bench: Any, bodies: dict[str, bytes], **options: Any) -> None:
        self.bench = bench
        self.emulator = bench.start(
            products=[dated_product(name, body) for name, body in bodies.items()], **options
        )
        self.options = bench.settings(self.emulator)

    @property
    def cache(self) -> Any:
        """The cache of the client."""
        return get_client(Settings.resolve(**self.options)).cache

    def tree(self, name: str | None = None, **options: Any) -> xr.DataTree:
        """Open a product, or the query, as a tree."""
        path = self.bench.query if name is None else f"{self.bench.query}/{name}"
        return xr.open_datatree(path, engine="hda", storage_options=self.options, **options)

    def forget(self) -> None:
        """Evict all products."""
        close_clients()
        self.cache.clear()


def _ds(day: int = 1) -> xr.Dataset:
    return xr.Dataset({"a": ("x", [float(day), day + 0.5])}, {"x": [1.0, 2.0]})


@pytest.fixture(scope="module")
def daily(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], dict[str, bytes]]:
    """Make so many small daily products."""
    folder = tmp_path_factory.mktemp("daily")

    def make(count: int) -> dict[str, bytes]:
        made = {}
        for day in range(1, count + 1):
            path = folder / f"sst_202405{day:02}.nc"
            if not path.exists():
                _ds(day).to_netcdf(path, engine="netcdf4")
            made[path.name] = path.read_bytes()
        return made

    return make


def test_groups_of_a_product(bench: Any, grouped: Path) -> None:
    """They are those that xarray finds in the local file, lazy, and named by the product."""
    served = Served(bench, {"p_20240501.nc": grouped.read_bytes()})

    tree = served.tree("p_20240501.nc")
    plain = xr.open_datatree(grouped, engine="netcdf4")

    assert tree.groups == plain.groups
    assert tree["PRODUCT"].encoding["source"] == f"{bench.query}/p_20240501.nc"
    assert not tree["PRODUCT"]["a"].variable._in_memory
    xr.testing.assert_identical(tree, plain)
    groups = xr.open_groups(
        f"{bench.query}/p_20240501.nc", engine="hda", storage_options=served.options
    )
    assert list(groups) == ["/", "/PRODUCT", "/PRODUCT/DETAIL", "/METADATA"]
    assert served.emulator.orders == 1
    with pytest.raises(ProductFormatError, match="Did you mean 'PRODUCT'"):
        served.tree("p_20240501.nc", group="PRODUKT")


def test_options_reach_every_group(bench: Any, grouped: Path) -> None:
    """Below ``group``, without dropped variables, decoded as asked, in chunks."""
    served = Served(bench, {"p_20240501.nc": grouped.read_bytes()})

    below = served.tree("p_20240501.nc", group="PRODUCT", chunks={})
    bare = served.tree("p_20240501.nc", drop_variables=["a"], product_engine="netcdf4")

    assert below.groups == ("/", "/DETAIL")
    assert below["DETAIL"]["a"].chunks == ((2,),)
    assert below["DETAIL"]["a"].to_numpy().tolist() == [1.0, 1.5]
    assert "a" not in bare["PRODUCT"].variables
    with pytest.raises(ConfigurationError, match="Choose product_engine"):
        served.tree("p_20240501.nc", product_engine="nothing")
    with pytest.raises(TypeError, match="max_node"):
        served.tree("p_20240501.nc", max_node=3)


@pytest.mark.slow
def test_files_of_an_archive(bench: Any, tmp_path: Path) -> None:
    """A SEN3 product is a tree of its files, which is a recipe, too; ``member`` narrows it."""
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
        for number in range(1, 13):
            _ds(number).to_netcdf(tmp_path / "one.nc", engine="netcdf4")
            archive.write(tmp_path / "one.nc", f"P.SEN3/Oa{number:02}_radiance.nc")
        archive.writestr("P.SEN3/xfdumanifest.xml", "<xml/>")
    served = Served(bench, {"P_20240501.SEN3": (tmp_path / "p.zip").read_bytes()})

    tree = served.tree("P_20240501.SEN3")
    some = served.tree("P_20240501.SEN3", member="Oa0[12]*")

    assert sorted(tree.children) == [f"Oa{number:02}_radiance" for number in range(1, 13)]
    assert sorted(some.children) == ["Oa01_radiance", "Oa02_radiance"]
    served.forget()
    for number in (12, 3):
        xr.testing.assert_equal(tree[f"Oa{number:02}_radiance"].to_dataset(), _ds(number))
    assert served.emulator.downloads == 2


@pytest.mark.slow
def test_a_real_sentinel_3_product(bench: Any, shared_data: Path) -> None:
    """Thirty files of one product are thirty nodes, each as xarray opens it unpacked."""
    (path,) = (shared_data / "sentinel-3/sen3-layout").glob("S3A_OL_1_EFR*.SEN3.zip")
    name = path.name.removesuffix(".zip")
    emulator = bench.start(products=[dated_product(name, path.read_bytes())])

    tree = xr.open_datatree(
        f"hda://{bench.dataset}/startdate=2021-10-01/enddate=2021-10-31/{name}",
        engine="hda",
        storage_options=bench.settings(emulator),
    )

    folder = path.with_name(name)
    assert sorted(tree.children) == sorted(file.stem for file in folder.glob("*.nc"))
    for stem in ("Oa01_radiance", "tie_meteo"):
        with xr.open_dataset(folder / f"{stem}.nc", engine="netcdf4") as plain:
            xr.testing.assert_identical(tree[stem].to_dataset().load(), plain.load())


@pytest.mark.slow
def test_a_query_has_a_node_for_each_product(
    bench: Any, daily: Callable[[int], dict[str, bytes]]
) -> None:
    """The orders go out together, and each node is the product."""
    served = Served(bench, daily(6), preparation_seconds=0.1)

    tree = served.tree()

    assert sorted(tree.children) == list(daily(6))
    assert (served.emulator.orders, served.emulator.downloads) == (6, 6)
    assert served.emulator.max_in_preparation > 1
    for day in range(1, 7):
        node = tree[bench.product_id(day)]
        xr.testing.assert_equal(node.to_dataset(), _ds(day))
        assert node.encoding["source"] == bench.path(day)
    some = served.tree("sst_2024050[12]*")
    assert sorted(some.children) == [bench.product_id(1), bench.product_id(2)]


@pytest.mark.slow
def test_too_many_products_are_refused(
    bench: Any, daily: Callable[[int], dict[str, bytes]]
) -> None:
    """Only those that are not local count; nothing is ordered before they were counted."""
    served = Served(bench, daily(24))

    with pytest.raises(
        QueryError, match=r"24 products, and 24 are not local.*max_nodes=20.*fs\.prefetch"
    ):
        served.tree()
    with pytest.raises(QueryError, match="max_nodes=3"):
        served.tree(max_nodes=3)
    assert served.emulator.order_posts == 0
    bench.filesystem(served.emulator).prefetch([bench.path(day) for day in range(1, 6)])
    assert len(served.tree().children) == 24
    assert len(served.tree(max_nodes=0).children) == 24
    assert served.emulator.downloads == 24


def test_an_empty_query_has_no_tree(bench: Any) -> None:
    """It is not there, as for a data set."""
    served = Served(bench, {})

    with pytest.raises(FileNotFoundError, match="finds no product"):
        served.tree()


def test_a_product_that_cannot_be_had(bench: Any, daily: Callable[[int], dict[str, bytes]]) -> None:
    """The error names it, and the others were fetched for the next time."""
    served = Served(bench, daily(3))
    served.emulator.fault(Fault("order-failed", times=None, product_id=bench.product_id(2)))

    with pytest.raises(OrderError, match=r"sst_20240502\.nc"):
        served.tree()

    assert served.emulator.downloads == 2


def test_groups_of_the_products_of_a_query(bench: Any, grouped: Path) -> None:
    """They stand below the product, and ids are no paths."""
    names = ["p_20240501.nc", "q_20240502.nc"]
    served = Served(bench, dict.fromkeys(names, grouped.read_bytes()))

    tree = served.tree()

    assert set(tree.groups) >= {f"/{name}/PRODUCT/DETAIL" for name in names}
    assert tree["q_20240502.nc/METADATA"]["a"].to_numpy().tolist() == [2.0, 2.5]
    assert tree["q_20240502.nc"].attrs == {"title": "root"}


@pytest.mark.slow
def test_nodes_travel(
    bench: Any, daily: Callable[[int], dict[str, bytes]], tmp_path: Path, grouped: Path
) -> None:
    """A tree pickles small, and a fresh process without the products fetches what it reads."""
    served = Served(bench, {**daily(2), "z_20240503.nc": grouped.read_bytes()})
    tree = served.tree(chunks={})
    variables = [node["a"].variable for node in tree.subtree if "a" in node.variables]
    assert len(variables) == 5
    assert max(len(pickle.dumps(variable)) for variable in variables) < 10_000
    (tmp_path / "tree").write_bytes(pickle.dumps(tree))
    served.forget()
    code = (
        "import pickle, sys\n"
        "tree = pickle.load(open(sys.argv[1], 'rb'))\n"
        "print(float(tree['sst_20240502.nc']['a'].sum()))\n"
        "print(float(tree['z_20240503.nc/PRODUCT/DETAIL']['a'].sum()))\n"
    )

    environment = {**os.environ, "HDA_PASSWORD": served.options["password"]}
    told = run_script(code, [str(tmp_path / "tree")], folder=tmp_path, environment=environment)

    assert told.split() == ["4.5", "2.5"]
    assert served.emulator.downloads == 3 + 2


def test_a_location_as_a_tree(bench: Any, grouped: Path) -> None:
    """Our own objects need no engine here either."""
    served = Served(bench, {"p_20240501.nc": grouped.read_bytes()})
    location = Location.parse(f"{bench.query}/p_20240501.nc")

    tree = xr.open_datatree(location, storage_options=served.options)  # type: ignore[arg-type]

    assert tree["METADATA"]["a"].to_numpy().tolist() == [2.0, 2.5]
