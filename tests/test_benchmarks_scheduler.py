"""The simulated scheduler at its limits, where the result is known without it."""

import numpy as np
import pytest

from benchmarks.scheduler import Cluster, closed_form, simulate

ROUGH = {"hours_to_loss": 0.02, "restart": 5.0, "stragglers": 0.1, "slowdown": 4.0, "dispatch": 0.01}


def durations(num: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(1, 9, num)


@pytest.mark.parametrize(("parts", "workers"), [(1, 1), (12, 4), (13, 4), (7, 100)])
def test_equal_parts_without_failures_take_whole_rounds(parts: int, workers: int) -> None:
    outcome = simulate(Cluster(workers), [2.5] * parts)
    assert outcome.seconds == closed_form(Cluster(workers), parts, 2.5) == -(-parts // workers) * 2.5
    assert outcome.retries == outcome.wasted == 0


def test_a_slow_scheduler_is_the_bound() -> None:
    cluster = Cluster(50, dispatch=0.1)
    assert simulate(cluster, [1.0] * 400).seconds == pytest.approx(400 * 0.1 + 1.0)
    assert closed_form(cluster, 400, 1.0) == pytest.approx(41)


@pytest.mark.parametrize("dispatch", [0.001, 0.02, 0.2])
@pytest.mark.parametrize("workers", [1, 8, 64])
def test_with_dispatch_the_formula_is_within_a_part_and_a_round_of_dispatches(dispatch: float, workers: int) -> None:
    cluster = Cluster(workers, dispatch=dispatch)
    found = simulate(cluster, [2.0] * 500).seconds
    assert abs(found - closed_form(cluster, 500, 2.0)) <= 2.0 + workers * dispatch


@pytest.mark.parametrize("seed", range(5))
def test_every_part_is_done_once_and_no_work_is_lost_or_made_up(seed: int) -> None:
    parts = durations(300, seed)
    outcome = simulate(Cluster(7, **ROUGH), parts, seed)
    assert outcome.ended_by == dict.fromkeys(range(300), 1)
    slow = np.random.default_rng(seed).random(300) < ROUGH["stragglers"]
    assert outcome.useful == pytest.approx(np.where(slow, 4.0, 1.0) @ parts)
    assert outcome.retries > 3
    assert 0 < outcome.wasted < outcome.retries * 4 * parts.max()
    assert outcome.useful + outcome.wasted <= 7 * outcome.seconds
    assert 0 < outcome.efficiency(7) < 1


def test_more_workers_are_never_slower() -> None:
    parts = durations(200)
    seconds = [simulate(Cluster(workers, dispatch=0.01), parts).seconds for workers in (1, 2, 3, 5, 8, 20, 100, 200)]
    assert seconds == sorted(seconds, reverse=True)
    assert seconds[0] == pytest.approx(parts.sum() + 200 * 0.01)
    assert seconds[-1] >= parts.max()


def test_failures_and_stragglers_cost_time() -> None:
    parts = durations(400)
    calm = simulate(Cluster(10), parts).seconds
    assert simulate(Cluster(10, stragglers=0.1), parts).seconds > calm
    assert simulate(Cluster(10, hours_to_loss=0.02, restart=5.0), parts).seconds > calm


def test_losses_come_at_their_rate() -> None:
    """A worker that is lost every 36 seconds of life and is away for 4 is lost 2.5 % of the seconds."""
    outcome = simulate(Cluster(20, hours_to_loss=0.01, restart=4.0), [1.0] * 20_000)
    expected = 20 * outcome.seconds / (36 + 4)
    assert outcome.retries == pytest.approx(expected, rel=0.1)
    assert outcome.wasted == pytest.approx(outcome.retries * 0.5, rel=0.15)  # half a part each


def test_a_loss_at_a_known_time_costs_what_was_done_and_the_restart() -> None:
    """Two workers, four parts of 10 s; one is lost after 4 s: its part waits for the other, which is done at 10 s."""
    outcome = simulate(Cluster(2, restart=3.0, losses=((4.0, 1),)), [10.0] * 4)
    assert (outcome.retries, outcome.wasted, outcome.useful) == (1, 4.0, 40.0)
    assert outcome.seconds == 7 + 20  # the lost worker comes back at 7 s and makes two parts, as the other does


def test_a_seed_gives_the_same_run_and_another_another() -> None:
    runs = [simulate(Cluster(5, **ROUGH), durations(100), seed) for seed in (1, 1, 2)]
    assert runs[0] == runs[1]
    assert runs[0].seconds != runs[2].seconds


def test_nothing_to_do_takes_no_time() -> None:
    assert simulate(Cluster(3), []).seconds == 0
    assert simulate(Cluster(3), []).efficiency(3) == 1
