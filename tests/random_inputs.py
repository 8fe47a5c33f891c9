"""How many random inputs a test tries."""

from __future__ import annotations

from hypothesis import settings

#: As the profile that is usual has it.
_USUAL = 30


def examples(usual: int) -> int:
    """Return how many inputs to try, under this profile, where ``usual`` ones are tried usually."""
    assert settings.default is not None
    return max(1, usual * settings.default.max_examples // _USUAL)
