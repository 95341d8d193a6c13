"""What is suspicious in labels: those that a model thinks wrong, and classes of very unequal size."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import softmax

from thaw.models.calibration import logits_of
from thaw.models.linear import SoftmaxRegression
from thaw.models.metrics import evaluate
from thaw.models.selection.path import Folds, LinearPath
from thaw.models.selection.probing import nested_order
from thaw.models.selection.search import make_folds
from thaw.models.solver.blocks import ArrayBlocks, BlockPool

MUCH_LARGER = 10.0  # times the smallest class, from which on a class is warned of
NUM_FOLDS = 5
# C times the number of rows: how the probe behind the doubts is regularised. Of 5 % labels replaced at random, with 10,
# 30 and 100 it lists 77, 79 and 81 % on the digits (averaged block4_pool; 97, 95 and 92 % of what it lists are such).
PULL = 30.0
# How much likelier than the given label the suggested one is at least: with 0.5 in place of 0, of the labels listed on
# 5,000 images of CIFAR-10, 42 in place of 25 % are replaced ones, and 58 in place of 69 % of those are listed.
SURE = 0.5


@dataclass(frozen=True)
class Doubts:
    """Labels that a model thinks wrong, the surest first, each (n,).

    `rows` are their places, `suggested` the classes thought right, `probabilities` those of the suggested classes,
    `margins` how much they lie above those of the given ones.
    """

    rows: np.ndarray
    suggested: np.ndarray
    probabilities: np.ndarray
    margins: np.ndarray


def probable_label_errors(labels: np.ndarray, probabilities: np.ndarray) -> Doubts:
    """Return the rows whose label is probably wrong, given `labels` (N,) int64 and out-of-fold `probabilities` (N, K).

    A class's threshold is its mean probability over the rows labelled so. A row is confidently of the most probable
    among the classes whose thresholds it reaches; it is listed where that is not its label. Source: Northcutt, Jiang
    and Chuang, "Confident learning: estimating uncertainty in dataset labels", JAIR 70 (2021), section 3.1. Of these,
    only those are listed here that are likelier than the label by 0.5. Classes without a row are suggested nowhere.
    """
    num_classes = probabilities.shape[1]
    given = probabilities[np.arange(len(labels)), labels]
    counts = np.bincount(labels, minlength=num_classes)
    sums = np.bincount(labels, weights=given, minlength=num_classes)
    thresholds = np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)
    confident = np.where(probabilities >= thresholds, probabilities, -1.0)
    suggested = confident.argmax(axis=1)
    chosen = confident[np.arange(len(labels)), suggested]
    rows = np.flatnonzero((suggested != labels) & (chosen - given >= SURE))
    margins = chosen[rows] - given[rows]
    order = np.argsort(-margins, kind="stable")
    rows = rows[order]
    return Doubts(rows, suggested[rows], chosen[rows], margins[order])


def few_of_each(
    labels: np.ndarray, allowed: np.ndarray, most: int, seed: int, most_classes: int | None = None
) -> np.ndarray:
    """Return the ascending places of at most `most` rows where `allowed` (N,) bool holds, stratified and seeded.

    Of classes with fewer than five of them there is none, nor of more than `most_classes` classes, drawn by the seed.
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
    """Return five folds of `labels` (n,), of whole `groups` (n,) if any; None for one class or fewer groups."""
    if len(np.unique(labels)) < 2 or (groups is not None and len(np.unique(groups)) < NUM_FOLDS):
        return None
    return make_folds(labels, groups, NUM_FOLDS, seed)


def out_of_fold(features: np.ndarray, labels: np.ndarray, folds: Folds, num_classes: int) -> np.ndarray:
    """Return each row's class probabilities, float64 (N, K), by logistic regression on the folds without it.

    `features` (N, D) float32, `labels` (N,) int64, and `folds` that hold out every row once. The regularisation is
    one value, since what is asked for is how rows compare. A class without a row gets 0.
    """
    with BlockPool(ArrayBlocks(features)) as pool:
        path = LinearPath(SoftmaxRegression, pool, labels, folds, None)
        scores = path.fit(PULL / len(labels), held_out=True).held_out_scores
    if scores is None or not np.isfinite(scores).all():
        raise ValueError("expected folds that hold out every row")
    probabilities = np.zeros((len(labels), num_classes))
    probabilities[:, path.classes] = softmax(logits_of(scores.astype(np.float64)), axis=1)
    return probabilities


def imbalance(counts: Sequence[int], class_names: Sequence[str]) -> tuple[float, str | None]:
    """Return how many times the smallest class the largest is, and from 10 on a warning that says so.

    `counts` are the images of each class. Classes without an image do not count.
    """
    present = [(count, name) for count, name in zip(counts, class_names, strict=True) if count]
    (fewest, rare), (most, common) = min(present), max(present)
    ratio = most / fewest
    if ratio < MUCH_LARGER:
        return ratio, None
    return ratio, (
        f"the class {common} has {most} images, {ratio:.0f} times as many as {rare} with {fewest}: look at the "
        "balanced accuracy rather than the accuracy, or type --class-weight balanced"
    )


def restated(
    labels: np.ndarray, probabilities: np.ndarray, kept: np.ndarray, class_names: Sequence[str]
) -> dict[str, Any] | None:
    """Return `thaw.models.metrics.evaluate` of the rows where `kept` (N,) bool holds; None where it holds nowhere."""
    if not kept.any():
        return None
    return evaluate(labels[kept], probabilities[kept], class_names)
