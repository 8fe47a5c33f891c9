"""The header of a product: what must be known of it to be part of a stack, without its values.

Headers are values: taken from an open dataset, compared, and written as JSON, so that they can be
kept after their product was evicted. They hold the values of index coordinates; of everything
else that does not lie along the concatenation dimension they hold a hash, to tell a difference.
"""

from __future__ import annotations

import base64
import dataclasses
import functools
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np
import xarray as xr

from hda_fsspec.lazy.fingerprint import digest_of
from hda_fsspec.reading.essential_attributes import meaning_of
from hda_fsspec.timeindex.encoding import TimeEncoding

_FORMAT = 5
#: Encodings that describe how values are to be understood, not how one file stored them: of times,
#: and which other variables belong to one, which xarray moves here where it decodes all of them.
MEANING_ENCODINGS = (
    *("units", "calendar"),
    *("bounds", "climatology", "grid_mapping", "cell_measures", "formula_terms"),
    *("ancillary_variables", "geometry", "node_coordinates", "node_count", "part_node_count"),
    "interior_ring",
)


@dataclasses.dataclass(frozen=True, eq=False)
class VariableHeader:
    """One decoded variable of a product.

    Attributes
    ----------
    dims : tuple of str
        Its dimensions.
    dtype : numpy.dtype
        Its decoded dtype.
    is_coordinate : bool
        Whether it is a coordinate.
    attrs : dict
        Its decoded attributes.
    encoding : dict
        Units and calendar, where it is a time; and which other variables belong to it.
    values : numpy.ndarray or None
        Its values, where they were kept.
    digest : str or None
        A hash of its values, where those were looked at.
    stored : numpy.dtype or None
        What the file stores of a time, which tells how exact it can be.
    packing : tuple of float, or None
        Scale and offset of what the file stores of a time, where it has any.
    """

    dims: tuple[str, ...]
    dtype: np.dtype[Any]
    is_coordinate: bool
    attrs: Mapping[str, Any]
    encoding: Mapping[str, Any]
    values: np.ndarray[Any, Any] | None = None
    digest: str | None = None
    stored: np.dtype[Any] | None = None
    packing: tuple[float, float] | None = None

    @property
    def time_encoding(self) -> TimeEncoding:
        """The encoding in the file, if it is a time or a duration."""
        scale, offset = self.packing or (1.0, 0.0)
        packed = {**self.encoding, "scale_factor": scale, "add_offset": offset}
        return TimeEncoding.of(packed, self.stored)

    @property
    def size(self) -> int:
        """How many values were kept."""
        return 0 if self.values is None else self.values.size

    @property
    def is_date(self) -> bool:
        """Whether it holds dates of a calendar that are objects of cftime."""
        return self.dtype == object and "calendar" in self.encoding

    @property
    def is_text(self) -> bool:
        """Whether it holds text, of whatever width."""
        return self.dtype.kind in "SU" or (self.dtype == object and not self.is_date)

    @functools.cached_property
    def meaning(self) -> dict[str, Any]:
        """The attributes without which its values mean something else."""
        # xarray moves this name among the encodings where decode_coords is "all".
        moved = {k: v for k, v in self.encoding.items() if k == "grid_mapping"}
        return meaning_of({**moved, **self.attrs})

    @functools.cached_property
    def as_json(self) -> dict[str, Any]:
        """The variable as JSON values; many products have the very same one."""
        return {
            "dims": list(self.dims),
            "dtype": self.dtype.str if self.dtype != object else "object",
            "coordinate": self.is_coordinate,
            "attrs": attrs_to_json(self.attrs),
            "encoding": attrs_to_json(self.encoding),
            "values": None if self.values is None else array_to_json(self.values),
            "digest": self.digest,
            "stored": None if self.stored is None else self.stored.str,
            "packing": self.packing,
        }


