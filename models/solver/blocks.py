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
BALANCED = 4  # blocks, or a multiple of it
SMALL_BYTES = 2**20  # rows that are fewer are one block

Result = TypeVar("Result")


@runtime_checkable
class Blocks(Protocol):
    """N rows of D features, of type `dtype` (float32 or float64)."""

    @property
    def shape(self) -> tuple[int, int]:
        """(N, D)."""

    @property
    def dtype(self) -> np.dtype:
        """The type of a block."""

    def read(self, rows: slice) -> np.ndarray:
        """Return consecutive rows (n, D), which the caller does not change."""


class ArrayBlocks:
    """The rows of an array (N, D) in memory, which is not copied."""

    def __init__(self, array: np.ndarray):
        self.array, self.dtype = array, array.dtype
        self.shape: tuple[int, int] = array.shape

    def read(self, rows: slice) -> np.ndarray:
        """Return a view of consecutive rows (n, D)."""
        return self.array[rows]


class OtherBlocks:
    """Other blocks, unchanged: the base of classes that do something to them."""

    def __init__(self, blocks: Blocks):
        self.blocks, self.shape, self.dtype = blocks, blocks.shape, blocks.dtype

    def read(self, rows: slice) -> np.ndarray:
        """Return consecutive rows (n, D)."""
        return self.blocks.read(rows)


class SquareRoots(OtherBlocks):
    """The signed square roots of other blocks (power normalisation), taken as the blocks are read."""

    def read(self, rows: slice) -> np.ndarray:
        """Return the roots of consecutive rows (n, D)."""
        return signed_roots(self.blocks.read(rows))


@dataclass(frozen=True)
class Known:
    """What is known of N rows beside their features.

    Attributes:
        codes: the class of each row, (N,) int.
        folds: the fold that holds each row out, (N,) int with NO_FOLD for none; None if no row is held out.
        weights: how much each row counts, (N,); None if all count alike.
    """

    codes: np.ndarray
    folds: np.ndarray | None = None
    weights: np.ndarray | None = None

    def __getitem__(self, rows: slice) -> "Known":
        folds, weights = (None if column is None else column[rows] for column in (self.folds, self.weights))
        return Known(self.codes[rows], folds, weights)


class Pool(Protocol):
    """Workers on the rows of `blocks`, block by block; `rows` are the slices of all blocks.

    `work(block, known)` is a callable that can be pickled. It gets a block (n, D) and what is known of its rows.
    """

    blocks: Blocks
    rows: list[slice]

    def each(self, work: Callable[[np.ndarray, Known], Result], known: Known) -> Iterator[Result]:
        """Yield the work's result of each block, in order."""

    def add(self, work: Callable[[np.ndarray, Known], Sequence], known: Known, totals: Sequence[np.ndarray]) -> None:
        """Add the arrays of each block's result to `totals`, in the order of the blocks.

        The last array may be summed over parts of the rows first, and the parts are added in their order.

        Args:
            work: returns as many arrays as there are totals, of equal shapes.
            known: what is known of all rows.
            totals: float64 arrays, which are changed.
        """


def signed_roots(values: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Return sign(x) sqrt(|x|) of an array of any shape, in its precision and, if given, in `out`."""
    roots = np.abs(values)
    return np.copysign(np.sqrt(roots, out=roots), values, out=out)


def block_rows(blocks: Blocks) -> list[slice]:
    """Return the slices of all rows, each at most 8 MiB and 8,192 rows.

    They are the same on every machine, since sums over other blocks round otherwise, and so may choose otherwise. More
    than one block are a multiple of BALANCED of nearly equal size, so that few cores are never idle.
    """
    num_rows, num_features = blocks.shape
    step, num_bytes = _most_rows(blocks), num_rows * num_features * blocks.dtype.itemsize
    if num_rows > step or num_bytes > SMALL_BYTES:
        num_blocks = BALANCED * -(-num_rows // (step * BALANCED))
        step = -(-num_rows // num_blocks)
    return [slice(start, min(start + step, num_rows)) for start in range(0, num_rows, step)]


def is_small(blocks: Blocks) -> bool:
    """Return whether all rows together are at most 8 MiB and 8,192 rows."""
    return blocks.shape[0] <= _most_rows(blocks)


def _most_rows(blocks: Blocks) -> int:
    """Return the most rows that a block may have."""
    return min(BLOCK_ROWS, max(1, BLOCK_BYTES // max(1, blocks.shape[1] * blocks.dtype.itemsize)))


def _num_threads() -> int:
    """Return how many threads BLAS may use here: one per core, fewer if other fits run at the same time."""
    libraries = [library for library in threadpool_info() if library["user_api"] == "blas"]
    return min([cpu_count(), *(library["num_threads"] for library in libraries)])


class BlockPool:
    """Threads that work on the blocks of some rows, with one BLAS thread each; use it in a `with` block.

    If there is one block or one thread, the caller's own thread does the work. BLAS has one thread even then, since its
    products round otherwise with more.

    Args:
        blocks: the rows.
        rows: the slices of all blocks, None for `block_rows`.
        num_threads: the number of threads, None for one per core.
    """

    def __init__(self, blocks: Blocks, rows: list[slice] | None = None, num_threads: int | None = None):
        self.num_threads = num_threads or _num_threads()
        self.blocks, self.rows = blocks, rows or block_rows(blocks)
        self._closing = ExitStack()
        self._threads: ThreadPoolExecutor | None = None

    def __enter__(self) -> Self:
        self._closing.enter_context(threadpool_limits(1, "blas"))
        if len(self.rows) > 1 and self.num_threads > 1:
            self._threads = self._closing.enter_context(ThreadPoolExecutor(self.num_threads))
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._closing.close()

    def each(self, work: Callable[[np.ndarray, Known], Result], known: Known) -> Iterator[Result]:
        """See `Pool`; few results wait at a time."""

        def work_on(rows: slice) -> Result:
            return work(self.blocks.read(rows), known[rows])

        if self._threads is None:
            yield from map(work_on, self.rows)
            return
        ahead: deque[Future[Result]] = deque()
        for rows in self.rows:
            ahead.append(self._threads.submit(work_on, rows))
            if len(ahead) > self.num_threads:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()

    def add(self, work: Callable[[np.ndarray, Known], Sequence], known: Known, totals: Sequence[np.ndarray]) -> None:
        """See `Pool`; every block is added by itself."""
        for arrays in self.each(work, known):
            for total, array in zip(totals, arrays, strict=True):
                total += array
