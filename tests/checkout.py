"""Where the checkout is, and the folder of real files beside it, for tests in any folder."""

from __future__ import annotations

from pathlib import Path

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent
#: Absent where the project was cloned on its own.
SHARED = ROOT.parent / "shared"
