import numpy as np
import pytest

from thaw.features.engines import utilisation
from thaw.features.engines.utilisation import Watched


class Clock:
    """A clock that moves only where it is told to."""

    now = 100.0

    def perf_counter(self) -> float:
        return self.now


class Slow:
    """An engine that takes two seconds of the clock for each batch, ten for the first."""

    batch_size = 4

    def __init__(self, clock: Clock):
        self.clock, self.calls = clock, 0

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        self.clock.now += 2 if self.calls else 10
        self.calls += 1
        return {"layer": images}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(utilisation, "time", clock)
    return clock


def test_busy_is_the_share_after_the_first_batch(clock: Clock) -> None:
    watched = Watched(Slow(clock))
    for wait in (5.0, 1.0, 3.0):  # before each batch; the first one's is not counted
        clock.now += wait
        assert watched(np.ones((4, 2, 2, 3)))["layer"].shape == (4, 2, 2, 3)
    assert watched.busy == pytest.approx(4 / 8)
    assert watched.rate == pytest.approx(8 / 4)
    assert watched.summary() == (
        "the engine was busy 50 % of the time at 2 images/s; it waited for images 50 % of the time"
    )
    assert watched.batch_size == 4


@pytest.mark.parametrize("batches", [0, 1])
def test_one_batch_says_nothing(clock: Clock, batches: int) -> None:
    watched = Watched(Slow(clock))
    for _ in range(batches):
        watched(np.ones((1, 2, 2, 3)))
    assert watched.busy is watched.rate is watched.summary() is None
