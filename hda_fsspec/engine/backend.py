"""The xarray engine ``hda``: a product, or a whole query, of an ``hda://`` path as a dataset.

It only translates xarray's arguments; see :mod:`hda_fsspec.lazy.open_product` and
:mod:`hda_fsspec.stack.open_query` for what is done. xarray loads the engines of all packages when
anything is opened, so what takes time to import is imported when this engine is used.
"""

from __future__ import annotations

import contextlib
import difflib
import inspect
import numbers
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import xarray as xr
from xarray.backends import BackendEntrypoint

from hda_fsspec.engine import accessor  # noqa: F401  (registers ds.hda)
from hda_fsspec.errors import LocationError, QueryError
from hda_fsspec.fs.info import FILESYSTEM_OPTIONS
from hda_fsspec.paths.locations import PROTOCOL, Location, is_remote_path
from hda_fsspec.printable import printable
from hda_fsspec.reading.options import DECODERS, OpenOptions
from hda_fsspec.settings import Settings

if TYPE_CHECKING:
    from hda_fsspec.client import Client
    from hda_fsspec.lazy.open_product import Nodes
    from hda_fsspec.stack.open_query import StackOptions

_DATASET_PREFIX = "EO:"  # of the ids of all data sets of the service


class HDABackendEntrypoint(BackendEntrypoint):
    """Open Copernicus products of WEkEO by their ``hda://`` path."""

    description: ClassVar[str] = "Open Copernicus products of WEkEO (hda:// paths)"
    url: ClassVar[str] = "https://www.wekeo.eu"
    supports_groups: ClassVar[bool] = True

    def guess_can_open(self, filename_or_obj: Any) -> bool:
        """Whether it is a location, an ``hda://`` path or a UPath of one; costs nothing."""
        if isinstance(filename_or_obj, str):
            return filename_or_obj.startswith(f"{PROTOCOL}://")
        if isinstance(filename_or_obj, Location):
            return True
        return is_remote_path(filename_or_obj) and filename_or_obj.protocol == PROTOCOL

    def open_dataset(
        self,
        filename_or_obj: Any,
        *,
        drop_variables: str | Iterable[str] | None = None,
        storage_options: Mapping[str, Any] | None = None,
        group: str | None = None,
        member: str | None = None,
        concat_dim: str | None = None,
        scan: bool = False,
        concat_variables: str | Iterable[str] = (),
        on_missing: Literal["raise", "nan"] = "raise",
        on_overlap: Literal["raise", "latest", "earliest"] = "raise",
        grid_tolerance: float | None = None,
        mosaic: bool = False,
        product_coord: str | None = None,
        product_engine: str | None = None,
        product_engine_kwargs: Mapping[str, Any] | None = None,
        split: str | Mapping[str, Any] | object | None = "auto",
        **decoders: Any,
    ) -> xr.Dataset:
        """Open a product, or the products of a query or pattern as one lazy dataset.

        Parameters
        ----------
        filename_or_obj : str, Location or UPath
            The path. One that a verb of the filesystem returned may lack its ``hda://``.
        drop_variables
            As for :func:`xarray.open_dataset`.
        storage_options : mapping, optional
            Settings; see :class:`hda_fsspec.HDAFileSystem`. They count before those of a UPath.
        group : str, optional
            The group of a netCDF-4 or HDF5 product.
        member : str, optional
            Glob pattern of the files inside an archive product.
        concat_dim : str, optional
            The dimension along which a query is stacked; found by itself if None. With ``member``
            also the one along which the files of an archive lie that hold the same variables.
        scan : bool
            False: predict where products stand, and verify when they are read. True: order every
            product and read its header first.
        concat_variables : iterable of str
            Variables to stack although they lack the dimension.
        on_missing : {"raise", "nan"}
            "nan": a product that cannot be had becomes missing values, with a warning.
        on_overlap : {"raise", "latest", "earliest"}
            What to do with products that cover the same times, such as runs of a forecast. Steps
            of two are never mixed: "latest" takes each time from the product of the latest start,
            where starts are equal of the latest publication; "earliest" from the earliest.
        grid_tolerance : float, optional
            How far the coordinates of products may be apart, in their own units; those of one
            product are used. None: they must be equal.
        mosaic : bool
            Whether the tiles of a query lie side by side in one data set. They have one coordinate
            reference system and one resolution. Values are missing where there is no tile; where
            tiles overlap they are those of the first by product id. Only the tiles that a
            selection touches are read.
        product_coord : str, optional
            Name of a coordinate with product ids; None: no such coordinate.
        product_engine : str, optional
            xarray's engine for the files; found by their content if not given.
        product_engine_kwargs : mapping, optional
            Further options of that engine.
        split : str, mapping, offset of pandas or None
            How a query is cut of which the service makes one product, whatever it asks for, as of
            EO:ECMWF and gridded EO:MO. Each piece is ordered when it is computed. "auto": as few
            as the service makes well. None: one order. "day", "week", "month", "year", or an
            offset: by time. A mapping names dimensions or keys, with a step or with how many
            values each piece asks for: ``{"time": "month", "variable": 1}``.
            ``encoding["hda_split"]`` of the data set tells what was chosen.
        **decoders
            mask_and_scale, decode_times, decode_timedelta, use_cftime, concat_characters and
            decode_coords, as for :func:`xarray.open_dataset`.

        Raises
        ------
        FileNotFoundError
            The product is not there, or the query finds none.
        ProductFormatError
            A file is damaged, or cannot be opened without further options.
        ProductMismatchError, QueryError
            The products do not stack; the message says what differs and what to do.
        HDAError
            The product cannot be had.
        """
        location = _location(filename_or_obj)
        _check_split(split, location)
        how = _stacked(
            concat_dim=concat_dim,
            scan=scan,
            concat_variables=concat_variables,
            on_missing=on_missing,
            on_overlap=on_overlap,
            grid_tolerance=grid_tolerance,
            product_coord=product_coord,
        )
        _check_mosaic(location, mosaic=mosaic, product_coord=product_coord, split=split)
        products = _products(filename_or_obj, storage_options)
        options = OpenOptions.make(
            group=group,
            member=member,
            member_dim=concat_dim,
            one_name=location.product is not None,
            drop_variables=drop_variables,
            product_engine=product_engine,
            product_engine_kwargs=product_engine_kwargs,
            **_known(decoders),
        )
        from hda_fsspec.engine.lazy_imports import open_mosaic, open_product, open_split

        if location.product is not None:
            return open_product(products, location, options)
        if mosaic:
            with _told("the templates of the tiles of", location):
                return open_mosaic(products, location, options, how)
        with _told("all headers of" if scan else "the template of", location):
            return open_split(products, location, options, how, split)

    def open_groups_as_dict(
        self,
        filename_or_obj: Any,
        *,
        drop_variables: str | Iterable[str] | None = None,
        storage_options: Mapping[str, Any] | None = None,
        group: str | None = None,
        member: str | None = None,
        max_nodes: int = 20,
        concat_dim: str | None = None,
        scan: bool = False,
        on_missing: Literal["raise", "nan"] = "raise",
        on_overlap: Literal["raise", "latest", "earliest"] = "raise",
        grid_tolerance: float | None = None,
        product_coord: str | None = None,
        product_engine: str | None = None,
        product_engine_kwargs: Mapping[str, Any] | None = None,
        **decoders: Any,
    ) -> Nodes:
        """Open the groups of a product, the files of an archive, or a query's tiles or products.

        Parameters
        ----------
        filename_or_obj : str, Location or UPath
            The path. One that a verb of the filesystem returned may lack its ``hda://``.
        max_nodes : int
            A query of no tiles needs all of its products: with more than this many that are not
            local it is refused.
        concat_dim, scan, on_missing, on_overlap, grid_tolerance, product_coord
            As for :meth:`open_dataset`, of the tiles of a query: each of them is a lazy stack.
        drop_variables, storage_options, group, member, product_engine, product_engine_kwargs, \
**decoders
            As for :meth:`open_dataset`.

        Returns
        -------
        dict of str to Dataset
            Paths of nodes, such as ``/PRODUCT`` or ``/Oa01_radiance``; below the product's id for
            a query. For products of tiles one for each tile, such as ``/T32TPS``.

        Raises
        ------
        QueryError
            More than ``max_nodes`` products are not local.
        FileNotFoundError, ProductFormatError, HDAError
            As :meth:`open_dataset`.
        """
        location = _location(filename_or_obj)
        how = _stacked(
            concat_dim=concat_dim,
            scan=scan,
            on_missing=on_missing,
            on_overlap=on_overlap,
            grid_tolerance=grid_tolerance,
            product_coord=product_coord,
        )
        products = _products(filename_or_obj, storage_options)
        options = OpenOptions.make(
            group=group,
            member=member,
            member_dim=concat_dim,
            drop_variables=drop_variables,
            product_engine=product_engine,
            product_engine_kwargs=product_engine_kwargs,
            **_known(decoders),
        )
        from hda_fsspec.engine.lazy_imports import open_product_tree, open_query_nodes

        if location.product is not None:
            return open_product_tree(products, location, options)
        with _told("the nodes of", location):
            return open_query_nodes(products, location, options, how, max_nodes=max_nodes)

    def open_datatree(self, filename_or_obj: Any, **options: Any) -> xr.DataTree:
        """Open what :meth:`open_groups_as_dict` opens, and with its options, as a tree."""
        nodes = self.open_groups_as_dict(filename_or_obj, **options)
        tree: xr.DataTree = xr.DataTree.from_dict(nodes)
        for node in tree.subtree:
            node.set_close(nodes.closer)
        return tree


