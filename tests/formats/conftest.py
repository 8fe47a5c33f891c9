"""What the tests of formats share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hda_fsspec.formats.detect import Format, check_complete


@pytest.fixture
def check(tmp_path: Path) -> Callable[..., Format]:
    """Write bytes to a file with a name that tells nothing, and check it."""

    def check(content: bytes, *, deep: bool = False) -> Format:
        path = tmp_path / "product"
        path.write_bytes(content)
        return check_complete(path, deep=deep)

    return check
