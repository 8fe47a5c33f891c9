"""The fsspec filesystem ``hda``."""
