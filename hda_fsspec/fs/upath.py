"""``UPath("hda://…")``: pathlib's manners for Copernicus products.

Universal Pathlib finds the class by its entry point; nothing else imports this module.
"""

from __future__ import annotations

from typing import Any

from fsspec import get_filesystem_class
from upath import UPath

from hda_fsspec.paths.locations import PROTOCOL
from hda_fsspec.settings import SECRET_SETTINGS

# UPath looks for a filesystem among those that fsspec has loaded, and warns where it is not.
get_filesystem_class(PROTOCOL)


class HDAPath(UPath):
    """A path of the ``hda://`` filesystem; see :class:`hda_fsspec.HDAFileSystem`."""

    def __reduce__(self) -> tuple[Any, ...]:
        # UPath pickles all storage options; secrets stay at home, as with the filesystem.
        make, (cls, args, options), *rest = super().__reduce__()
        options = {name: value for name, value in options.items() if name not in SECRET_SETTINGS}
        return (make, (cls, args, options), *rest)
