"""Threads that work beside their caller: batches loaded ahead of it, and results written behind it."""

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Self, TypeVar

from thaw.features.processor import num_processors

NUM_DECODERS = max(2, min(8, num_processors()))
BATCHES_AHEAD = NUM_DECODERS + 1
BATCHES_BEHIND = 2

SLOW_IMAGE = 0.0005  # seconds of a processor
WAITING = 5  # a load that takes more times its processor's seconds waits for a disk or a network

Batch = TypeVar("Batch", bound=Sized)
Loaded = TypeVar("Loaded")


def load_ahead(load: Callable[[Batch], Loaded], batches: Iterable[Batch]) -> Generator[Loaded, None, None]:
    """Yield `load(batch)` for each batch in order, a few batches ahead of the caller, in threads.

    Only one thread works until a batch takes more than half a millisecond an image, of a processor or of waiting for a
    disk: threads that decode small images wait for Python's one lock more than they work, and take twice the
    processor's time. Closing the generator lets the threads end the batches that they have begun and drops the rest.
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
    """One thread that does the caller's work in order, while the caller continues; use it in a `with` block.

    The caller waits if more than BATCHES_BEHIND pieces are not yet done, so that memory stays bounded. If a piece
    fails, its error is raised in the caller, at the next `hand` or at the end of the block, and no later piece is done.
    If the caller itself fails, the pieces that it handed over before are still done.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._handed: deque[Future[None]] = deque()
        self._failed = False

    def hand(self, work: Callable[..., None], *arguments: Any) -> None:
        """Let the thread call `work(*arguments)`; raises the error of an earlier piece of work."""
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

    def __exit__(self, kind: type | None, *error: object) -> None:
        self._thread.shutdown()
        if kind is None:
            for work in self._handed:
                work.result()
