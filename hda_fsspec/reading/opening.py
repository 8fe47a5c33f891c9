"""A local product of any format as a dataset, by its content.

An archive is a product too: of one data file, or of several among which ``member`` chooses. The
module knows local files; where they come from is no concern of it.
"""

from __future__ import annotations

import dataclasses
import difflib
import fnmatch
import glob
import hashlib
import itertools
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import xarray as xr

from hda_fsspec.errors import ProductFormatError
from hda_fsspec.formats.detect import Format, check_complete, sniff
from hda_fsspec.printable import lines, printable, python_text
from hda_fsspec.reading.archives import (
    ARCHIVES,
    STREAMS,
    Member,
    list_members,
    shared_folder,
    zarr_roots,
)
from hda_fsspec.reading.concatenating import put_together
from hda_fsspec.reading.ecmwf_deliveries import join_files, laid_out
from hda_fsspec.reading.engines import DataFile, open_data_file
from hda_fsspec.reading.merging import close_all, merge_files
from hda_fsspec.reading.options import OpenOptions
from hda_fsspec.reading.unpacking import UnpackAllowance, require_room, unpack

__all__ = ["Contents", "OpenOptions", "inspect_file", "open_local"]

#: A .zip in a .tar in a .gz is odd; deeper than this is a trap.
_MAX_DEPTH = 4
_MAX_SHOWN = 20
_FEW = 5

_IN_A_ROW = 'Files of one kind at several times are put in a row by concat_dim="time". '


@dataclasses.dataclass(frozen=True)
class Contents:
    """The contents of a product: one data file, or those of an archive.

    Attributes
    ----------
    path : Path
        The file, or the archive, or the innermost one where an archive holds only another.
    format : Format
        What it is.
    name : str
        What to call it in messages.
    scratch : Path
        Where its members and indexes may be kept.
    members : tuple of Member
        The data files of an archive.
    others : tuple of Member
        Its files that hold no data: manifests, pictures, pages.
    depth : int
        How many archives are around it.
    zarr_roots : tuple of str
        The folders in it that are Zarr stores.
    allowance : UnpackAllowance or None
        How much may be unpacked of the product, which its archives share.
    """

    path: Path
    format: Format
    name: str
    scratch: Path
    members: tuple[Member, ...] = ()
    others: tuple[Member, ...] = ()
    depth: int = 0
    zarr_roots: tuple[str, ...] = ()
    allowance: UnpackAllowance | None = dataclasses.field(default=None, compare=False, repr=False)

    @property
    def is_archive(self) -> bool:
        """Whether data files have to be unpacked."""
        return self.format in ARCHIVES

    def inside(self, member: Member) -> Contents:
        """Unpack a member, and look into it."""
        path = unpack(self.path, member, self.scratch, allowance=self.allowance)
        # Beside the scratch folder and not in it: nothing lies between that others could replace.
        mark = hashlib.sha256(member.name.encode(errors="surrogateescape")).hexdigest()[:16]
        scratch = self.scratch.with_name(f"{self.scratch.name}-{mark}")
        name = f"{printable(member.name)} of {self.name}"
        depth, allowance = self.depth + 1, self.allowance
        return inspect_file(path, name=name, scratch=scratch, depth=depth, allowance=allowance)

    def select_members(self, pattern: str | None) -> list[Member]:
        """Return the data files that match a glob; all of them if it is None.

        The glob is matched with a file's path in the archive, with or without the folder that all
        of them lie in, and with its name alone.

        Raises ProductFormatError if there is none.
        """
        if not self.members:
            raise _is_zarr(self) if self.zarr_roots else _no_data(self)
        if pattern is None:
            return list(self.members)
        chosen = [member for member in self.members if self.matches(member, pattern)]
        if not chosen:
            raise _no_match(self, pattern)
        return chosen

    def require_room(self, chosen: Sequence[Member]) -> None:
        """Raise OSError if the disk has no room for all of these; asked before the first."""
        require_room(self.path, chosen, self.scratch)

    def matches(self, member: Member, pattern: str) -> bool:
        """Whether a glob matches a file."""
        names = (member.name, self.short_name(member), PurePosixPath(member.name).name)
        return pattern in names or any(fnmatch.fnmatchcase(name, pattern) for name in names)

    def short_name(self, member: Member) -> str:
        """Return the path of a file below the folder that all of them lie in."""
        return member.name.removeprefix(shared_folder((*self.members, *self.others)))

    def data_file(self, raster_name: str | None = None) -> DataFile:
        """Return what it takes to open a file that is no archive."""
        return DataFile(self.path, self.format, self.name, self.scratch, raster_name)


