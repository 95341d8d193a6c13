"""Choosing layer, transform and regularisation on rows that are not test, and the final fit."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from joblib import Parallel, cpu_count, delayed, parallel_config
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.kernel_approximation import Nystroem
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, cross_val_predict
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from thaw.models.calibration import TemperatureScaled
from thaw.models.distributed.folds import held_out_scores, of_folds
from thaw.models.distributed.pool import ClusterBlocks, open_pool
from thaw.models.linear import PowerNormalizer
from thaw.models.selection.path import LinearPath
from thaw.models.solver.blocks import Blocks
from thaw.models.strategies import Strategy

Folds = list[tuple[np.ndarray, np.ndarray]]
TRANSFORMS = ("none", "sqrt")
PATIENCE = 2  # values of the path below the best before the rest of it is left


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


def preparation(strategy: Strategy, num_rows: int, num_features: int, seed: int) -> Pipeline:
    """Return the unfitted steps before the classifier: standardisation and, where it has one, Nystroem's map."""
    steps: list[tuple[str, Any]] = [("scale", StandardScaler())]
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
    at_once = min(num_at_once(jobs), max(1, num_tasks))
    with threadpool_limits(max(1, num_at_once(-1) // at_once)), parallel_config("threading", n_jobs=at_once):
        yield


def try_candidate(strategy: Strategy, blocks: Blocks, labels: np.ndarray, folds: Folds, options: Any) -> list[float]:
    """Return the mean held-out accuracy at each value of the strategy's parameter, -1 where left out.

    `blocks` (N, D) and `labels` (N,) hold no test row; the features are transformed already, not standardised. The
    values run from the smoothest model on. Once the accuracy has risen above that of the first value, the path ends
    where it has been lower than its best for PATIENCE values. `options` gives `seed`, `class_weight` and `jobs`.
    """
    scores: list[float] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the final fit reports its own
        for accuracies in _paths(strategy, blocks, labels, folds, options):
            scores.append(float(np.mean(accuracies)))
            if past_best(scores):
                break
    return scores + [-1.0] * (len(strategy.values) - len(scores))


def past_best(scores: Sequence[float]) -> bool:
    """Return whether a path has risen and then been below its best for PATIENCE values, so that it may end."""
    return scores[0] < max(scores) > max(scores[-PATIENCE:])


def _paths(strategy: Strategy, blocks: Blocks, labels: np.ndarray, folds: Folds, options: Any) -> Iterator[Any]:
    """Yield the accuracies of all folds at each value.

    Of ClusterBlocks, the classifiers that are not solved together try all values of a fold in one task.
    """
    if strategy.solved_together:
        with open_pool(blocks) as pool:
            path = LinearPath(strategy.kind(), pool, labels, folds, options.class_weight)
            yield from path.accuracies(strategy.values)
        return
    if isinstance(blocks, ClusterBlocks):
        choice = _Choice(options.seed, options.class_weight)
        yield from zip(
            *of_folds(blocks, _whole_path, [(strategy, labels, fold, choice) for fold in folds]), strict=True
        )
        return
    features = blocks.read(slice(None))
    with parallel_fits(options.jobs, len(folds)):
        paths = [_Path(strategy, features, labels, fold, options) for fold in folds]
        for value in strategy.values:
            yield Parallel()(delayed(path.accuracy)(value) for path in paths)


class _Path:
    """One fold's classifier, each value begun at the last solution where the classifier can.

    The scaler and what else comes before the classifier see the fold's fit rows only.
    """

    def __init__(self, strategy: Strategy, features: np.ndarray, labels: np.ndarray, fold: Any, options: Any):
        self._fit_rows, self._held_out = fold
        self._strategy, self._labels = strategy, labels
        steps = preparation(strategy, len(self._fit_rows), features.shape[1], options.seed)
        self._fitted = steps.fit_transform(features[self._fit_rows])
        self._unseen = steps.transform(features[self._held_out])
        self._classifier = strategy.classifier(strategy.values[0], options.seed, options.class_weight)
        if "warm_start" in self._classifier.get_params():
            self._classifier.set_params(warm_start=True)

    def accuracy(self, value: float) -> float:
        """Return the held-out accuracy at one value."""
        self._classifier.set_params(**{self._strategy.parameter: value})
        self._classifier.fit(self._fitted, self._labels[self._fit_rows])
        return float(self._classifier.score(self._unseen, self._labels[self._held_out]))


@dataclass(frozen=True)
class _Choice:
    """What a fold needs of the options."""

    seed: int
    class_weight: str | None


def _whole_path(
    features: np.ndarray, strategy: Strategy, labels: np.ndarray, fold: Any, choice: _Choice
) -> list[float]:
    """Return the accuracy of one fold at each of the values."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        path = _Path(strategy, features, labels, fold, choice)
        return [path.accuracy(value) for value in strategy.values]


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


def final_fit(strategy: Strategy, trial: Trial, blocks: Blocks, labels: np.ndarray, folds: Folds, options: Any) -> Fit:
    """Fit the chosen setting to all rows that are not test, with probabilities.

    `blocks` are transformed as the trial says. Where the strategy is calibrated and there are folds, it gets
    temperature scaling: one number, fitted on the scores that each fold's rows get from a model of the other folds.
    """
    fit = _solved_together if strategy.solved_together else _one_by_one
    fitted, converged, scores = fit(strategy, trial, blocks, labels, folds, options)
    iterations = getattr(fitted[-1], "n_iter_", None)
    if trial.transform == "sqrt":
        power = PowerNormalizer().fit(np.zeros((1, blocks.shape[1]), np.float32))
        fitted = Pipeline([("power", power), *fitted.steps])
    model = (
        fitted if scores is None else TemperatureScaled(fitted, strategy.calibration == "margins").fit(scores, labels)
    )
    return Fit(
        model,
        converged,
        None if iterations is None else int(np.max(iterations)),
        None if scores is None else model.temperature_,
    )


def _solved_together(
    strategy: Strategy, trial: Trial, blocks: Blocks, labels: np.ndarray, folds: Folds, options: Any
) -> tuple[Pipeline, bool, np.ndarray | None]:
    """Return the fitted steps, whether they converged, and the folds' scores where it is calibrated."""
    with open_pool(blocks) as pool:
        path = LinearPath(strategy.kind(), pool, labels, folds, options.class_weight)
        fitted = path.fit(trial.value, held_out=bool(strategy.calibration and folds))
    steps = Pipeline([("scale", fitted.scaler), ("classify", fitted.classifier)])
    return steps, fitted.converged, fitted.held_out_scores


def _one_by_one(
    strategy: Strategy, trial: Trial, blocks: Blocks, labels: np.ndarray, folds: Folds, options: Any
) -> tuple[Pipeline, bool, np.ndarray | None]:
    """Return the same from a classifier of scikit-learn's."""
    smallest = min((len(fit_rows) for fit_rows, _ in folds), default=len(labels))
    steps = preparation(strategy, smallest, blocks.shape[1], options.seed)
    classifier = strategy.classifier(trial.value, options.seed, options.class_weight)
    model, features, scores = Pipeline([*steps.steps, ("classify", classifier)]), blocks.read(slice(None)), None
    with warnings.catch_warnings(record=True) as caught, parallel_fits(options.jobs, len(folds)):
        warnings.simplefilter("always", ConvergenceWarning)
        if strategy.calibration and folds and isinstance(blocks, ClusterBlocks):
            scores = held_out_scores(blocks, model, labels, folds)
        elif strategy.calibration and folds:
            scores = cross_val_predict(model, features, labels, cv=folds, method="decision_function")
        model.fit(features, labels)
    return model, not any(issubclass(warning.category, ConvergenceWarning) for warning in caught), scores


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
