"""One data file, of any format but archives, as a dataset of xarray.

The content decides which engine of xarray reads it. What that engine raises becomes an error
that names the product and the next step; the values stay on disk.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import xarray as xr

from hda_fsspec.errors import ConfigurationError, HDAError, ProductFormatError
from hda_fsspec.formats.detect import Format
from hda_fsspec.printable import flat, printable
from hda_fsspec.reading.gdal import confine, confined, open_options
from hda_fsspec.reading.gribs import grib_parts, open_grib
from hda_fsspec.reading.groups import list_groups, no_such_group, only_groups
from hda_fsspec.reading.library_locks import HDF5_LOCK
from hda_fsspec.reading.options import OpenOptions
from hda_fsspec.reading.requirements import check_engine, check_raster_engine, is_installed
from hda_fsspec.reading.selfcontained import refuse_references
from hda_fsspec.untrusted_files import reader_of

_Opened = TypeVar("_Opened")

_ENGINES = {
    Format.HDF5: "netcdf4",
    Format.NETCDF3: "netcdf4",
    Format.GRIB: "cfgrib",
    Format.TIFF: "rasterio",
    Format.JP2: "rasterio",
}
_NETCDF_ENGINES = ("netcdf4", "h5netcdf")
#: Engines that have nothing to do with GDAL; of others that is not known.
_ENGINES_WITHOUT_GDAL = (*_NETCDF_ENGINES, "cfgrib", "scipy", "zarr", "kerchunk")
_ROOT = (None, "", "/")
_HEAD_BYTES = 64

#: What files that no engine reads often are, by their first bytes.
_LOOKS_LIKE = (
    ((b"%PDF",), "a PDF document"),
    ((b"\x89PNG",), "a PNG picture"),
    ((b"\xff\xd8\xff",), "a JPEG picture"),
    ((b"\x0e\x03\x13\x01",), "an HDF4 file, which xarray cannot read"),
    ((b"BUFR",), "a BUFR file, which xarray cannot read"),
    ((b"PAR1",), "a Parquet table"),
    ((b"7z\xbc\xaf\x27\x1c", b"Rar!"), "an archive of a kind that Python cannot unpack"),
    ((b"<!doctype html", b"<html"), "an HTML page, probably an error page of the service"),
    ((b"<",), "an XML document"),
    ((b"{", b"["), "a JSON document"),
)


@dataclasses.dataclass(frozen=True)
class DataFile:
    """A complete file that is no archive, and what to call it.

    Attributes
    ----------
    path : Path
        The file.
    format : Format
        What it holds.
    name : str
        What to call it in messages.
    scratch : Path
        Where an index may be kept.
    raster_name : str or None
        The name of the variable of a raster, which has none of its own.
    """

    path: Path
    format: Format
    name: str
    scratch: Path
    raster_name: str | None = None


def open_data_file(file: DataFile, options: OpenOptions) -> xr.Dataset:
    """Open a file as a dataset whose values stay on disk; ``member`` is not looked at.

    Raises
    ------
    ProductFormatError
        No engine reads the file, what was asked for is not in it, or it leads to other files.
    ConfigurationError
        An engine is not installed, or does not know an option.
    """
    refuse_references(file.path, name=file.name, scratch=file.scratch)
    engine = _engine(file, options)
    arguments = _arguments(file, options)
    if engine == "cfgrib":
        with _explained(file, engine, options):
            return open_grib(file.path, arguments, name=file.name, scratch=file.scratch)
    if engine == "rasterio":
        with _explained(file, engine, options):
            return _open_raster(file, arguments)

    def open_dataset(engine_name: str, **more: Any) -> xr.Dataset:
        return _open_dataset(file, engine_name, {**more, **arguments})

    ds = _attempt(file, options, engine, open_dataset)
    if not ds.variables and options.group in _ROOT:
        groups = list_groups(file.path)
        if groups:
            ds.close()
            raise only_groups(file.name, groups)
    return ds


def _opens_groups(engine: str) -> bool:
    """Whether one of xarray's engines opens groups: old ones do not say it of themselves."""
    own = type(xr.backends.list_engines()[engine]).open_groups_as_dict
    return own is not xr.backends.BackendEntrypoint.open_groups_as_dict


