"""GRIB files through cfgrib: with an index that litters nothing, and no variable dropped unsaid.

cfgrib makes one hypercube of a file. Where the messages do not form one, it leaves variables out
with no more than a line in the log; here that is an error that says which parts of the file do.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import re
import stat
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import xarray as xr

from hda_fsspec.errors import ConfigurationError, ProductFormatError
from hda_fsspec.printable import flat, lines, printable
from hda_fsspec.reading.library_locks import ReentrantLock
from hda_fsspec.reading.unpacking import (
    content_key,
    folder_above,
    make_folder,
    temporary_folder,
)
from hda_fsspec.untrusted_files import SafeFolder, tell_once

#: What to tell the parts of a file apart by, the most telling first.
_SPLIT_KEYS = ("typeOfLevel", "stepType", "dataType", "numberOfPoints", "edition", "shortName")
_SPLIT_KEYS_LAST = ("level", "number", "dataDate", "dataTime", "endStep")
_MAX_SHOWN = 12
#: Where Linux shows what descriptors stand for; a path through one leads to that very folder.
_BY_DESCRIPTOR = "/proc/self/fd"

#: cfgrib's options that shape the hypercubes, and those that shape its index.
_CUBE_OPTIONS = ("encode_cf", "squeeze", "read_keys", "time_dims", "extra_coords", "values_dtype")
_INDEX_OPTIONS = ("errors", "filter_by_keys", "time_dims", "extra_coords", "ignore_keys")


def import_cfgrib() -> Any:
    """Import cfgrib, or say how to install it."""
    try:
        import cfgrib
    except (ImportError, RuntimeError) as err:
        # RuntimeError: cfgrib is there, the library ecCodes is not.
        msg = f'GRIB files need cfgrib and ecCodes: {err}. Run: pip install "hda-fsspec[grib]"'
        raise ConfigurationError(msg) from err
    return cfgrib


def open_grib(path: Path, arguments: Mapping[str, Any], *, name: str, scratch: Path) -> xr.Dataset:
    """Open a GRIB file as one dataset.

    Parameters
    ----------
    path : Path
        The file.
    arguments : mapping
        Further arguments of ``xr.open_dataset``, those of cfgrib among them.
    name : str
        What to call the file in messages.
    scratch : Path
        Where the index may be kept; nothing is written beside the file.

    Raises
    ------
    ConfigurationError
        cfgrib is not installed.
    ProductFormatError
        The messages do not form one dataset, or none of them fits ``filter_by_keys``.
    """
    cfgrib = import_cfgrib()
    import eccodes

    guard = _guard()
    arguments = {"errors": "raise", "lock": guard, **arguments}
    try:
        with guard, _index(path, arguments, cfgrib.__version__, scratch) as index:
            ds = xr.open_dataset(
                path, engine="cfgrib", chunks=None, cache=False, **index, **arguments
            )
    except cfgrib.DatasetBuildError as err:
        raise _not_one_dataset(path, arguments, name, err) from err
    except (EOFError, eccodes.CodesInternalError) as err:
        msg = f"cfgrib could not read the GRIB file of {name}: {err}. Fetch the product again."
        raise ProductFormatError(printable(msg)) from err
    if not ds.variables:
        ds.close()
        raise _nothing_found(path, arguments, name)
    return ds


@functools.cache
def _guard() -> ReentrantLock:
    # ecCodes is not thread-safe as it is built for its wheels, and cfgrib locks reads alone.
    from cfgrib.xarray_plugin import ECCODES_LOCK

    return ReentrantLock(ECCODES_LOCK)


def grib_parts(path: Path, arguments: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the ``filter_by_keys`` that each give one dataset, and together the whole file.

    An empty list says that no such division was found.
    """
    cfgrib = import_cfgrib()
    given = dict(arguments.get("filter_by_keys") or {})
    options = {key: arguments[key] for key in _CUBE_OPTIONS if key in arguments}
    keys = cfgrib.compute_index_keys(
        options.get("time_dims", ("time", "step")),
        options.get("extra_coords", {}),
        dict.fromkeys((*given, *_SPLIT_KEYS, *_SPLIT_KEYS_LAST)),
    )
    stream = cfgrib.FileStream(str(path), errors="warn")
    index = cfgrib.FieldsetIndex.from_fieldset(stream, keys, cfgrib.COMPUTED_KEYS)
    return _divide(cfgrib, index, given, options)


def _divide(
    cfgrib: Any, index: Any, filters: dict[str, Any], options: Mapping[str, Any]
) -> list[dict[str, Any]]:
    part = index.subindex(filters)
    try:
        cfgrib.open_from_index(part, errors="raise", **options)
    except cfgrib.DatasetBuildError as err:
        # Where cfgrib found two values of a key that must have one, it names the key.
        named = err.args[1:2]
        for key in dict.fromkeys((*named, *_SPLIT_KEYS, *_SPLIT_KEYS_LAST)):
            if key in part and key not in filters and len(part[key]) > 1:
                parts = [
                    _divide(cfgrib, index, {**filters, key: value}, options) for value in part[key]
                ]
                return [part for some in parts for part in some] if all(parts) else []
        return []
    return [filters]


