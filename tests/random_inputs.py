"""How many random inputs a test tries, and of which characters texts are."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

#: As the profile that is usual has it.
_USUAL = 30

#: Those that UTF-8 can encode. Hypothesis takes just these by itself, but finds out which they are
#: by encoding all that there are: for seconds, in each checkout.
CHARACTERS = st.characters(exclude_categories=["Cs"])


def examples(usual: int) -> int:
    """Return how many inputs to try, under this profile, where ``usual`` ones are tried usually."""
    assert settings.default is not None
    return max(1, usual * settings.default.max_examples // _USUAL)


def any_text(**given: Any) -> st.SearchStrategy[str]:
    """Return texts of all characters, as :func:`hypothesis.strategies.text` does."""
    return st.text(CHARACTERS, **given)
