"""A reporter whose lines a test keeps, whose clock it sets, and that looks when it is told to."""

from __future__ import annotations

import types
from typing import Any

from clocks import Clock

from hda_fsspec.fetching.progress import Reporter
from hda_fsspec.fetching.quota import QuotaView

UNKNOWN = QuotaView(None, None, None)


class Looking:
    """A reporter whose lines are kept, whose clock is set by the test, and that looks when told."""

    def __init__(self) -> None:
        self.clock = Clock(1_714_521_600.0)
        self.shown: list[str | None] = []
        self.is_looked_at = True
        self.reporters: list[Reporter] = []

    def make(self, quota: Any = lambda: UNKNOWN, **options: Any) -> Reporter:
        """Make a reporter; what would have it look by itself is left out."""
        reporter = Reporter(
            quota,
            screen=types.SimpleNamespace(show=self.shown.append),
            looks=lambda: self.is_looked_at,
            clock=self.clock,
            **options,
        )
        self.reporters.append(reporter)
        return reporter

    def after(self, seconds: float) -> str | None:
        """Let time pass, have all reporters look, and return what is shown then."""
        self.clock.now += seconds
        for reporter in self.reporters:
            reporter.look()
        return self.shown[-1] if self.shown else None
