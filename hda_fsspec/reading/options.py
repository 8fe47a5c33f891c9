"""Options for opening one product, as a small value that is the same in every process.

It knows the names of xarray's options; it opens nothing.
"""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Iterable, Mapping
from typing import Any

from hda_fsspec.errors import ConfigurationError

#: The decoders that xarray's engines take by name.
DECODERS = (
    "mask_and_scale",
    "decode_times",
    "decode_timedelta",
    "use_cftime",
    "concat_characters",
    "decode_coords",
)

_PLAIN = (type(None), bool, int, float, complex, str, bytes)
_COLLECTIONS: dict[str, type[Any]] = {
    "tuple": tuple,
    "list": list,
    "set": set,
    "frozenset": frozenset,
}


def freeze(value: Any) -> Any:
    """Return a hashable stand-in of a value; equal values have equal stand-ins.

    Collections are their kind and their items. Objects of other types are what they pickle as,
    since most of them are not hashable, or equal only to themselves.

    Raises ConfigurationError for an object that cannot be pickled.
    """
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, Mapping):
        pairs = [(freeze(key), freeze(item)) for key, item in value.items()]
        return "dict", tuple(sorted(pairs, key=repr))
    for kind, type_ in _COLLECTIONS.items():
        if type(value) is type_:
            items = [freeze(item) for item in value]
            return kind, tuple(sorted(items, key=repr) if "set" in kind else items)
    try:
        return "pickle", pickle.dumps(value, protocol=4)
    except (pickle.PicklingError, TypeError, AttributeError) as err:
        msg = (
            f"The option value {value!r} cannot be sent to other processes: {err}. Give a value "
            "that can be pickled, such as a function of a module instead of a lambda."
        )
        raise ConfigurationError(msg) from err


def thaw(frozen: Any) -> Any:
    """Return a new object equal to the one that was frozen."""
    if not isinstance(frozen, tuple):
        return frozen
    kind, held = frozen
    if kind == "pickle":
        return pickle.loads(held)  # noqa: S301 - made by freeze, from the caller's own object
    if kind == "dict":
        return {thaw(key): thaw(value) for key, value in held}
    return _COLLECTIONS[kind](thaw(item) for item in held)


@dataclasses.dataclass(frozen=True)
class OpenOptions:
    """The options with which a product is opened.

    Attributes
    ----------
    group : str or None
        The group of a netCDF-4 or HDF5 file.
    member : str or None
        A glob of files inside an archive product.
    member_dim : str or None
        The dimension along which files that match it are put, where they hold the same variables.
    one_name : bool
        Whether that holds for files without the dimension, too, and for rasters, which else are
        named by their files.
    drop_variables : tuple of str
        Variables to leave out.
    decoders : tuple of (name, value)
        Those of xarray's decoders that were given, frozen.
    product_engine : str or None
        xarray's engine for the file; None: the one for its format.
    product_engine_kwargs : tuple of (name, value)
        Further options of that engine, frozen.
    is_computed : bool
        Whether the service makes the products of requests. Then an archive is one dataset of all
        of its files, by whatever these were told apart.
    """

    group: str | None = None
    member: str | None = None
    member_dim: str | None = None
    one_name: bool = False
    drop_variables: tuple[str, ...] = ()
    decoders: tuple[tuple[str, Any], ...] = ()
    product_engine: str | None = None
    product_engine_kwargs: tuple[tuple[str, Any], ...] = ()
    is_computed: bool = False

    @classmethod
    def make(
        cls,
        *,
        group: str | None = None,
        member: str | None = None,
        member_dim: str | None = None,
        one_name: bool = False,
        drop_variables: str | Iterable[str] | None = None,
        product_engine: str | None = None,
        product_engine_kwargs: Mapping[str, Any] | None = None,
        **decoders: Any,
    ) -> OpenOptions:
        """Make the value from the arguments of ``xr.open_dataset``; None means "not given".

        Raises
        ------
        ConfigurationError
            A value cannot be pickled.
        """
        dropped = [drop_variables] if isinstance(drop_variables, str) else drop_variables or ()
        return cls(
            group=group,
            member=member,
            member_dim=member_dim if member is not None else None,
            one_name=one_name and member is not None and member_dim is not None,
            drop_variables=tuple(dropped),
            decoders=_frozen_pairs(decoders),
            product_engine=product_engine,
            product_engine_kwargs=_frozen_pairs(product_engine_kwargs or {}, keep_none=True),
        )

    def arguments(self) -> dict[str, Any]:
        """Return decoders and engine options as keyword arguments of ``xr.open_dataset``."""
        pairs = (*self.decoders, *self.product_engine_kwargs)
        return {name: thaw(value) for name, value in pairs}


def _frozen_pairs(
    given: Mapping[str, Any], *, keep_none: bool = False
) -> tuple[tuple[str, Any], ...]:
    return tuple(
        (name, freeze(given[name]))
        for name in sorted(given)
        if keep_none or given[name] is not None
    )
