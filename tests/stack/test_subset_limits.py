"""Orders that are refused since they ask for too much: what would fit is said, or done."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import subset_schemas
import xarray as xr
from clocks import Clock
from cubes import Cubes, cubes_of, plain
from subset_sources import ERA5, SMALL, write_era5

from hda_fsspec.cache.metadata import MetadataStore
from hda_fsspec.catalogue.order_limits import Limits
from hda_fsspec.emulator import DatasetEntry, Fault, ecmwf_subset
from hda_fsspec.errors import OrderError
from hda_fsspec.paths.locations import Location

NAMES = {"2m_temperature": "t2m", "mean_sea_level_pressure": "msl"}
#: 248 fields a month and 496 in all.
QUERY = (
    f"{ERA5}/variable={','.join(NAMES)}/startdate=2024-02-01/enddate=2024-03-31"
    "/time=00:00,06:00,12:00,18:00"
)
BY_VARIABLE = {"time": "month", "variable": 1}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file behind a data set."""
    folder = tmp_path_factory.mktemp("source")
    return write_era5(folder / "era5.nc", names=tuple(NAMES.values()), expver=False)


def limited(source: Path, **more: Any) -> DatasetEntry:
    """Return the data set with a limit."""
    return ecmwf_subset(ERA5, source, variables=NAMES, **{"max_fields": 200, **more})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("told_by", "text"), [("status", "new"), ("order", "old"), ("search", "new")]
)
def test_auto_cuts_further_by_itself(source: Path, tmp_path: Path, told_by: str, text: str) -> None:
    """Once: what was refused is remembered for other queries and processes, and offline."""
    entry = limited(source, told_by=told_by, too_large_text=text)
    with cubes_of(tmp_path, entry) as cubes, xr.open_dataset(source) as whole:
        ds = cubes.open(QUERY)

        assert ds.encoding["hda_split"] == BY_VARIABLE
        refused = 0 if told_by == "search" else 1
        assert len(cubes.ordered) == refused + 2
        xr.testing.assert_identical(plain(ds), plain(whole))
        cubes.forget()
        count = len(cubes.posted("dataaccess/download", "product_id"))
        again = cubes.open(QUERY, settings={"offline": True})
        assert again.encoding["hda_split"] == BY_VARIABLE
        shorter = cubes.open(QUERY.replace("02-01", "02-02")).load()
        assert shorter.encoding["hda_split"] == BY_VARIABLE
        # The two pieces of the shorter February, and nothing that is refused.
        assert len(cubes.posted("dataaccess/download", "product_id")) == count + 2


@pytest.mark.parametrize("split", [None, "month"])
def test_other_splits_are_told_what_fits(source: Path, tmp_path: Path, split: Any) -> None:
    """The error has what would fit, and survives pickling."""
    with cubes_of(tmp_path, limited(source)) as cubes:
        with pytest.raises(OrderError, match=r"split=.*'variable': 1.* would fit") as caught:
            cubes.open(QUERY, split=split)

        assert len(cubes.ordered) == 1
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("dataaccess/search", 400),
        ("dataaccess/search", 403),
        ("dataaccess/download", 401),
        ("dataaccess/download", 500),
    ],
)
def test_a_size_is_no_question_of_rights(
    source: Path, tmp_path: Path, status: int, path: str
) -> None:
    """Whatever the status, what would fit is all that is advised, not another login."""
    with cubes_of(tmp_path, limited(source)) as cubes:
        refusal = {"title": "Error", "detail": "Your request is too large"}
        cubes.emulator.fault(
            Fault("status", method="POST", path=path, status=status, body=refusal, times=None)
        )
        with pytest.raises(OrderError, match=r"too large.*would fit") as caught:
            cubes.open(QUERY, split=None)

        assert not re.search("login|account|[Tt]ry again", str(caught.value))


def test_a_refusal_is_told_alike_until_it_is_asked_for_again(source: Path, tmp_path: Path) -> None:
    """For minutes nothing is asked for that was refused; a process of another day asks anew."""
    with cubes_of(tmp_path, limited(source)) as cubes:
        told = []
        for _ in range(4):
            with pytest.raises(OrderError) as caught:
                cubes.open(QUERY, split=None)
            told.append(str(caught.value))

        assert len(cubes.posted("dataaccess/download", "product_id")) == 1
        assert told[1] == told[2] == told[3] != told[0]
        assert "was not ordered, since the service refused as much" in told[1]
        assert "split=" in told[1]
        cubes.forget()
        with pytest.raises(OrderError):
            cubes.open(QUERY, split=None)
        assert len(cubes.posted("dataaccess/download", "product_id")) == 2


def test_what_was_refused_is_asked_for_again_in_time(tmp_path: Path) -> None:
    """A limit may be lifted, and a refusal may pass."""
    clock = Clock()
    store = MetadataStore(tmp_path).subsets
    limits = Limits("https://b/", store, lambda _: subset_schemas.ERA5, clock=clock)
    location = Location.parse(f"hda://{QUERY}")

    limits.refused(location, "Your request is too large")
    said = limits.refusal(location), limits.refusal(location, was_taken=True)
    clock.now += 601

    assert said == ("Your request is too large",) * 2
    assert (limits.refusal(location), limits.refusal(location, was_taken=True)) == (None, None)


