"""Rows of features on the workers of a Dask cluster; the client holds sums, never the rows."""

import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from thaw.features.errors import InputError
from thaw.models.distributed.worker import FileSource, RowShare, added, each, opened, same
from thaw.models.solver.blocks import ArrayBlocks, BlockPool, Blocks, Known, OtherBlocks, Result, block_rows, is_small

if TYPE_CHECKING:
    from distributed import Client, Future

SHARES = 4  # for each worker, so that the share of a lost or slow worker is small
GATHERED = 16  # results that are fetched at once
PATIENCE = 60.0  # seconds without any worker, after which a pass ends
WATCH = 5.0  # seconds between checks whether there are workers


class ClusterBlocks(OtherBlocks):
    """Rows of a feature file, for the workers of `client`; a read on this machine reads the file here."""

    def __init__(self, blocks: Blocks, client: "Client"):
        super().__init__(blocks)
        self.client = client


def open_pool(blocks: Blocks) -> "BlockPool | ClusterPool":
    """Return the pool of the rows, for a `with` block: a cluster's workers for ClusterBlocks, else threads.

    Rows of up to 8 MiB stay on this machine.
    """
    if not isinstance(blocks, ClusterBlocks):
        return BlockPool(blocks)
    if is_small(blocks):
        return BlockPool(ArrayBlocks(blocks.read(slice(None))))
    return ClusterPool(blocks)


class ClusterPool(AbstractContextManager["ClusterPool"]):
    """The workers of a cluster, as a `thaw.models.solver.blocks.Pool`; use it in a `with` block.

    The rows are cut into blocks as on the client's machine alone. Consecutive blocks are a share. A worker opens the
    feature file itself, and holds its shares in memory or reads them anew in each pass. The work of a pass (in a fit,
    the unknowns) is sent once, then from worker to worker. Results are added in the order of the rows, whichever comes
    first. The shares of a lost worker are opened again by others.
    """

    def __init__(self, blocks: ClusterBlocks):
        self.blocks: Blocks = blocks.blocks
        self.rows = block_rows(blocks)
        self._client = blocks.client
        self._known: Known | None = None
        self._shares: list[Future] = []
        self._workers: list[str] = []

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._shares, self._known = [], None  # the workers then let go of the rows

    def each(self, work: Callable[[np.ndarray, Known], Result], known: Known) -> Iterator[Result]:
        """See `thaw.models.solver.blocks.Pool`."""
        for results in self._pass(each, work, known):
            yield from results

    def add(self, work: Callable[[np.ndarray, Known], Sequence], known: Known, totals: Sequence[np.ndarray]) -> None:
        """See `thaw.models.solver.blocks.Pool`; the last array is summed over each share first."""
        for blocks, last in self._pass(added, work, known):
            for arrays in blocks:
                for total, array in zip(totals[:-1], arrays, strict=True):
                    total += array
            totals[-1][...] += last

    def _pass(self, function: Callable[..., Any], work: Any, known: Known) -> Iterator[Any]:
        """Yield `function(share, work)` of each share, in order."""
        if known is not self._known:
            self._open(known)
        sent = self._submit(same, work)
        futures = [
            self._submit(function, share, sent, worker=worker)
            for share, worker in zip(self._shares, self._workers, strict=True)
        ]
        futures.reverse()
        while futures:
            yield from self._gather([futures.pop() for _ in range(min(GATHERED, len(futures)))])

    def _open(self, known: Known) -> None:
        """Let each worker open its shares, which are consecutive."""
        workers = sorted(self._client.nthreads())
        source, indices = FileSource.of(self.blocks)
        number = min(len(self.rows), SHARES * max(1, len(workers)))
        self._shares, self._workers, self._known = [], [], known
        for i in range(number):
            part = self.rows[i * len(self.rows) // number : (i + 1) * len(self.rows) // number]
            start, stop = part[0].start, part[-1].stop
            rows = [slice(block.start - start, block.stop - start) for block in part]
            share = RowShare(source, indices[start:stop], rows, known[start:stop])
            self._workers.append(workers[i * len(workers) // number] if workers else "")
            self._shares.append(self._submit(opened, share, worker=self._workers[-1]))

    def _submit(self, function: Callable[..., Any], *arguments: Any, worker: str = "") -> "Future":
        """Submit a task for a worker, or for any other if this one is lost."""
        import dask

        preferred: dict[str, Any] = {"workers": [worker], "allow_other_workers": True} if worker else {}
        key = f"rows-{function.__name__}-{uuid.uuid4().hex}"
        with dask.config.set({"distributed.admin.large-graph-warning-threshold": 2**50}):  # unknowns may be large
            return self._client.submit(function, *arguments, key=key, pure=False, **preferred)

    def _gather(self, futures: list["Future"]) -> list[Any]:
        """Return the results; raises InputError if no worker has worked for a while."""
        from distributed import wait

        alone_since = None
        while True:
            try:
                with self._client.as_current():
                    wait(futures, timeout=WATCH)
                return self._client.gather(futures)
            except TimeoutError:
                alone_since = None if self._has_workers() else alone_since or time.monotonic()
                if alone_since and time.monotonic() - alone_since > PATIENCE:
                    raise InputError(
                        f"the scheduler at {self._client.scheduler.address} has had no worker that works for "
                        f"{PATIENCE:.0f} s (all lost, or paused at their memory limits); start some, with more memory, "
                        "and type the command again"
                    ) from None

    def _has_workers(self) -> bool:
        workers = self._client.scheduler_info(n_workers=-1)["workers"].values()
        return any(worker.get("status", "running") == "running" for worker in workers)
