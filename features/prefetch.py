"""Work that threads do while the caller does its own: loaded ahead of it, or left behind it."""

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self, TypeVar

from thaw.features.processor import num_processors

NUM_DECODERS = max(2, min(8, num_processors()))
BATCHES_AHEAD = NUM_DECODERS + 1
BATCHES_BEHIND = 2

SLOW_IMAGE = 0.0005  # seconds of a processor
WAITING = 5  # times the processor's seconds: a load that takes longer waits for a disk or a network

Batch = TypeVar("Batch", bound=Sized)
Loaded = TypeVar("Loaded")


def load_ahead(load: Callable[[Batch], Loaded], batches: Iterable[Batch]) -> Generator[Loaded, None, None]:
    """Yield `load(batch)` for each batch in order, a few batches ahead of the caller, in threads.

    Only one thread works until the images of a batch turn out to take more than half a millisecond each, of a processor
    or waiting for a disk: threads that decode small images wait for Python's one lock more than they work, and take
    twice the processor's time.
    Closing the generator ends what the threads have begun and drops the rest.
    """
    gate, is_open = threading.Semaphore(1), False

    def load_one(batch: Batch) -> Loaded:
        nonlocal is_open
        with gate:
            began, clock = time.thread_time(), time.perf_counter()
            loaded = load(batch)
            worked, passed = time.thread_time() - began, time.perf_counter() - clock
            if not is_open and (worked if passed < WAITING * worked else passed) > SLOW_IMAGE * len(batch):
                is_open = True
                gate.release(NUM_DECODERS - 1)
        return loaded

    threads = ThreadPoolExecutor(NUM_DECODERS)
    ahead: deque[Future[Loaded]] = deque()
    try:
        for batch in batches:
            ahead.append(threads.submit(load_one, batch))
            if len(ahead) > BATCHES_AHEAD:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        threads.shutdown(cancel_futures=True)


class Behind:
    """One thread that does the work it is handed, in order, while the caller goes on; use it in a `with` block.

    The caller waits where more than BATCHES_BEHIND pieces are not yet done, so that memory stays bounded. Work that
    fails ends the caller by the same error, at its next `hand` or at the end of the block, and nothing handed later is
    done. Where the caller itself fails, what it handed before is still done.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._handed: deque[Future[None]] = deque()
        self._failed = False

    def hand(self, work: Callable[..., None], *arguments: Any) -> None:
        """Have `work(*arguments)` done; raises what an earlier piece of work raised."""
        self._handed.append(self._thread.submit(self._do, work, arguments))
        while self._handed and (len(self._handed) > BATCHES_BEHIND or self._handed[0].done()):
            self._handed.popleft().result()

    def _do(self, work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        if self._failed:
            return
        try:
            work(*arguments)
        except BaseException:
            self._failed = True
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._thread.shutdown()
        if kind is None:
            for work in self._handed:
                work.result()
