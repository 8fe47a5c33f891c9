"""A clock that a test sets."""


class Clock:
    """Seconds since 1970 that stand still until the test moves them.

    Parameters
    ----------
    now
        The time at the start, in seconds since 1970.
    """

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        """Return the time."""
        return self.now
