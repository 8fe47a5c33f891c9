"""The groups of an HDF5 file: which there are, and what to say where the data are in others."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import xarray as xr

from hda_fsspec.errors import ProductFormatError
from hda_fsspec.printable import printable
from hda_fsspec.reading.library_locks import HDF5_LOCK

_MAX_SHOWN = 20


def list_groups(path: Path) -> dict[str, int] | None:
    """Return the paths of the groups of an HDF5 file, the root left out: how many variables each.

    None for another file, or one that netCDF4 cannot read.
    """
    with HDF5_LOCK:
        try:
            store = xr.backends.NetCDF4DataStore.open(  # type: ignore[no-untyped-call]
                str(path), lock=HDF5_LOCK
            )
        except (OSError, RuntimeError, ImportError):
            return None
        try:
            return dict(_walk(store.ds, ""))
        finally:
            store.close()


def _walk(group: Any, above: str) -> Iterator[tuple[str, int]]:
    for name, child in group.groups.items():
        yield f"{above}/{name}", len(child.variables)
        yield from _walk(child, f"{above}/{name}")


def only_groups(name: str, groups: Mapping[str, int]) -> ProductFormatError:
    """Return the error of a file whose root group is empty, though it has groups with data."""
    return ProductFormatError(
        f"The root group of {name} is empty; its data are in groups: {_shown(groups)}. Open "
        f"one with group={_fullest(groups)[0]!r}, or all of them with xr.open_datatree."
    )


def no_such_group(name: str, group: str, groups: Mapping[str, int]) -> ProductFormatError:
    """Return the error of a group that a file does not have, with those that it has."""
    wanted = group.strip("/")
    if not groups:
        return ProductFormatError(f"{name} has no group {wanted!r}: it has none. Leave group out.")
    paths = {group.lower(): group for group in _fullest(groups)}
    names = {group.rpartition("/")[2].lower(): group for group in reversed(_fullest(groups))}
    spellings = {**names, **paths}
    near = difflib.get_close_matches(wanted.lower(), spellings, n=3, cutoff=0.5)
    found = dict.fromkeys(spellings[spelling] for spelling in near)
    hint = f" Did you mean {' or '.join(map(repr, found))}?" if found else ""
    return ProductFormatError(f"{name} has no group {wanted!r}.{hint} It has {_shown(groups)}.")


def _fullest(groups: Mapping[str, int]) -> list[str]:
    """Return the groups that hold variables first, and of those the outermost first."""
    order = sorted(groups, key=lambda group: (groups[group] == 0, group.count("/")))
    return [group.strip("/") for group in order]


def _shown(groups: Mapping[str, int]) -> str:
    """Return groups as a list for a message: those with variables, and the outermost."""
    count = {group.strip("/"): groups[group] for group in groups}
    names = [path for path in _fullest(groups) if count[path] or "/" not in path]
    shown = [f"{printable(path)} ({count[path]} variables)" for path in names[:_MAX_SHOWN]]
    more = len(groups) - len(shown)
    return ", ".join(shown) + (f", and {more} more" if more else "")
