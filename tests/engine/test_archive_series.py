"""Archives of one file a day: put along a dimension, lazily, and only where they fit."""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from checkout import SHARED
from daily_archives import HOURS, Archives, day

from hda_fsspec.errors import ProductFormatError
from hda_fsspec.reading import concatenating

pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")


@pytest.fixture
def zips(stacks: Any) -> Archives:
    """No archives yet."""
    return Archives(stacks)


@pytest.mark.slow
def test_a_file_a_day(zips: Archives) -> None:
    """The members are one data set, identical with that of the unpacked files."""
    ds = zips.one({f"sm_2024050{n}.nc": day(n) for n in (1, 2, 3)})

    assert dict(ds.sizes) == {"time": 3, "lat": 2, "lon": 3}
    xr.testing.assert_identical(ds.load(), zips.nested())
    assert ds["v"].attrs == {"units": "K"}
    assert ds.attrs == {"title": "daily"}  # the history of one day is not that of all
    assert {k: ds["time"].encoding[k] for k in ("units", "calendar")} == {
        "units": HOURS["units"],
        "calendar": HOURS["calendar"],
    }


def test_a_shared_case(zips: Archives) -> None:
    """The archive of the shared inputs, where they are at hand."""
    path = SHARED / "cases/zip-of-days/sm_202405.zip"
    if not path.is_file():
        pytest.skip("the folder ../shared/cases is absent")
    zips.stacks.serve({path.name: path}, profile="month")
    with zipfile.ZipFile(path) as archive:
        archive.extractall(zips.stacks.folder / "unpacked")
    files = sorted((zips.stacks.folder / "unpacked").rglob("*.nc"))
    with xr.open_mfdataset(files, combine="nested", concat_dim="time", data_vars="minimal") as want:
        xr.testing.assert_identical(zips.open(path.name).load(), want.load())


