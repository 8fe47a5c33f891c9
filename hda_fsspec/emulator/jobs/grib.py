"""Writes GRIB messages on a regular grid, by ecCodes where it is installed."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BITS = 24
_MISSING = 9999.0


@dataclasses.dataclass(frozen=True)
class Message:
    """One field: ``parameter`` is ECMWF's number; ``values`` north to south, west to east."""

    parameter: int
    time: datetime
    levels: Mapping[str, float]
    kind: str
    version: str
    latitudes: NDArray[Any]
    longitudes: NDArray[Any]
    values: NDArray[Any]


def grib_bytes(messages: Sequence[Message]) -> bytes:
    """Return GRIB 1 messages, one after the other."""
    with contextlib.suppress(ImportError):
        # Of both libraries this one must be loaded first, or the process ends in a crash.
        import pyproj  # noqa: F401
    import eccodes

    return b"".join(_encoded(eccodes, message) for message in messages)


def _encoded(eccodes: Any, message: Message) -> bytes:
    import numpy as np

    handle = eccodes.codes_grib_new_from_samples("regular_ll_sfc_grib1")
    try:
        for key, value in _keys(message).items():
            eccodes.codes_set(handle, key, value)
        values = np.asarray(message.values, np.float64).ravel()
        is_missing = np.isnan(values)
        if is_missing.any():
            eccodes.codes_set(handle, "bitmapPresent", 1)
            eccodes.codes_set(handle, "missingValue", _MISSING)
            values = np.where(is_missing, _MISSING, values)
        eccodes.codes_set_values(handle, values)
        found: bytes = eccodes.codes_get_message(handle)
        return found
    finally:
        eccodes.codes_release(handle)


def _keys(message: Message) -> dict[str, Any]:
    """Return the keys of a message in the order in which they are set."""
    latitudes, longitudes = message.latitudes, message.longitudes
    pressure = message.levels.get("pressure_level")
    model = message.levels.get("model_level")
    level_type = "sfc" if pressure is None and model is None else "pl" if model is None else "ml"
    level = pressure if pressure is not None else model
    lead = message.levels.get("leadtime_hour", 0.0)
    keys: dict[str, Any] = {
        "Ni": len(longitudes),
        "Nj": len(latitudes),
        "latitudeOfFirstGridPointInDegrees": float(latitudes[0]),
        "latitudeOfLastGridPointInDegrees": float(latitudes[-1]),
        "longitudeOfFirstGridPointInDegrees": float(longitudes[0]),
        "longitudeOfLastGridPointInDegrees": float(longitudes[-1]),
        "jScansPositively": 0,
        "bitsPerValue": _BITS,
        "dataDate": int(f"{message.time:%Y%m%d}"),
        "dataTime": int(f"{message.time:%H%M}"),
        "stepType": message.kind if message.kind in {"accum", "max", "min", "avg"} else "instant",
        "stepRange": f"{lead:g}",
        "expver": message.version,
        "levtype": level_type,
    }
    for name, values in (("i", longitudes), ("j", latitudes)):
        if len(values) > 1:
            keys[f"{name}DirectionIncrementInDegrees"] = abs(
                float(values[-1] - values[0]) / (len(values) - 1)
            )
    if level is not None:
        keys["level"] = int(level)
    keys["paramId"] = message.parameter
    return keys
