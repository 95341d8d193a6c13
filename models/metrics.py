"""Labels and predictions -> the numbers in report.json, and whether one strategy is better than another."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import ndtri
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

CONFIDENCE = 0.95
NUM_BINS = 15
SUM_TOLERANCE = 1e-4


def evaluate(labels: np.ndarray, probabilities: np.ndarray, class_names: Sequence[str]) -> dict[str, Any]:
    """Score predicted probabilities against true labels.

    `labels` is (N,) int64 in [0, K), `probabilities` (N, K) float64 with rows that sum to 1, `class_names`
    K names. The predicted label is the most probable class (the first of equals). Out comes, ready for JSON:

    - `accuracy`, a fraction, and `accuracy_ci95` [low, high], Wilson's score interval;
    - `balanced_accuracy`: the mean recall over the classes that occur in `labels`;
    - `macro_f1`: the mean F1 over the classes that occur in `labels` or among the predictions;
    - `log_loss`, in nats; a probability of 0 counts as float64's epsilon, so that it stays finite;
    - `ece`, see `expected_calibration_error`;
    - `roc_auc`: of the second class, for two classes that both occur in `labels`, otherwise None;
    - `per_class`: K times {class, precision, recall, f1, support}; a ratio with nothing below the line is 0;
    - `confusion_matrix`: K x K counts, rows are true classes.

    Raises ValueError where shapes, types or values are not as above.
    """
    labels, probabilities = check_predictions(labels, probabilities, len(class_names))
    predicted = probabilities.argmax(axis=1)
    matrix = confusion_matrix(labels, predicted, len(class_names))
    per_class = _per_class(matrix, class_names)
    present = matrix.sum(axis=1) > 0
    seen = present | (matrix.sum(axis=0) > 0)
    num_correct = int(np.trace(matrix))
    return {
        "accuracy": num_correct / len(labels),
        "accuracy_ci95": wilson_interval(num_correct, len(labels)),
        "balanced_accuracy": _mean(per_class, "recall", present),
        "macro_f1": _mean(per_class, "f1", seen),
        "log_loss": log_loss(labels, probabilities),
        "ece": expected_calibration_error(labels, probabilities),
        "roc_auc": _roc_auc(labels, probabilities),
        "per_class": per_class,
        "confusion_matrix": matrix.tolist(),
    }


def check_predictions(labels: np.ndarray, probabilities: np.ndarray, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return `labels` as (N,) int64 and `probabilities` as (N, K) float64.

    Raises ValueError where there is no row, where shapes or types differ from these, where a label is outside
    [0, K), or where a row is not finite, has a negative value or does not sum to 1 within 1e-4.
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


def confusion_matrix(labels: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """Count (N,) true and predicted int64 labels: (K, K) int64, rows are true classes, absent ones too."""
    counts = np.bincount(labels * num_classes + predicted, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes)


def log_loss(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the mean negative log-likelihood, in nats (at most 36.04), of (N,) labels under (N, K)."""
    of_truth = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(np.clip(of_truth, np.finfo(np.float64).eps, 1)).mean()) + 0.0  # no -0.0


def expected_calibration_error(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the gap between top probability and accuracy, from 0 (calibrated) to 1.

    The top probabilities fall into 15 bins of equal width, each open on its left; the error is the mean over
    images of |accuracy - mean confidence| of the image's bin. Source: Guo, Pleiss, Sun and Weinberger, "On
    Calibration of Modern Neural Networks", ICML 2017, equations 2, 3 and 5.
    """
    confidence, correct, bins = _binned(labels, probabilities, NUM_BINS)
    gaps = np.bincount(bins, weights=correct - confidence)
    return min(1.0, float(np.abs(gaps).sum() / len(labels)))


def reliability(labels: np.ndarray, probabilities: np.ndarray, num_bins: int) -> list[dict[str, Any]]:
    """Return the `num_bins` points of a reliability diagram, by bins of the top probability.

    A bin has `low` and `high`, its edges, open on the left as in `expected_calibration_error`; `count`, its images;
    their mean `confidence` and their `accuracy`, None where it has none.
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
    """Return each image's top probability, whether its label is right, and its bin, open on the left."""
    confidence = np.clip(probabilities.max(axis=1), 0, 1)
    correct = probabilities.argmax(axis=1) == labels
    edges = np.linspace(0, 1, num_bins + 1)
    return confidence, correct, np.digitize(confidence, edges[1:-1], right=True)


def wilson_interval(num_right: int, num_images: int) -> list[float]:
    """Return Wilson's 95 % score interval [low, high] of a share."""
    interval = binomtest(num_right, num_images).proportion_ci(CONFIDENCE, method="wilson")
    return [float(interval.low), float(interval.high)]


def compare(correct_a: np.ndarray, correct_b: np.ndarray) -> dict[str, Any]:
    """Compare two strategies, given which of the same images each labelled rightly: two (N,) bool arrays.

    `difference` is the accuracy of a minus that of b, `ci95` its paired interval [low, high]
    (`paired_interval`), `mcnemar_p` the exact two-sided McNemar test: under equal accuracy, each image that
    only one of the two got right is a fair coin; 1.0 where there is no such image. Source: McNemar,
    Psychometrika 12 (1947), 153-157. Raises ValueError where the arrays are not boolean, are empty or differ
    in shape.
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

    `only_a` and `only_b` images were labelled rightly by one of the two alone. With 0.5 added to each of the
    four cells (b, c the discordant ones, n the total, so n = num_images + 2) the interval is Wald's,
    (b - c) / n +- z sqrt(b + c - (b - c)^2 / n) / n, cut to [-1, 1]. Source: Agresti and Min, "Simple
    improved confidence intervals for comparing matched proportions", Statistics in Medicine 24 (2005),
    729-740.
    """
    total, gap, discordant = num_images + 2, only_a - only_b, only_a + only_b + 1
    half = float(ndtri((1 + CONFIDENCE) / 2)) * math.sqrt(discordant - gap**2 / total) / total
    return [max(-1.0, gap / total - half), min(1.0, gap / total + half)]


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for their number, in the given order: each at most 1 and never below what came in.

    Declaring what is below 0.05 keeps the chance of a single false claim among all of them below 5 %. Source:
    Holm, "A simple sequentially rejective multiple test procedure", Scand. J. Statistics 6 (1979), 65-70.
    """
    adjusted, running = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = running
    return adjusted


def _per_class(matrix: np.ndarray, class_names: Sequence[str]) -> list[dict[str, Any]]:
    hits, support, called = np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
    precision, recall = hits / np.maximum(called, 1), hits / np.maximum(support, 1)
    f1 = 2 * hits / np.maximum(support + called, 1)
    return [
        {
            "class": name,
            "precision": float(precision[k]),
            "recall": float(recall[k]),
            "f1": float(f1[k]),
            "support": int(support[k]),
        }
        for k, name in enumerate(class_names)
    ]


def _mean(per_class: list[dict[str, Any]], field: str, chosen: np.ndarray) -> float:
    """Average a field over the chosen classes; with `fsum`, so that their order does not matter."""
    values = [row[field] for row, use in zip(per_class, chosen, strict=True) if use]
    return math.fsum(values) / len(values)


def _roc_auc(labels: np.ndarray, probabilities: np.ndarray) -> float | None:
    if probabilities.shape[1] != 2 or len(np.unique(labels)) < 2:
        return None
    return float(roc_auc_score(labels, probabilities[:, 1]))
