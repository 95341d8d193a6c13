"""Linear classifiers, solved for all classes at once: the support vector machine and logistic regression."""

import warnings
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
from scipy.special import log_softmax
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model._base import LinearClassifierMixin
from sklearn.utils import check_consistent_length, column_or_1d
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from thaw.models.calibration import logits_of
from thaw.models.solver.blocks import ArrayBlocks, BlockPool, Blocks, Known, signed_roots
from thaw.models.solver.losses import Loss, SquaredHinge, logistic_loss
from thaw.models.solver.objective import MAX_ITERATIONS, TOLERANCE, Fold, KnownRows, Problems, slope_at_zero, solve

DTYPES = (np.float32, np.float64)


class LinearModel(LinearClassifierMixin, BaseEstimator):
    """The parameters, checks, fit and attributes that both classifiers share; `loss` gives the loss for K classes."""

    loss: Callable[[int], Loss]

    def __init__(
        self,
        C: float = 1.0,
        *,
        class_weight: Any = None,
        tol: float = TOLERANCE,
        max_iter: int = MAX_ITERATIONS,
        warm_start: bool = False,
    ):
        self.C = C
        self.class_weight = class_weight
        self.tol = tol
        self.max_iter = max_iter
        self.warm_start = warm_start

    def fit(self, X: Any, y: np.ndarray, sample_weight: np.ndarray | None = None) -> Self:
        """Fit to X (N, D) and class labels y (N,); warns with ConvergenceWarning if `max_iter` ends the fit.

        Args:
            X: an array, which is not copied if it is float32 or float64 in C order, or
                `thaw.models.solver.blocks.Blocks`, which are read anew in each iteration.
            y: (N,) class labels.
            sample_weight: how much each row counts, (N,), None for all alike.
        """
        self._check_parameters()
        blocks, y, sample_weight = self._checked(X, y, sample_weight)
        self.classes_, codes = np.unique(y, return_inverse=True)
        num_classes = len(self.classes_)
        if num_classes < 2:
            raise ValueError(
                f"{type(self).__name__} needs samples of two classes or more; received one class, {self.classes_[0]}"
            )
        weights = compute_class_weight(self.class_weight, classes=self.classes_, y=y, sample_weight=sample_weight)
        problems = Problems(self.loss(num_classes), self.C, [Fold(None, weights)])
        with BlockPool(blocks) as pool:
            rows = KnownRows(pool, Known(codes, weights=sample_weight))
            tolerances = self.tol * slope_at_zero(rows, problems)
            start = self._start(problems, blocks.shape[1])
            minimum = solve(rows, problems, tolerances, start, self.max_iter)
        self.take(minimum.unknowns, int(minimum.num_iterations.max()), blocks.dtype)
        if not minimum.converged.all():
            message = f"stopped after {minimum.num_iterations.max()} iterations; raise max_iter, or scale the features"
            warnings.warn(f"{type(self).__name__} {message}", ConvergenceWarning, stacklevel=2)
        return self

    def _check_parameters(self) -> None:
        expected = {"C": Real, "tol": Real, "max_iter": Integral}
        for name, kind in expected.items():
            value = getattr(self, name)
            if not (isinstance(value, kind) and not isinstance(value, bool) and 0 < float(value) < np.inf):
                number = "a positive whole number" if kind is Integral else "a positive number"
                raise ValueError(f"{type(self).__name__}: {name} is {value!r}; expected {number}")

    def _checked(self, X: Any, y: Any, sample_weight: Any) -> tuple[Blocks, np.ndarray, np.ndarray | None]:
        if isinstance(X, Blocks):
            self.n_features_in_ = X.shape[1]
            y, blocks = column_or_1d(y), X
            check_consistent_length(y, range(X.shape[0]))
        else:
            X, y = validate_data(self, X, y, dtype=DTYPES, order="C")
            blocks = ArrayBlocks(X)
        check_classification_targets(y)
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, y, dtype=blocks.dtype, ensure_non_negative=True)
        return blocks, y, sample_weight

    def _start(self, problems: Problems, num_features: int) -> np.ndarray | None:
        width = problems.loss.width
        coefficients = getattr(self, "coef_", None)
        if not self.warm_start or coefficients is None or coefficients.shape != (len(problems) * width, num_features):
            return None
        start = np.column_stack([coefficients, self.intercept_])
        return start.reshape(len(problems), width, num_features + 1)

    def take(self, unknowns: np.ndarray, num_iterations: int, dtype: Any) -> None:
        """Take over the solved `unknowns` (g, k, D + 1) as coefficients, in the precision `dtype`."""
        flat = unknowns.reshape(-1, unknowns.shape[2])
        self.coef_ = np.ascontiguousarray(flat[:, :-1], dtype=dtype)
        self.intercept_ = flat[:, -1].astype(dtype)
        self.n_iter_ = num_iterations


class LinearSVM(LinearModel):
    """One-vs-rest linear support vector machine with the squared hinge loss.

    Minimises, for each class with targets y in {-1, +1}, the objective of scikit-learn's `LinearSVC` (Fan et al. 2008,
    LIBLINEAR, equation 2; the intercept is a weight like the others, as there):

        0.5 (|w|^2 + b^2) + C sum_i s_i max(0, 1 - y_i (w x_i + b))^2

    so C has one meaning in both. A class's weight counts only in the problem that tells the class apart, as in
    LIBLINEAR. All classes share the two matrix products of an iteration. Products are in the precision of X (float32 or
    float64), sums over blocks of rows in float64.

    Args:
        C: the weight of the loss.
        class_weight: None, `balanced` or a dict.
        tol: the fit ends if the largest entry of the gradient is below `tol` times the largest one at zero, and the
            last iteration decreased the objective by less than a hundred-thousandth.
        max_iter: the most iterations.
        warm_start: whether a fit begins at the last solution.

    Attributes:
        coef_: (K, D), for two classes (1, D).
        intercept_: (K,) or (1,).
        classes_: (K,).
        n_iter_: the iterations of the slowest class.
    """

    loss = SquaredHinge


class SoftmaxRegression(LinearModel):
    """Multinomial logistic regression, with the objective of scikit-learn's `LogisticRegression`:

        0.5 |w|^2 + C sum_i s_i loss_i

    with loss_i minus the logarithm of the true class's softmax, for two classes the logistic loss of one score. The
    intercepts are free. `LinearSVM` describes the parameters and attributes.
    """

    loss = staticmethod(logistic_loss)

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Return class probabilities (N, K), in the precision of X."""
        return np.exp(self.predict_log_proba(X))

    def predict_log_proba(self, X: np.ndarray) -> np.ndarray:
        """Return the logarithms of the class probabilities (N, K)."""
        return log_softmax(logits_of(self.decision_function(X)), axis=1)


class PowerNormalizer(TransformerMixin, BaseEstimator):
    """Take signed square roots, which even out the few large values of an activation map (Perronnin et al. 2010)."""

    def fit(self, X: np.ndarray, y: Any = None) -> Self:
        """Learn nothing but the number of features."""
        validate_data(self, X, dtype=DTYPES)
        return self

    def transform(self, X: np.ndarray) -> np.ndarray:
        """Return sign(x) sqrt(|x|) of every value of X (N, D), in X's precision; X does not change."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=DTYPES, reset=False)
        return signed_roots(X)
