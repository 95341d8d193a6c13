"""The one-standard-error rule: which value of a path is chosen, and when the path may end."""

from collections.abc import Sequence

import numpy as np

from thaw.models.metrics import paired_standard_error

PATIENCE = 3  # values in a row that are clearly below the best, or that change nothing, before the rest is skipped


def smoothest(path: Sequence[np.ndarray]) -> int:
    """Return the first of some values whose accuracy is within one standard error of the best one's.

    The standard error is that of the difference on the same rows, which is far smaller than that of an accuracy.
    Source: the rule of Breiman, Friedman, Olshen and Stone, "Classification and Regression Trees" (1984), section
    3.4.3, with paired differences.

    Args:
        path: whether each held-out row is labelled correctly, (n,) bool, for each value from the smoothest model on.
    """
    best = highest(path)
    return next(number for number, correct in enumerate(path) if not _below(correct, path[best]))


def highest(path: Sequence[np.ndarray]) -> int:
    """Return the number of the value with the highest accuracy, of equal ones the smoothest."""
    return int(np.argmax([correct.sum() for correct in path]))


def past_best(path: Sequence[np.ndarray]) -> bool:
    """Return whether a path may end: its last PATIENCE values are clearly below the best so far, or change nothing.

    A value is clearly below if it is by more than the standard error of the paired difference. Nothing changes if
    these values label the same rows correctly, and more rows than the smoothest model, since the solution then moves
    no more (before the first rise, the labels may all be those of the largest class).

    Args:
        path: see `smoothest`.
    """
    if len(path) < PATIENCE:
        return False
    last, best = path[-PATIENCE:], path[highest(path)]
    if all(_below(correct, best) for correct in last):
        return True
    still = all((correct == last[0]).all() for correct in last)
    return still and bool(last[0].sum() > path[0].sum())


def _below(correct: np.ndarray, best: np.ndarray) -> bool:
    """Return whether an accuracy is below the best one by more than one standard error."""
    error = paired_standard_error(int((best & ~correct).sum()), int((correct & ~best).sum()), len(best))
    return float(best.mean() - correct.mean()) > error
