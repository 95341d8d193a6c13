"""Batches for training: every sample once an epoch, in an order that seed and epoch fix."""

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

from thaw.features.store import FeatureFile

BLOCK_ROWS = 32  # read from a file at once if the activations do not fit the memory
GROUP_ROWS = 256  # yielded at once
FEWEST_BLOCKS = 16  # in the buffer, since consecutive rows are often of one class
BUFFER_SHARE = 0.5  # of the memory budget, for the blocks that are shuffled together


class Source(Protocol):
    """Samples that a network reads: activations, or images.

    `num_samples` is their number; `num_views` is the number of views of each (two with flipped images).
    """

    num_samples: int
    num_views: int

    @property
    def order(self) -> str:
        """What the order of an epoch depends on, beside its seed and number."""

    def epoch(self, batch_size: int, seed: int, epoch: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield (inputs, sample numbers) of every sample once; the last batch may be smaller."""

    def in_order(self, batch_size: int, view: int = 0) -> Iterator[np.ndarray]:
        """Yield the inputs of one view in the order of the samples."""


class CachedActivations:
    """One layer's activations of some rows, from one feature file per view of the images.

    If they fit `budget` bytes, they are held in memory as float32 (n, H, W, C). Otherwise every epoch reads the files
    in blocks of 32 rows, in random order, and shuffles within a buffer of many blocks. With several views, each sample
    takes one at random.

    Args:
        files: a feature file per view.
        layer: the layer.
        shape: its (H, W, C).
        mask: the rows that are the samples, (N,) bool.
        budget: bytes.
    """

    def __init__(
        self,
        files: Sequence[FeatureFile],
        layer: str,
        shape: tuple[int, ...],
        mask: np.ndarray,
        budget: float = float("inf"),
    ):
        self._files, self._layer, self._shape = files, layer, shape
        self._rows = np.flatnonzero(mask)
        self.num_samples, self.num_views = len(self._rows), len(files)
        self.bytes = 4 * int(np.prod(shape)) * self.num_samples * self.num_views
        block_bytes = max(1, 2 * self.bytes * BLOCK_ROWS // max(1, self.num_samples))  # the blocks and their mixture
        self.buffer_blocks = max(FEWEST_BLOCKS, int(BUFFER_SHARE * min(budget, 1e15) / block_bytes))
        self._arrays = (
            [file.read([layer], mask).reshape(-1, *shape) for file in files] if self.bytes <= budget else None
        )

    @property
    def order(self) -> str:
        """How the samples are shuffled: all of them at once, or a number of blocks at a time."""
        return "all at once" if self.in_memory else f"{self.buffer_blocks} blocks of {BLOCK_ROWS}"

    @property
    def in_memory(self) -> bool:
        """Whether the activations are held in memory."""
        return self._arrays is not None

    def epoch(self, batch_size: int, seed: int, epoch: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield (inputs (n, H, W, C) float32, sample numbers (n,)), every sample once, in the epoch's order."""
        generator = np.random.default_rng((seed, epoch))
        groups = self._shuffled_in_memory(generator) if self.in_memory else self._shuffled_blocks(generator)
        return rebatch(groups, batch_size)

    def in_order(self, batch_size: int, view: int = 0) -> Iterator[np.ndarray]:
        """Yield one view's inputs in the order of the samples, `batch_size` at a time."""
        for start in range(0, self.num_samples, batch_size):
            yield self._load(view, np.arange(start, min(start + batch_size, self.num_samples)))

    def _shuffled_in_memory(self, generator: np.random.Generator) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        numbers = generator.permutation(self.num_samples)
        views = generator.integers(self.num_views, size=self.num_samples)
        for start in range(0, self.num_samples, GROUP_ROWS):
            chosen = numbers[start : start + GROUP_ROWS]
            yield self._mixed([self._load(view, chosen) for view in range(self.num_views)], views[chosen]), chosen

    def _shuffled_blocks(self, generator: np.random.Generator) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        starts = generator.permutation(np.arange(0, self.num_samples, BLOCK_ROWS))
        for first in range(0, len(starts), self.buffer_blocks):
            inputs, numbers = self._buffer(starts[first : first + self.buffer_blocks], generator)
            order = generator.permutation(len(numbers))
            for start in range(0, len(order), GROUP_ROWS):
                chosen = order[start : start + GROUP_ROWS]
                yield inputs[chosen], numbers[chosen]
            del inputs  # before the next buffer is read

    def _buffer(self, starts: np.ndarray, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        blocks = [np.arange(start, min(start + BLOCK_ROWS, self.num_samples)) for start in starts]
        numbers = np.concatenate(blocks)
        views = generator.integers(self.num_views, size=len(numbers))
        loaded = [np.concatenate([self._load(view, block) for block in blocks]) for view in range(self.num_views)]
        return self._mixed(loaded, views), numbers

    def _mixed(self, views: Sequence[np.ndarray], chosen: np.ndarray) -> np.ndarray:
        inputs = views[0]
        for view, other in enumerate(views[1:], start=1):
            inputs = np.where((chosen == view).reshape(-1, *[1] * (inputs.ndim - 1)), other, inputs)
        return inputs

    def _load(self, view: int, numbers: np.ndarray) -> np.ndarray:
        """Return samples in any order from memory, or consecutive samples from the file."""
        if self._arrays is not None:
            return self._arrays[view][numbers]
        return self._files[view].read_rows(self._layer, self._rows[numbers]).reshape(-1, *self._shape)


def rebatch(
    groups: Iterator[tuple[np.ndarray, np.ndarray]], batch_size: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (inputs, numbers) in batches of `batch_size` from groups of any size, the rest at the end."""
    waiting: list[tuple[np.ndarray, np.ndarray]] = []
    count = 0
    for group in groups:
        waiting.append(group)
        count += len(group[1])
        if count >= batch_size:
            inputs, numbers = (np.concatenate(parts) for parts in zip(*waiting, strict=True))
            whole = count - count % batch_size
            for start in range(0, whole, batch_size):
                yield inputs[start : start + batch_size], numbers[start : start + batch_size]
            waiting, count = [(inputs[whole:], numbers[whole:])], count - whole
    if count:
        inputs, numbers = (np.concatenate(parts) for parts in zip(*waiting, strict=True))
        yield inputs, numbers
