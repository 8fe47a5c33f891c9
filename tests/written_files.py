"""NetCDF files of made data sets, of which each is encoded once in a process."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path
from typing import Any

_encoded: dict[bytes, bytes] = {}


def write_netcdf(ds: Any, path: Path, **options: Any) -> None:
    """Write a data set as ``ds.to_netcdf(path, **options)`` does; equal ones are encoded once."""
    # Of equal data sets the pickles may differ, which costs an encoding; of others they do.
    key = hashlib.sha256(pickle.dumps((ds, options))).digest()
    if key not in _encoded:
        ds.to_netcdf(path, **options)
        _encoded[key] = path.read_bytes()
    else:
        path.write_bytes(_encoded[key])
