"""Labels to look at: those that a model finds wrong, and classes of very unequal size."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import softmax

from thaw.models.calibration import logits_of
from thaw.models.linear import SoftmaxRegression
from thaw.models.selection.path import Folds, LinearPath
from thaw.models.selection.probing import nested_order
from thaw.models.selection.search import make_folds
from thaw.models.solver.blocks import ArrayBlocks, BlockPool

MAX_CLASS_RATIO = 10.0  # largest class over smallest; from here on there is a warning
NUM_FOLDS = 5
# The regularisation of the probe, as C times the number of rows. Of 5 % labels replaced at random on the digits
# (averaged block4_pool), 10, 30 and 100 list 77, 79 and 81 %; 97, 95 and 92 % of the listed labels are replaced ones.
C_TIMES_ROWS = 30.0
# The least difference of the probabilities of the suggested and the given label. With 0.5 instead of 0, of the labels
# listed on 5,000 images of CIFAR-10, 42 instead of 25 % are replaced ones, and 58 instead of 69 % of those are listed.
MIN_MARGIN = 0.5


@dataclass(frozen=True)
class Doubts:
    """Labels that are probably wrong, the largest margins first.

    Attributes:
        rows: the indices of their rows, (n,) int64.
        suggested: the classes that are probably correct, (n,) int64.
        probabilities: the probabilities of the suggested classes, (n,) float64.
        margins: these probabilities minus the probabilities of the given classes, (n,) float64.
    """

    rows: np.ndarray
    suggested: np.ndarray
    probabilities: np.ndarray
    margins: np.ndarray


def probable_label_errors(labels: np.ndarray, probabilities: np.ndarray) -> Doubts:
    """Return the rows whose label is probably wrong, given `labels` (N,) int64 and out-of-fold `probabilities` (N, K).

    A class's threshold is its mean probability over the rows with its label. The suggested class of a row is the most
    probable among the classes whose thresholds it reaches, and the row is listed if that is not its label. Source:
    Northcutt, Jiang and Chuang, "Confident learning: estimating uncertainty in dataset labels", JAIR 70 (2021), section
    3.1. Here a row is listed only if the margin is at least 0.5. Classes without a row are never suggested.
    """
    num_classes = probabilities.shape[1]
    given = probabilities[np.arange(len(labels)), labels]
    counts = np.bincount(labels, minlength=num_classes)
    sums = np.bincount(labels, weights=given, minlength=num_classes)
    thresholds = np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)
    confident = np.where(probabilities >= thresholds, probabilities, -1.0)
    suggested = confident.argmax(axis=1)
    chosen = confident[np.arange(len(labels)), suggested]
    rows = np.flatnonzero((suggested != labels) & (chosen - given >= MIN_MARGIN))
    margins = chosen[rows] - given[rows]
    order = np.argsort(-margins, kind="stable")
    rows = rows[order]
    return Doubts(rows, suggested[rows], chosen[rows], margins[order])


def few_of_each(
    labels: np.ndarray, allowed: np.ndarray, most: int, seed: int, most_classes: int | None = None
) -> np.ndarray:
    """Return the ascending indices of some rows, (n,) int64, stratified and seeded, at least five of each class.

    Args:
        labels: (N,) int64.
        allowed: which rows to draw from, (N,) bool.
        most: the most rows.
        seed: the seed of the draw.
        most_classes: the most classes, drawn by the seed, None for all.
    """
    rows = np.flatnonzero(allowed)
    if most_classes is not None:
        classes = np.random.default_rng(seed).permutation(np.unique(labels[rows]))[:most_classes]
        rows = rows[np.isin(labels[rows], classes)]
    if len(rows):
        rows = np.sort(rows[nested_order(labels[rows], seed)[:most]])
    classes, counts = np.unique(labels[rows], return_counts=True)
    return rows[np.isin(labels[rows], classes[counts >= NUM_FOLDS])]


def judging_folds(labels: np.ndarray, groups: np.ndarray | None, seed: int) -> Folds | None:
    """Return five folds of `labels` (n,) that divide none of the `groups` (n,); None for one class or fewer groups."""
    if len(np.unique(labels)) < 2 or (groups is not None and len(np.unique(groups)) < NUM_FOLDS):
        return None
    return make_folds(labels, groups, NUM_FOLDS, seed)


def out_of_fold(features: np.ndarray, labels: np.ndarray, folds: Folds, num_classes: int) -> np.ndarray:
    """Return each row's class probabilities, (N, K) float64, by logistic regression on the folds without the row.

    The regularisation is one value, since rows are only compared with each other. A class without a row gets 0.

    Args:
        features: (N, D) float32.
        labels: (N,) int64.
        folds: pairs of fit rows and held-out rows, which hold out every row once.
        num_classes: K.
    """
    with BlockPool(ArrayBlocks(features)) as pool:
        path = LinearPath(SoftmaxRegression, pool, labels, folds, None)
        scores = path.fit(C_TIMES_ROWS / len(labels), held_out=True).held_out_scores
    if scores is None or not np.isfinite(scores).all():
        raise ValueError("expected folds that hold out every row")
    probabilities = np.zeros((len(labels), num_classes))
    probabilities[:, path.classes] = softmax(logits_of(scores.astype(np.float64)), axis=1)
    return probabilities


def imbalance(counts: Sequence[int], class_names: Sequence[str]) -> tuple[float, str | None]:
    """Return the ratio of the largest class to the smallest, and from 10 on a warning.

    `counts` are the numbers of images. Classes without an image are left out.
    """
    present = [(count, name) for count, name in zip(counts, class_names, strict=True) if count]
    (fewest, rare), (most, common) = min(present), max(present)
    ratio = most / fewest
    if ratio < MAX_CLASS_RATIO:
        return ratio, None
    return ratio, (
        f"the class {common} has {most} images, {ratio:.0f} times as many as {rare} with {fewest}: look at the "
        "balanced accuracy rather than the accuracy, or type --class-weight balanced"
    )
