"""How much of an extraction's time its engine computes, and how much it waits for images."""

import time

import numpy as np

from thaw.features.engines.network import Engine


class Watched:
    """An engine whose time is measured; `busy` is the share of the time since its first batch that it computed.

    The first batch, which compiles, is left out of both.
    """

    def __init__(self, engine: Engine):
        self._engine, self.batch_size = engine, engine.batch_size
        self._began: float | None = None
        self._ended = self._seconds = 0.0
        self.images = 0

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Return what the engine returns for one batch (n, S, S, 3)."""
        began = time.perf_counter()
        outputs = self._engine(images)
        self._ended = time.perf_counter()
        if self._began is None:
            self._began = self._ended
        else:
            self._seconds += self._ended - began
            self.images += len(images)
        return outputs

    @property
    def busy(self) -> float | None:
        """The share, 0 to 1, of the time between the end of the first batch and that of the last; None of fewer."""
        wall = self._ended - (self._began or 0.0)
        return min(1.0, self._seconds / wall) if self.images and wall > 0 else None

    @property
    def rate(self) -> float | None:
        """The images per second of the engine alone, None if it has had fewer than two batches."""
        return self.images / self._seconds if self.images and self._seconds > 0 else None

    def summary(self) -> str | None:
        """Return both in one line, None if there were too few batches."""
        if self.busy is None or self.rate is None:
            return None
        waits = f"it waited for images {100 * (1 - self.busy):.0f} % of the time"
        return f"the engine was busy {100 * self.busy:.0f} % of the time at {self.rate:,.0f} images/s; {waits}"
