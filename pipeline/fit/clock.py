"""How much of the minutes that `fit` may take is left."""

import time


class Clock:
    """Counts down from its creation."""

    def __init__(self, minutes: float):
        self.minutes = minutes
        self._ends = time.perf_counter() + 60 * minutes

    @property
    def seconds_left(self) -> float:
        """The seconds that are left, negative if there are none."""
        return self._ends - time.perf_counter()

    def __str__(self) -> str:
        left = max(0.0, self.seconds_left) / 60
        return f"{left:.1f} of {self.minutes:g} minutes left"
