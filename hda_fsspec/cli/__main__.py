"""``python -m hda_fsspec.cli``: the command line without its script."""

from __future__ import annotations

import sys

from hda_fsspec.cli import main

if __name__ == "__main__":
    sys.exit(main())
