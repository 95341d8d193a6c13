"""Choosing layer, transform and regularisation on rows that are not test, and the final fit."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from joblib import Parallel, cpu_count, delayed, parallel_config
from sklearn.base import BaseEstimator
from sklearn.calibration import CalibratedClassifierCV
from sklearn.exceptions import ConvergenceWarning
from sklearn.kernel_approximation import Nystroem
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from models.linear import PowerNormalizer
from models.strategies import Strategy

Folds = list[tuple[np.ndarray, np.ndarray]]
TRANSFORMS = ("none", "sqrt")
PATIENCE = 2  # values of the path without a gain before the rest of it is left


@dataclass(frozen=True)
class Trial:
    """One setting that was tried: its mean accuracy over the held-out rows of the folds."""

    layer: str
    transform: str
    value: float
    accuracy: float


def candidates(layer: str, layers: Sequence[str], transform: str) -> dict[str, list[str]]:
    """Return layer -> transforms to choose among; `auto` stands for each of the stored layers, or each transform."""
    transforms = list(TRANSFORMS) if transform == "auto" else [transform]
    return dict.fromkeys(layers if layer == "auto" else [layer], transforms)


def preparation(strategy: Strategy, transform: str, num_rows: int, num_features: int, seed: int) -> Pipeline:
    """Return the unfitted steps before the classifier: power normalisation, standardisation, Nystroem's map."""
    steps: list[tuple[str, Any]] = [("power", PowerNormalizer())] if transform == "sqrt" else []
    steps.append(("scale", StandardScaler()))
    if strategy.nystroem:
        components = min(strategy.nystroem, num_rows)
        steps.append(("nystroem", Nystroem(gamma=1 / num_features, n_components=components, random_state=seed)))
    return Pipeline(steps)


def make_folds(labels: np.ndarray, groups: np.ndarray | None, num_folds: int, seed: int) -> Folds:
    """Return (fit rows, held-out rows) pairs over N rows: stratified, seeded, whole groups where there are groups."""
    if groups is not None:
        grouped = StratifiedGroupKFold(num_folds, shuffle=True, random_state=seed)
        return list(grouped.split(labels, labels, groups))
    return list(StratifiedKFold(num_folds, shuffle=True, random_state=seed).split(labels, labels))


def num_at_once(jobs: int) -> int:
    """Return how many fits run at once: `jobs`, or one per core this process may use where that is negative."""
    return cpu_count() if jobs < 0 else jobs


@contextmanager
def parallel_fits(jobs: int, num_tasks: int) -> Iterator[None]:
    """Run joblib's fits as threads that share the features, each with its share of the cores."""
    at_once = min(num_at_once(jobs), num_tasks)
    with threadpool_limits(max(1, num_at_once(-1) // at_once)), parallel_config("threading", n_jobs=at_once):
        yield


def try_candidate(
    strategy: Strategy,
    features: np.ndarray,
    labels: np.ndarray,
    folds: Folds,
    transforms: Sequence[str],
    options: Any,
) -> dict[str, list[float]]:
    """Return transform -> mean held-out accuracy at each value of the strategy's parameter (-1 where left out).

    `features` (N, D) and `labels` (N,) hold no test row. `options` gives `seed`, `class_weight` and `jobs`.
    """
    tasks = [(transform, fold) for transform in transforms for fold in folds]
    with warnings.catch_warnings(), parallel_fits(options.jobs, len(tasks)):
        warnings.simplefilter("ignore", ConvergenceWarning)  # the final fit reports its own
        scores = Parallel()(
            delayed(_path)(strategy, transform, features, labels, fold, options) for transform, fold in tasks
        )
    per_fold = np.array(scores).reshape(len(transforms), len(folds), -1)
    tried = np.all(per_fold >= 0, axis=1)
    return {
        transform: np.where(tried[i], per_fold[i].mean(axis=0), -1).tolist() for i, transform in enumerate(transforms)
    }


def _path(
    strategy: Strategy, transform: str, features: np.ndarray, labels: np.ndarray, fold: Any, options: Any
) -> list[float]:
    """Return the held-out accuracy at each value, from the smoothest model on, each begun at the last solution.

    The scaler and what else comes before the classifier see the fold's fit rows only. Once the accuracy has risen
    above that of the first value, the path ends where it has not risen further for PATIENCE values; what was left out
    is -1.
    """
    fit_rows, held_out = fold
    steps = preparation(strategy, transform, len(fit_rows), features.shape[1], options.seed)
    fitted = steps.fit_transform(features[fit_rows])
    unseen = steps.transform(features[held_out])
    classifier = strategy.classifier(strategy.values[0], options.seed, options.class_weight)
    if "warm_start" in classifier.get_params():
        classifier.set_params(warm_start=True)
    scores: list[float] = []
    for value in strategy.values:
        classifier.set_params(**{strategy.parameter: value}).fit(fitted, labels[fit_rows])
        scores.append(float(classifier.score(unseen, labels[held_out])))
        best = int(np.argmax(scores))
        if best > 0 and len(scores) - 1 - best >= PATIENCE:
            break
    return scores + [-1.0] * (len(strategy.values) - len(scores))


def best_trial(trials: Sequence[Trial]) -> Trial:
    """Return the trial of the highest accuracy; the first, and so the smoothest model, where several are equal."""
    return max(trials, key=lambda trial: trial.accuracy)


@dataclass(frozen=True)
class Fit:
    """A fitted model with what its final fit reports."""

    model: BaseEstimator
    converged: bool
    num_iterations: int | None
    temperature: float | None


def final_fit(
    strategy: Strategy, trial: Trial, features: np.ndarray, labels: np.ndarray, folds: Folds, options: Any
) -> Fit:
    """Fit the chosen setting to all rows that are not test, with probabilities.

    Classifiers that give scores only get temperature scaling (Guo et al. 2017): one number, fitted on the scores that
    each fold's rows get from a model of the other folds. It keeps the order of an image's scores.
    """
    smallest = min(len(fit_rows) for fit_rows, _ in folds)
    steps = preparation(strategy, trial.transform, smallest, features.shape[1], options.seed)
    classifier = strategy.classifier(trial.value, options.seed, options.class_weight)
    model: Any = Pipeline([*steps.steps, ("classify", classifier)])
    if strategy.scores_only:
        model = CalibratedClassifierCV(model, method="temperature", cv=folds, ensemble=False)
    with warnings.catch_warnings(record=True) as caught, parallel_fits(options.jobs, len(folds)):
        warnings.simplefilter("always", ConvergenceWarning)
        model.fit(features, labels)
    fitted, temperature = model, None
    if strategy.scores_only:
        calibrated = model.calibrated_classifiers_[0]
        fitted, temperature = calibrated.estimator, 1 / float(calibrated.calibrators[0].beta_)
    iterations = getattr(fitted[-1], "n_iter_", None)
    return Fit(
        model,
        not any(issubclass(warning.category, ConvergenceWarning) for warning in caught),
        None if iterations is None else int(np.max(iterations)),
        temperature,
    )


def as_records(trials: Sequence[Trial], parameter: str) -> list[dict[str, Any]]:
    """Return the trials for a report, the strategy's parameter under its own name."""
    return [
        {
            "layer": trial.layer,
            "transform": trial.transform,
            parameter: trial.value,
            "accuracy": trial.accuracy,
        }
        for trial in trials
    ]
