"""The path over C: linear classifiers of several folds, solved together, each value from the last one's solution."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.class_weight import compute_class_weight

from thaw.models.calibration import logits_of
from thaw.models.linear import LinearModel
from thaw.models.solver.block_functions import NO_FOLD
from thaw.models.solver.blocks import Known, Pool
from thaw.models.solver.lbfgs import Minimum
from thaw.models.solver.losses import Loss
from thaw.models.solver.objective import TOLERANCE, Fold, KnownRows, Objective, Problems, measure, slope_at_zero, solve

# While C is chosen: of the gradient at zero, and of the last decrease; a fold's accuracy moves by a tenth of a point.
CHOOSING_TOLERANCE, CHOOSING_GAIN = 1e-3, 1e-3

Folds = Sequence[tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Fitted:
    """The fitted steps `scale` to `classify`, and each row's scores (N, K) or (N,) from the fold that leaves it out."""

    steps: Pipeline
    converged: bool
    held_out_scores: np.ndarray | None


@dataclass(frozen=True)
class HeldOut:
    """What the folds say of the n rows that they hold out, at one value.

    Attributes:
        correct: whether each row is labelled correctly, (n,) bool in the rows' order.
        scores: of all N rows by the fold that leaves each out, (N, K) or (N,) float32. None for a classifier that is
            not batched, or if there are rows that no fold leaves out.
    """

    correct: np.ndarray
    scores: np.ndarray | None = None

    @property
    def accuracy(self) -> float:
        """The share of the rows that are labelled correctly."""
        return float(self.correct.mean())


def next_start(before: Sequence[np.ndarray], loss: Loss) -> np.ndarray | None:
    """Return what the solution at the next C begins at, from those at the values before; None for zero.

    It is the last one, or for a smooth loss as far beyond it as it is from the one before: the path over the logarithm
    of C is then smooth too.
    """
    if not before:
        return None
    return before[-1] if len(before) == 1 or loss.curvature else 2 * before[-1] - before[-2]


class LinearPath:
    """Linear classifiers of one kind on the rows of a pool, each standardised by the rows that it is fitted to.

    Features are never copied: the coefficients are scaled instead.

    Args:
        kind: the class of the classifiers.
        pool: the N rows.
        labels: the classes of the rows, (N,).
        folds: pairs of fit rows and held-out rows. A fold is fitted to all rows that it does not hold out, and no row
            is held out twice.
        class_weight: `balanced` or None.
    """

    def __init__(self, kind: type[LinearModel], pool: Pool, labels: np.ndarray, folds: Folds, class_weight: str | None):
        self.kind, self.class_weight = kind, class_weight
        self.classes, codes = np.unique(labels, return_inverse=True)
        held_out = np.full(len(labels), NO_FOLD)
        for number, (fit_rows, rows) in enumerate(folds):
            if len(fit_rows) + len(rows) != len(labels) or (held_out[rows] != NO_FOLD).any():
                raise ValueError("expected folds that are fitted to all rows but those they hold out, each row once")
            held_out[rows] = number
        self.rows, self._held_out = KnownRows(pool, Known(codes, held_out)), held_out
        self.num_folds = len(folds)
        numbers = [*range(self.num_folds), None]
        scalings = measure(self.rows, numbers)
        self._scaling = scalings[-1]
        self._folds = [Fold(number, self._weights(number), scalings[i]) for i, number in enumerate(numbers)]

    @cached_property
    def _slopes(self) -> np.ndarray:
        """The largest entry of each problem's gradient at zero, (G,), of all folds and then of all rows."""
        return slope_at_zero(self.rows, self._problems(1.0, self._folds))

    def _weights(self, fold: int | None) -> np.ndarray:
        """Return the weights of the classes among a fold's fit rows."""
        codes = self.rows.known.codes if fold is None else self.rows.known.codes[self._held_out != fold]
        weights = np.ones(len(self.classes))
        present = np.unique(codes)
        weights[present] = compute_class_weight(self.class_weight, classes=present, y=codes)
        return weights

    @property
    def held_out(self) -> np.ndarray:
        """Whether a fold holds out each row, (N,) bool."""
        return self._held_out != NO_FOLD

    def correct(self, values: Sequence[float]) -> Iterator[np.ndarray]:
        """Yield at each of the ascending `values` of C whether each row is labelled correctly, see `judge`."""
        yield from map(self.judge, self.held_out_scores(values))

    def judge(self, scores: np.ndarray) -> np.ndarray:
        """Return whether the fold that leaves a row out labels it correctly by its scores (N, K) or (N,): (N,) bool.

        It is False for a row that no fold leaves out.
        """
        return self.held_out & (logits_of(scores).argmax(axis=1) == self.rows.known.codes)

    def held_out_scores(self, values: Sequence[float]) -> Iterator[np.ndarray]:
        """Yield at each of the ascending `values` of C each row's scores from the fold that leaves it out.

        They are (N, K), for two classes (N,), and NaN for a row that no fold leaves out.
        """
        before: list[np.ndarray] = []
        for value in values:
            problems = self._problems(value, self._folds[:-1])
            tolerances = CHOOSING_TOLERANCE * value * self._slopes[: len(problems)]
            start = next_start(before, problems.loss)
            minimum = solve(self.rows, problems, tolerances, start, small_gain=CHOOSING_GAIN)
            before = [*before[-1:], minimum.unknowns]
            yield self._scores(problems, minimum.unknowns)

    def fit(self, value: float, held_out: bool) -> Fitted:
        """Return the classifier of all rows at the C `value`, and if `held_out` the folds' scores."""
        folds = self._folds if held_out else self._folds[-1:]
        problems = self._problems(value, folds)
        minimum = solve(self.rows, problems, TOLERANCE * value * self._slopes[-len(problems) :])
        scores = self._scores(problems, minimum.unknowns) if held_out else None
        last = len(problems.loss.targets)
        steps = Pipeline([("scale", self._scaler()), ("classify", self._classifier(value, minimum, last))])
        return Fitted(steps, bool(minimum.converged.all()), scores)

    def _problems(self, value: float, folds: Sequence[Fold]) -> Problems:
        return Problems(self.kind.loss(len(self.classes)), value, folds)

    def _scores(self, problems: Problems, unknowns: np.ndarray) -> np.ndarray:
        """Return each row's scores (N, K) or (N,) from the fold that leaves it out, NaN if no fold does."""
        scores = Objective(self.rows, problems).held_out_scores(unknowns)
        return scores[:, 0] if scores.shape[1] == 1 else scores

    def _scaler(self) -> StandardScaler:
        """Return scikit-learn's scaler with the means and deviations of all rows."""
        mean, deviation = self._scaling
        scaler = StandardScaler()
        scaler.mean_, scaler.scale_, scaler.var_ = mean, deviation, np.square(deviation)
        scaler.n_features_in_, scaler.n_samples_seen_ = len(mean), len(self.rows.known.codes)
        return scaler

    def _classifier(self, value: float, minimum: Minimum, last: int) -> LinearModel:
        classifier = self.kind(C=value, class_weight=self.class_weight)
        classifier.classes_, classifier.n_features_in_ = self.classes, self.rows.num_features
        iterations = int(minimum.num_iterations[-last:].max())
        classifier.take(minimum.unknowns[-last:], iterations, self.rows.pool.blocks.dtype)
        return classifier
