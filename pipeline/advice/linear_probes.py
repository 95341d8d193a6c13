"""Linear classifiers on the run's own features: the best of them, its learning curve, and what each takes."""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from thaw.models.selection.learning_curve import PowerLaw, extrapolate
from thaw.models.selection.probing import (
    HELD_OUT_ROWS,
    SCREENING,
    Probed,
    linear_probe,
    nested_order,
    optimism,
    screening,
    transformed,
)
from thaw.models.selection.search import Folds, candidates
from thaw.models.solver.blocks import ArrayBlocks, Blocks
from thaw.models.strategies import STRATEGIES
from thaw.pipeline.advice.sample import Survey
from thaw.pipeline.run.advice_json import CurvePoint, LearningCurve
from thaw.pipeline.training.memory import load_rows, spare_memory_mb

log = logging.getLogger("thaw")

SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)  # of the learning curve; its last point is of all images
CHOOSING_ROWS = 5000  # for layer, transform and classifier; the best of them is then fitted to all rows
SVM_VALUES = (1e-5, 1e-4, 1e-3, 1e-2)  # of C; its best C is lower than the best of logistic regression
FIT_VALUES = 15  # of C, that a strategy's own path has at most
MULTIPLES_FOR_FEW = (1.0, 10**0.5, 10.0)  # of the best C of many rows, tried on few
MULTIPLES_FOR_MANY = (0.1, 10**-0.5, 1.0)  # of the best C of few rows, tried on many
COPIES = 2  # of the features at once: all, and a share of them
HELPFUL_GAIN = 0.005  # by twice the images; from this gain on more labels are worth having


@dataclass(frozen=True)
class LinearProbe:
    """A linear classifier on one layer of the feature set, its probe on held-out rows, and its cost.

    `num_fitted` is the number of rows that each fold fitted, `minutes` the time of the whole strategy. `optimism` is
    how much the probe's accuracy flatters the classifier, because it is the best of many.
    """

    strategy: str
    layer: str
    transform: str
    probed: Probed
    num_fitted: int
    minutes: float
    optimism: float = 0.0


def best_probes(survey: Survey, flattered_before: float = 0.0) -> list[LinearProbe]:
    """Return `logreg` on its best layers and transform, and `svm` there, the better one first.

    They are chosen on at most 5,000 rows. If there are more, the better one is then judged on all that are not test.

    Args:
        survey: The run.
        flattered_before: How much the accuracies flatter already, because the feature set was chosen on some rows.
    """
    rows = np.sort(survey.order[:CHOOSING_ROWS])
    choices = candidates("auto", list(survey.features.layers), "auto", joined=True)
    tried = list(_try_all(survey, "logreg", rows, choices))
    logreg = max(tried, key=_accuracy)
    tried += _try_all(survey, "svm", rows, {logreg.layer: [logreg.transform]})
    flattered = flattered_before + optimism(
        [correct for probe in tried for correct in probe.probed.tried], survey.settings.seed
    )
    chosen = [replace(probe, optimism=flattered) for probe in (logreg, tried[-1])]
    better, other = sorted(chosen, key=_accuracy, reverse=True)
    return [better if len(rows) == len(survey.order) else _judge_on_all(survey, better), other]


def _accuracy(probe: LinearProbe) -> float:
    return probe.probed.accuracy


def _try_all(
    survey: Survey, strategy: str, rows: np.ndarray, choices: Mapping[str, Sequence[str]]
) -> Iterator[LinearProbe]:
    num_fitted = len(survey.folds(rows)[0][0])
    for layer, transforms in choices.items():
        features = read(survey, layer, rows)
        for transform in transforms:
            began = time.perf_counter()
            probed = probe_rows(survey, strategy, transformed(features, transform), rows)
            minutes = (time.perf_counter() - began) / 60 * FIT_VALUES / len(probed.tried)
            yield LinearProbe(strategy, layer, transform, probed, num_fitted, minutes)


def probe_rows(
    survey: Survey, strategy: str, features: np.ndarray, rows: np.ndarray, num_held_out: int = HELD_OUT_ROWS
) -> Probed:
    """Probe rows of the feature set with the values of C of a strategy.

    Args:
        survey: The run.
        strategy: `logreg` or `svm`.
        features: Float32 (n, D), in the order of `rows`.
        rows: Indices (n,) into the feature set.
        num_held_out: How many rows the folds hold out together, at least.

    Returns:
        The probe at its best C.
    """
    values = screening(features.shape[1], SVM_VALUES if strategy == "svm" else SCREENING)
    labels, folds = survey.features.labels[rows], survey.folds(rows, num_held_out)
    return linear_probe(STRATEGIES[strategy], features, labels, folds, values)


