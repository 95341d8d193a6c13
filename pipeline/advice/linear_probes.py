"""The run's own features under a linear classifier: the best of them, its learning curve, and what it takes."""

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from thaw.models.selection.learning_curve import PowerLaw, extrapolate
from thaw.models.selection.probing import (
    SCREENING,
    Probed,
    linear_probe,
    nested_order,
    optimism,
    screening,
    transformed,
)
from thaw.models.selection.search import TRANSFORMS, Folds
from thaw.models.solver.blocks import ArrayBlocks, Blocks
from thaw.models.strategies import STRATEGIES
from thaw.pipeline.advice.sample import Survey
from thaw.pipeline.run.advice_json import CurvePoint, LearningCurve
from thaw.pipeline.training.memory import load_rows, spare_memory_mb

log = logging.getLogger("thaw")

SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
CHOOSING_ROWS = 5000  # for layer, transform and classifier; the best of them is then fitted to all rows
SVM_VALUES = (1e-5, 1e-4, 1e-3, 1e-2)  # of C, whose best is lower than that of logistic regression
FIT_VALUES = 15  # of C, that a strategy's own path has at most
NEAR = (1.0, 10**0.5, 10.0)  # times the C of many rows, for few
FEW = (0.1, 10**-0.5, 1.0)  # times the C of few rows, for many
COPIES = 2  # of the features at once: all, and a share of them
HELPS = 0.005  # a gain by twice the images, from which on more labels are worth having


@dataclass(frozen=True)
class Frozen:
    """A linear classifier on one layer of features.h5: its probe on all rows, how many it was fitted to, its cost.

    `optimism` is by how much the probe's accuracy flatters it, since it is the best of many.
    """

    strategy: str
    layer: str
    transform: str
    probed: Probed
    num_fitted: int
    minutes: float
    optimism: float = 0.0


def best_frozen(survey: Survey) -> list[Frozen]:
    """Return `logreg` on its best layer and transform, and `svm` there, the better one first.

    They are chosen on at most 5,000 rows; where there are more, the better one is then judged on all that are not test.
    """
    rows = np.sort(survey.order[:CHOOSING_ROWS])
    tried = list(_tried(survey, "logreg", rows, survey.features.layers, TRANSFORMS))
    logreg = max(tried, key=_accuracy)
    tried += _tried(survey, "svm", rows, [logreg.layer], [logreg.transform])
    flattered = optimism([right for one in tried for right in one.probed.tried], survey.settings.seed)
    chosen = [replace(one, optimism=flattered) for one in (logreg, tried[-1])]
    better, other = sorted(chosen, key=_accuracy, reverse=True)
    return [better if len(rows) == len(survey.order) else _on_all(survey, better), other]


def _accuracy(frozen: Frozen) -> float:
    return frozen.probed.accuracy


def _tried(
    survey: Survey, name: str, rows: np.ndarray, layers: Iterable[str], transforms: Iterable[str]
) -> Iterator[Frozen]:
    labels = survey.features.labels[rows]
    folds = survey.folds(rows)
    for layer in layers:
        features = read(survey, layer, rows)
        for transform in transforms:
            began = time.perf_counter()
            values = values_of(name, features.shape[1])
            probed = linear_probe(STRATEGIES[name], transformed(features, transform), labels, folds, values)
            minutes = (time.perf_counter() - began) / 60 * FIT_VALUES / len(probed.tried)
            yield Frozen(name, layer, transform, probed, len(folds[0][0]), minutes)


def _on_all(survey: Survey, frozen: Frozen) -> Frozen:
    began = time.perf_counter()
    rows = np.sort(survey.order)
    labels, folds = survey.features.labels[rows], all_folds(survey, rows)
    values = [share * frozen.probed.value for share in FEW]
    features = _load(survey, frozen, rows)
    probed = linear_probe(STRATEGIES[frozen.strategy], features, labels, folds, values)
    minutes = (time.perf_counter() - began) / 60 * FIT_VALUES / len(FEW) / 2  # the path ends where it falls
    return Frozen(frozen.strategy, frozen.layer, frozen.transform, probed, len(folds[0][0]), minutes)


def all_folds(survey: Survey, rows: np.ndarray) -> Folds:
    """Return the run's validation split as one fold where it has enough images, else folds of all rows."""
    validation = survey.features.split[rows] == 1
    if validation.sum() >= 0.05 * len(rows) and len(rows) > CHOOSING_ROWS:
        return [(np.flatnonzero(~validation), np.flatnonzero(validation))]
    return survey.folds(rows)


