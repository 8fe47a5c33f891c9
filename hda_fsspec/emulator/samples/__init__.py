"""Data sets of invented values, in the manner of each family, for trying things out.

Ids, keys, names, containers and grids are those of the service; values are made by a formula, and
each file says so. What is served is small: some hundred kilometres, two years.
"""

from __future__ import annotations

import datetime
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hda_fsspec.emulator.samples.land import NDVI, TILES, ndvi, tiles
from hda_fsspec.emulator.samples.patterns import PERIOD
from hda_fsspec.emulator.samples.sea import SEA_ICE, SEA_LEVEL, sea_ice, sea_level
from hda_fsspec.emulator.samples.swaths import OLCI, olci
from hda_fsspec.emulator.samples.weather import CAMS, ERA5, ERA5_LEVELS, cams, era5, era5_levels

__all__ = [
    "CAMS",
    "ERA5",
    "ERA5_LEVELS",
    "NDVI",
    "OLCI",
    "PERIOD",
    "SEA_ICE",
    "SEA_LEVEL",
    "TILES",
    "write_samples",
]

_CATALOGUE = "catalogue.json"
#: Another one where other files are written than before.
_EDITION = 3


def write_samples(folder: Path | str, *, today: datetime.date | None = None) -> Path:
    """Write sample data sets into a folder, unless they are there, and return their catalogue.

    Parameters
    ----------
    folder : Path or str
        It gets about 70 MB: the sources of five subset data sets, in the manner of EO:ECMWF (ERA5
        at the surface and on pressure levels, CAMS) and of EO:MO (sea level, sea ice), and the
        products of three collections of files: netCDF on one grid, GeoTIFF in tiles, and archives
        of swaths.
    today : datetime.date, optional
        The day up to which there are swaths; by default that of the clock. Those of days since the
        folder was written are added.

    Returns
    -------
    Path
        A JSON file for :meth:`Catalogue.from_json`, or for ``hda-fsspec emulator``.
    """
    folder = Path(folder)
    today = today or datetime.datetime.now(datetime.UTC).date()
    catalogue = folder / _CATALOGUE
    known = _read(catalogue)
    if known is None:
        _write(folder, today)
    elif known["today"] != today.isoformat():
        datasets = [
            olci(folder, today) if d["dataset_id"] == OLCI else d for d in known["datasets"]
        ]
        _describe(folder, datasets, today)
    return catalogue


def _read(catalogue: Path) -> dict[str, Any] | None:
    """Return what a catalogue of this edition says; None for any other."""
    try:
        known: dict[str, Any] = json.loads(catalogue.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return known if known.get("edition") == _EDITION else None


def _write(folder: Path, today: datetime.date) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    # A folder is whole, or it is not there: two that begin at once do not see halves of each other.
    made = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        makers = (era5, era5_levels, cams, sea_level, sea_ice, ndvi, tiles)
        datasets = [make(made) for make in makers]
        _describe(made, [*datasets, olci(made, today)], today)
        made.chmod(0o755)
        _put_in_place(made, folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _describe(folder: Path, datasets: list[dict[str, Any]], today: datetime.date) -> None:
    """Write the catalogue, which is whole at any moment."""
    told = {"edition": _EDITION, "today": today.isoformat(), "datasets": datasets}
    with tempfile.NamedTemporaryFile("w", dir=folder, delete=False, encoding="utf-8") as file:
        json.dump(told, file, indent=1)
    Path(file.name).chmod(0o644)
    Path(file.name).replace(folder / _CATALOGUE)


def _put_in_place(made: Path, folder: Path) -> None:
    try:
        made.rename(folder)
    except OSError:
        # It is there: with something else, with an older edition, or written in this moment.
        if _read(folder / _CATALOGUE) is None:
            shutil.copytree(made, folder, dirs_exist_ok=True)
