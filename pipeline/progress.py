"""Progress of a long stage on standard error: a live bar on a terminal, a line now and then in a log."""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

log = logging.getLogger("thaw")

SECONDS_BETWEEN_LINES = 15.0


class _Rate(ProgressColumn):
    """Finished images per second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.0f} images/s" if speed else "")


@contextmanager
def counting(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Yield a function to call with the number of images that were just finished, of `total`."""
    if sys.stderr.isatty():
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task(what, total=total)
            yield lambda count: bar.advance(task, count)
    else:
        yield _Lines(what, total).advance


class _Lines:
    def __init__(self, what: str, total: int):
        self.what, self.total, self.done = what, total, 0
        self.began = self.last = time.monotonic()

    def advance(self, count: int) -> None:
        self.done += count
        now = time.monotonic()
        if now - self.last < SECONDS_BETWEEN_LINES and self.done < self.total:
            return
        self.last = now
        rate = self.done / max(now - self.began, 1e-9)
        left = (self.total - self.done) / rate
        log.info(
            "%s: %s of %s images, %.0f images/s, %d:%02d left",
            self.what, f"{self.done:,}", f"{self.total:,}", rate, *divmod(round(left), 60),
        )  # fmt: skip
