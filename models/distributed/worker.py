"""What a worker of a cluster does in a pass over rows: its share of them, held in memory where it fits."""

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

HELD = 0.5  # of a worker's memory limit: beyond, Dask writes to disk (0.6), waits (0.8), ends the worker (0.95)

_turn = Lock()  # one share at a time in a process, with all its cores; so memory does not grow with Dask's threads


@dataclass(frozen=True)
class Source:
    """Rows in a feature file on storage that all workers share: `layers` side by side, their `roots` where wanted.

    `digest` is the values_sha256 of the file.
    """

    path: Path
    digest: str | None
    layers: tuple[str, ...]
    roots: bool

    @classmethod
    def of(cls, blocks: Blocks) -> tuple["Source", np.ndarray]:
        """Return the source of blocks that are read from a file, and the places (N,) of the rows in it."""
        roots = isinstance(blocks, SquareRoots)
        rows: Any = blocks.blocks if isinstance(blocks, SquareRoots) else blocks
        digest = rows.file.attributes.get("values_sha256")
        return cls(rows.file.path.absolute(), digest, tuple(rows.layers), roots), rows.rows

    def blocks(self, places: np.ndarray) -> Blocks:
        """Return the rows at `places` (n,), read when they are wanted.

        Raises InputError where the file is not there or has other values, so that this machine sees another storage.
        """
        if not self.path.is_file():
            raise InputError(f"{_where()} sees no {self.path}; {_SHARED}")
        file = FeatureLayers(self.path)
        if file.attributes.get("values_sha256") != self.digest:
            raise InputError(f"{_where()} sees another {self.path} than the client, by its values_sha256; {_SHARED}")
        rows = FeatureRows(file, self.layers, places)
        return SquareRoots(rows) if self.roots else rows


_SHARED = "put the run on storage that the client and all workers see under the same path"


def _where() -> str:
    from distributed import get_worker

    return f"worker {get_worker().address}"


class Share:
    """Some consecutive rows of a source, `rows` the slices of its blocks, and what is `known` of them.

    What it holds stays where it is: a copy that is sent or put away to disk has to read its rows again.
    """

    def __init__(self, source: Source, places: np.ndarray, rows: list[slice], known: Known):
        self.source, self.places, self.rows, self.known = source, places, rows, known
        self._blocks: Blocks | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_blocks": None}

    def __sizeof__(self) -> int:
        """The bytes that it takes, by which Dask decides where work on it is done and whether it may move."""
        held = self._blocks.array.nbytes if isinstance(self._blocks, ArrayBlocks) else 0
        return held + 4 * self.places.nbytes

    def open(self, room: float) -> None:
        """Hold the rows in memory where they take at most `room` bytes."""
        blocks = self.source.blocks(self.places)
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
            self._blocks = self.source.blocks(self.places)
        return BlockPool(self._blocks, self.rows, cpu_count())


def opened(share: Share) -> Share:
    """Return the share, with its rows in memory where the process then stays within HELD of its memory limit."""
    from distributed import get_worker

    worker = get_worker()
    limit = worker.memory_manager.memory_limit
    with _turn:
        share.open(HELD * limit - worker.monitor.get_process_memory() if limit else float("inf"))
    return share


def same(work: Result) -> Result:
    """Return what is sent: the work of a pass, which every worker then gets from another one, not from the client."""
    return work


def each(share: Share, work: Callable[[np.ndarray, Known], Result]) -> list[Result]:
    """Return the work's result of each block."""
    with _turn, threadpool_limits(1, "blas"), share.pool() as pool:
        return list(pool.each(work, share.known))


def added(
    share: Share, work: Callable[[np.ndarray, Known], Sequence[np.ndarray]]
) -> tuple[list[Sequence[np.ndarray]], np.ndarray]:
    """Return each block's arrays but the last, and the float64 sum of the last ones, in the blocks' order.

    The sum of the slopes, float32, is exact but where sizes of its terms differ by a factor of 2^29: so it hardly ever
    matters where one share ends and the next begins.
    """
    small: list[Sequence[np.ndarray]] = []
    totals: list[np.ndarray] = []
    with _turn, threadpool_limits(1, "blas"), share.pool() as pool:
        for *arrays, last in pool.each(work, share.known):
            small.append(arrays)
            totals = totals or [np.zeros(last.shape)]
            totals[0] += last
    return small, totals[0]
