"""Runs first in every Python process that a test starts (see ``tests/conftest.py``).

With the wheels of 2026, Python aborts at exit if ecCodes is imported before pyproj. xarray imports
its engines by name, cfgrib before rasterio, so whoever has both must import pyproj first.
"""

import contextlib

with contextlib.suppress(ImportError):
    import pyproj  # noqa: F401