def inspect_file(
    path: Path,
    *,
    name: str,
    scratch: Path,
    depth: int = 0,
    allowance: UnpackAllowance | None = None,
    is_checked: bool = False,
) -> Contents:
    """Say what a product consists of; an archive in an archive is unpacked for that.

    A file that was checked before is taken to be complete, but never what is unpacked from it.

    Raises
    ------
    ProductFormatError
        The file is damaged or cut short, or an archive that cannot be trusted.
    """
    if depth > _MAX_DEPTH:
        msg = f"{name} is an archive in more than {_MAX_DEPTH} archives: it was not unpacked."
        raise ProductFormatError(msg)
    format_ = sniff(path)
    try:
        # What a stream holds is checked when it is unpacked, which is the same work.
        if not is_checked and format_ not in STREAMS:
            format_ = check_complete(path)
        members = list_members(path) if format_ in ARCHIVES else []
    except ProductFormatError as err:
        msg = f"{name} cannot be opened. {err}"
        raise ProductFormatError(msg) from err
    roots = tuple(zarr_roots(member.name for member in members))

    def is_data(member: Member) -> bool:
        # Whatever the chunks of a Zarr store look like, they are no files of their own.
        inside = any(not root or member.name.startswith(f"{root}/") for root in roots)
        return member.format is not Format.OTHER and not inside

    data = tuple(member for member in members if is_data(member))
    others = tuple(member for member in members if not is_data(member))
    if allowance is None and format_ in ARCHIVES:
        allowance = UnpackAllowance(path)
    contents = Contents(path, format_, name, scratch, data, others, depth, roots, allowance)
    if len(data) == 1 and data[0].format in ARCHIVES:
        return contents.inside(data[0])
    return contents


def open_local(
    path: Path, options: OpenOptions, *, name: str, scratch: Path, is_checked: bool = False
) -> xr.Dataset:
    """Open a local product as a dataset whose values stay on disk.

    Parameters
    ----------
    path : Path
        The file, of any format; its name means nothing.
    options : OpenOptions
        How to open it.
    name : str
        What to call the product in messages.
    scratch : Path
        A private folder for unpacked members and GRIB indexes, made on demand. Where it cannot
        be written, members go to a temporary folder and there is no index.
    is_checked : bool
        Whether somebody has made sure that the file is complete, as the cache has of what it holds.

    Raises
    ------
    ProductFormatError
        The file is damaged, of no format that is read here, or not of one piece: several files,
        groups or GRIB hypercubes, which the message names with the option that chooses.
    ConfigurationError
        A package that the format needs is not installed, or an option is not known to it.
    """
    contents = inspect_file(path, name=name, scratch=scratch, is_checked=is_checked)
    if not contents.is_archive:
        if options.member is not None:
            msg = (
                f"{name} has no member {options.member!r}: it is a {contents.format} file, not an "
                "archive. Leave member out."
            )
            raise ProductFormatError(msg)
        return _open_file(contents.data_file(), options)
    return _open_archive(contents, options)


def _open_file(file: DataFile, options: OpenOptions) -> xr.Dataset:
    found = open_data_file(file, options)
    return laid_out(found) if options.is_computed else found


