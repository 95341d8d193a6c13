"""The linear support vector machine, all classes solved at once by one matrix L-BFGS, and power normalisation."""

import warnings
from typing import Any, Self

import numpy as np
from scipy.optimize import minimize
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model._base import LinearClassifierMixin
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data


class LinearSVM(LinearClassifierMixin, BaseEstimator):
    """One-vs-rest linear support vector machine with the squared hinge loss.

    Minimises, for each class with targets y in {-1, +1}, the objective of scikit-learn's `LinearSVC` (Fan et al. 2008,
    LIBLINEAR, equation 2; the intercept is a weight like the others, as there):

        0.5 (|w|^2 + b^2) + C sum_i s_i max(0, 1 - y_i (w x_i + b))^2

    so C means the same. All classes share the two matrix products of an iteration; products are in the precision of X
    (float32 or float64), sums in float64.

    Parameters: `C` weight of the loss; `class_weight` None, `balanced` or a dict; `tol` stops where the largest
    gradient entry is below `tol` times that at zero; `max_iter`; `warm_start` begins at the last solution.
    Fitted: `coef_` (K, D) or (1, D) for two classes, `intercept_`, `classes_`, `n_iter_`.
    """

    def __init__(
        self,
        C: float = 1.0,
        *,
        class_weight: Any = None,
        tol: float = 1e-4,
        max_iter: int = 1000,
        warm_start: bool = False,
    ):
        self.C = C
        self.class_weight = class_weight
        self.tol = tol
        self.max_iter = max_iter
        self.warm_start = warm_start

    def fit(self, X: np.ndarray, y: np.ndarray) -> Self:
        """Fit to X (N, D) and class labels y (N,); warns with ConvergenceWarning where `max_iter` ends it."""
        X, y = validate_data(self, X, y, dtype=(np.float32, np.float64), order="C")
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"LinearSVM needs samples of two classes or more; received one class, {self.classes_[0]}")
        targets = np.where(codes[:, None] == np.arange(len(self.classes_)), 1, -1).astype(X.dtype)
        if len(self.classes_) == 2:
            targets = targets[:, 1:]
        weights = self.C * self._loss_weights(y, targets)
        solution = self._minimise(X, targets, weights)
        self.coef_ = np.ascontiguousarray(solution[:-1].T, dtype=X.dtype)
        self.intercept_ = solution[-1].astype(X.dtype)
        return self

    def _loss_weights(self, y: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Return s, (N, K): as in LIBLINEAR, a class's weight counts where it is the one against the rest."""
        weights = compute_sample_weight(self.class_weight, y).astype(targets.dtype)[:, None]
        return weights if targets.shape[1] == 1 else np.where(targets > 0, weights, targets.dtype.type(1))

    def _minimise(self, X: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Return the (D + 1, K) minimiser, the intercepts in its last row."""
        shape = (X.shape[1] + 1, targets.shape[1])

        def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
            solution = flat.reshape(shape)
            scores = X @ solution[:-1].astype(X.dtype) + solution[-1].astype(X.dtype)
            slack = np.maximum(0, 1 - targets * scores)
            pull = weights * targets * slack
            loss = 0.5 * flat @ flat + np.sum(pull * targets * slack, dtype=np.float64)
            gradient = solution.copy()
            gradient[:-1] -= 2 * (X.T @ pull)
            gradient[-1] -= 2 * pull.sum(axis=0, dtype=np.float64)
            return loss, gradient.ravel()

        start = np.zeros(shape)
        largest = np.abs(objective(start.ravel())[1]).max()
        if self.warm_start and getattr(self, "coef_", np.empty(0)).T.shape == (X.shape[1], targets.shape[1]):
            start = np.vstack([self.coef_.T, self.intercept_]).astype(np.float64)
        options = {
            "maxiter": self.max_iter,
            "maxfun": 2 * self.max_iter,
            "gtol": self.tol * largest,
            "ftol": 1e-9,
        }
        result = minimize(objective, start.ravel(), jac=True, method="L-BFGS-B", options=options)
        self.n_iter_ = int(result.nit)
        if result.status == 1:
            message = f"LinearSVM stopped after {result.nit} iterations; raise max_iter, or scale the features"
            warnings.warn(message, ConvergenceWarning, stacklevel=4)
        return result.x.reshape(shape)


class PowerNormalizer(TransformerMixin, BaseEstimator):
    """Square root of the size, sign kept: evens out an activation map's few large values (Perronnin et al. 2010)."""

    def fit(self, X: np.ndarray, y: Any = None) -> Self:
        """Learn nothing but the number of features."""
        validate_data(self, X, dtype=(np.float32, np.float64))
        return self

    def transform(self, X: np.ndarray) -> np.ndarray:
        """Return sign(x) sqrt(|x|) of every value of X (N, D), in X's precision; X is left as it is."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=(np.float32, np.float64), reset=False)
        return np.copysign(np.sqrt(np.abs(X)), X)
