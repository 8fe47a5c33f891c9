"""The groups of a product, or the files of an archive product, as a dict of datasets.

The paths are those of a tree, so that :meth:`xarray.DataTree.from_dict` takes them.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import xarray as xr

from hda_fsspec.errors import ProductFormatError
from hda_fsspec.reading.archives import Member, shared_folder
from hda_fsspec.reading.engines import open_data_file_groups
from hda_fsspec.reading.merging import close_all
from hda_fsspec.reading.opening import Contents, inspect_file
from hda_fsspec.reading.options import OpenOptions


def open_tree(
    path: Path, options: OpenOptions, *, name: str, scratch: Path, is_checked: bool = False
) -> dict[str, xr.Dataset]:
    """Open all groups of a product, or all data files of an archive product.

    Takes and raises what :func:`hda_fsspec.reading.opening.open_local` does. The keys are ``"/"``
    and the paths of groups (``"/PRODUCT"``) below ``group``; the files of an archive by their names
    without suffix (``"/Oa01_radiance"``), in folders below the one that they share, with their
    own groups below. ``member`` leaves out files that do not match.
    """
    contents = inspect_file(path, name=name, scratch=scratch, is_checked=is_checked)
    if options.member is not None and not contents.is_archive:
        msg = f"{name} has no member {options.member!r}: it is not an archive. Leave member out."
        raise ProductFormatError(msg)
    return _open_contents(contents, options)


def _open_contents(contents: Contents, options: OpenOptions) -> dict[str, xr.Dataset]:
    if not contents.is_archive or (not contents.members and options.product_engine is not None):
        return open_data_file_groups(contents.data_file(), options)
    chosen = contents.select_members(options.member)
    rest = dataclasses.replace(options, member=None)
    if len(contents.members) == 1:
        return _open_contents(contents.inside(chosen[0]), rest)
    contents.require_room(chosen)
    tree: dict[str, xr.Dataset] = {}
    try:
        for node, member in zip(node_names(contents.members), contents.members, strict=True):
            if member in chosen:
                for group, ds in _open_contents(contents.inside(member), rest).items():
                    tree[f"/{node}{group.rstrip('/')}"] = ds
    except BaseException:
        close_all(tree)
        raise
    return tree


def node_names(members: Sequence[Member]) -> list[str]:
    """Return a path in the tree for each file: short, but no two the same.

    Examples
    --------
    >>> from hda_fsspec.reading.archives import Member, shared_folder
    >>> names = ["X.SEN3/Oa01.nc", "X.SEN3/a/geo.nc", "X.SEN3/a/geo.tif"]
    >>> node_names([Member(name, 1, 1) for name in names])
    ['Oa01', 'a/geo.nc', 'a/geo.tif']
    """
    shared = shared_folder(members)
    full = [PurePosixPath(member.name.removeprefix(shared)) for member in members]
    short = [path.with_suffix("") for path in full]
    count = collections.Counter(short)
    # A file must not stand where the folder of another one does.
    folders = {folder for path in full for folder in path.parents}
    return [
        str(brief if count[brief] == 1 and brief not in folders else path)
        for brief, path in zip(short, full, strict=True)
    ]
