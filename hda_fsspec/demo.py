"""The demo: the main job on real products, against a local service that counts what it costs.

Each step is a function that prints what it does; what it cost in orders, requests and bytes is
taken from the service's own log. Nothing leaves the machine, and no setting of the user counts.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

from fsspec.callbacks import DEFAULT_CALLBACK, TqdmCallback

from hda_fsspec import __version__
from hda_fsspec.emulator import Catalogue, Emulator
from hda_fsspec.errors import ConfigurationError
from hda_fsspec.filesystem import HDAFileSystem
from hda_fsspec.settings import SETTING_NAMES, Settings

DATASET = "EO:DEMO:DAT:OSTIA-MONTHLY"
YEAR = f"hda://{DATASET}/startdate=2007-01-01/enddate=2007-12-31"

_PREPARATION_SECONDS = 1.0
_ORDERS_PER_HOUR = 100  # as at the service
# The region by which El Nino and La Nina are told, in degrees east.
_NINO34_WEST, _NINO34_EAST = 190.0, 240.0


def run(out: TextIO, *, keep: Path | None = None, progress: bool = False) -> None:
    """Run the demo.

    Parameters
    ----------
    out : TextIO
        Where to tell what happens.
    keep : Path, optional
        A folder for products, cache and copies that stays; without it all are removed.
    progress : bool
        Whether to draw progress bars on standard error.

    Raises
    ------
    ConfigurationError
        The data of the extra ``demo`` are not installed.
    """
    source = _source_file()
    with contextlib.ExitStack() as stack:
        if keep is None:
            work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hda-fsspec-demo-")))
        else:
            work = keep.expanduser()
        products = work / "products"
        count = write_months(source, products / DATASET)
        emulator = stack.enter_context(
            Emulator(
                Catalogue.from_folder(products, profile="month"),
                preparation_seconds=_PREPARATION_SECONDS,
                quota=_ORDERS_PER_HOUR,
            )
        )
        stage = Stage(out, emulator, _filesystem(emulator, work / "cache"), work, progress)
        _greet(stage, count)
        for number, step in enumerate(STEPS, start=1):
            stage.perform(number, step)
        stage.tell("", "In all: " + stage.cost_since(Counters(0, 0, 0)))
        if keep is not None:
            stage.tell(
                f"Kept in {work}. To serve the products again:",
                f"  hda-fsspec emulator --profile month {products}",
            )


def _source_file() -> Path:
    try:
        package: Any = importlib.import_module("iris_sample_data")
    except ModuleNotFoundError as err:
        msg = (
            "The demo needs real products, and iris-sample-data is not installed. Run: "
            'pip install "hda-fsspec[demo]", or pip install -e ".[demo]" in a clone.'
        )
        raise ConfigurationError(msg) from err
    return Path(package.path) / "ostia_monthly.nc"


def write_months(source: Path, folder: Path) -> int:
    """Write each time of a netCDF file into a file of its own, and return how many there are.

    Values are copied as they are packed, with attributes, fill values, chunks and compression.
    """
    import netCDF4

    folder.mkdir(parents=True, exist_ok=True)
    with netCDF4.Dataset(source) as data:
        time_axis = data["time"]
        dates: Any = netCDF4.num2date(time_axis[:], time_axis.units, time_axis.calendar)
        for index, date in enumerate(dates):
            target = folder / f"ostia_sst_{date.year}{date.month:02}.nc"
            with netCDF4.Dataset(target, "w", format=data.data_model) as month:
                _copy_one_time(data, month, index)
        return len(dates)


def _copy_one_time(data: Any, month: Any, index: int) -> None:
    month.setncatts({name: data.getncattr(name) for name in data.ncattrs()})
    for name, dimension in data.dimensions.items():
        month.createDimension(name, None if dimension.isunlimited() else dimension.size)
    for name, variable in data.variables.items():
        attributes = {key: variable.getncattr(key) for key in variable.ncattrs()}
        chunks = variable.chunking()
        filters = variable.filters()
        has_time = "time" in variable.dimensions
        copy = month.createVariable(
            name,
            variable.dtype,
            variable.dimensions,
            fill_value=attributes.pop("_FillValue", None),
            endian=variable.endian(),
            zlib=filters["zlib"],
            shuffle=filters["shuffle"],
            complevel=filters["complevel"] or 4,
            fletcher32=filters["fletcher32"],
            # Chunks of all months would be mostly air around one.
            chunksizes=None
            if chunks == "contiguous"
            else [1 if has_time else chunks[0], *chunks[1:]],
        )
        copy.setncatts(attributes)
        for one in (variable, copy):
            one.set_auto_maskandscale(False)
        copy[...] = variable[index : index + 1] if has_time else variable[...]


def _filesystem(emulator: Emulator, cache_dir: Path) -> HDAFileSystem:
    """Return a filesystem for which every setting is given, so that the user's do not count."""
    settings = Settings(
        url=emulator.url, user=emulator.user, password=emulator.password, cache_dir=cache_dir
    )
    return HDAFileSystem(**{name: getattr(settings, name) for name in SETTING_NAMES})


@dataclasses.dataclass(frozen=True)
class Counters:
    """What the service has counted so far."""

    orders: int
    requests: int
    sent_bytes: int