def _judge_on_all(survey: Survey, best: LinearProbe) -> LinearProbe:
    began = time.perf_counter()
    rows = np.sort(survey.order)
    folds = all_folds(survey, rows)
    features, labels = _load(survey, best, rows), survey.features.labels[rows]
    probed = _probe_again(best, features, labels, folds, MULTIPLES_FOR_MANY)
    values = 2 * len(MULTIPLES_FOR_MANY)  # the path of the strategy ends about halfway, when the accuracy falls
    minutes = (time.perf_counter() - began) / 60 * FIT_VALUES / values
    flattered = best.optimism * CHOOSING_ROWS / len(rows)
    return replace(best, probed=probed, num_fitted=len(folds[0][0]), minutes=minutes, optimism=flattered)


def _probe_again(
    best: LinearProbe, features: np.ndarray | Blocks, labels: np.ndarray, folds: Folds, multiples: Sequence[float]
) -> Probed:
    values = [multiple * best.probed.value for multiple in multiples]
    return linear_probe(STRATEGIES[best.strategy], features, labels, folds, values)


def all_folds(survey: Survey, rows: np.ndarray) -> Folds:
    """Return the run's validation split as one fold if it has enough images, else folds of all `rows` (n,)."""
    validation = survey.features.split[rows] == 1
    if validation.sum() >= 0.05 * len(rows) and len(rows) > CHOOSING_ROWS:
        return [(np.flatnonzero(~validation), np.flatnonzero(validation))]
    return survey.folds(rows)


def read(survey: Survey, layer: str, rows: np.ndarray) -> np.ndarray:
    """Return the features (n, D) of a layer, or of several joined by `+`, of images at ascending `rows` (n,)."""
    return survey.features.read(layer.split("+"), survey.mask_of(rows))


def _load(survey: Survey, best: LinearProbe, rows: np.ndarray) -> Blocks:
    """Return the transformed rows of a layer, in memory if they fit there together with a copy of a share."""
    needed = COPIES * len(rows) * survey.features.row_bytes(best.layer.split("+")) / 1e6
    in_memory = needed <= spare_memory_mb(survey.settings)
    if not in_memory:
        log.info("probing %s takes about %.0f MB: its features are read from the file", best.layer, needed)
    return load_rows(survey.features, best.layer, best.transform, survey.mask_of(rows), in_memory)


def learning_curve(survey: Survey, best: LinearProbe) -> tuple[LearningCurve, PowerLaw]:
    """Return the curve of a classifier over 1 % to 100 % of the rows that are not test, and the law fitted to it.

    All points are of one set of held-out rows: the first fold's. Shares with fewer images than two for each class, or
    without one of the classes, are left out.
    """
    rows = np.sort(survey.order)
    labels = survey.features.labels[rows]
    features = _load(survey, best, rows)
    folds = all_folds(survey, rows)
    fitted, held_out = folds[0]
    ordered = fitted[nested_order(labels[fitted], survey.settings.seed)]
    num_classes = len(np.unique(labels))
    points = []
    for share in SHARES:
        few = ordered[: int(share * len(fitted))]
        if len(few) >= 2 * num_classes and len(np.unique(labels[few])) == num_classes:
            used = np.sort(np.concatenate([few, held_out]))
            is_held = np.isin(used, held_out)
            fold = (np.flatnonzero(~is_held), np.flatnonzero(is_held))
            some = features.array[used] if isinstance(features, ArrayBlocks) else _load(survey, best, rows[used])
            probed = _probe_again(best, some, labels[used], [fold], MULTIPLES_FOR_FEW)
            points.append(_point(share, len(few), probed))
    known = np.sort(np.concatenate([held for _, held in folds]))
    correct = best.probed.correct[np.searchsorted(known, held_out)]
    points.append(_point(1.0, best.num_fitted, replace(best.probed, correct=correct)))
    return _extrapolate(best.layer, points, len(rows))


def _point(share: float, num_images: int, probed: Probed) -> CurvePoint:
    accuracy, error = probed.accuracy, probed.standard_error
    return CurvePoint(share=share, num_images=num_images, accuracy=accuracy, standard_error=error)


def _extrapolate(layer: str, points: list[CurvePoint], num_rows: int) -> tuple[LearningCurve, PowerLaw]:
    measured = [(point.num_images, point.accuracy, point.standard_error) for point in points]
    sizes, accuracies, errors = np.array(measured, float).T
    law = PowerLaw.fit(sizes, accuracies, errors)
    at_double, interval = extrapolate(sizes, accuracies, errors, 2 * num_rows)
    curve = LearningCurve(
        layer=layer,
        points=points,
        slope_per_doubling=law(num_rows) - law(num_rows / 2),
        accuracy_at_double=at_double,
        interval_at_double=interval,
        more_labels_help=at_double - law(num_rows) >= HELPFUL_GAIN,
    )
    return curve, law
