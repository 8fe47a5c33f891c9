"""What xarray sees: the engine ``hda``, ``ds.hda``, and :func:`hda_fsspec.open_mfdataset`."""
