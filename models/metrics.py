"""Labels and predictions -> the figures of report.json, and whether one strategy is better than another."""

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any

import numpy as np
from scipy.special import ndtri
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix, log_loss, precision_recall_fscore_support, roc_auc_score

CONFIDENCE = 0.95
NUM_CALIBRATION_BINS = 15
SUM_TOLERANCE = 1e-4


def evaluate(labels: np.ndarray, probabilities: np.ndarray, class_names: Sequence[str]) -> dict[str, Any]:
    """Score predicted probabilities (N, K) against true labels (N,).

    The predicted label is the most probable class, the first of equals.

    Args:
        labels: (N,) int64 in [0, K).
        probabilities: (N, K) float64, whose rows sum to 1.
        class_names: the K names.

    Returns:
        The figures, ready for JSON:

        - `accuracy`, a fraction, and `accuracy_ci95` [low, high], Wilson's score interval;
        - `balanced_accuracy`: the mean recall over the classes that occur in `labels`;
        - `macro_f1`: the mean F1 over the classes that occur in `labels` or among the predictions;
        - `log_loss`, in nats; a probability of 0 counts as float64's epsilon, so that it stays finite;
        - `ece`, see `expected_calibration_error`;
        - `roc_auc` of the second class, if there are two classes and both occur in `labels`, otherwise None;
        - `per_class`: K times {class, precision, recall, f1, support}; a ratio is 0 if its denominator is 0;
        - `confusion_matrix`: K x K counts, rows are true classes.

    Raises:
        ValueError: shapes, types or values are not as above.
    """
    labels, probabilities = check_predictions(labels, probabilities, len(class_names))
    predicted, classes = probabilities.argmax(axis=1), np.arange(len(class_names))
    scores = precision_recall_fscore_support(labels, predicted, labels=classes, zero_division=0)
    precision, recall, f1, support = scores
    columns = (precision, recall, f1, support.astype(int))  # scikit-learn counts in floats if no label is correct
    fields = ("class", "precision", "recall", "f1", "support")
    rows = zip(class_names, *(column.tolist() for column in columns), strict=True)
    present = np.isin(classes, labels)
    num_correct = int((predicted == labels).sum())
    return {
        "accuracy": num_correct / len(labels),
        "accuracy_ci95": wilson_interval(num_correct, len(labels)),
        "balanced_accuracy": fmean(recall[present]),
        "macro_f1": fmean(f1[present | np.isin(classes, predicted)]),
        "log_loss": log_loss(labels, probabilities / probabilities.sum(axis=1, keepdims=True), labels=classes),
        "ece": expected_calibration_error(labels, probabilities),
        "roc_auc": _roc_auc(labels, probabilities),
        "per_class": [dict(zip(fields, row, strict=True)) for row in rows],
        "confusion_matrix": confusion_matrix(labels, predicted, labels=classes).tolist(),
    }


def _roc_auc(labels: np.ndarray, probabilities: np.ndarray) -> float | None:
    if probabilities.shape[1] != 2 or len(np.unique(labels)) < 2:
        return None
    return float(roc_auc_score(labels, probabilities[:, 1]))


