"""Quick linear probes on samples of the rows: how well a layer's features tell the classes apart."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from thaw.models.selection.path import LinearPath
from thaw.models.selection.search import Folds, make_folds, past_best
from thaw.models.solver.blocks import ArrayBlocks, BlockPool, Blocks, signed_roots
from thaw.models.strategies import Strategy

SCREENING = (1e-4, 1e-3, 1e-2, 1e-1)  # values of C, since a probe need only come close
NARROW = 1536  # features; so few bear values that are a hundred times as large
HELD_OUT_ROWS = 2000  # enough for a standard error of a point; more folds are not solved
NUM_FOLDS = 5
Z = 1.96  # standard errors to each side that hold 95 % of a normal distribution


@dataclass(frozen=True)
class Probed:
    """A probe's best C, and which of the held-out rows it labelled rightly there, (n,) bool in the rows' order.

    `tried` has the same of every C that was tried.
    """

    value: float
    right: np.ndarray
    tried: tuple[np.ndarray, ...]

    @property
    def accuracy(self) -> float:
        """The share of the held-out rows that were labelled rightly."""
        return float(self.right.mean())

    @property
    def standard_error(self) -> float:
        """The accuracy's standard error."""
        return standard_error(self.accuracy, len(self.right))


def standard_error(accuracy: float, num_images: int) -> float:
    """Return the standard error of an accuracy on `num_images`; with one more right and one more wrong, so never 0."""
    share = (accuracy * num_images + 1) / (num_images + 2)
    return float(np.sqrt(share * (1 - share) / max(1, num_images)))


def screening(num_features: int, values: Sequence[float] = SCREENING) -> tuple[float, ...]:
    """Return the values of C to try with so many features."""
    return (*values, 10 * values[-1], 100 * values[-1]) if num_features < NARROW else tuple(values)


def linear_probe(
    strategy: Strategy,
    features: np.ndarray | Blocks,
    labels: np.ndarray,
    folds: Folds,
    values: Sequence[float] | None = None,
) -> Probed:
    """Return the probe of `features` (N, D) float32 and `labels` (N,) int64 at the best of the ascending `values`.

    None: those of screening(D). Features are an array, or blocks of one that is read as it is wanted. As in a whole
    choice, the path over C ends where the accuracy has fallen.
    """
    values = values or screening(features.shape[1])
    tried: list[np.ndarray] = []
    with BlockPool(ArrayBlocks(features) if isinstance(features, np.ndarray) else features) as pool:
        path = LinearPath(strategy.kind(), pool, labels, folds, None)
        for right in path.right(values):
            tried.append(right[path.held_out])
            if past_best([float(known.mean()) for known in tried]):
                break
    best = max(range(len(tried)), key=lambda number: tried[number].mean())
    return Probed(values[best], tried[best], tuple(tried))


def optimism(tried: Sequence[np.ndarray], seed: int) -> float:
    """Return by how much the best accuracy of many settings flatters it, at least 0, since it was picked as the best.

    `tried` are the settings' right rows, each (n,) bool of the same held-out rows. What is picked by four fifths of the
    rows is judged by the last fifth, for each fifth in turn; the mean of that is what picking in truth achieves.
    """
    settings = np.array(tried, bool)
    parts = np.random.default_rng(seed).permutation(settings.shape[1]) % min(NUM_FOLDS, settings.shape[1])
    judged = 0.0
    for part in np.unique(parts):
        picked = settings[:, parts != part].sum(axis=1).argmax()
        judged += float(settings[picked, parts == part].sum())
    return max(0.0, float(settings.mean(axis=1).max()) - judged / settings.shape[1])


def transformed(features: np.ndarray, transform: str) -> np.ndarray:
    """Return the features (N, D) as a strategy's `transform` has them: as they are, or their signed square roots."""
    return signed_roots(features) if transform == "sqrt" else features


def probe_folds(labels: np.ndarray, groups: np.ndarray | None, seed: int, num_held_out: int = HELD_OUT_ROWS) -> Folds:
    """Return as many of five folds as hold out `num_held_out` rows together, all five where the rows are fewer.

    There are fewer than five folds where a class has fewer images, two at least.
    """
    smallest = int(np.bincount(labels)[np.unique(labels)].min())
    num_folds = NUM_FOLDS if groups is not None else max(2, min(NUM_FOLDS, smallest))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a class of one image is on one side only
        folds = make_folds(labels, groups, num_folds, seed)
    return folds[: max(1, -(-num_held_out * len(folds) // len(labels)))]


def nested_order(labels: np.ndarray, seed: int) -> np.ndarray:
    """Return all rows in an order of which every beginning is a random sample with the classes' own shares.

    `labels` (N,) int64; the rows of each class, shuffled, are laid out evenly.
    """
    generator = np.random.default_rng(seed)
    places = np.empty(len(labels))
    for label in np.unique(labels):
        rows = generator.permutation(np.flatnonzero(labels == label))
        places[rows] = (np.arange(len(rows)) + generator.random()) / len(rows)
    return np.argsort(places, kind="stable")


def paired_error(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Return the standard error of the difference of two accuracies on the same rows, each (n,) bool.

    As in the paired interval of the comparison, half a row is added to each cell (Agresti and Min 2005).
    """
    total = len(ours) + 2
    only_ours, only_theirs = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    return float(np.sqrt(only_ours + only_theirs + 1 - (only_ours - only_theirs) ** 2 / total) / total)
