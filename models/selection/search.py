"""The choice of layer, transform and regularisation, on rows that are not test."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from joblib import Parallel, cpu_count, delayed, parallel_config
from sklearn.exceptions import ConvergenceWarning
from sklearn.kernel_approximation import Nystroem
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from thaw.models.distributed.folds import of_folds
from thaw.models.distributed.pool import ClusterBlocks, open_pool
from thaw.models.selection.one_standard_error import past_best, smoothest
from thaw.models.selection.path import HeldOut
from thaw.models.selection.row_space import linear_path
from thaw.models.solver.blocks import Blocks
from thaw.models.strategies import Strategy

Folds = list[tuple[np.ndarray, np.ndarray]]
TRANSFORMS = ("none", "sqrt")


@dataclass(frozen=True)
class FitOptions:
    """How every fit of a search is made: its seed, class weights (`balanced` or None) and fits at once (-1 for all)."""

    seed: int
    class_weight: str | None
    jobs: int


@dataclass(frozen=True)
class Trial:
    """One setting that was tried, with its accuracy on the rows that the folds hold out.

    `held_out` says what became of each of these rows; None if only a report is at hand.
    """

    layer: str
    transform: str
    value: float
    accuracy: float
    held_out: HeldOut | None = field(default=None, repr=False, compare=False)


def candidates(layer: str, layers: Sequence[str], transform: str, joined: bool = False) -> dict[str, list[str]]:
    """Return layer -> transforms to choose among.

    Args:
        layer: a layer, or `auto` for each of `layers`.
        layers: the stored layers.
        transform: a transform, or `auto` for each of TRANSFORMS.
        joined: whether `auto` means all layers side by side too.
    """
    transforms = list(TRANSFORMS) if transform == "auto" else [transform]
    together = ["+".join(layers)] if joined and len(layers) > 1 else []
    return dict.fromkeys([*layers, *together] if layer == "auto" else [layer], transforms)


def preparation(strategy: Strategy, num_rows: int, num_features: int, seed: int) -> Pipeline:
    """Return the unfitted steps before the classifier: standardisation and, if the strategy has one, Nystroem's map.

    Args:
        strategy: the strategy.
        num_rows: the smallest number of rows that the steps are fitted to.
        num_features: D.
        seed: the seed of Nystroem's sample.
    """
    steps: list[tuple[str, Any]] = [("scale", StandardScaler())]
    if strategy.nystroem:
        components = min(strategy.nystroem, num_rows)
        steps.append(("nystroem", Nystroem(gamma=1 / num_features, n_components=components, random_state=seed)))
    return Pipeline(steps)


def make_folds(labels: np.ndarray, groups: np.ndarray | None, num_folds: int, seed: int) -> Folds:
    """Return stratified folds of N rows, pairs of fit rows and held-out rows.

    Args:
        labels: (N,) int64.
        groups: (N,) groups of rows that are never divided, or None.
        num_folds: the number of pairs.
        seed: the seed of the shuffle.
    """
    kind = StratifiedKFold if groups is None else StratifiedGroupKFold
    return list(kind(num_folds, shuffle=True, random_state=seed).split(labels, labels, groups))


def num_at_once(jobs: int) -> int:
    """Return how many fits run at once: `jobs`, or one per core of this process if `jobs` is negative."""
    return cpu_count() if jobs < 0 else jobs


@contextmanager
def parallel_fits(jobs: int, num_tasks: int) -> Iterator[None]:
    """Run joblib's fits as threads that share the features, each with its share of the cores."""
    at_once = min(num_at_once(jobs), max(1, num_tasks))
    with threadpool_limits(max(1, num_at_once(-1) // at_once)), parallel_config("threading", n_jobs=at_once):
        yield


def try_candidate(
    strategy: Strategy, blocks: Blocks, labels: np.ndarray, folds: Folds, options: FitOptions
) -> list[HeldOut]:
    """Return what becomes of the held-out rows at each value of the strategy's parameter.

    The values run from the smoothest model on. The path may end before the last one, see `past_best`.

    Args:
        strategy: the strategy.
        blocks: (N, D) features without test rows, transformed already, not standardised.
        labels: (N,) int64.
        folds: pairs of fit rows and held-out rows.
        options: how the fits are made.
    """
    tried: list[HeldOut] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the final fit reports its own
        for held_out in _paths(strategy, blocks, labels, folds, options):
            tried.append(held_out)
            if past_best([one.correct for one in tried]):
                break
    return tried


def _paths(
    strategy: Strategy, blocks: Blocks, labels: np.ndarray, folds: Folds, options: FitOptions
) -> Iterator[HeldOut]:
    """Yield at each value what becomes of the rows that a fold holds out.

    On a cluster, a classifier that is not batched tries all values of a fold in one task.
    """
    if strategy.batched:
        with open_pool(blocks) as pool:
            path = linear_path(strategy.kind(), pool, labels, folds, options.class_weight)
            for scores in path.held_out_scores(strategy.values):
                known = scores.astype(np.float32) if path.held_out.all() else None
                yield HeldOut(path.judge(scores)[path.held_out], known)
        return
    order = np.argsort(np.concatenate([held_out for _, held_out in folds]))
    if isinstance(blocks, ClusterBlocks):
        tasks = [(strategy, labels, fold, options) for fold in folds]
        for by_fold in zip(*of_folds(blocks, _whole_path, tasks), strict=True):
            yield HeldOut(np.concatenate(by_fold)[order])
    else:
        features = blocks.read(slice(None))
        with parallel_fits(options.jobs, len(folds)):
            paths = [_path(features, strategy, labels, fold, options) for fold in folds]
            for _ in strategy.values:
                yield HeldOut(np.concatenate(Parallel()(delayed(next)(path) for path in paths))[order])


def _path(
    features: np.ndarray, strategy: Strategy, labels: np.ndarray, fold: Any, options: FitOptions
) -> Iterator[np.ndarray]:
    """Yield at each value whether one fold's held-out rows are labelled correctly, (m,) bool.

    A fit starts from the last solution if the classifier can.

    The steps before the classifier see only the fold's fit rows.
    """
    fit_rows, held_out = fold
    steps = preparation(strategy, len(fit_rows), features.shape[1], options.seed)
    fitted, unseen = steps.fit_transform(features[fit_rows]), steps.transform(features[held_out])
    classifier = strategy.classifier(strategy.values[0], options.seed, options.class_weight)
    if "warm_start" in classifier.get_params():
        classifier.set_params(warm_start=True)
    for value in strategy.values:
        classifier.set_params(**{strategy.parameter: value}).fit(fitted, labels[fit_rows])
        yield classifier.predict(unseen) == labels[held_out]


def _whole_path(*arguments: Any) -> list[np.ndarray]:
    """Return what `_path` yields, for a task of a cluster."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return list(_path(*arguments))


def without_scores(trial: Trial) -> Trial:
    """Return the trial without its scores, which take the memory of as many numbers as rows and classes."""
    return trial if trial.held_out is None else replace(trial, held_out=HeldOut(trial.held_out.correct))


def highest_trial(trials: Sequence[Trial]) -> Trial:
    """Return the trial of the highest accuracy, of equal ones the first, which has the smoothest model."""
    return max(trials, key=lambda trial: trial.accuracy)


def best_trial(trials: Sequence[Trial]) -> Trial:
    """Return the smoothest trial within one standard error of the highest accuracy, with its layer and transform.

    It is the highest itself if the trials come from a report, which does not say which rows are labelled correctly.

    Args:
        trials: some trials, those of a layer and transform from the smoothest model on.
    """
    highest = highest_trial(trials)
    path = [one for one in trials if (one.layer, one.transform) == (highest.layer, highest.transform)]
    known = [one.held_out.correct for one in path if one.held_out is not None]
    return path[smoothest(known)] if len(known) == len(path) else highest


def as_records(trials: Sequence[Trial], parameter: str) -> list[dict[str, Any]]:
    """Return the trials for a report; the value has the name of the strategy's `parameter`."""
    return [
        {
            "layer": trial.layer,
            "transform": trial.transform,
            parameter: trial.value,
            "accuracy": trial.accuracy,
        }
        for trial in trials
    ]
