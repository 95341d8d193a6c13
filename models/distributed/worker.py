"""The work of a cluster's worker in a pass over rows: its share of them, held in memory if it fits."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from joblib import cpu_count
from threadpoolctl import threadpool_limits

from thaw.features.errors import InputError
from thaw.features.store import FeatureLayers, FeatureRows
from thaw.models.solver.blocks import ArrayBlocks, BlockPool, Blocks, Known, Result, SquareRoots

MEMORY_SHARE = 0.5  # of a worker's limit; beyond, Dask writes to disk (0.6), waits (0.8) and ends the worker (0.95)

_one_share = Lock()  # at a time in a process, with all its cores, so that memory does not grow with Dask's threads


@dataclass(frozen=True)
class FileSource:
    """Rows of a feature file on storage that all workers share.

    Attributes:
        path: the file.
        digest: its values_sha256.
        layers: the layers whose features are joined.
        roots: whether their signed square roots are taken.
    """

    path: Path
    digest: str | None
    layers: tuple[str, ...]
    roots: bool

    @classmethod
    def of(cls, blocks: Blocks) -> tuple["FileSource", np.ndarray]:
        """Return the source of blocks that are read from a file, and the indices (N,) of their rows in it."""
        roots = isinstance(blocks, SquareRoots)
        rows: Any = blocks.blocks if isinstance(blocks, SquareRoots) else blocks
        digest = rows.file.attributes.get("values_sha256")
        return cls(rows.file.path.absolute(), digest, tuple(rows.layers), roots), rows.rows

    def blocks(self, indices: np.ndarray) -> Blocks:
        """Return the rows at `indices` (n,), which are read when they are needed.

        Raises InputError if the file is missing or has other values: then this machine sees another storage.
        """
        if not self.path.is_file():
            raise InputError(f"{_where()} sees no {self.path}; {_SHARED}")
        file = FeatureLayers(self.path)
        if file.attributes.get("values_sha256") != self.digest:
            raise InputError(f"{_where()} sees another {self.path} than the client, by its values_sha256; {_SHARED}")
        rows = FeatureRows(file, self.layers, indices)
        return SquareRoots(rows) if self.roots else rows


_SHARED = "put the run on storage that the client and all workers see under the same path"


def _where() -> str:
    from distributed import get_worker

    return f"worker {get_worker().address}"


class RowShare:
    """Some consecutive rows of a source, for one worker.

    A copy that is sent, or written to disk, is without the rows in memory and reads them again.

    Args:
        source: the file.
        indices: the indices of the rows in it, (n,).
        rows: the slices of the blocks.
        known: what is known of the rows.
    """

    def __init__(self, source: FileSource, indices: np.ndarray, rows: list[slice], known: Known):
        self.source, self.indices, self.rows, self.known = source, indices, rows, known
        self._blocks: Blocks | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_blocks": None}

    def __sizeof__(self) -> int:
        """Return its bytes, by which Dask decides which worker works on it and whether it may move."""
        held = self._blocks.array.nbytes if isinstance(self._blocks, ArrayBlocks) else 0
        return held + 4 * self.indices.nbytes

    def open(self, room: float) -> None:
        """Hold the rows in memory if they take at most `room` bytes."""
        blocks = self.source.blocks(self.indices)
        num_bytes = blocks.shape[0] * blocks.shape[1] * blocks.dtype.itemsize
        if num_bytes <= room:
            array = np.empty(blocks.shape, blocks.dtype)
            for rows in self.rows:
                array[rows] = blocks.read(rows)
            blocks = ArrayBlocks(array)
        self._blocks = blocks

    def pool(self) -> BlockPool:
        """Return the threads that work on the share's blocks."""
        if self._blocks is None:
            self._blocks = self.source.blocks(self.indices)
        return BlockPool(self._blocks, self.rows, cpu_count())


def opened(share: RowShare) -> RowShare:
    """Return the share, with its rows in memory if the process then stays within MEMORY_SHARE of its limit."""
    from distributed import get_worker

    worker = get_worker()
    limit = worker.memory_manager.memory_limit
    with _one_share:
        share.open(MEMORY_SHARE * limit - worker.monitor.get_process_memory() if limit else float("inf"))
    return share


def same(work: Result) -> Result:
    """Return the work of a pass, so that every worker can get it from another worker, not only from the client."""
    return work


def each(share: RowShare, work: Callable[[np.ndarray, Known], Result]) -> list[Result]:
    """Return the work's result of each block."""
    with _one_share, threadpool_limits(1, "blas"), share.pool() as pool:
        return list(pool.each(work, share.known))


def added(
    share: RowShare, work: Callable[[np.ndarray, Known], Sequence[np.ndarray]]
) -> tuple[list[Sequence[np.ndarray]], np.ndarray]:
    """Return each block's arrays without the last, and the float64 sum of the last ones, in the blocks' order.

    The sum of the float32 slopes is exact unless the sizes of its terms differ by a factor of 2^29. So the boundaries
    of the shares hardly ever matter.
    """
    small: list[Sequence[np.ndarray]] = []
    totals: list[np.ndarray] = []
    with _one_share, threadpool_limits(1, "blas"), share.pool() as pool:
        for *arrays, last in pool.each(work, share.known):
            small.append(arrays)
            totals = totals or [np.zeros(last.shape)]
            totals[0] += last
    return small, totals[0]