def _parameters(*methods: Callable[..., Any]) -> tuple[str, ...]:
    """Return the options that methods take, the decoders by their names."""
    own = [name for method in methods for name in inspect.signature(method).parameters]
    return tuple(dict.fromkeys(n for n in (*own, *DECODERS) if n not in {"self", "decoders"}))


# Where a method takes "**", xarray wants to be told what is behind it: it turns decoders off by
# their names.
HDABackendEntrypoint.open_dataset_parameters = _parameters(HDABackendEntrypoint.open_dataset)


def _known(decoders: dict[str, Any]) -> dict[str, Any]:
    """Return decoders; raise TypeError for a name that no option has."""
    methods = (HDABackendEntrypoint.open_dataset, HDABackendEntrypoint.open_groups_as_dict)
    named = decoders.keys() - set(DECODERS)
    refuse_unknown('engine="hda"', named, set(_parameters(*methods)) - named)
    return decoders


def refuse_unknown(taker: str, given: Collection[str], known: Collection[str]) -> None:
    """Raise TypeError for the first option that is not known, as Python does."""
    unknown = sorted(set(given) - set(known))
    if unknown:
        near = difflib.get_close_matches(unknown[0], known, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        msg = f"{taker} has no option {unknown[0]!r}.{hint} Nothing was ordered."
        raise TypeError(msg)


def _check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        *rest, last = (f'"{choice}"' for choice in choices)
        msg = f"{name} is {', '.join(rest)} or {last}, not {value!r}."
        raise QueryError(msg, key=name)


def _check_mosaic(
    location: Location, *, mosaic: object, product_coord: str | None, split: object
) -> None:
    from hda_fsspec.subsets import split_option

    if not isinstance(mosaic, bool):
        msg = f"mosaic is True or False, not {mosaic!r}."
    elif mosaic and location.product is not None:
        msg = (
            f"mosaic=True puts the tiles of a query side by side, and {location.path} names one "
            f"product. Open {location.directory.path}, or leave mosaic out."
        )
    elif mosaic and product_coord is not None:
        msg = (
            "product_coord gives each time the id of its product, and with mosaic=True a time has "
            "several: ds.hda.products of a selection tells them. Leave one of the two out."
        )
    elif mosaic and not split_option.is_default(split):
        msg = (
            f"split={printable(split)!r} cuts what the service computes, and mosaic=True joins "
            "files of tiles. Leave one of the two out."
        )
    else:
        return
    raise QueryError(msg, key="mosaic")


def _stacked(
    *,
    concat_variables: str | Iterable[str] = (),
    on_missing: str,
    on_overlap: str,
    grid_tolerance: Any,
    **others: Any,
) -> StackOptions:
    """Return the options of a stack; raises QueryError for those of no use."""
    from hda_fsspec.engine.lazy_imports import StackOptions

    _check_choice("on_missing", on_missing, ("raise", "nan"))
    _check_choice("on_overlap", on_overlap, ("raise", "latest", "earliest"))
    # numpy's numbers are numbers, too; Python's booleans would be.
    is_number = isinstance(grid_tolerance, numbers.Real) and not isinstance(grid_tolerance, bool)
    tolerance = float("nan")
    with contextlib.suppress(OverflowError):
        tolerance = float(grid_tolerance) if is_number else tolerance
    if grid_tolerance is not None and not 0 <= tolerance < float("inf"):
        msg = (
            "grid_tolerance is a number of 0 or more, in the units of the grid, not "
            f"{printable(repr(grid_tolerance))}."
        )
        raise QueryError(msg, key="grid_tolerance")
    return StackOptions(
        concat_variables=_names(concat_variables),
        on_missing=on_missing,
        on_overlap=on_overlap,
        grid_tolerance=None if grid_tolerance is None else tolerance,
        **others,
    )


def _check_split(split: object, location: Location) -> None:
    from hda_fsspec.subsets import split_option

    if location.product is not None and not split_option.is_default(split):
        msg = (
            f"split={printable(split)!r} cuts a query, and {location.path} names one product. "
            f"Open {location.directory.path} to have it cut, or leave split out."
        )
        raise QueryError(msg, key="split")


def _names(names: str | Iterable[str]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


def _location(filename_or_obj: Any) -> Location:
    if HDABackendEntrypoint().guess_can_open(filename_or_obj):
        location = Location.parse(filename_or_obj)
    else:
        location = Location.parse(_returned_by_a_verb(filename_or_obj))
    if location.dataset is None:
        msg = f"Cannot open {location.path}: name a data set, and a query or a product of it."
        raise LocationError(msg)
    return location


def _told(what: str, location: Location) -> contextlib.AbstractContextManager[None]:
    """Say of all that is fetched what it is for, if somebody has to wait for it."""
    from hda_fsspec.client import waiting_for

    return waiting_for(f"{what} {location.path}")


def _returned_by_a_verb(given: Any) -> str:
    """Return the path that a verb of the filesystem returned; raises LocationError for others.

    Such a path begins with the id of a data set. :func:`xarray.open_mfdataset` takes it for one of
    the local disk, and puts the working folder in front.
    """
    text = os.fspath(given) if isinstance(given, (str, os.PathLike)) else ""
    if isinstance(text, str) and not os.path.lexists(text):
        text = text.removeprefix(os.path.join(os.getcwd(), ""))  # noqa: PTH109, PTH118
        if text.startswith(_DATASET_PREFIX):
            return text
    msg = (
        f'engine="hda" opens hda:// paths, and {given!r} is none. A path that the filesystem '
        "returned is made one by fs.unstrip_protocol(path). Open other files without engine=, or "
        "with the engine of their format."
    )
    raise LocationError(msg)


def _products(filename_or_obj: Any, storage_options: Mapping[str, Any] | None) -> Client:
    from hda_fsspec.client import get_client

    own = filename_or_obj.storage_options if is_remote_path(filename_or_obj) else {}
    options = {**own, **(storage_options or {})}
    settings = {k: v for k, v in options.items() if k not in FILESYSTEM_OPTIONS}
    return get_client(Settings.resolve(**settings))