@dataclasses.dataclass(frozen=True)
class Stage:
    """What a step of the demo works with."""

    out: TextIO
    emulator: Emulator
    fs: HDAFileSystem
    work: Path
    progress: bool

    def tell(self, *lines: str) -> None:
        """Print lines."""
        self.out.writelines(f"{line}\n" for line in lines)
        self.out.flush()

    def perform(self, number: int, step: Callable[[Stage], None]) -> None:
        """Run a step, and print its title and what it cost."""
        before, began = self._count(), time.monotonic()
        self.tell("", f"{number}. {step.__doc__}")
        step(self)
        seconds = time.monotonic() - began
        self.tell(f"   -> {self.cost_since(before)}, {seconds:.2f} s")

    def cost_since(self, before: Counters) -> str:
        """Return what was spent since then, in words."""
        now = self._count()
        orders, requests = now.orders - before.orders, now.requests - before.requests
        return (
            f"{orders} order{'' if orders == 1 else 's'}, "
            f"{requests} request{'' if requests == 1 else 's'}, "
            f"{now.sent_bytes - before.sent_bytes:,} bytes downloaded"
        )

    @contextlib.contextmanager
    def callback(self) -> Iterator[Any]:
        """Give a callback that draws a bar which counts products, or one that draws nothing."""
        if not self.progress:
            yield DEFAULT_CALLBACK
            return
        bar = {"unit": "product", "desc": "   ", "ascii": True, "ncols": 78, "leave": False}
        with TqdmCallback(tqdm_kwargs=bar) as callback:
            yield callback

    def _count(self) -> Counters:
        emulator = self.emulator
        return Counters(emulator.orders, len(emulator.log), emulator.bytes_sent)


def _greet(stage: Stage, count: int) -> None:
    stage.tell(
        f"hda_fsspec {__version__} on {count} monthly means of sea surface temperature (OSTIA)",
        "",
        "A local emulator of WEkEO's service holds one product a month. Nothing leaves this",
        f"machine, and no account is needed. Preparing an order takes {_PREPARATION_SECONDS:.0f} s"
        " here. At the",
        "service it takes minutes, and 100 new orders an hour are allowed.",
    )


def list_year(stage: Stage) -> None:
    """List a year: a query is a directory, its products are files."""
    stage.tell(f"   fs.ls({YEAR!r})")
    found = stage.fs.ls(YEAR)
    for info in (found[0], found[-1]):
        stage.tell(f"      {info['product_id']}  {info['startdate']}  {info['enddate']}")
    stage.tell(f"   {len(found)} products; the first and the last are shown.")


def look(stage: Stage) -> None:
    """Look at one product: the catalogue's answer is still at hand."""
    [info] = stage.fs.ls(_month(1))
    stage.tell("   fs.info(january)")
    for key in ("product_id", "size", "catalogue_size"):
        stage.tell(f"      {key}: {info[key]}")
    stage.tell(
        "   The size is None because catalogues err; it is known once a product was fetched."
    )


def open_one(stage: Stage) -> None:
    """Open one product: it is ordered, downloaded, checked, kept, and opened."""
    stage.tell("   with fs.open(january) as file: nino34_mean(file.name)")
    with stage.fs.open(_month(1)) as file:
        mean = nino34_mean(file.name)
    stage.tell(f"      {mean:.2f} K in the Nino 3.4 region in January 2007")


def prefetch_year(stage: Stage) -> None:
    """Fetch the year: all orders are prepared at the same time."""
    stage.tell("   paths = fs.prefetch(query)")
    with stage.callback() as callback:
        paths = stage.fs.prefetch(YEAR, callback=callback)
    means = [nino34_mean(path) for path in paths]
    stage.tell(
        f"      Nino 3.4, January to December 2007: {means[0]:.1f} K to {means[-1]:.1f} K",
        "      (the La Nina of that winter)",
    )


def prefetch_again(stage: Stage) -> None:
    """Do the same again: what is in the cache costs nothing."""
    stage.tell("   paths = fs.prefetch(query); fs.du(query)")
    paths = stage.fs.prefetch(YEAR)
    stage.tell(f"      {len(paths)} local files, {stage.fs.du(YEAR):,} bytes")


def copy_two(stage: Stage) -> None:
    """Copy two products out of the cache, into a folder of your own."""
    stage.tell("   fs.get([january, february], 'copies/')")
    folder = stage.work / "copies"
    stage.fs.get([_month(1), _month(2)], f"{folder}/")
    for path in sorted(folder.iterdir()):
        stage.tell(f"      {path.name}  {path.stat().st_size:,} bytes")


#: The story, in order; a step's docstring is its title.
STEPS: tuple[Callable[[Stage], None], ...] = (
    list_year,
    look,
    open_one,
    prefetch_year,
    prefetch_again,
    copy_two,
)


def _month(number: int) -> str:
    return f"{YEAR}/ostia_sst_2007{number:02}.nc"


def nino34_mean(path: str) -> float:
    """Return the mean temperature in the Nino 3.4 region (5 S to 5 N, 170 W to 120 W), in K."""
    import netCDF4

    with netCDF4.Dataset(path) as data:
        longitude = data["longitude"][:]
        is_inside = (longitude >= _NINO34_WEST) & (longitude <= _NINO34_EAST)
        return float(data["surface_temperature"][0, :, is_inside].mean())