def check_predictions(labels: np.ndarray, probabilities: np.ndarray, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return `labels` as (N,) int64 and `probabilities` as (N, K) float64, once both are found to be valid.

    Args:
        labels: (N,) integers.
        probabilities: (N, K) numbers.
        num_classes: K.

    Raises:
        ValueError: there is no row, a shape or type is another one, a label is outside [0, K), or a row is not
            finite, has a negative value or does not sum to 1 within 1e-4.
    """
    labels, probabilities = np.asarray(labels), np.asarray(probabilities, dtype=np.float64)
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise ValueError(f"labels are {labels.dtype} {labels.shape}; expected integers of shape (N,)")
    if len(labels) == 0 or num_classes == 0:
        raise ValueError(f"got {len(labels)} labels and {num_classes} classes; expected at least one of each")
    if probabilities.shape != (len(labels), num_classes):
        expected = (len(labels), num_classes)
        raise ValueError(f"probabilities have the shape {probabilities.shape}; expected (N, K) = {expected}")
    if labels.min() < 0 or labels.max() >= num_classes:
        raise ValueError(f"labels go from {labels.min()} to {labels.max()}; expected 0 to {num_classes - 1}")
    if not np.isfinite(probabilities).all():
        row = int(np.argmin(np.isfinite(probabilities).all(axis=1)))
        raise ValueError(f"probabilities of row {row} are not finite; expected numbers from 0 to 1")
    if probabilities.min() < 0:
        row = int(probabilities.min(axis=1).argmin())
        raise ValueError(f"row {row} has the probability {probabilities[row].min():.6g}; expected 0 to 1")
    gaps = np.abs(probabilities.sum(axis=1) - 1)
    if gaps.max() > SUM_TOLERANCE:
        row = int(gaps.argmax())
        raise ValueError(f"probabilities of row {row} sum to {probabilities[row].sum():.6g}; expected 1")
    return labels.astype(np.int64), probabilities


def expected_calibration_error(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the gap between confidence and accuracy, from 0 (calibrated) to 1.

    The confidence of an image is its top probability. The confidences fall into 15 bins of equal width, each open on
    its left. The error is the mean over images of |accuracy - mean confidence| of the image's bin. Source: Guo, Pleiss,
    Sun and Weinberger, "On Calibration of Modern Neural Networks", ICML 2017, equations 2, 3 and 5.
    """
    confidence, correct, bins = _binned(labels, probabilities, NUM_CALIBRATION_BINS)
    gaps = np.bincount(bins, weights=correct - confidence)
    return min(1.0, float(np.abs(gaps).sum() / len(labels)))


def reliability(labels: np.ndarray, probabilities: np.ndarray, num_bins: int) -> list[dict[str, Any]]:
    """Return the `num_bins` points of a reliability diagram, by bins of the confidence.

    Args:
        labels: (N,) int64.
        probabilities: (N, K) float64.
        num_bins: the number of bins of equal width.

    Returns:
        For each bin its edges `low` and `high`, open on the left as in `expected_calibration_error`, the number of its
        images as `count`, and their mean `confidence` and `accuracy`, None if there is no image.
    """
    confidence, correct, bins = _binned(labels, probabilities, num_bins)
    return [
        {
            "low": number / num_bins,
            "high": (number + 1) / num_bins,
            "count": int((bins == number).sum()),
            "confidence": float(confidence[bins == number].mean()) if (bins == number).any() else None,
            "accuracy": float(correct[bins == number].mean()) if (bins == number).any() else None,
        }
        for number in range(num_bins)
    ]


def _binned(labels: np.ndarray, probabilities: np.ndarray, num_bins: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the confidence, correctness and bin of each image, three arrays (N,); bins are open on the left."""
    confidence = np.clip(probabilities.max(axis=1), 0, 1)
    correct = probabilities.argmax(axis=1) == labels
    edges = np.linspace(0, 1, num_bins + 1)
    return confidence, correct, np.digitize(confidence, edges[1:-1], right=True)


def wilson_interval(num_correct: int, num_images: int) -> list[float]:
    """Return Wilson's 95 % score interval [low, high] of the share num_correct / num_images."""
    interval = binomtest(num_correct, num_images).proportion_ci(CONFIDENCE, method="wilson")
    return [float(interval.low), float(interval.high)]


def compare(correct_a: np.ndarray, correct_b: np.ndarray) -> dict[str, Any]:
    """Compare two strategies by which of the same images each labels correctly, two (N,) bool arrays.

    The two-sided McNemar test is exact: under equal accuracy, an image that only one of the two labels correctly is a
    fair coin. Source: McNemar, Psychometrika 12 (1947), 153-157.

    Returns:
        `difference`, the accuracy of a minus the accuracy of b; `ci95`, its `paired_interval` [low, high]; and
        `mcnemar_p`, the p-value of the test, 1.0 if there is no image that only one labels correctly.

    Raises:
        ValueError: an array is not boolean or is empty, or their shapes differ.
    """
    correct_a, correct_b = np.asarray(correct_a), np.asarray(correct_b)
    kinds = f"{correct_a.dtype} {correct_a.shape} and {correct_b.dtype} {correct_b.shape}"
    if correct_a.dtype != bool or correct_b.dtype != bool or correct_a.ndim != 1:
        raise ValueError(f"got {kinds}; expected two bool arrays of shape (N,)")
    if correct_a.shape != correct_b.shape or len(correct_a) == 0:
        raise ValueError(f"got {kinds}; expected the same number of images in both, at least one")
    only_a, only_b = int((correct_a & ~correct_b).sum()), int((correct_b & ~correct_a).sum())
    discordant = only_a + only_b
    return {
        "difference": (only_a - only_b) / len(correct_a),
        "ci95": paired_interval(only_a, only_b, len(correct_a)),
        "mcnemar_p": float(binomtest(only_a, discordant).pvalue) if discordant else 1.0,
    }


def paired_interval(only_a: int, only_b: int, num_images: int) -> list[float]:
    """Return the 95 % interval [low, high] of the difference of two accuracies on the same images.

    It is the difference (b - c) / n +- z standard errors, see `paired_standard_error`, cut to [-1, 1].

    Args:
        only_a: the number of images that only a labels correctly.
        only_b: the number of images that only b labels correctly.
        num_images: the number of all images.
    """
    difference = (only_a - only_b) / (num_images + 2)
    half = float(ndtri((1 + CONFIDENCE) / 2)) * paired_standard_error(only_a, only_b, num_images)
    return [max(-1.0, difference - half), min(1.0, difference + half)]


def paired_standard_error(only_a: int, only_b: int, num_images: int) -> float:
    """Return the standard error of the difference of two accuracies on the same images, of Wald's interval.

    It is sqrt(b + c - (b - c)^2 / n) / n, with 0.5 added to each of the four cells: b and c are the discordant cells,
    n = num_images + 2 is the total. Source: Agresti and Min, "Simple improved confidence intervals for comparing
    matched proportions", Statistics in Medicine 24 (2005), 729-740.

    Args:
        only_a: the number of images that only a labels correctly.
        only_b: the number of images that only b labels correctly.
        num_images: the number of all images.
    """
    total = num_images + 2
    return math.sqrt(only_a + only_b + 1 - (only_a - only_b) ** 2 / total) / total


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for their number, in the given order; none is lowered, and each stays at most 1.

    Claims are made for adjusted values below 0.05. The chance of a single false claim is then below 5 %. Source: Holm,
    "A simple sequentially rejective multiple test procedure", Scand. J. Statistics 6 (1979), 65-70.
    """
    adjusted, running = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = running
    return adjusted


def worst_classes(matrix: np.ndarray, limit: int) -> list[int]:
    """Return the indices of the classes with the least recall, then the least F1, at most `limit`.

    `matrix` (K, K) counts images, rows are true classes; classes without test images are left out.
    """
    hits, support, called = np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
    recall, f1 = hits / np.maximum(support, 1), 2 * hits / np.maximum(support + called, 1)
    return [int(k) for k in np.lexsort((f1, recall)) if support[k]][:limit]


def top_confusions(matrix: np.ndarray, class_names: Sequence[str], limit: int) -> list[tuple[str, str, int, float]]:
    """Return the most frequent confusions: true class, predicted class, count, and its share of the true class.

    Args:
        matrix: the confusion matrix, int64 (K, K), rows are true classes.
        class_names: the names of the K classes.
        limit: how many confusions are returned at most.
    """
    mistakes = matrix - np.diag(np.diag(matrix))
    cells = np.argsort(-mistakes, axis=None, kind="stable")[:limit]
    return [
        (class_names[true], class_names[called], int(matrix[true, called]), matrix[true, called] / matrix[true].sum())
        for true, called in zip(*np.unravel_index(cells, matrix.shape), strict=True)
        if mistakes[true, called]
    ]
