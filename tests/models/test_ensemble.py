"""The choice of an ensemble's members, on made-up out-of-fold predictions."""

import numpy as np
import pytest
from sklearn.metrics import log_loss

from thaw.models.ensemble import Gain, judge_members, log_losses, select_members

NUM, CLASSES = 600, 4
LABELS = np.arange(NUM) % CLASSES


def noisy(seed: int, noise: float) -> np.ndarray:
    """Return calibrated-looking probabilities (N, K) of a classifier whose errors are its own."""
    logits = 2.0 * np.eye(CLASSES)[LABELS] + noise * np.random.default_rng(seed).normal(size=(NUM, CLASSES))
    shares = np.exp(logits)
    return shares / shares.sum(axis=1, keepdims=True)


def test_the_best_comes_first_and_independent_errors_average_out() -> None:
    candidates = {"worst": noisy(0, 3.0), "best": noisy(1, 1.0), "second": noisy(2, 1.1)}
    chosen = select_members(candidates, LABELS)
    assert chosen.members[:2] == ("best", "second")
    assert chosen.gain.favoured
    assert chosen.gain.log_loss > chosen.gain.log_loss_error > 0
    mean = np.mean([candidates[name] for name in chosen.members], axis=0)
    assert chosen.log_loss == pytest.approx(log_loss(LABELS, mean))
    assert chosen.accuracy == np.mean(mean.argmax(axis=1) == LABELS)


def test_a_copy_of_the_best_gains_nothing() -> None:
    best = noisy(1, 1.0)
    chosen = select_members({"a": best, "b": best.copy(), "bad": noisy(0, 6.0)}, LABELS)
    assert set(chosen.members) == {"a", "b"}
    assert chosen.gain == Gain(0.0, chosen.gain.accuracy_error, 0.0, 0.0)
    assert not chosen.gain.favoured


def test_it_stops_if_the_log_loss_falls_no_further_and_at_the_most() -> None:
    good = {str(seed): noisy(seed, 1.0) for seed in range(9)}
    assert len(select_members(good, LABELS, most=4).members) == 4
    far = good["0"], noisy(20, 9.0)
    assert select_members({"good": far[0], "far": far[1]}, LABELS, least=1).members == ("good",)
    assert select_members({"good": far[0], "far": far[1]}, LABELS).members == ("good", "far")


def test_a_copy_of_the_best_does_not_end_the_path() -> None:
    """A third member alone makes it worse, and a fourth that is good where the third is bad makes it better."""
    labels = np.zeros(60, np.int64)

    def given(first_half: float, second_half: float) -> np.ndarray:
        true = np.repeat([first_half, second_half], 30)
        return np.column_stack([true, 1 - true])

    candidates = {
        "best": given(0.6, 0.6),
        "copy": given(0.6, 0.6),
        "left": given(0.99, 0.27),
        "right": given(0.27, 0.99),
    }
    chosen = select_members(candidates, labels)
    path = [one["log_loss"] for one in chosen.tried if one["members"] == [*candidates][: len(one["members"])]]
    assert path[0] == path[1] < path[2]
    assert chosen.members == ("best", "copy", "left", "right")
    assert chosen.log_loss == path[3] < path[0]


def test_every_step_is_recorded() -> None:
    chosen = select_members({"a": noisy(1, 1.0), "b": noisy(2, 1.0), "c": noisy(3, 5.0)}, LABELS, least=1)
    assert [one["members"] for one in chosen.tried[:3]] == [["a"], ["b"], ["c"]]
    assert {"members", "log_loss", "accuracy"} == set(chosen.tried[0])


def test_members_by_hand_are_judged_against_the_best_of_them() -> None:
    given = {"good": noisy(0, 0.5), "bad": noisy(1, 4.0), "other": noisy(2, 0.5)}
    judged = judge_members(["good", "bad"], given, LABELS)
    assert judged.gain.log_loss == pytest.approx(log_losses(given["good"], LABELS).mean() - judged.log_loss)
    assert judged.gain.log_loss < 0
    assert not judged.gain.favoured


@pytest.mark.parametrize(
    ("gain", "favoured"),
    [
        (Gain(0.02, 0.01, 0.0, 0.01), True),
        (Gain(0.0, 0.01, 0.02, 0.01), True),
        (Gain(0.005, 0.01, 0.005, 0.01), False),
        (Gain(-0.02, 0.01, 0.05, 0.01), False),
        (Gain(0.02, 0.01, -0.05, 0.01), False),
    ],
)
def test_favoured_means_more_than_the_standard_error(gain: Gain, favoured: bool) -> None:
    assert gain.favoured is favoured


def test_a_probability_of_zero_counts_as_in_the_report() -> None:
    losses = log_losses(np.array([[1.0, 0.0], [0.5, 0.5]]), np.array([1, 0]))
    assert losses.mean() == pytest.approx(log_loss([1, 0], [[1.0, 0.0], [0.5, 0.5]], labels=[0, 1]))
