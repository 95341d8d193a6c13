"""The final fit: the chosen setting on all rows that are not test, with calibrated probabilities."""

import warnings
from dataclasses import dataclass, replace

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import Pipeline

from thaw.models.calibration import TemperatureScaled
from thaw.models.distributed.folds import held_out_scores
from thaw.models.distributed.pool import ClusterBlocks, open_pool
from thaw.models.linear import PowerNormalizer
from thaw.models.selection.path import Fitted
from thaw.models.selection.row_space import linear_path
from thaw.models.selection.search import FitOptions, Folds, Trial, parallel_fits, preparation
from thaw.models.solver.blocks import Blocks
from thaw.models.strategies import Strategy


@dataclass(frozen=True)
class Fit:
    """A fitted model with what its final fit reports; None for what it does not have.

    `out_of_fold` are the probabilities (N, K) float64 of the model's K classes that each row gets from the fold that
    leaves it out, at the model's own temperature.
    """

    model: BaseEstimator
    converged: bool
    num_iterations: int | None
    temperature: float | None
    out_of_fold: np.ndarray | None


def final_fit(
    strategy: Strategy, trial: Trial, blocks: Blocks, labels: np.ndarray, folds: Folds, options: FitOptions
) -> Fit:
    """Fit the chosen setting to N rows, with probabilities.

    Temperature scaling is one number, fitted to the scores that each row gets from the fold that leaves it out. If the
    trial has such scores for all rows, they are taken.

    Args:
        strategy: the strategy; its `calibration` says whether there is temperature scaling.
        trial: the chosen setting.
        blocks: (N, D) features, transformed as the trial says.
        labels: (N,) int64.
        folds: pairs of fit rows and held-out rows, none for neither temperature scaling nor out-of-fold probabilities.
        options: how the fits are made.
    """
    fit = _fit_batched if strategy.batched else _fit_one_by_one
    fitted = fit(strategy, trial, blocks, labels, folds, options)
    steps, scores = fitted.steps, fitted.held_out_scores
    iterations = getattr(steps[-1], "n_iter_", None)
    num_iterations = None if iterations is None else int(np.max(iterations))
    if trial.transform == "sqrt":
        power = PowerNormalizer().fit(np.zeros((1, blocks.shape[1]), np.float32))
        steps = Pipeline([("power", power), *steps.steps])
    if scores is None or not strategy.calibration:
        return Fit(steps, fitted.converged, num_iterations, None, scores)
    model = TemperatureScaled(steps, strategy.calibration == "margins").fit(scores, labels)
    return Fit(model, fitted.converged, num_iterations, model.temperature_, model.scaled(scores))


def _fit_batched(
    strategy: Strategy, trial: Trial, blocks: Blocks, labels: np.ndarray, folds: Folds, options: FitOptions
) -> Fitted:
    """Return the fitted steps, with held-out scores if they are to be calibrated."""
    with open_pool(blocks) as pool:
        path = linear_path(strategy.kind(), pool, labels, folds, options.class_weight)
        known = None if trial.held_out is None else trial.held_out.scores
        if not strategy.calibration or not folds or known is None:
            return path.fit(trial.value, held_out=bool(strategy.calibration and folds))
        return replace(path.fit(trial.value, held_out=False), held_out_scores=known.astype(np.float64))


def _fit_one_by_one(
    strategy: Strategy, trial: Trial, blocks: Blocks, labels: np.ndarray, folds: Folds, options: FitOptions
) -> Fitted:
    """Return what `_fit_batched` does, for a classifier that fits one fold at a time.

    The held-out scores of a classifier with probabilities of its own are these.
    """
    smallest = min((len(fit_rows) for fit_rows, _ in folds), default=len(labels))
    steps = preparation(strategy, smallest, blocks.shape[1], options.seed)
    classifier = strategy.classifier(trial.value, options.seed, options.class_weight)
    model, features, scores = Pipeline([*steps.steps, ("classify", classifier)]), blocks.read(slice(None)), None
    method = "decision_function" if strategy.calibration else "predict_proba"
    with warnings.catch_warnings(record=True) as caught, parallel_fits(options.jobs, len(folds)):
        warnings.simplefilter("always", ConvergenceWarning)
        if folds and isinstance(blocks, ClusterBlocks):
            scores = held_out_scores(blocks, model, labels, folds, method)
        elif folds:
            scores = cross_val_predict(model, features, labels, cv=folds, method=method)
        model.fit(features, labels)
    converged = not any(issubclass(warning.category, ConvergenceWarning) for warning in caught)
    return Fitted(model, converged, scores)
