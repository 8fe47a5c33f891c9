"""``demo``: the main job on real products, against a local service that counts what it costs.

Each step is a function that prints what it does; what it cost in orders, requests and bytes is
taken from the service's own log. Nothing leaves the machine, and no setting of the user counts.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib
import io
import json
import os
import shlex
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from hda_fsspec._version import __version__
from hda_fsspec.cli.commands import Options, command, json_option
from hda_fsspec.cli.terminal import echo_json
from hda_fsspec.errors import ConfigurationError
from hda_fsspec.printable import plural

if TYPE_CHECKING:
    from hda_fsspec.emulator import Emulator
    from hda_fsspec.fs.filesystem import HDAFileSystem

#: Named as the service names its own: one of which it computes what is asked for, one of files.
COMPUTED = "EO:MO:DAT:DEMO_SST_L4:demo_ostia_sst_P1M-m"
FILES = "EO:DEMO:DAT:OSTIA-MONTHLY"
_PERIOD = "startdate=2006-04-01/enddate=2010-09-30"

_PREPARATION_SECONDS = 1.0
_PORTS = range(20_000, 32_768)  # below those that systems give away
_ORDERS_PER_HOUR = 100  # as at the service
# The region by which El Nino and La Nina are told.
_NINO34 = "bbox=-170,-5,-120,5"
_NINO34_WEST, _NINO34_EAST = 190.0, 240.0
_YEAR = "2007"
_NAME = "surface_temperature"


def _folder(
    ctx: click.Context,  # noqa: ARG001  (click's signature)
    param: click.Parameter,  # noqa: ARG001
    value: str | None,
) -> Path | None:
    """Return the local folder that a path with ``~`` or ``file://`` names."""
    from hda_fsspec.localpaths import local_path

    try:
        return None if value is None else Path(local_path(value))
    except ValueError as err:
        raise click.BadParameter(str(err)) from err


@command("hda-fsspec demo", "hda-fsspec demo --keep demo/")
@click.option("--keep", metavar="DIR", callback=_folder, help="keep products and cache here")
@json_option
def demo(
    options: Options,  # noqa: ARG001  (no setting counts)
    keep: Path | None,
    is_json: bool,
) -> None:
    """Show the main job on real products, locally.

    Years are opened, a year is planned, computed, fetched and copied, and each step says what it
    cost. No account is needed, and nothing leaves this machine. It writes a picture into this
    folder, hda-fsspec-demo.png; with --keep it is in DIR, with all else.
    """
    steps = run(io.StringIO() if is_json else sys.stdout, keep=keep)
    if is_json:
        echo_json(steps)


def run(out: TextIO, *, keep: Path | None = None) -> list[dict[str, Any]]:
    """Run the demo.

    Parameters
    ----------
    out : TextIO
        Where to tell what happens.
    keep : Path, optional
        A folder for products, cache, copies and the plot that stays; without it all are removed
        but the plot, which goes into the working directory.

    Returns
    -------
    list of dict
        What each step was, and what it cost.

    Raises
    ------
    ConfigurationError
        The data of the extra ``demo`` are not installed.
    """
    from hda_fsspec.emulator import Catalogue, Emulator
    from hda_fsspec.fs.filesystem import HDAFileSystem

    source = _source_file()
    with contextlib.ExitStack() as stack:
        if keep is None:
            work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hda-fsspec-demo-")))
        else:
            work = keep.expanduser()
        catalogue = write_catalogue(source, work / "products")
        emulator = stack.enter_context(
            Emulator(
                Catalogue.from_json(catalogue),
                port=0 if keep is None else _port_of(work),
                preparation_seconds=_PREPARATION_SECONDS,
                quota=_ORDERS_PER_HOUR,
            )
        )
        plot = Path("hda-fsspec-demo.png").absolute() if keep is None else work / "plot.png"
        options = _options(emulator, work / "cache")
        stage = Stage(out, emulator, HDAFileSystem(**options), options, work, plot)
        _greet(stage)
        done = [stage.perform(number, step) for number, step in enumerate(STEPS, start=1)]
        stage.tell("", "In all: " + stage.cost_since(Counters(0, 0, 0)))
        if keep is not None:
            stage.tell(
                f"Kept in {work}. To serve the products again:",
                f"  hda-fsspec emulator {shlex.quote(str(catalogue))}",
            )
        return done


def _port_of(folder: Path) -> int:
    """Return the port of a folder, at which its cache is found again; 0 where it is taken."""
    digest = hashlib.sha256(os.fsencode(folder.absolute())).digest()
    port = _PORTS[int.from_bytes(digest[:4], "big") % len(_PORTS)]
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return 0
    return port


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