def test_coordinates_of_products_are_those_of_the_template(source: Path, tmp_path: Path) -> None:
    """Pieces of a product that is cut further have none of their own, and nothing is warned of."""
    with cubes_of(tmp_path, limited(source, max_fields=330)) as cubes:
        query = QUERY.replace("02-01/", "02-11/")
        ds = cubes.open(query, product_coord="product").load()

        assert len(cubes.ordered) > len(ds.hda.products)
        names = [name for name in ds.coords if str(name).startswith("product")]
    assert names


def test_what_cannot_be_cut_is_told(source: Path, tmp_path: Path) -> None:
    """One field is as little as can be asked for."""
    query = f"{ERA5}/variable=2m_temperature/year=2024/month=02/day=01/time=00:00"
    with cubes_of(tmp_path, limited(source, max_fields=0)) as cubes:
        with pytest.raises(OrderError, match="cannot be cut further"):
            cubes.open(query)
        assert len(cubes.ordered) == 1


def _kept(cubes: Cubes) -> list[Path]:
    return list((cubes.client.cache.root / "v1" / "subsets").rglob("*.note"))


@pytest.mark.slow
def test_a_note_that_is_damaged_is_none(source: Path, tmp_path: Path) -> None:
    """The service is asked once more."""
    with cubes_of(tmp_path, limited(source)) as cubes:
        cubes.open(QUERY)
        notes = _kept(cubes)
        assert notes
        for note in notes:
            note.write_text('{"fields": "many"}')
        cubes.forget()

        ds = cubes.open(QUERY.replace("2024-03-31", "2024-03-30"))

        assert ds.encoding["hda_split"]["variable"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("chunks", [None, {}], ids=["alone", "dask"])
def test_a_longer_month_is_cut_as_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunks: Any
) -> None:
    """Half of February fits, and whole months do not: these are cut further, without an error."""
    times = np.arange("2023-02-15", "2023-06-01", 6, dtype="datetime64[h]")
    names = tuple(NAMES.values())
    source = write_era5(tmp_path / "era5.nc", names=names, times=times, expver=False, **SMALL)
    hours = ",".join(f"{hour:02}:00" for hour in range(0, 24, 6))
    months = f"startdate=2023-02-15/enddate=2023-05-31/time={hours}"
    query = f"{ERA5}/variable={','.join(NAMES)}/{months}"
    entry = limited(source, max_fields=200)
    with cubes_of(tmp_path, entry) as cubes, xr.open_dataset(source) as whole:
        monkeypatch.setenv("HDA_USER", cubes.emulator.user)
        monkeypatch.setenv("HDA_PASSWORD", cubes.emulator.password)
        ds = pickle.loads(pickle.dumps(cubes.open(query, chunks=chunks)))
        assert ds.encoding["hda_split"] == "year"
        found = plain(ds)

        xr.testing.assert_identical(found, plain(whole))
        # Half a month, what is refused as three months and as one, and six pieces of these.
        assert len(cubes.ordered) == 1 + 2 + 6
        if chunks is None:
            assert len(cubes.posted("dataaccess/download", "product_id")) == len(cubes.ordered)
        again = cubes.open(query)
        assert again.encoding["hda_split"] == BY_VARIABLE
        assert np.array_equal(again.t2m[-1], whole.t2m[-1])


@pytest.mark.parametrize("on_missing", ["raise", "nan"])
def test_a_part_of_what_is_cut_further_is_missing(tmp_path: Path, on_missing: str) -> None:
    """Where it may be, it is missing alone, and not all that was refused."""
    times = np.arange("2023-02-15", "2023-06-01", 6, dtype="datetime64[h]")
    names = tuple(NAMES.values())
    source = write_era5(tmp_path / "era5.nc", names=names, times=times, expver=False, **SMALL)
    hours = ",".join(f"{hour:02}:00" for hour in range(0, 24, 6))
    query = f"{ERA5}/variable={','.join(NAMES)}/startdate=2023-02-15/enddate=2023-05-31"
    with (
        cubes_of(tmp_path, limited(source, max_fields=200)) as cubes,
        xr.open_dataset(source) as whole,
    ):
        ds = cubes.open(f"{query}/time={hours}", on_missing=on_missing)
        assert ds.t2m[0, 0, 0] == whole.t2m[0, 0, 0]
        # After what is too large, and the pieces to open by.
        cubes.emulator.fault(Fault("order-failed", skip=6, times=None))
        if on_missing == "raise":
            with pytest.raises(OrderError, match="could not be prepared"):
                ds.load()
            return
        with pytest.warns(UserWarning, match="are missing, since it cannot be had"):
            found = ds.load()

    lacking = 0
    for name in names:
        for month in (3, 4, 5):
            part = found[name].sel(valid_time=found.valid_time.dt.month == month)
            is_lacking = bool(np.isnan(part).all())
            lacking += is_lacking
            if not is_lacking:
                xr.testing.assert_equal(part, whole[name].sel(valid_time=part.valid_time))
    assert 0 < lacking < 2 * 3
