"""Rows of features by blocks: from memory or from a file, worked on by every core, results in order."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self, TypeVar, runtime_checkable

import numpy as np
from joblib import cpu_count
from threadpoolctl import threadpool_info, threadpool_limits

BLOCK_BYTES = 2**23  # stays in a core's cache between the products that read it
BLOCK_ROWS = 8192

Result = TypeVar("Result")


@runtime_checkable
class Blocks(Protocol):
    """N rows of D features, of type `dtype` (float32 or float64)."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and features."""

    @property
    def dtype(self) -> np.dtype:
        """The type of a block."""

    def read(self, rows: slice) -> np.ndarray:
        """Return consecutive rows (n, D), which the caller leaves as they are."""


@dataclass(frozen=True)
class ArrayBlocks:
    """The rows of an array (N, D) in memory; nothing is copied."""

    array: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and features."""
        return self.array.shape

    @property
    def dtype(self) -> np.dtype:
        """The array's own type."""
        return self.array.dtype

    def read(self, rows: slice) -> np.ndarray:
        """Return a view of consecutive rows."""
        return self.array[rows]


@dataclass(frozen=True)
class OtherBlocks:
    """Other blocks, as they are: what does something to them builds on this."""

    blocks: Blocks

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and features."""
        return self.blocks.shape

    @property
    def dtype(self) -> np.dtype:
        """The type of a block."""
        return self.blocks.dtype

    def read(self, rows: slice) -> np.ndarray:
        """Return consecutive rows."""
        return self.blocks.read(rows)


@dataclass(frozen=True)
class SquareRoots(OtherBlocks):
    """The square roots of other blocks' sizes, sign kept (power normalisation), taken as they are read."""

    def read(self, rows: slice) -> np.ndarray:
        """Return the roots of consecutive rows."""
        return signed_roots(self.blocks.read(rows))


@dataclass(frozen=True)
class Known:
    """What is known of N rows beside their features.

    `codes` (N,) int is the class, `folds` (N,) int the fold that a row is held out in (NO_FOLD for none), `weights`
    (N,) how much it counts; None where no row is held out, where all count the same.
    """

    codes: np.ndarray
    folds: np.ndarray | None = None
    weights: np.ndarray | None = None

    def __getitem__(self, rows: slice) -> "Known":
        folds, weights = (None if column is None else column[rows] for column in (self.folds, self.weights))
        return Known(self.codes[rows], folds, weights)


class Pool(Protocol):
    """What works on the rows of `blocks` by blocks; `rows` are the slices that cover them, one for each block.

    `work(block, known)` is a callable that can be pickled, called with a block (n, D) and what is known of its rows.
    """

    blocks: Blocks
    rows: list[slice]

    def each(self, work: Callable[[np.ndarray, Known], Result], known: Known) -> Iterator[Result]:
        """Yield the work's result of each block, in order."""

    def add(self, work: Callable[[np.ndarray, Known], Sequence], known: Known, totals: Sequence[np.ndarray]) -> None:
        """Add the arrays that each block gives to `totals` (float64), as many of the same shapes, in the blocks' order.

        The last array may be added up part by part, and the parts in their order.
        """


def signed_roots(values: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Return sign(x) sqrt(|x|) of every value of an array of any shape, in its precision; in `out` where given."""
    roots = np.abs(values)
    return np.copysign(np.sqrt(roots, out=roots), values, out=out)


def block_rows(blocks: Blocks) -> list[slice]:
    """Return the slices that cover all rows, each at most 8 MiB and 8,192 rows, as many for each core."""
    num_rows, num_features = blocks.shape
    step = min(BLOCK_ROWS, max(1, BLOCK_BYTES // max(1, num_features * blocks.dtype.itemsize)))
    if num_rows > step:
        rounds = -(-num_rows // (step * cpu_count()))
        step = -(-num_rows // (rounds * cpu_count()))
    return [slice(start, min(start + step, num_rows)) for start in range(0, num_rows, step)]


def _num_threads() -> int:
    """Return how many threads BLAS may use here: one per core, fewer where other fits run at the same time."""
    libraries = [library for library in threadpool_info() if library["user_api"] == "blas"]
    return min([cpu_count(), *(library["num_threads"] for library in libraries)])


class BlockPool:
    """Threads that work on the blocks of some rows, with one BLAS thread each; use it in a `with` block.

    `rows` are the slices that cover them, `block_rows` unless given. Rows that fit one block, or that one thread works
    on, are worked on by the caller.
    """

    def __init__(self, blocks: Blocks, rows: list[slice] | None = None, num_threads: int | None = None):
        self.num_threads = num_threads or _num_threads()
        self.blocks, self.rows = blocks, rows or block_rows(blocks)
        self._closing = ExitStack()
        self._threads: ThreadPoolExecutor | None = None

    def __enter__(self) -> Self:
        if len(self.rows) > 1 and self.num_threads > 1:
            self._closing.enter_context(threadpool_limits(1, "blas"))
            self._threads = self._closing.enter_context(ThreadPoolExecutor(self.num_threads))
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._closing.close()

    def _work(self, work: Callable[[slice, np.ndarray], Result], rows: slice) -> Result:
        return work(rows, self.blocks.read(rows))

    def map(self, work: Callable[[slice, np.ndarray], Result]) -> Iterator[Result]:
        """Yield `work(rows, block)` of each block, in order; few results wait at a time."""
        if self._threads is None:
            yield from (self._work(work, rows) for rows in self.rows)
            return
        ahead: deque[Future[Result]] = deque()
        for rows in self.rows:
            ahead.append(self._threads.submit(self._work, work, rows))
            if len(ahead) > self.num_threads:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()

    def each(self, work: Callable[[np.ndarray, Known], Result], known: Known) -> Iterator[Result]:
        """See `Pool`."""
        return self.map(lambda rows, block: work(block, known[rows]))

    def add(self, work: Callable[[np.ndarray, Known], Sequence], known: Known, totals: Sequence[np.ndarray]) -> None:
        """See `Pool`; every block is added by itself."""
        for arrays in self.each(work, known):
            for total, array in zip(totals, arrays, strict=True):
                total += array