def write_catalogue(source: Path, folder: Path) -> Path:
    """Write what the demo's service offers, and return the JSON file that lists it.

    Parameters
    ----------
    source : Path
        A netCDF file of months.
    folder : Path
        It gets the file as it is, of which one data set is computed, and one file a month, which
        are the products of the other.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, folder / source.name)
    write_months(source, folder / "months")
    months = [f"months/{path.name}" for path in sorted((folder / "months").iterdir())]
    title = "Monthly means of sea surface temperature (OSTIA)"
    datasets = [
        {"dataset_id": COMPUTED, "title": title, "subset": "marine", "file": source.name},
        {
            "dataset_id": FILES,
            "title": f"{title}, a file each",
            "profile": "month",
            "products": [{"file": name} for name in months],
        },
    ]
    catalogue = folder / "catalogue.json"
    catalogue.write_text(json.dumps({"datasets": datasets}, indent=1), encoding="utf-8")
    return catalogue


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
        for either in (variable, copy):
            either.set_auto_maskandscale(False)
        copy[...] = variable[index : index + 1] if has_time else variable[...]


def _options(emulator: Emulator, cache_dir: Path) -> dict[str, Any]:
    """Return every setting, so that the user's do not count."""
    from hda_fsspec.settings import SETTING_NAMES, Settings

    settings = Settings(**emulator.storage_options, cache_dir=cache_dir)
    return {name: getattr(settings, name) for name in SETTING_NAMES}


@dataclasses.dataclass(frozen=True)
class Counters:
    """The counters of the service."""

    orders: int
    requests: int
    sent_bytes: int

    def since(self, before: Counters) -> Counters:
        """Return what it has counted since then."""
        return Counters(
            self.orders - before.orders,
            self.requests - before.requests,
            self.sent_bytes - before.sent_bytes,
        )


@dataclasses.dataclass
class Stage:
    """The state that the steps of the demo share."""

    out: TextIO
    emulator: Emulator
    fs: HDAFileSystem
    options: dict[str, Any]
    work: Path
    plot: Path
    data: Any = None
    mean: Any = None

    def tell(self, *lines: str) -> None:
        """Print lines."""
        self.out.writelines(f"{line}\n" for line in lines)
        self.out.flush()

    def perform(self, number: int, step: Callable[[Stage], None]) -> dict[str, Any]:
        """Run a step, print its title and what it cost, and return both."""
        before, began = self._count(), time.monotonic()
        self.tell("", f"{number}. {step.__doc__}")
        step(self)
        seconds = time.monotonic() - began
        self.tell(f"   -> {self.cost_since(before)}, {seconds:.2f} s")
        cost = dataclasses.asdict(self._count().since(before))
        return {"step": number, "title": step.__doc__, **cost, "seconds": seconds}

    def cost_since(self, before: Counters) -> str:
        """Return what was spent since then, in words."""
        cost = self._count().since(before)
        return (
            f"{plural(cost.orders, 'order')}, {plural(cost.requests, 'request')}, "
            f"{cost.sent_bytes:,} bytes downloaded"
        )

    def _count(self) -> Counters:
        emulator = self.emulator
        return Counters(emulator.orders, len(emulator.log), emulator.bytes_sent)


def _greet(stage: Stage) -> None:
    stage.tell(
        f"hda_fsspec {__version__} on monthly means of sea surface temperature (OSTIA)",
        "",
        "A local emulator of WEkEO's service offers them twice: computed on demand, and",
        "in files of a month. No account is needed, and nothing leaves this machine. Here",
        f"an order takes {_PREPARATION_SECONDS:.0f} s; at the service it takes minutes, and 100"
        " an hour may go out.",
    )


def open_computed(stage: Stage) -> None:
    """Open what the service computes: each year is a piece, made when it is read."""
    import xarray as xr

    query = f"hda://{COMPUTED}/{_PERIOD}/{_NINO34}"
    stage.tell(
        f"   query = ('hda://{COMPUTED}/'",
        f"            '{_PERIOD}/{_NINO34}')",
        '   ds = xr.open_dataset(query, engine="hda", chunks={}, split="year")',
    )
    stage.data = xr.open_dataset(
        query, engine="hda", chunks={}, split="year", storage_options=stage.options
    )
    _tell_of(stage, stage.data)


def plan_year(stage: Stage) -> None:
    """Ask what a year would cost, before any of it is ordered."""
    stage.tell(
        f'   year = ds["surface_temperature"].sel(time="{_YEAR}")',
        '   sst = year.mean(("latitude", "longitude"))',
        "   sst.hda.plan()",
    )
    stage.mean = stage.data[_NAME].sel(time=_YEAR).mean(("latitude", "longitude"))
    stage.tell(*(f"      {line}" for line in repr(stage.mean.hda.plan()).splitlines()))