def _not_one_dataset(
    path: Path, arguments: Mapping[str, Any], name: str, err: Exception
) -> ProductFormatError:
    named = re.search(r"key='(\w+)'", str(err.args[0]))
    key = err.args[1] if len(err.args) > 1 else named[1] if named else ""
    reason = f"they differ in {key}" if key else flat(err.args[0])
    parts = grib_parts(path, arguments)
    if not parts:
        advice = "open it with cfgrib.open_datasets, which tries every part by itself"
        return ProductFormatError(
            f"The GRIB messages of {name} do not form one dataset ({reason}). Make it local with "
            f"fsspec.open_local and {advice}."
        )
    shown = [f'  product_engine_kwargs={{"filter_by_keys": {keys}}}' for keys in parts]
    if len(shown) > _MAX_SHOWN:
        shown[_MAX_SHOWN:] = [f"  … and {len(shown) - _MAX_SHOWN} more"]
    return ProductFormatError(
        lines(
            f"The GRIB messages of {name} do not form one dataset ({reason}). Open one part of it "
            "with one of",
            *shown,
            'or all of them with xr.open_datatree. product_engine_kwargs={"errors": "ignore"} '
            "opens what fits together and drops the rest.",
        )
    )


def _nothing_found(path: Path, arguments: Mapping[str, Any], name: str) -> ProductFormatError:
    wanted = dict(arguments.get("filter_by_keys") or {})
    if not wanted:
        return ProductFormatError(f"The GRIB file of {name} holds no message that cfgrib reads.")
    keys = {key: _values(path, key) for key in wanted}
    there = "; ".join(f"{key}: {', '.join(map(repr, values))}" for key, values in keys.items())
    return ProductFormatError(
        f"No GRIB message of {name} fits filter_by_keys={wanted}. The file holds {there}."
    )


def _values(path: Path, key: str) -> list[Any]:
    cfgrib = import_cfgrib()
    stream = cfgrib.FileStream(str(path), errors="warn")
    index = cfgrib.FieldsetIndex.from_fieldset(stream, [key], cfgrib.COMPUTED_KEYS)
    return list(index[key])[:_MAX_SHOWN]


@contextlib.contextmanager
def _index(
    path: Path, arguments: Mapping[str, Any], version: str, scratch: Path
) -> Iterator[dict[str, Any]]:
    """Give the argument ``indexpath``, and keep a new index when the file was opened with it."""
    if "indexpath" in arguments:
        yield {}
        return
    with _private_folder(scratch) as (folder, where):
        # cfgrib takes an index only for the very path, error handling and keys it was made with.
        shaping = [(key, str(arguments[key])) for key in _INDEX_OPTIONS if key in arguments]
        facts = (str(path), content_key(path), version, shaping)
        index = f"{hashlib.blake2b(repr(facts).encode(), digest_size=12).hexdigest()}.idx"
        if _is_file(index, folder):
            yield {"indexpath": _escaped(f"{where}/{index}")}
            return
        # cfgrib writes under the final name while it reads the file, so others would see a part.
        new = f".{uuid.uuid4().hex}.part"
        try:
            yield {"indexpath": _escaped(f"{where}/{new}")}
            with contextlib.suppress(OSError):
                os.replace(new, index, src_dir_fd=folder, dst_dir_fd=folder)
        finally:
            with contextlib.suppress(OSError):
                os.unlink(new, dir_fd=folder)


def _escaped(path: str) -> str:
    return re.sub(r"[{}]", r"\g<0>\g<0>", path)


@contextlib.contextmanager
def _private_folder(scratch: Path) -> Iterator[tuple[int, str]]:
    """Give a folder that only this user can write to: a descriptor, and a path that leads to it.

    An index is a pickle: what others could have written is never loaded. In a shared cache they
    could put another folder in the place of ours in the moment before cfgrib opens it. So the path
    is one that goes by the descriptor; where the system has no such paths, or the folder is not
    ours, a temporary one takes its place.
    """
    folder = _own_folder(scratch)
    if folder is not None:
        try:
            yield folder, f"{_BY_DESCRIPTOR}/{folder}"
        finally:
            os.close(folder)
        return
    base = temporary_folder()
    make_folder(SafeFolder(base), base / "grib")
    with SafeFolder(base).inside(base / "grib") as temporary:
        yield temporary, os.fspath(base / "grib")


def _own_folder(scratch: Path) -> int | None:
    """Return a descriptor of the user's own folder in the scratch folder; None if it is not."""
    path = scratch / f"grib-{os.geteuid()}"
    try:
        safe = folder_above(scratch)
        make_folder(safe, scratch)
        with contextlib.suppress(FileExistsError):
            safe.make(path)
        with safe.inside(path) as found:
            facts = os.fstat(found)
            is_private = safe.owns(facts, scratch) and not facts.st_mode & 0o022
            here = f"{_BY_DESCRIPTOR}/{found}"
            is_ours_by_path = os.path.samestat(facts, os.stat(here))  # noqa: PTH116
            is_usable = is_ours_by_path and os.access(path, os.W_OK)
            return os.dup(found) if is_private and is_usable else None
    except OSError as err:
        tell_once(err)
        return None


def _is_file(name: str, folder: int) -> bool:
    try:
        facts = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return stat.S_ISREG(facts.st_mode)
