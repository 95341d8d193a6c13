"""Temperature scaling: probabilities for classifiers that give scores only."""

from typing import Any, Self

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

LOG_RANGE = (-10.0, 10.0)  # of the factor's logarithm


class TemperatureScaled(ClassifierMixin, BaseEstimator):
    """A fitted classifier with probabilities: the softmax of its scores over one temperature (Guo et al. 2017).

    `estimator` is fitted already; its `decision_function` gives (N, K), or (N,) for two classes. The label is always
    the one of the highest score. Fitted: `temperature_`, `classes_`.
    """

    def __init__(self, estimator: Any):
        self.estimator = estimator

    def fit(self, scores: np.ndarray, y: np.ndarray) -> Self:
        """Find the temperature of the least log loss, from `scores` (N, K) or (N,) of rows not used to fit it."""
        self.classes_ = self.estimator.classes_
        codes = np.searchsorted(self.classes_, y)
        logits = logits_of(np.asarray(scores, np.float64))

        def log_loss(log_factor: float) -> float:
            return -log_softmax(np.exp(log_factor) * logits, axis=1)[np.arange(len(codes)), codes].mean()

        self.temperature_ = float(np.exp(-minimize_scalar(log_loss, bounds=LOG_RANGE, method="bounded").x))
        return self

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        """Return the classifier's own scores."""
        check_is_fitted(self)
        return self.estimator.decision_function(X)

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Return class probabilities (N, K), float64."""
        scores = self.decision_function(X)
        return softmax(logits_of(np.asarray(scores, np.float64)) / self.temperature_, axis=1)

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Return the classes of the highest scores (N,)."""
        return self.classes_[logits_of(self.decision_function(X)).argmax(axis=1)]


def logits_of(scores: np.ndarray) -> np.ndarray:
    """Return (N, K) from scores; a single score speaks for the second class."""
    return np.column_stack([np.zeros_like(scores), scores]) if scores.ndim == 1 else scores