def _open_archive(contents: Contents, options: OpenOptions) -> xr.Dataset:
    if not contents.members and options.product_engine is not None:
        # The engine may know archives by itself, as that of Zarr 2 does.
        try:
            return open_data_file(contents.data_file(), options)
        except ProductFormatError as err:
            if not contents.zarr_roots:
                raise
            raise _is_zarr(contents) from err
    chosen = contents.select_members(options.member)
    is_all = options.is_computed and options.member is None
    if len(chosen) > 1 and options.member is None and not is_all:
        raise _several(contents)
    rest = dataclasses.replace(options, member=None, member_dim=None, one_name=False)
    contents.require_room(chosen)
    if len(chosen) == 1 and options.member_dim is None:
        return _open_member(contents, chosen[0], rest, raster_name=None)
    files: dict[str, xr.Dataset] = {}
    try:
        for member in chosen:
            short = contents.short_name(member)
            stem = None if options.one_name else PurePosixPath(member.name).stem
            files[short] = _open_member(contents, member, rest, raster_name=stem)
        if is_all:
            return join_files(files, name=contents.name)
        if options.member_dim is not None:
            return put_together(
                files, options.member_dim, name=contents.name, in_any_case=options.one_name
            )
        return merge_files(files, name=contents.name, hint=_IN_A_ROW)
    except BaseException:
        close_all(files)
        raise


def _open_member(
    contents: Contents, member: Member, options: OpenOptions, *, raster_name: str | None
) -> xr.Dataset:
    inside = contents.inside(member)
    if inside.is_archive:
        return _open_archive(inside, options)
    return _open_file(inside.data_file(raster_name), options)


def _several(contents: Contents) -> ProductFormatError:
    first, second, *_ = (PurePosixPath(member.name).name for member in contents.members)
    pattern = f"*{glob.escape(_common_end(first, second))}"
    msg = (
        f"{contents.name} is an archive with {len(contents.members)} data files. Choose with "
        f"member={python_text(first)}, or with a glob such as member={python_text(pattern)} for "
        'files that share a grid, and with concat_dim="time" for files of one kind at several '
        "times; or open all of them with xr.open_datatree. They are:"
    )
    return ProductFormatError(lines(msg, *_listed(contents.members)))


def _common_end(one: str, other: str) -> str:
    """Return what two names end in, from a separator on."""
    pairs = zip(reversed(one), reversed(other), strict=False)
    same = "".join(a for a, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))[::-1]
    starts = [same.find(separator) for separator in "_-." if separator in same]
    return same[min(starts) :] if starts else ""


def _no_data(contents: Contents) -> ProductFormatError:
    msg = (
        f"{contents.name} is an archive without a data file: none of its {len(contents.others)} "
        "files is of a format that xarray opens here. Make it local with fsspec.open_local and "
        "read it with other tools. It holds:"
    )
    return ProductFormatError(lines(msg, *_listed(contents.others, _FEW)))


def _is_zarr(contents: Contents) -> ProductFormatError:
    root = contents.zarr_roots[0]
    chain = f"{contents.format}://{root}" if root else str(contents.format)
    url = f"{chain}::hda://…/{contents.name}"
    line = f"xr.open_zarr({python_text(url)})"
    if contents.depth or contents.format not in {Format.ZIP, Format.TAR}:
        line = "xr.open_zarr, after it was made local with fsspec.open_local and unpacked"
    return ProductFormatError(
        f"{contents.name} is an archive without a data file: it is a Zarr store, which is read "
        f"as it lies. Open it with {line}, with the whole path of the product, and settings as "
        'storage_options={"hda": …}. The package zarr is needed.'
    )


def _no_match(contents: Contents, pattern: str) -> ProductFormatError:
    useless = [
        contents.short_name(member)
        for member in contents.others
        if contents.matches(member, pattern)
    ]
    if useless:
        msg = (
            f"No data file of {contents.name} matches member={pattern!r}, which fits only files "
            f"that hold no data, such as {useless[0]}. Its data files are:"
        )
        return ProductFormatError(lines(msg, *_listed(contents.members)))
    names = {PurePosixPath(member.name).name: member for member in contents.members}
    near = difflib.get_close_matches(pattern.strip("*"), names, n=3, cutoff=0.3)
    hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
    msg = f"No data file of {contents.name} matches member={pattern!r}.{hint} It has:"
    return ProductFormatError(lines(msg, *_listed(contents.members)))


def _listed(members: Sequence[Member], most: int = _MAX_SHOWN) -> list[str]:
    """Return names as lines for a message; what is no plain text in them is shown as Python."""
    shared = shared_folder(members)
    names = [member.name.removeprefix(shared) for member in members[:most]]
    shown = [f"  {name if name.isprintable() else repr(name)}" for name in names]
    more = len(members) - len(names)
    return [*shown, f"  … and {more} more"] if more else shown