@dataclasses.dataclass(frozen=True, eq=False)
class Header:
    """The header of one product.

    Attributes
    ----------
    sizes : dict of str to int
        Dimension sizes.
    variables : dict of str to VariableHeader
        All variables.
    attrs : dict
        Global attributes.
    """

    sizes: Mapping[str, int]
    variables: Mapping[str, VariableHeader]
    attrs: Mapping[str, Any]

    @classmethod
    def of(
        cls, dataset: xr.Dataset, *, keep: Iterable[str] = (), digest: Iterable[str] = ()
    ) -> Header:
        """Take the header of an open dataset.

        Parameters
        ----------
        dataset : xarray.Dataset
            The product, decoded.
        keep : iterable of str
            Variables whose values are kept.
        digest : iterable of str
            Variables whose values are hashed.
        """
        variables = {
            str(name): VariableHeader(
                dims=tuple(map(str, variable.dims)),
                dtype=variable.dtype,
                is_coordinate=name in dataset.coords,
                attrs=dict(variable.attrs),
                encoding={k: v for k, v in variable.encoding.items() if k in MEANING_ENCODINGS},
                stored=_stored_time(variable),
                packing=_packed_time(variable),
            )
            for name, variable in dataset.variables.items()
        }
        sizes = {str(dim): int(size) for dim, size in dataset.sizes.items()}
        bare = cls(sizes, variables, dict(dataset.attrs))
        return bare.filled(dataset, keep=keep, digest=digest)

    def filled(self, dataset: xr.Dataset, *, keep: Iterable[str], digest: Iterable[str]) -> Header:
        """Return the header with values read from the dataset that it was taken of."""
        kept = set(keep)
        variables = dict(self.variables)
        for name in kept | set(digest):
            values = np.asarray(dataset.variables[name].values)
            variables[name] = dataclasses.replace(
                variables[name],
                values=values if name in kept else None,
                digest=digest_of(values),
            )
        return dataclasses.replace(self, variables=variables)

    def essentials(self, keep: Collection[str] = ()) -> Header:
        """Return what it takes to check other headers: of attributes those that carry meaning.

        Values are left out, but for single ones and those of some variables.
        """
        variables = {
            name: dataclasses.replace(
                v,
                attrs=meaning_of(v.attrs),
                values=v.values if name in keep or v.size == 1 else None,
            )
            for name, v in self.variables.items()
        }
        return Header(self.sizes, variables, {})

    def to_json(self) -> dict[str, Any]:
        """Return the header as JSON values."""
        return {
            "format": _FORMAT,
            "sizes": dict(self.sizes),
            "attrs": attrs_to_json(self.attrs),
            "variables": {name: v.as_json for name, v in self.variables.items()},
        }

    @classmethod
    def from_json(cls, value: Any) -> Header | None:
        """Read what :meth:`to_json` returned; None for anything else."""
        try:
            if value["format"] != _FORMAT:
                return None
            return cls(
                sizes={str(dim): int(size) for dim, size in value["sizes"].items()},
                variables={
                    name: VariableHeader(
                        dims=tuple(v["dims"]),
                        dtype=np.dtype(v["dtype"]),
                        is_coordinate=bool(v["coordinate"]),
                        attrs=attrs_from_json(v["attrs"]),
                        encoding=attrs_from_json(v["encoding"]),
                        values=None if v["values"] is None else array_from_json(v["values"]),
                        digest=v["digest"],
                        stored=None if v["stored"] is None else np.dtype(v["stored"]),
                        packing=_two_numbers(v["packing"]),
                    )
                    for name, v in value["variables"].items()
                },
                attrs=attrs_from_json(value["attrs"]),
            )
        except (TypeError, KeyError, ValueError, AttributeError):
            return None


def _stored_time(variable: xr.Variable) -> np.dtype[Any] | None:
    stored = variable.encoding.get("dtype") if "units" in variable.encoding else None
    return np.dtype(stored) if stored is not None else None


def _packed_time(variable: xr.Variable) -> tuple[float, float] | None:
    given = [variable.encoding.get(name) for name in ("scale_factor", "add_offset")]
    if "units" not in variable.encoding or given == [None, None]:
        return None
    scale, offset = (
        plain if n is None else float(n) for n, plain in zip(given, (1, 0), strict=True)
    )
    return scale, offset


def _two_numbers(value: Any) -> tuple[float, float] | None:
    if value is None:
        return None
    scale, offset = value
    return float(scale), float(offset)


def array_to_json(values: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Return an array as JSON values; text, calendar times and numbers of any kind."""
    if values.dtype == object:
        flat = values.ravel().tolist()
        if all(isinstance(value, str) for value in flat):
            return {"text": flat, "shape": list(values.shape)}
        calendars = {getattr(value, "calendar", None) for value in flat}
        if len(calendars) == 1 and None not in calendars:
            parts = [
                [t.year, t.month, t.day, t.hour, t.minute, t.second, t.microsecond] for t in flat
            ]
            return {"times": parts, "calendar": calendars.pop(), "shape": list(values.shape)}
        msg = f"values of type {type(flat[0]).__name__} cannot be kept"
        raise TypeError(msg)
    return {
        "bytes": base64.b64encode(values.tobytes()).decode(),
        "dtype": values.dtype.str,
        "shape": list(values.shape),
    }


def array_from_json(value: Mapping[str, Any]) -> np.ndarray[Any, Any]:
    """Read what :func:`array_to_json` returned."""
    if "bytes" in value:
        dtype = np.dtype(value["dtype"])
        if dtype.hasobject:
            msg = f"Arrays of {dtype} are not read from bytes."
            raise ValueError(msg)
        data = base64.b64decode(value["bytes"])
        return np.ndarray(tuple(value["shape"]), dtype, data).copy()
    if "text" in value:
        flat: list[Any] = list(value["text"])
    else:
        import cftime

        flat = [cftime.datetime(*parts, calendar=value["calendar"]) for parts in value["times"]]
    array = np.empty(len(flat), dtype=object)
    array[:] = flat
    return array.reshape(value["shape"])


def attrs_to_json(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Return attributes as JSON values."""
    return {str(name): _attr_to_json(value) for name, value in attrs.items()}


def _attr_to_json(value: Any) -> Any:
    if isinstance(value, (np.ndarray, np.generic)):
        array = np.asarray(value)
        try:
            return {"array": array_to_json(array), "scalar": array.ndim == 0}
        except TypeError:
            return str(value)
    if isinstance(value, (list, tuple)):
        return {"list": [_attr_to_json(item) for item in value]}
    return value if isinstance(value, (str, int, float, bool)) or value is None else str(value)


def attrs_from_json(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Read what :func:`attrs_to_json` returned."""
    return {name: _attr_from_json(value) for name, value in attrs.items()}


def _attr_from_json(value: Any) -> Any:
    if type(value) is not dict:
        return value
    if "list" in value:
        return [_attr_from_json(item) for item in value["list"]]
    array = value["array"]
    if value["scalar"] and "bytes" in array:
        return _scalar(array["bytes"], array["dtype"])
    found = array_from_json(array)
    return found[()] if value["scalar"] else found


@functools.lru_cache(maxsize=4096)
def _scalar(data: str, dtype: str) -> Any:
    # Most attributes of most products are the same few numbers.
    return array_from_json({"bytes": data, "dtype": dtype, "shape": []})[()]
