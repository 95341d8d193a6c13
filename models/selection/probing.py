"""Quick linear probes on samples of the rows: how well a layer's features separate the classes."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from thaw.models.metrics import paired_standard_error
from thaw.models.selection.one_standard_error import highest, past_best
from thaw.models.selection.row_space import linear_path
from thaw.models.selection.search import Folds, make_folds
from thaw.models.solver.blocks import ArrayBlocks, BlockPool, Blocks, signed_roots
from thaw.models.strategies import Strategy

SCREENING = (1e-4, 1e-3, 1e-2, 1e-1)  # values of C, since a probe need only come close
MAX_NARROW_FEATURES = 1536  # so few allow values that are a hundred times as large
HELD_OUT_ROWS = 2000  # enough for a standard error of a point; more folds are not solved
NUM_FOLDS = 5
Z = 1.96  # 95 % of a normal distribution lie within so many standard errors of the mean


@dataclass(frozen=True)
class Probed:
    """A probe at its best C.

    Attributes:
        value: the best C.
        correct: whether each of the n held-out rows is labelled correctly at this C, (n,) bool in the rows' order.
        tried: an array of this kind for every C that was tried.
    """

    value: float
    correct: np.ndarray
    tried: tuple[np.ndarray, ...]

    @property
    def accuracy(self) -> float:
        """The share of the held-out rows that are labelled correctly."""
        return float(self.correct.mean())

    @property
    def standard_error(self) -> float:
        """The accuracy's standard error."""
        return standard_error(self.accuracy, len(self.correct))


def standard_error(accuracy: float, num_images: int) -> float:
    """Return the standard error of an accuracy on `num_images`, with one more correct and one more wrong: never 0."""
    share = (accuracy * num_images + 1) / (num_images + 2)
    return float(np.sqrt(share * (1 - share) / max(1, num_images)))


def screening(num_features: int, values: Sequence[float] = SCREENING) -> tuple[float, ...]:
    """Return the values of C to try, two more than `values` if the features are few."""
    return (*values, 10 * values[-1], 100 * values[-1]) if num_features < MAX_NARROW_FEATURES else tuple(values)


def linear_probe(
    strategy: Strategy,
    features: np.ndarray | Blocks,
    labels: np.ndarray,
    folds: Folds,
    values: Sequence[float] | None = None,
) -> Probed:
    """Return the probe at the best of several values of C; the path over C ends after the accuracy has fallen.

    Args:
        strategy: a batched strategy.
        features: (N, D) float32, an array or blocks that are read as they are needed.
        labels: (N,) int64.
        folds: pairs of fit rows and held-out rows.
        values: ascending values of C, None for screening(D).
    """
    values = values or screening(features.shape[1])
    tried: list[np.ndarray] = []
    with BlockPool(ArrayBlocks(features) if isinstance(features, np.ndarray) else features) as pool:
        path = linear_path(strategy.kind(), pool, labels, folds, None)
        for correct in path.correct(values):
            tried.append(correct[path.held_out])
            if past_best(tried):
                break
    best = highest(tried)
    return Probed(values[best], tried[best], tuple(tried))


def optimism(tried: Sequence[np.ndarray], seed: int) -> float:
    """Return the bias of the best accuracy among many settings, at least 0.

    The best is picked on four fifths of the rows and judged on the last fifth, for each fifth in turn. The bias is the
    highest accuracy minus the mean of these judgements.

    Args:
        tried: for each setting whether it labels the held-out rows correctly, (n,) bool of equal rows.
        seed: the seed of the fifths.
    """
    settings = np.array(tried, bool)
    parts = np.random.default_rng(seed).permutation(settings.shape[1]) % min(NUM_FOLDS, settings.shape[1])
    judged = 0.0
    for part in np.unique(parts):
        picked = settings[:, parts != part].sum(axis=1).argmax()
        judged += float(settings[picked, parts == part].sum())
    return max(0.0, float(settings.mean(axis=1).max()) - judged / settings.shape[1])


def transformed(features: np.ndarray, transform: str) -> np.ndarray:
    """Return the features (N, D) after a `transform`: unchanged for `none`, signed square roots for `sqrt`."""
    return signed_roots(features) if transform == "sqrt" else features


def probe_folds(labels: np.ndarray, groups: np.ndarray | None, seed: int, num_held_out: int = HELD_OUT_ROWS) -> Folds:
    """Return the first of five folds that together hold out `num_held_out` rows, all five if the rows are fewer.

    If a class has fewer images than five, or the rows fewer groups, there are as many folds, at least two. Rows of
    one group are divided as if they had none.

    Args:
        labels: (N,) int64.
        groups: (N,) groups of rows that are never divided, or None.
        seed: the seed of the folds.
        num_held_out: the rows to hold out.
    """
    smallest = int(np.bincount(labels)[np.unique(labels)].min())
    num_groups = len(labels) if groups is None else len(np.unique(groups))
    if num_groups < 2:
        groups, num_groups = None, len(labels)
    num_folds = max(2, min(NUM_FOLDS, num_groups if groups is not None else smallest))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a class of one image is never in both parts of a fold
        folds = make_folds(labels, groups, num_folds, seed)
    return folds[: max(1, -(-num_held_out * len(folds) // len(labels)))]


def nested_order(labels: np.ndarray, seed: int) -> np.ndarray:
    """Return all rows in an order (N,) whose every beginning is a random sample with the classes' own shares.

    The rows of each class of `labels` (N,) int64 are shuffled and spread evenly.
    """
    generator = np.random.default_rng(seed)
    positions = np.empty(len(labels))
    for label in np.unique(labels):
        rows = generator.permutation(np.flatnonzero(labels == label))
        positions[rows] = (np.arange(len(rows)) + generator.random()) / len(rows)
    return np.argsort(positions, kind="stable")


def paired_error(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Return the standard error of the difference of two accuracies on the same rows, each (n,) bool."""
    return paired_standard_error(int((ours & ~theirs).sum()), int((theirs & ~ours).sum()), len(ours))