def test_nothing_is_read_by_opening(zips: Archives, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values stay where they are until they are asked for, and then only those."""
    read: list[int] = []
    real = concatenating._Parts._of_part

    def told(self: Any, number: int, *rest: Any) -> Any:
        read.append(number)
        return real(self, number, *rest)

    monkeypatch.setattr(concatenating._Parts, "_of_part", told)
    ds = zips.one({f"{n}.nc": day(n) for n in (1, 2, 3, 4)})
    assert set(read) <= {0, 1, 2, 3}
    read.clear()
    ds = zips.open("a_20240501.zip", chunks={})
    assert ds["v"].chunks is not None
    assert ds["v"].chunks[0] == (1, 1, 1, 1)
    repr(ds)
    read.clear()

    values = ds["v"].sel(time="2024-05-03").compute()

    assert read == [2]
    assert float(values[0, 0]) == 5300.0


@pytest.mark.slow
def test_members_stand_at_their_own_times(zips: Archives) -> None:
    """Whatever they are called, they are in the order of time."""
    names = {"c.nc": 1, "a.nc": 3, "b.nc": 2}

    ds = zips.one({name: day(number, steps=2) for name, number in names.items()})

    assert (np.diff(ds["time"].to_numpy()) == np.timedelta64(12, "h")).all()
    assert ds["v"][:, 0, 0].to_numpy().tolist() == [5100, 5106, 5200, 5206, 5300, 5306]
    xr.testing.assert_equal(ds.load(), zips.nested().sortby("time"))


def _bounds(number: int) -> tuple[tuple[str, str], Any]:
    return ("time", "nv"), day(number)["time"].to_numpy()[:, None] + np.array([[0, 12]], "m8[h]")


def _packed() -> list[xr.Dataset]:
    """Return days that are packed with numbers of their own."""
    made = [day(n) for n in (1, 2, 3)]
    for number, ds in enumerate(made):
        ds["v"].encoding.update(dtype="i2", scale_factor=0.5 * (number + 1), _FillValue=-1 - number)
    return made


def _counted() -> list[xr.Dataset]:
    """Return days whose times count from days of their own."""
    made = [day(n) for n in (1, 2, 3)]
    for number, ds in enumerate(made):
        ds["time"].encoding["units"] = f"days since 2024-05-0{number + 1}"
    return made


KINDS: dict[str, Callable[[], list[xr.Dataset]]] = {
    "packed differently": _packed,
    "several steps": lambda: [day(1, steps=4), day(2, steps=1), day(3, steps=2)],
    "other units of time": _counted,
    "other types": lambda: [day(1).astype("f4"), day(2).astype("f8"), day(3).astype("i4")],
    "text of other widths": lambda: [
        day(n, station=("time", [name])) for n, name in ((1, "a"), (2, "bbbb"), (3, "cc"))
    ],
    "a static field": lambda: [
        day(n, mask=(("lat", "lon"), np.ones((2, 3), "i1"))) for n in (1, 2, 3)
    ],
    "bounds": lambda: [day(n, time_bnds=_bounds(n)) for n in (1, 2, 3)],
    "one member": lambda: [day(2)],
    "an empty member": lambda: [day(1), day(2).isel(time=slice(0)), day(3)],
}


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory, make_stacks: Any) -> Iterator[Archives]:
    """Serve an archive of each kind."""
    zips = Archives(make_stacks(tmp_path_factory.mktemp("kinds")))
    for number, kind in enumerate(KINDS):
        zips.write(f"a{number}_20240501.zip", _of(kind))
    zips.serve(profile="month")
    yield zips
    zips.stacks.bench.close()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_values_are_those_of_nested_files(kinds: Archives, kind: str) -> None:
    """Each member is decoded with what it says itself; the whole is what xarray makes of it."""
    product_id = f"a{list(KINDS).index(kind)}_20240501.zip"
    ds = kinds.open(product_id)

    want = kinds.nested(product_id)
    if kind == "an empty member":
        want = want.sortby("time")
    xr.testing.assert_equal(ds.load(), want)
    for name in want.variables:
        assert ds[name].dtype.kind == want[name].dtype.kind
        assert ds[name].dims == want[name].dims


@pytest.mark.slow
def test_encodings_that_hold_for_all(zips: Archives) -> None:
    """Packing and units of time are kept where all files agree, and dropped where they do not."""
    same = [day(n) for n in (1, 2)]
    for ds in same:
        ds["v"].encoding.update(dtype="i2", scale_factor=0.5, _FillValue=-1)
    found = zips.one({f"{n}.nc": ds for n, ds in enumerate(same)})
    assert found["v"].encoding["scale_factor"] == 0.5
    assert found["v"].encoding["dtype"] == np.dtype("i2")
    for kind, name, key in (
        ("packed differently", "v", "scale_factor"),
        ("packed differently", "v", "_FillValue"),
        ("packed differently", "v", "dtype"),
        ("other units of time", "time", "units"),
        ("other units of time", "time", "dtype"),
    ):
        opened = [ds.chunk() for ds in KINDS[kind]()]
        whole = concatenating.put_together(
            {str(n): each for n, each in enumerate(opened)}, "time", name="p", in_any_case=False
        )
        assert key not in whole[name].encoding
    again = zips.stacks.folder / "again.nc"
    found.to_netcdf(again)
    with xr.open_dataset(again) as read:
        xr.testing.assert_equal(read, found)


@pytest.mark.parametrize("decode", [{}, {"use_cftime": True}])
def test_calendars(zips: Archives, decode: dict[str, Any]) -> None:
    """Times of a calendar of their own are put in their order, too."""
    cftime = pytest.importorskip("cftime")
    members = {}
    for name, number in (("b.nc", 29), ("a.nc", 30)):
        time = [cftime.datetime(2001, 2, number, calendar="360_day")]
        members[name] = xr.Dataset({"v": ("time", [float(number)])}, coords={"time": time})

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds = zips.one(members, **decode)

    assert ds["v"].to_numpy().tolist() == [29.0, 30.0]
    assert [time.day for time in ds["time"].to_numpy()] == [29, 30]


def test_scalar_times(zips: Archives) -> None:
    """Files of one time and no dimension get one, as with xarray; so does what differs with it."""
    members = {
        f"{n}.nc": day(n).isel(time=0).assign_coords(orbit=((), n), version=((), 7)) for n in (2, 1)
    }

    ds = zips.one(members)

    assert ds["v"].dims == ("time", "lat", "lon")
    assert ds["v"][:, 0, 0].to_numpy().tolist() == [5100.0, 5200.0]
    assert ds["orbit"].dims == ("time",)
    assert ds["orbit"].to_numpy().tolist() == [1, 2]
    assert ds["version"].dims == ()
    assert ds["time"].to_numpy().astype("M8[D]").astype(str).tolist() == [
        "2024-05-01",
        "2024-05-02",
    ]


@pytest.mark.slow
def test_indexing(zips: Archives) -> None:
    """Every way to take a part gives what it gives of the loaded values."""
    ds = zips.one({f"{n}.nc": day(n, steps=2) for n in (1, 2, 3)})
    want = zips.nested()
    keys: list[dict[str, Any]] = [
        {"time": 3}, {"time": -1}, {"time": slice(1, 5, 2)}, {"time": slice(None, None, -1)},
        {"time": [5, 0, 2, 2]}, {"time": [4], "lat": 1}, {"time": [], "lon": [2, 0]},
        {"time": slice(3, 3)}, {"lat": [1, 0], "time": [3, 1]}, {"time": 0, "lat": 0, "lon": 0},
        {"lon": slice(None, None, -2), "time": slice(2, 4)},
        {"time": xr.DataArray([0, 3, 5], dims="p"), "lon": xr.DataArray([2, 1, 0], dims="p")},
    ]  # fmt: skip

    for key in keys:
        xr.testing.assert_equal(ds["v"].isel(key).load(), want["v"].isel(key))
    rng = np.random.default_rng(7)
    for _ in range(20):
        random = {
            dim: rng.integers(-size, size, rng.integers(0, 5)).tolist()
            for dim, size in want.sizes.items()
            if rng.random() < 0.7
        }
        xr.testing.assert_equal(ds["v"].isel(random).load(), want["v"].isel(random))


def test_a_variable_that_some_lack(zips: Archives) -> None:
    """It is there, missing where it lacks, and one warning names it and what leaves it out."""
    late: dict[str, Any] = {"w": (("time", "lat"), np.ones((1, 2), "i4"))}
    with pytest.warns(UserWarning, match=r"w is not in 1\.nc .*drop_variables='w'") as told:
        ds = zips.one({"1.nc": day(1), "2.nc": day(2, **late), "3.nc": day(3, **late)})

    assert len(told) == 1
    assert np.isnan(ds["w"][0]).all()
    assert ds["w"][1:].to_numpy().tolist() == [[1.0, 1.0], [1.0, 1.0]]
    assert ds["w"].dtype == np.float64
    assert ds["v"].notnull().all()
    assert "w" not in zips.open("a_20240501.zip", drop_variables="w")


def _attrs(**attrs: Any) -> xr.Dataset:
    ds = day(2)
    ds["v"].attrs.update(attrs)
    return ds


def _crs(number: int, code: str) -> xr.Dataset:
    return day(number, crs=((), 0, {"crs_wkt": code, "grid_mapping_name": "x"}))


def _of(key: str) -> dict[str, xr.Dataset]:
    return {f"{number}.nc": ds for number, ds in enumerate(KINDS[key]())}


def _two(one: xr.Dataset, other: xr.Dataset) -> dict[str, xr.Dataset]:
    return {"1.nc": one, "2.nc": other}


def _interleaved() -> dict[str, xr.Dataset]:
    quarters = day(1, steps=4)
    return _two(quarters.isel(time=[0, 2]), quarters.isel(time=[1, 3]))


WRONG: dict[str, tuple[Callable[[], dict[str, xr.Dataset]], str]] = {
    "overlapping times": (lambda: _two(day(1, steps=2), day(1)), "time overlaps"),
    "interleaved times": (_interleaved, "time overlaps"),
    "other units": (
        lambda: _two(day(1), _attrs(units="degC")),
        "v differs in its attribute units",
    ),
    "other flags": (
        lambda: _two(
            *(day(n, f=("time", [1], {"flag_meanings": m})) for n, m in ((1, "a b"), (2, "b a")))
        ),
        "f differs in its attribute flag_meanings",
    ),
    "another place": (lambda: _two(_crs(1, "UTM 31"), _crs(2, "UTM 32")), "attribute crs_wkt"),
    "another grid": (
        lambda: _two(day(1), day(2).assign_coords(lat=[2.5, 1.5])),
        "lat differs in its values",
    ),
    "another size": (
        lambda: _two(day(1), day(2).isel(lon=[0, 1])),
        "dimension lon has 3 and 2",
    ),
    "another static field": (
        lambda: _two(day(1, m=("lat", [1, 2])), day(2, m=("lat", [1, 3]))),
        "m differs in its values",
    ),
    "raw numbers": (
        lambda: _of("packed differently"),
        "v differs in its attribute scale_factor",
    ),
    "raw times": (lambda: _of("other units of time"), "time differs in its attribute units"),
    "text and numbers": (
        lambda: _two(day(1, s=("time", ["a"])), day(2, s=("time", [1.0]))),
        "s differs in its type",
    ),
    "other dimensions": (
        lambda: _two(day(1), day(2).transpose("time", "lon", "lat")),
        "v differs in its dimensions",
    ),
    "no coordinate in one": (
        lambda: _two(day(1), day(2).drop_vars("time")),
        "time is a coordinate in",
    ),
}
RAW: dict[str, dict[str, Any]] = {
    "raw numbers": {"mask_and_scale": False},
    "raw times": {"decode_times": False},
}


@pytest.fixture(scope="module")
def wrong(tmp_path_factory: pytest.TempPathFactory, make_stacks: Any) -> Iterator[Archives]:
    """Serve all archives whose files do not fit."""
    zips = Archives(make_stacks(tmp_path_factory.mktemp("wrong")))
    for number, (make, _) in enumerate(WRONG.values()):
        zips.write(f"a{number}_20240501.zip", make())
    zips.serve(profile="month")
    yield zips
    zips.stacks.bench.close()


@pytest.mark.slow
@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_fit_is_refused(wrong: Archives, case: str) -> None:
    """One error names both files, what differs and what to do; nothing is put together."""
    product_id = f"a{list(WRONG).index(case)}_20240501.zip"

    with pytest.raises(ProductFormatError, match=re.escape(WRONG[case][1])) as caught:
        wrong.open(product_id, **RAW.get(case, {}))

    text = str(caught.value)
    assert product_id in text
    assert ".nc and " in text
    assert "member=" in text
    assert "concat_dim" not in text  # which was given


def test_without_the_option_the_error_names_it(zips: Archives) -> None:
    """Whoever opens such an archive without it is told."""
    zips.write("a_20240501.zip", {f"{n}.nc": day(n) for n in (1, 2)})
    zips.serve()
    for options in ({"member": None, "concat_dim": None}, {"concat_dim": None}):
        with pytest.raises(ProductFormatError, match='concat_dim="time"'):
            zips.open("a_20240501.zip", **options)


@pytest.mark.slow
def test_files_of_two_kinds(zips: Archives) -> None:
    """Each kind is a series, and the two are side by side, as with what MARS delivers in parts."""
    members = {}
    for n in (1, 2):
        members[f"instant_{n}.nc"] = day(n)
        members[f"accum_{n}.nc"] = day(n)[["v"]].rename(v="rain")

    ds = zips.one(members)

    assert sorted(ds.data_vars) == ["rain", "v"]
    assert ds["v"][:, 0, 0].to_numpy().tolist() == ds["rain"][:, 0, 0].to_numpy().tolist()
    assert dict(ds.sizes) == {"time": 2, "lat": 2, "lon": 3}
    assert ds["time"].size == 2


def test_files_beside_a_series(zips: Archives) -> None:
    """A file without the dimension, such as that of the grid, is put beside those that have it."""
    members: dict[str, xr.Dataset] = {f"{n}.nc": day(n) for n in (1, 2)}
    members["grid.nc"] = xr.Dataset({"area": ("lat", [5.0, 6.0])}, coords={"lat": [2.0, 1.0]})
    zips.write("a_20240501.zip", members)
    zips.serve(profile="month")

    ds = zips.open()

    assert ds["area"].to_numpy().tolist() == [5.0, 6.0]
    assert ds["v"].shape == (2, 2, 3)


@pytest.mark.slow
def test_several_archives_are_one(zips: Archives) -> None:
    """A query of monthly archives is the whole series, each month with as many files as it has."""
    ids = {"m_20240601.zip": 6, "m_20240701.zip": 7}
    for product_id, month in ids.items():
        days = range(1, 31 if month == 6 else 32, 6)
        zips.write(product_id, {f"sm_{n:02}.nc": day(n, month=month) for n in days})
    zips.serve(profile="month")

    ds = zips.open(scan=True, chunks={})

    want = xr.concat([zips.nested(product_id) for product_id in ids], "time", data_vars="minimal")
    assert ds.sizes["time"] == 5 + 6
    assert ds["time"].to_numpy().tolist() == want["time"].to_numpy().tolist()
    assert len(zips.stacks.ordered) == 2
    xr.testing.assert_equal(ds.load(), want.load())


@pytest.mark.slow
def test_the_first_of_several_archives_tells_of_all(zips: Archives) -> None:
    """Of months of equal length one is ordered at opening, and the values are those of all."""
    ids = {"m_20240701.zip": 7, "m_20240801.zip": 8}
    for product_id, month in ids.items():
        zips.write(product_id, {f"sm_{n:02}.nc": day(n, month=month) for n in range(1, 32, 6)})
    zips.serve(profile="month")

    ds = zips.open()

    want = xr.concat([zips.nested(product_id) for product_id in ids], "time", data_vars="minimal")
    assert len(zips.stacks.ordered) == 1
    xr.testing.assert_equal(ds.load(), want.load())
    xr.testing.assert_equal(zips.open(chunks={"time": 6}).load(), want)


@pytest.mark.slow
def test_recipes_of_a_series(zips: Archives, monkeypatch: pytest.MonkeyPatch) -> None:
    """It pickles, outlives eviction, and is read again without being unpacked by hand."""
    ds = zips.one({f"{n}.nc": day(n) for n in (1, 2, 3)}, chunks={})
    want = zips.nested()
    for name, value in zips.stacks.emulator.environment.items():
        monkeypatch.setenv(name, value)
    data = pickle.dumps(ds["v"])
    zips.stacks.evict()

    xr.testing.assert_equal(pickle.loads(data).compute(), want["v"])
    other = zips.open("a_20240501.zip", concat_dim=None, member="1.nc", chunks={})
    assert other["v"].data.name != ds["v"].data.name


def test_files_are_closed(zips: Archives) -> None:
    """A with block leaves no member open."""
    with zips.one({f"{n}.nc": day(n) for n in (1, 2, 3)}) as ds:
        assert float(ds["v"].sum()) > 0

    folder = str(zips.stacks.bench.cache_dir)
    links = [str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.exists()]
    assert not [path for path in links if path.startswith(folder) and path.endswith(".nc")]


def _rasters(folder: Path, values: Mapping[str, int]) -> dict[str, Path]:
    rasterio = pytest.importorskip("rasterio")
    pytest.importorskip("rioxarray")
    for name, value in values.items():
        with rasterio.open(
            folder / name, "w", driver="GTiff", width=3, height=2, count=1, dtype="uint8",
            crs="EPSG:3035", transform=rasterio.Affine(10, 0, 0, 0, -10, 0),
        ) as raster:  # fmt: skip
            raster.write(np.full((1, 2, 3), value, "u1"))
    return {name: folder / name for name in values}


@pytest.mark.slow
def test_rasters_in_a_row(zips: Archives) -> None:
    """Rasters have no time: whoever asks for a row of them gets one in the order of their names."""
    files = _rasters(zips.stacks.folder, {"d_02.tif": 2, "d_01.tif": 1, "d_03.tif": 3})

    ds = zips.one(files, member="*.tif")

    assert ds["band_data"].dims == ("time", "band", "y", "x")
    assert ds["band_data"][:, 0, 0, 0].to_numpy().tolist() == [1.0, 2.0, 3.0]
    assert "time" not in ds.coords


def test_bands_of_a_query_stay_variables(zips: Archives) -> None:
    """The bands of each product are variables, and the products a series along the dimension."""
    for n in (1, 2):
        bands = {f"x_B0{band}.tif": 10 * n + band for band in (2, 3)}
        zips.write(f"s_2024050{n}.zip", _rasters(zips.stacks.folder, bands))
    zips.serve()

    ds = zips.open(member="*.tif")

    assert ds["x_B02"][:, 0, 0, 0].to_numpy().tolist() == [12.0, 22.0]
    assert ds["x_B03"][:, 0, 0, 0].to_numpy().tolist() == [13.0, 23.0]
