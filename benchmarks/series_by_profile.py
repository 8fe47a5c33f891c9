"""Each real series of ``../shared/data`` as one lazy dataset, under each profile of the catalogue.

A profile is a way in which catalogues write the time of a product. For each pair the table tells
whether the loaded dataset is identical to what xarray joins of the local files, with how many
orders at opening; or the error, and what a scan then gives. Nothing is timed.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import xarray as xr

from hda_fsspec.cli.demo import write_months
from hda_fsspec.emulator import (
    PROFILES,
    Catalogue,
    DatasetEntry,
    Emulator,
    dated_product,
)
from hda_fsspec.errors import ProductMismatchError, QueryError

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
DATASET = "EO:TEST:DAT:SERIES"


@dataclasses.dataclass(frozen=True)
class Series:
    """Files of one series, and how they are joined."""

    pattern: str
    dim: str = "time"
    engine: str = "netcdf4"
    scan: bool = False
    make: Callable[[Path], object] | None = None

    def files(self, scratch: Path) -> list[Path]:
        """Return the files in order; those that have to be made are made in a folder."""
        if self.make is None:
            return sorted(DATA.glob(self.pattern))
        self.make(scratch)
        return sorted(scratch.iterdir())


def ostia_months(folder: Path) -> None:
    """Write each month of a real file into a file of its own."""
    write_months(DATA / "other" / "ostia_monthly.nc", folder)


SERIES = {
    "DUACS, 91 days": Series("cmems/duacs-med-adt-2005q2/daily/*.nc"),
    "SST L3S, 92 days": Series("cmems/sst-med-l3s-2022-jja/daily/*.nc"),
    "EAC4, 365 x 2 steps": Series("cams/eac4-co-2022/daily/*.nc", "valid_time"),
    "OSTIA anomaly, 3 days": Series("cmems/ostia-anomaly-3days/*.nc"),
    "SSM, 3 days": Series("clms/ssm1km-3days/*.nc"),
    "SWI, 3 days": Series("clms/swi1km-3days/*.nc"),
    "OSTIA, 54 months": Series("", make=ostia_months),
    "CMIP5, 16 files, scan": Series("c3s/c3s-cmip5-ec-earth-tas-day/*.nc", scan=True),
    "ERA5 GRIB, 31 x 24 steps": Series("c3s/era5-2t-uk-2019-03-grib/daily/*.grib", engine="cfgrib"),
    "NEMO, 3 months": Series("other/nemo-360day-3months/*.nc", "time_counter"),
}


def joined(files: list[Path], series: Series) -> xr.Dataset:
    """Join local files the classical way."""
    given: dict[str, Any] = {"indexpath": ""} if series.engine == "cfgrib" else {}
    parts = [xr.load_dataset(path, engine=series.engine, backend_kwargs=given) for path in files]
    how: dict[str, Any] = {"compat": "override", "join": "exact", "combine_attrs": "override"}
    return xr.concat(parts, series.dim, data_vars="minimal", coords="minimal", **how)


def opened(options: dict[str, Any], wanted: xr.Dataset, emulator: Emulator, **given: Any) -> str:
    """Open, load and compare; return what came of it, in a few words."""
    before = emulator.orders
    query = f"hda://{DATASET}/*"
    try:
        found = xr.open_dataset(query, engine="hda", storage_options=options, chunks={}, **given)
        orders = emulator.orders - before
        loaded = found.load()
    except (ProductMismatchError, QueryError) as err:
        offer = "asks for scan=True" if "scan=True" in str(err) else str(err)
        return f"error: {offer}"
    same = loaded.drop_attrs(deep=False).identical(wanted.drop_attrs(deep=False))
    return f"{'identical' if same else 'DIFFERS'}, {orders} order{'s'[: orders != 1]}"


def outcomes(files: list[Path], series: Series, wanted: xr.Dataset) -> Iterator[tuple[str, str]]:
    """Yield each profile with what came of it."""
    for profile in PROFILES:
        products = [dated_product(path.name, path, profile=profile) for path in files]
        catalogue = Catalogue([DatasetEntry(DATASET, products)])
        with Emulator(catalogue) as emulator, tempfile.TemporaryDirectory() as scratch:
            options = {**emulator.storage_options, "cache_dir": Path(scratch) / "cache"}
            outcome = opened(options, wanted, emulator, scan=series.scan)
            if outcome.startswith("error"):
                scanned = opened(options, wanted, emulator, scan=True)
                outcome += f"; then {scanned.partition(',')[0]}"
            yield profile, outcome


def main() -> None:
    """Print the table."""
    warnings.simplefilter("ignore")
    if not DATA.is_dir():
        sys.exit(f"The folder {DATA} with real products is absent.")
    print(f"| series | {' | '.join(PROFILES)} |")
    print(f"|{'---|' * (1 + len(PROFILES))}")
    for name, series in SERIES.items():
        if series.engine == "cfgrib" and importlib.util.find_spec("cfgrib") is None:
            print(f"| {name} | cfgrib is not installed |")
            continue
        with tempfile.TemporaryDirectory() as scratch:
            files = series.files(Path(scratch))
            told = dict(outcomes(files, series, joined(files, series)))
        print(f"| {name} | {' | '.join(told.values())} |", flush=True)


if __name__ == "__main__":
    main()
