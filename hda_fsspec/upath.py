"""``UPath("hda://…")``: pathlib's manners for Copernicus products.

Universal Pathlib finds the class by its entry point; nothing else imports this module.
"""

from __future__ import annotations

from upath import UPath


class HDAPath(UPath):
    """A path of the ``hda://`` filesystem; see :class:`hda_fsspec.HDAFileSystem`."""