def compute_year(stage: Stage) -> None:
    """Compute it with Dask: that year is ordered, and no other."""
    stage.tell("   sst = sst.compute()")
    sst = stage.mean = stage.mean.compute()
    warm, cold = float(sst[0]), float(sst[-1])
    stage.tell(
        f"      January to December {_YEAR}: {warm:.1f} K to {cold:.1f} K",
        "      (the La Nina of that winter)",
    )
    _plot(stage, sst)


def _plot(stage: Stage, sst: Any) -> None:
    try:
        # Pictures only, whatever display there is.
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        stage.tell('      No plot: matplotlib is missing (pip install "hda-fsspec[demo]").')
        return
    figure = Figure(figsize=(7, 3.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.plot(sst["time"].values, sst.values, marker="o")
    axes.set(title=f"Sea surface temperature, Nino 3.4, {_YEAR}", ylabel="K")
    figure.savefig(stage.plot, dpi=100)
    stage.tell(f"      plotted in {stage.plot}")


def list_files(stage: Stage) -> None:
    """List what the service has as files: a query is a directory of products."""
    query = f"hda://{FILES}/{_PERIOD}"
    stage.tell(
        f"   query = ('hda://{FILES}/'",
        f"            '{_PERIOD}')",
        "   fs.ls(query)",
    )
    found = stage.fs.ls(query)
    for info in (found[0], found[-1]):
        stage.tell(f"      {info['product_id']}  {info['startdate']}  {info['enddate']}")
    stage.tell(f"   {len(found)} products; the first and the last are shown.")


def open_files(stage: Stage) -> None:
    """Open all of them as one lazy data set, too: one product tells how all lie."""
    import xarray as xr

    stage.tell('   ds = xr.open_dataset(query, engine="hda", chunks={})')
    query = f"hda://{FILES}/{_PERIOD}"
    stage.data = xr.open_dataset(query, engine="hda", chunks={}, storage_options=stage.options)
    _tell_of(stage, stage.data)


def compute_files(stage: Stage) -> None:
    """Compute the same year: twelve orders, which are prepared at the same time."""
    stage.tell(
        f'   year = ds.sel(time="{_YEAR}", latitude=slice(-5, 5), longitude=slice(190, 240))',
        '   year["surface_temperature"].mean(("latitude", "longitude")).compute()',
    )
    region = {"latitude": slice(-5, 5), "longitude": slice(_NINO34_WEST, _NINO34_EAST)}
    year = stage.data[_NAME].sel(time=_YEAR, **region)
    again = year.mean(("latitude", "longitude")).compute()
    difference = float(abs(again.values - stage.mean.values).max())
    stage.tell(f"      the same twelve numbers, to {difference:.4f} K")


def prefetch_again(stage: Stage) -> None:
    """Get the year's local files, for any other tool: nothing is fetched again."""
    dataset, _, year = _year_path().rpartition("/startdate=")
    stage.tell(
        f"   fs.prefetch('{dataset}/'",
        f"               'startdate={year}')",
    )
    paths = stage.fs.prefetch(_year_path())
    stage.tell(f"      {len(paths)} local files, {stage.fs.du(_year_path()):,} bytes")


def copy_two(stage: Stage) -> None:
    """Copy two products out of the cache, into a folder of your own."""
    stage.tell("   fs.get([january, february], 'copies/')")
    folder = stage.work / "copies"
    months = [f"{_year_path()}/ostia_sst_{_YEAR}{number:02}.nc" for number in (1, 2)]
    stage.fs.get(months, f"{folder}/")
    for path in sorted(folder.iterdir()):
        stage.tell(f"      {path.name}  {path.stat().st_size:,} bytes")


#: The story, in order; a step's docstring is its title.
STEPS: tuple[Callable[[Stage], None], ...] = (
    open_computed,
    plan_year,
    compute_year,
    list_files,
    open_files,
    compute_files,
    prefetch_again,
    copy_two,
)


def _tell_of(stage: Stage, ds: Any) -> None:
    sizes = ", ".join(f"{name}: {size}" for name, size in ds[_NAME].sizes.items())
    first, last = (str(time)[:10] for time in ds["time"].values[[0, -1]])
    stage.tell(f"      {_NAME} ({sizes})", f"      {first} to {last}")


def _year_path() -> str:
    return f"hda://{FILES}/startdate={_YEAR}-01-01/enddate={_YEAR}-12-31"
