"""The choice of the smoothest value within one standard error, and the end of a path."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thaw.models.metrics import paired_standard_error
from thaw.models.selection.one_standard_error import PATIENCE, highest, past_best, smoothest


def path_of(*accuracies: float, num_rows: int = 1000) -> list[np.ndarray]:
    """Paths on which a row is labelled correctly if its number is small enough: no more rows differ than need to."""
    return [np.arange(num_rows) < round(accuracy * num_rows) for accuracy in accuracies]


def length(path: list[np.ndarray]) -> int:
    """Return how many values are tried."""
    return next((number for number in range(1, len(path) + 1) if past_best(path[:number])), len(path))


def test_the_smoothest_within_an_error_of_the_paired_difference_is_chosen() -> None:
    assert paired_standard_error(1, 0, 1000) > 0.001
    assert paired_standard_error(3, 0, 1000) < 0.003
    assert smoothest(path_of(0.897, 0.899, 0.9, 0.899)) == 1
    assert highest(path_of(0.897, 0.899, 0.9, 0.9)) == 2


def test_an_unpaired_error_would_give_accuracy_away() -> None:
    """0.7 points are clear if the same rows are labelled correctly, though an accuracy's own error is 0.9 points."""
    assert smoothest(path_of(0.893, 0.9)) == 1
    correct = np.arange(1000) < 900
    others = np.roll(correct, 100)
    others[np.flatnonzero(others)[:7]] = False
    assert smoothest([others, correct]) == 0


@given(st.lists(st.lists(st.booleans(), min_size=30, max_size=30), min_size=1, max_size=10))
def test_the_choice_is_never_more_flexible_than_the_best_nor_clearly_worse(rows: list[list[bool]]) -> None:
    path = [np.array(row) for row in rows]
    chosen, best = smoothest(path), highest(path)
    assert chosen <= best
    only_best, only_chosen = ((a & ~b).sum() for a, b in ((path[best], path[chosen]), (path[chosen], path[best])))
    assert path[best].mean() - path[chosen].mean() <= paired_standard_error(int(only_best), int(only_chosen), 30)


@pytest.mark.parametrize(
    ("accuracies", "tried"),
    [
        ((0.9, 0.8, 0.7, 0.6, 0.5), 4),  # falls from the first value on
        ((0.1, 0.8, 0.9, 0.7, 0.7, 0.6, 0.6), 6),
        ((0.1, 0.9, 0.8, 0.8, 0.899, 0.8, 0.8, 0.8, 0.7), 8),  # one within the error begins the count anew
        ((0.5, 0.5, 0.5, 0.5, 0.5, 0.6), 6),  # all labels are those of one class at first
        ((0.1, 0.9, 0.899, 0.9, 0.899, 0.9), 6),  # nearly equal is not below
        ((0.1, 0.8, 0.9, 0.9, 0.9, 0.9, 0.9), 5),  # nothing changes any more
    ],
)
def test_the_path_ends_if_three_values_are_clearly_below_the_best_or_alike(
    accuracies: tuple[float, ...], tried: int
) -> None:
    assert PATIENCE == 3
    assert length(path_of(*accuracies)) == tried
