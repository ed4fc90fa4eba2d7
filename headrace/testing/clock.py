"""A clock that goes when the test says so: for ingest's edge, as nothing behind the log has a clock.

It may also be set back, as real clocks are.
"""


class SimulatedClock:
    """Milliseconds since 1970 UTC; call it to read it.

    >>> clock = SimulatedClock(5_000)
    >>> clock.advance(1.5)
    >>> clock()
    6500
    """

    def __init__(self, now_ms: int = 1_700_000_000_000) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        """The time, in milliseconds."""
        return self.now_ms

    def advance(self, seconds: float) -> None:
        """Let time pass; negative: a clock that steps back."""
        self.now_ms += round(seconds * 1000)
