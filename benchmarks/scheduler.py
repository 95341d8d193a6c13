"""A discrete simulation of a scheduler that hands parts to workers: stragglers, lost workers, parts made again."""

import heapq
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

FREE, LOST, DONE = range(3)  # what an event says of its worker


@dataclass(frozen=True)
class Cluster:
    """Workers of one part at a time, and the scheduler that serves them one after the other.

    `dispatch` are the scheduler's seconds for each part that it hands out; a worker is lost after exponential times of
    the mean `hours_to_loss` and comes back `restart` seconds later, while the part that it had is made again, from its
    beginning, by whichever worker is next. A part is slow with the probability `stragglers`, and then takes `slowdown`
    times as long. `losses` are workers that are lost at known seconds: (seconds, worker).
    """

    workers: int
    dispatch: float = 0.0
    hours_to_loss: float = math.inf
    restart: float = 60.0
    stragglers: float = 0.0
    slowdown: float = 3.0
    losses: tuple[tuple[float, int], ...] = ()


@dataclass
class Outcome:
    """What happened: seconds to the last part, worker-seconds of parts kept and of parts lost, parts done and lost."""

    seconds: float = 0.0
    useful: float = 0.0
    wasted: float = 0.0
    done: int = 0
    retries: int = 0
    ended_by: dict[int, int] = field(default_factory=dict)  # part -> how often it was finished

    def efficiency(self, workers: int) -> float:
        """Return the share of the workers' time that went into parts that were kept."""
        return self.useful / (workers * self.seconds) if self.seconds else 1.0


class Simulation:
    """One run over `parts`, the seconds that each takes on a worker that nothing befalls; the same for a seed."""

    def __init__(self, cluster: Cluster, parts: Sequence[float], seed: int = 0):
        self.cluster, self.outcome = cluster, Outcome()
        generator = np.random.default_rng(seed)
        self._losses = np.random.default_rng((seed, 1))
        slow = generator.random(len(parts)) < cluster.stragglers
        self._seconds = np.where(slow, cluster.slowdown, 1.0) * np.asarray(parts, float)
        self._waiting = deque(range(len(parts)))
        self._events: list[tuple[float, int, int, int]] = []  # time, order of making, kind, worker
        self._made = 0
        self._has: dict[int, tuple[int, float]] = {}  # worker -> its part and since when
        self._life = [0] * cluster.workers  # how often each was lost: what was due for an earlier life is void
        self._idle: list[int] = []
        self._scheduler_free = 0.0

    def run(self) -> Outcome:
        """Return the outcome once every part is done."""
        for worker in range(self.cluster.workers):
            self._add(0.0, FREE, worker)
            self._add_loss(0.0, worker)
        for seconds, worker in self.cluster.losses:
            self._add(seconds, LOST, worker)
        total = len(self._seconds)
        while self.outcome.done < total:
            now, _, kind, code = heapq.heappop(self._events)
            worker, life = code % self.cluster.workers, code // self.cluster.workers
            if life != self._life[worker]:
                continue
            if kind == LOST:
                self._lose(now, worker)
            elif kind == DONE:
                self._finish(now, worker)
            if kind != LOST:
                self._hand(now, worker)
        return self.outcome

    def _add(self, time: float, kind: int, worker: int) -> None:
        self._made += 1
        code = worker + self.cluster.workers * self._life[worker]
        heapq.heappush(self._events, (time, self._made, kind, code))

    def _add_loss(self, now: float, worker: int) -> None:
        if math.isfinite(self.cluster.hours_to_loss):
            self._add(now + self._losses.exponential(3600 * self.cluster.hours_to_loss), LOST, worker)

    def _hand(self, now: float, worker: int) -> None:
        """Give the worker the next part, when the scheduler's turn comes; idle where none is waiting."""
        if not self._waiting:
            self._idle.append(worker)
            return
        part = self._waiting.popleft()
        began = max(now, self._scheduler_free) + self.cluster.dispatch
        self._scheduler_free = began
        self._has[worker] = (part, began)
        self._add(began + self._seconds[part], DONE, worker)

    def _finish(self, now: float, worker: int) -> None:
        part, _ = self._has.pop(worker)
        outcome = self.outcome
        outcome.done += 1
        outcome.useful += self._seconds[part]
        outcome.ended_by[part] = outcome.ended_by.get(part, 0) + 1
        outcome.seconds = now

    def _lose(self, now: float, worker: int) -> None:
        """Take the worker away for its restart, and give what it had to one that has nothing to do."""
        self._life[worker] += 1
        if worker in self._idle:
            self._idle.remove(worker)
        self._add(now + self.cluster.restart, FREE, worker)
        self._add_loss(now + self.cluster.restart, worker)
        if worker in self._has:
            part, began = self._has.pop(worker)
            self.outcome.wasted += max(0.0, now - began)
            self.outcome.retries += 1
            self._waiting.appendleft(part)
            if self._idle:
                self._hand(now, self._idle.pop())


def simulate(cluster: Cluster, parts: Sequence[float], seed: int = 0) -> Outcome:
    """Return the outcome of one run; see `Simulation`."""
    return Simulation(cluster, parts, seed).run()


def closed_form(cluster: Cluster, num_parts: int, seconds: float) -> float:
    """Return the seconds of equal parts where nothing is lost or slow.

    Either the workers are the bound, in rounds of a part and its dispatch, or the scheduler is, which then hands out
    one part after the other; exact where the dispatch takes no time, and within one part and one round of dispatches
    otherwise.
    """
    rounds = math.ceil(num_parts / cluster.workers)
    of_workers = rounds * (seconds + cluster.dispatch)
    of_scheduler = num_parts * cluster.dispatch + seconds
    return max(of_workers, of_scheduler)