def values_of(strategy: str, num_features: int) -> Sequence[float]:
    """Return the values of C that a probe of a strategy tries."""
    return screening(num_features, SVM_VALUES if strategy == "svm" else SCREENING)


def read(survey: Survey, layer: str, rows: np.ndarray) -> np.ndarray:
    """Return the features (n, D) of the run's images at the ascending `rows` (n,)."""
    return survey.features.read([layer], survey.mask_of(rows))


def _load(survey: Survey, frozen: Frozen, rows: np.ndarray) -> Blocks:
    """Return the transformed rows of a layer, in memory where there is room for them and for the copies of parts."""
    needed = COPIES * len(rows) * survey.features.row_bytes([frozen.layer]) / 1e6
    in_memory = needed <= spare_memory_mb(survey.settings)
    if not in_memory:
        log.info("probing %s takes about %.0f MB: its features are read from the file", frozen.layer, needed)
    return load_rows(survey.features, frozen.layer, frozen.transform, survey.mask_of(rows), in_memory)


def learning_curve(survey: Survey, frozen: Frozen) -> tuple[LearningCurve, PowerLaw]:
    """Return the curve of a classifier over 1 % to 100 % of the rows that are not test, and the law fitted to it.

    All points are of the same held-out rows: where folds hold out all rows in turn, of the first fold's.

    Shares with fewer images than two for each class, or without one of the classes, are left out.
    """
    rows = np.sort(survey.order)
    labels = survey.features.labels[rows]
    features = _load(survey, frozen, rows)
    folds = all_folds(survey, rows)
    fitted, held_out = folds[0]
    ordered = fitted[nested_order(labels[fitted], survey.settings.seed)]
    points = []
    for share in SHARES[:-1]:
        few = ordered[: int(share * len(fitted))]
        num_classes = len(np.unique(labels))
        if len(few) >= 2 * num_classes and len(np.unique(labels[few])) == num_classes:
            if isinstance(features, ArrayBlocks):
                probed = _probe_few(frozen, features.array, labels, few, held_out)
            else:
                probed = _probe_few_of_file(survey, frozen, rows, few, held_out)
            points.append(_point(share, len(few), probed))
    known = np.sort(np.concatenate([held for _, held in folds]))
    right = frozen.probed.right[np.searchsorted(known, held_out)]
    points.append(_point(1.0, frozen.num_fitted, replace(frozen.probed, right=right)))
    return _judged(frozen, points, len(rows))


def _probe_few(
    frozen: Frozen, features: np.ndarray, labels: np.ndarray, few: np.ndarray, held_out: np.ndarray
) -> Probed:
    used = np.concatenate([few, held_out])
    folds = [(np.arange(len(few)), np.arange(len(few), len(used)))]
    values = [times * frozen.probed.value for times in NEAR]
    return linear_probe(STRATEGIES[frozen.strategy], features[used], labels[used], folds, values)


def _probe_few_of_file(
    survey: Survey, frozen: Frozen, rows: np.ndarray, few: np.ndarray, held_out: np.ndarray
) -> Probed:
    """Return the same, the rows in the order of the file, from which they are read."""
    used = np.sort(np.concatenate([few, held_out]))
    is_held = np.isin(used, held_out)
    folds = [(np.flatnonzero(~is_held), np.flatnonzero(is_held))]
    values = [times * frozen.probed.value for times in NEAR]
    labels = survey.features.labels[rows[used]]
    return linear_probe(STRATEGIES[frozen.strategy], _load(survey, frozen, rows[used]), labels, folds, values)


def _point(share: float, num_images: int, probed: Probed) -> CurvePoint:
    accuracy, error = probed.accuracy, probed.standard_error
    return CurvePoint(share=share, num_images=num_images, accuracy=accuracy, standard_error=error)


def _judged(frozen: Frozen, points: list[CurvePoint], num_rows: int) -> tuple[LearningCurve, PowerLaw]:
    sizes = np.array([float(point.num_images) for point in points])
    accuracies, errors = (np.array([getattr(p, name) for p in points]) for name in ("accuracy", "standard_error"))
    law = PowerLaw.fit(sizes, accuracies, errors)
    at_double, interval = extrapolate(sizes, accuracies, errors, 2 * num_rows)
    gain = at_double - law(num_rows)
    curve = LearningCurve(
        layer=frozen.layer,
        points=points,
        slope_per_doubling=law(num_rows) - law(num_rows / 2),
        accuracy_at_double=at_double,
        interval_at_double=interval,
        more_labels_help=gain >= HELPS,
    )
    return curve, law