def open_data_file_groups(file: DataFile, options: OpenOptions) -> dict[str, xr.Dataset]:
    """Open every group of a file, by its path below ``group``; ``"/"`` where there is only one.

    The parts of a GRIB file that do not form one dataset are groups too, named by what tells
    them apart. Raises what :func:`open_data_file` raises.
    """
    refuse_references(file.path, name=file.name, scratch=file.scratch)
    engine = _engine(file, options)
    arguments = _arguments(file, options)
    if engine == "cfgrib":
        return _open_grib_parts(file, options)
    if engine not in _NETCDF_ENGINES and not _opens_groups(engine):
        return {"/": open_data_file(file, options)}

    def open_groups(engine_name: str, **more: Any) -> dict[str, xr.Dataset]:
        # One by one: xarray's own way shares a lock among groups that it cannot be given.
        above = f"/{(options.group or '').strip('/')}".rstrip("/")
        below = [path for path in list_groups(file.path) or () if path.startswith(f"{above}/")]
        groups: dict[str, xr.Dataset] = {}
        with contextlib.ExitStack() as opened:
            for path in (above or "/", *below):
                ds = _open_dataset(file, engine_name, {**more, **arguments, "group": path})
                opened.callback(ds.close)
                groups[path.removeprefix(above) or "/"] = ds
            opened.pop_all()
        return groups

    return _attempt(file, options, engine, open_groups)


def _engine(file: DataFile, options: OpenOptions) -> str:
    """Return the engine to use, after checking that it is there and fits the request."""
    engine = options.product_engine or _ENGINES.get(file.format)
    if engine is None:
        raise _unknown(file)
    if options.product_engine is None:
        if options.group not in _ROOT and file.format is not Format.HDF5:
            msg = (
                f"{file.name} has no group {options.group!r}: it is a {file.format} file, which "
                "has no groups. Leave group out."
            )
            raise ProductFormatError(msg)
        if engine == "netcdf4" and not is_installed("netCDF4"):
            return "h5netcdf"
    if engine == "rasterio":
        check_raster_engine(file.name, file.format)
    if engine not in (*_NETCDF_ENGINES, "cfgrib"):
        check_engine(engine, file.name)
    return engine


def _arguments(file: DataFile, options: OpenOptions) -> dict[str, Any]:
    arguments = options.arguments()
    if options.drop_variables:
        arguments["drop_variables"] = list(options.drop_variables)
    if options.group is not None and (options.product_engine or file.format is Format.HDF5):
        arguments["group"] = options.group
    return arguments


def _open_dataset(file: DataFile, engine: str, arguments: dict[str, Any]) -> xr.Dataset:
    with _guarded(engine) as locked:
        return xr.open_dataset(
            file.path, engine=engine, chunks=None, cache=False, **{**locked, **arguments}
        )


@contextlib.contextmanager
def _guarded(engine: str) -> Iterator[dict[str, Any]]:
    """Hold the lock of an engine while it opens a file, and yield the option that shares it."""
    if engine not in _ENGINES_WITHOUT_GDAL:
        with confined():
            yield {}
        return
    if engine not in _NETCDF_ENGINES:
        yield {}
        return
    with HDF5_LOCK:
        yield {"lock": HDF5_LOCK}


def _open_raster(file: DataFile, arguments: dict[str, Any]) -> xr.Dataset:
    dropped = arguments.pop("drop_variables", None)
    if file.raster_name is not None:
        arguments.setdefault("default_name", file.raster_name)
    given = arguments.get("open_kwargs")
    arguments["open_kwargs"] = open_options(file.path, file.format, given, name=file.name)
    ds = confine(_open_dataset(file, "rasterio", arguments))
    if not dropped:
        return ds
    # rioxarray's own way loses the handle of the file, and fails for names that are not there.
    kept = ds.drop_vars(dropped, errors="ignore")
    kept.set_close(ds.close)
    return kept


