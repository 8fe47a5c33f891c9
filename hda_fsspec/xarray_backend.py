"""The xarray engine ``hda``: one product of an ``hda://`` path, opened as a dataset.

It makes the product local and hands the file to xarray's own engine for its format.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import xarray as xr
from xarray.backends import BackendEntrypoint

from hda_fsspec.errors import LocationError
from hda_fsspec.filesystem import HDAFileSystem
from hda_fsspec.locations import PROTOCOL, Location


class HDABackendEntrypoint(BackendEntrypoint):
    """Open a Copernicus product by its ``hda://`` path."""

    description: ClassVar[str] = "Open Copernicus products of WEkEO (hda:// paths)"
    url: ClassVar[str] = "https://github.com/hda-fsspec/hda-fsspec"

    def guess_can_open(self, filename_or_obj: Any) -> bool:
        """Whether it is a location or an ``hda://`` path; costs nothing."""
        if isinstance(filename_or_obj, str):
            return filename_or_obj.startswith(f"{PROTOCOL}://")
        return isinstance(filename_or_obj, Location)

    def open_dataset(  # type: ignore[override]  # xarray asks for the options by name
        self,
        filename_or_obj: Any,
        *,
        drop_variables: str | Iterable[str] | None = None,
        mask_and_scale: bool | Mapping[str, bool] | None = None,
        decode_times: Any = None,
        decode_timedelta: Any = None,
        use_cftime: Any = None,
        concat_characters: bool | Mapping[str, bool] | None = None,
        decode_coords: Any = None,
        storage_options: Mapping[str, Any] | None = None,
        product_engine: str | None = None,
        product_engine_kwargs: Mapping[str, Any] | None = None,
    ) -> xr.Dataset:
        """Open one product.

        Parameters
        ----------
        filename_or_obj : str or Location
            The path of a product.
        drop_variables, mask_and_scale, decode_times, decode_timedelta, use_cftime, \
concat_characters, decode_coords
            As for :func:`xarray.open_dataset`.
        storage_options : mapping, optional
            Settings; see :class:`hda_fsspec.HDAFileSystem`.
        product_engine : str, optional
            xarray's engine for the file; guessed from the file if not given.
        product_engine_kwargs : mapping, optional
            Further options of that engine.

        Raises
        ------
        LocationError
            The path is a query or a pattern.
        HDAError
            The product cannot be had.
        """
        location = Location.parse(filename_or_obj)
        if location.product is None:
            msg = (
                f'engine="hda" opens one product, and {location.path} is a '
                f"{'pattern' if location.pattern else 'directory'}. Open its products together "
                'with xr.open_mfdataset([f"hda://{path}" for path in fs.glob(…)], engine="hda").'
            )
            raise LocationError(msg)
        decoders = {
            "mask_and_scale": mask_and_scale,
            "decode_times": decode_times,
            "decode_timedelta": decode_timedelta,
            "use_cftime": use_cftime,
            "concat_characters": concat_characters,
            "decode_coords": decode_coords,
        }
        fs = HDAFileSystem(**(storage_options or {}))
        (local,) = fs.prefetch(location)
        dataset = xr.open_dataset(
            os.fspath(local),
            engine=product_engine,
            drop_variables=drop_variables,
            **{name: value for name, value in decoders.items() if value is not None},
            **(product_engine_kwargs or {}),
        )
        dataset.encoding["source"] = location.path
        return dataset
