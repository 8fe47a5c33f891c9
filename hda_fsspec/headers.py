"""The header of a product: what must be known of it to be part of a stack, without its values.

Headers are values: taken from an open dataset, compared, and written as JSON, so that they can be
kept after their product was evicted. They hold the values of index coordinates; of everything
else that does not lie along the concatenation dimension they hold a hash, to tell a difference.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import io
import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import xarray as xr

_FORMAT = 1
#: Encodings that describe how values are to be understood, not how one file stored them.
TIME_ENCODINGS = ("units", "calendar")


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
        Units and calendar, where it is a time.
    values : numpy.ndarray or None
        Its values, where they were kept.
    digest : str or None
        A hash of its values, where those were looked at.
    """

    dims: tuple[str, ...]
    dtype: np.dtype[Any]
    is_coordinate: bool
    attrs: Mapping[str, Any]
    encoding: Mapping[str, Any]
    values: np.ndarray[Any, Any] | None = None
    digest: str | None = None


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
    def of(cls, dataset: xr.Dataset, *, keep: Iterable[str], digest: Iterable[str]) -> Header:
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
        kept, hashed = set(keep), set(digest)
        variables = {}
        for name, variable in dataset.variables.items():
            look = name in kept or name in hashed
            values = np.asarray(variable.values) if look else None
            variables[str(name)] = VariableHeader(
                dims=tuple(map(str, variable.dims)),
                dtype=variable.dtype,
                is_coordinate=name in dataset.coords,
                attrs=dict(variable.attrs),
                encoding={
                    k: variable.encoding[k] for k in TIME_ENCODINGS if k in variable.encoding
                },
                values=values if name in kept else None,
                digest=digest_of(values) if values is not None else None,
            )
        sizes = {str(dim): int(size) for dim, size in dataset.sizes.items()}
        return cls(sizes, variables, dict(dataset.attrs))

    def to_json(self) -> dict[str, Any]:
        """Return the header as JSON values."""
        return {
            "format": _FORMAT,
            "sizes": dict(self.sizes),
            "attrs": _attrs_to_json(self.attrs),
            "variables": {
                name: {
                    "dims": list(v.dims),
                    "dtype": v.dtype.str if v.dtype != object else "object",
                    "coordinate": v.is_coordinate,
                    "attrs": _attrs_to_json(v.attrs),
                    "encoding": _attrs_to_json(v.encoding),
                    "values": None if v.values is None else array_to_json(v.values),
                    "digest": v.digest,
                }
                for name, v in self.variables.items()
            },
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
                        attrs=_attrs_from_json(v["attrs"]),
                        encoding=_attrs_from_json(v["encoding"]),
                        values=None if v["values"] is None else array_from_json(v["values"]),
                        digest=v["digest"],
                    )
                    for name, v in value["variables"].items()
                },
                attrs=_attrs_from_json(value["attrs"]),
            )
        except (TypeError, KeyError, ValueError, AttributeError):
            return None


def digest_of(values: np.ndarray[Any, Any]) -> str:
    """Return a hash of values that is equal in all processes."""
    if values.dtype == object:
        data = repr([str(value) for value in values.ravel()]).encode()
    else:
        data = values.tobytes()
    what = f"{values.dtype.str if values.dtype != object else 'object'} {values.shape} "
    return hashlib.sha256(what.encode() + data).hexdigest()[:32]


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
    buffer = io.BytesIO()
    # The format of numpy's own files has no code for times; their integers have.
    plain = values.view("i8") if values.dtype.kind in "mM" else values
    np.save(buffer, np.asarray(plain, order="C"), allow_pickle=False)
    return {"npy": base64.b64encode(buffer.getvalue()).decode(), "dtype": values.dtype.str}


def array_from_json(value: Mapping[str, Any]) -> np.ndarray[Any, Any]:
    """Read what :func:`array_to_json` returned."""
    if "npy" in value:
        loaded = np.load(io.BytesIO(base64.b64decode(value["npy"])), allow_pickle=False)
        dtype = np.dtype(value["dtype"])
        found: np.ndarray[Any, Any] = loaded.view(dtype) if dtype.kind in "mM" else loaded
        return found
    if "text" in value:
        flat: list[Any] = list(value["text"])
    else:
        import cftime

        flat = [cftime.datetime(*parts, calendar=value["calendar"]) for parts in value["times"]]
    array = np.empty(len(flat), dtype=object)
    array[:] = flat
    return array.reshape(value["shape"])


def _attrs_to_json(attrs: Mapping[str, Any]) -> dict[str, Any]:
    return {str(name): _attr_to_json(value) for name, value in attrs.items()}


def _attr_to_json(value: Any) -> Any:
    if isinstance(value, (np.ndarray, np.generic)):
        array = np.asarray(value)
        try:
            return {"array": array_to_json(array), "scalar": array.ndim == 0}
        except TypeError:
            return str(value)
    if isinstance(value, (list, tuple)):
        return {"list": [_attr_to_json(one) for one in value]}
    return value if isinstance(value, (str, int, float, bool)) or value is None else str(value)


def _attrs_from_json(attrs: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _attr_from_json(value) for name, value in attrs.items()}


def _attr_from_json(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    if "list" in value:
        return [_attr_from_json(one) for one in value["list"]]
    array = array_from_json(value["array"])
    return array[()] if value["scalar"] else array


def dump(mark: str, header: Header) -> bytes:
    """Return a header as bytes for the disk, marked with what it was taken for."""
    value = {"mark": mark, "header": header.to_json()}
    return json.dumps(value, separators=(",", ":")).encode()


def load(data: bytes) -> tuple[str, Header] | None:
    """Read what :func:`dump` wrote; None for anything else."""
    try:
        value = json.loads(data)
        header = Header.from_json(value["header"])
        return None if header is None else (str(value["mark"]), header)
    except (ValueError, RecursionError, TypeError, KeyError):
        return None