def _open_grib_parts(file: DataFile, options: OpenOptions) -> dict[str, xr.Dataset]:
    arguments = _arguments(file, options)
    with _explained(file, "cfgrib", options):
        try:
            whole = open_grib(file.path, arguments, name=file.name, scratch=file.scratch)
        except ProductFormatError:
            parts = grib_parts(file.path, arguments)
            if len(parts) < 2:
                raise
        else:
            return {"/": whole}
        given = arguments.get("filter_by_keys") or {}
        nodes = {}
        for part in parts:
            node = "_".join(str(value) for key, value in part.items() if key not in given)
            every = {**arguments, "filter_by_keys": part}
            nodes[f"/{node}"] = open_grib(file.path, every, name=file.name, scratch=file.scratch)
        return nodes


def _attempt(
    file: DataFile, options: OpenOptions, engine: str, open_with: Callable[..., _Opened]
) -> _Opened:
    """Open with an engine; with h5netcdf where the netCDF library refuses an HDF5 file."""
    try:
        with _explained(file, engine, options):
            return open_with(engine)
    except ProductFormatError as problem:
        if options.group not in _ROOT:
            groups = list_groups(file.path)
            if groups is not None and f"/{str(options.group).strip('/')}" not in groups:
                raise no_such_group(file.name, str(options.group), groups) from problem
        is_ours_to_choose = options.product_engine is None and file.format is Format.HDF5
        if not is_ours_to_choose or engine == "h5netcdf" or not is_installed("h5netcdf"):
            raise
        try:
            with _explained(file, "h5netcdf", options):
                # "sort" names the dimensions that have no name as the netCDF library does.
                return open_with("h5netcdf", phony_dims="sort")
        except (ProductFormatError, ConfigurationError) as another:
            raise problem from another


@contextlib.contextmanager
def _explained(file: DataFile, engine: str, options: OpenOptions) -> Iterator[None]:
    """Turn what an engine raises about a file into errors that name the product."""
    try:
        yield
    except HDAError:
        raise
    except ImportError as err:
        msg = f"xarray's engine {engine!r}, asked for to open {file.name}, is not complete: {err}"
        raise ConfigurationError(printable(msg)) from err
    except MemoryError:
        raise
    except Exception as err:
        named = _options_named(err, options)
        if not named:
            raised = _unreadable(file, engine, err)
            if raised is err:
                raise
            raise raised from err
        msg = (
            f"xarray's engine {engine!r} could not open {file.name} with these options: "
            f"{flat(err)}. Leave out or change {' and '.join(named)}."
        )
        raise ConfigurationError(printable(msg)) from err


def _options_named(err: Exception, options: OpenOptions) -> list[str]:
    """Return which of the given options an error is about: what a file holds may raise it, too."""
    if not isinstance(err, TypeError):
        return []
    given = [name for name, _ in (*options.decoders, *options.product_engine_kwargs)]
    said = str(err)
    return [name for name in given if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", said)]


def _unreadable(file: DataFile, engine: str, err: Exception) -> Exception:
    """Return what to raise for an error of an engine that is about the file itself."""
    if not file.path.exists():
        return FileNotFoundError(errno.ENOENT, f"{file.name} is not at {file.path} any more")
    # Libraries of formats number their own errors below zero, or put text there, or nothing.
    number: object = getattr(err, "errno", None)
    if isinstance(number, int) and number > 0:
        return err
    msg = (
        f"xarray's engine {engine!r} could not open the {file.format} file of {file.name}: "
        f"{flat(err) or type(err).__name__}. If xarray's own message names an option, give it; "
        "otherwise choose another engine with product_engine."
    )
    return ProductFormatError(printable(msg))


def _unknown(file: DataFile) -> ProductFormatError:
    with reader_of(file.path) as stream:
        head = stream.read(_HEAD_BYTES)
    bare = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    known = [
        what for magic, what in _LOOKS_LIKE if bare.startswith(magic) or head.startswith(magic)
    ]
    is_text = all(byte >= 32 or byte in b"\t\r\n\f" for byte in head)
    what = [*known, "text" if is_text else f"a file that begins with {head[:16]!r}"][0]
    return ProductFormatError(
        f"{file.name} is no data file that this package opens: it looks like {what}. Read it "
        "with fsspec.open, or name an engine of xarray with product_engine."
    )
