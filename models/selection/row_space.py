"""The path over C in the space of the rows: the same classifiers, sooner if there are fewer rows than features."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cholesky, solve_triangular
from sklearn.pipeline import Pipeline

from thaw.models.calibration import logits_of
from thaw.models.linear import LinearModel
from thaw.models.selection.path import CHOOSING_TOLERANCE, Fitted, Folds, LinearPath
from thaw.models.solver.blocks import ArrayBlocks, BlockPool, Known, Pool
from thaw.models.solver.lbfgs import Minimum
from thaw.models.solver.objective import TOLERANCE, Fold, KnownRows, Problems, solve

MOST_ROWS = 4000  # a fold's Gram matrix then takes 128 MB
PASSES = 150  # over the rows, for all values of C together (measured on digits and on photographs)
COLUMNS = 1024  # of the features, at once
JITTER = 1e-11  # of the trace, added to the diagonal, so that the Gram matrix of centred rows has a Cholesky factor


@dataclass(frozen=True)
class Turned:
    """The rows of a fold in n coordinates, in which their inner products are those of the standardised rows.

    Attributes:
        rows: the n fit rows (n, n), the Cholesky factor of their Gram matrix.
        others: the m held-out rows in the same coordinates, (m, n) float64.
        fit_rows: their indices, (n,).
        held_out: the indices of the held-out rows, (m,).
        factor: the Cholesky factor, float64.
    """

    rows: KnownRows
    others: np.ndarray
    fit_rows: np.ndarray
    held_out: np.ndarray
    factor: np.ndarray


def linear_path(
    kind: type[LinearModel], pool: Pool, labels: np.ndarray, folds: Folds, class_weight: str | None
) -> LinearPath:
    """Return the path that costs less; the arguments are those of LinearPath.

    In the space of the rows a fold costs the Gram matrix of N rows of D features, N^2 D / 2 multiply-adds, and its
    factor, N^3 / 3. In the space of the features each pass over the rows costs 2 N D for each fold and class.
    """
    num_rows, num_features = pool.blocks.shape
    in_memory = isinstance(pool, BlockPool) and isinstance(pool.blocks, ArrayBlocks)
    of_rows = (len(folds) + 1) * (num_rows**2 * num_features / 2 + num_rows**3 / 3)
    of_features = PASSES * 2 * num_rows * num_features * len(np.unique(labels)) * max(1, len(folds))
    fits = in_memory and 2 * num_rows <= num_features and num_rows <= MOST_ROWS and of_rows < of_features
    return (RowSpacePath if fits else LinearPath)(kind, pool, labels, folds, class_weight)


class RowSpacePath(LinearPath):
    """A LinearPath that solves each fold in the coordinates of its rows.

    With a penalty of the squared coefficients, these are a combination of the fit rows A (n, D), standardised (the
    representer theorem: Schoelkopf, Herbrich and Smola, COLT 2001). With the Cholesky factor L of A A^T the problem is
    the same on the rows of L (n, n), with unknowns u: the coefficients are A^T L^-T u, and a held-out row b of D
    features has the coordinates L^-1 A b.
    """

    def correct(self, values: Sequence[float]) -> Iterator[np.ndarray]:
        """Yield at each value whether the fold that leaves a row out labels it correctly, (N,) bool."""
        turned = [self._turn(fold) for fold in self._folds[:-1]]
        starts: list[np.ndarray | None] = [None] * len(turned)
        for value in values:
            predicted = np.full(len(self.rows.known.codes), -1)
            for number, one in enumerate(turned):
                minimum = self._solve(one, number, value, CHOOSING_TOLERANCE, starts[number])
                starts[number] = minimum.unknowns
                predicted[one.held_out] = logits_of(_scores(one, minimum)).argmax(axis=1)
            yield self.held_out & (predicted == self.rows.known.codes)

    def fit(self, value: float, held_out: bool) -> Fitted:
        """Return the classifier of all rows at the C `value`, and if `held_out` the folds' scores."""
        scores, converged = None, True
        for number, fold in enumerate(self._folds[:-1] if held_out else ()):
            one = self._turn(fold)
            minimum = self._solve(one, number, value, TOLERANCE)
            converged = converged and bool(minimum.converged.all())
            own = _scores(one, minimum)
            if scores is None:
                scores = np.full((len(self.rows.known.codes), *own.shape[1:]), np.nan)
            scores[one.held_out] = own
        one = self._turn(self._folds[-1])
        minimum = self._solve(one, len(self._folds) - 1, value, TOLERANCE)
        converged = converged and bool(minimum.converged.all())
        classifier = self._classifier(value, self._in_features(one, minimum), len(minimum.unknowns))
        return Fitted(Pipeline([("scale", self._scaler()), ("classify", classifier)]), converged, scores)

    def _turn(self, fold: Fold) -> Turned:
        """Return the rows of a fold in their own coordinates."""
        held_out = np.flatnonzero(self._held_out == fold.number) if fold.number is not None else np.empty(0, int)
        fit_rows = np.setdiff1d(np.arange(len(self._held_out)), held_out)
        gram = np.zeros((len(self._held_out),) * 2)
        for part, _ in self._standardised(fold, slice(None)):
            gram += part @ part.T
        own = gram[np.ix_(fit_rows, fit_rows)]
        own[np.diag_indices_from(own)] += JITTER * np.trace(own)
        factor = cholesky(own, lower=True, overwrite_a=True)
        others = solve_triangular(factor, gram[np.ix_(fit_rows, held_out)], lower=True).T
        turned = ArrayBlocks(factor.astype(self.rows.pool.blocks.dtype))
        known = KnownRows(BlockPool(turned), Known(self.rows.known.codes[fit_rows]))
        return Turned(known, others, fit_rows, held_out, factor)

    def _standardised(self, fold: Fold, rows: slice | np.ndarray) -> Iterator[tuple[np.ndarray, slice]]:
        """Yield some columns of rows at a time, standardised by a fold's fit rows, float64, and which they are."""
        features = self.rows.pool.blocks.read(slice(None))
        mean, deviation = np.asarray(fold.scaling)
        for start in range(0, features.shape[1], COLUMNS):
            columns = slice(start, start + COLUMNS)
            yield (features[rows, columns] - mean[columns]) / deviation[columns], columns

    def _solve(
        self, turned: Turned, number: int, value: float, tolerance: float, start: np.ndarray | None = None
    ) -> Minimum:
        fold = self._folds[number]
        problems = Problems(self.kind.loss(len(self.classes)), value, [Fold(None, fold.class_weights)])
        slopes = self._slopes[number * len(problems) : (number + 1) * len(problems)]
        return solve(turned.rows, problems, tolerance * value * slopes, start)

    def _in_features(self, turned: Turned, minimum: Minimum) -> Minimum:
        """Return the minimum with unknowns by feature, (g, k, D + 1)."""
        groups, width, _ = minimum.unknowns.shape
        flat = minimum.unknowns.reshape(groups * width, -1)
        combination = solve_triangular(turned.factor, flat[:, :-1].T, lower=True, trans="T").T
        unknowns = np.empty((groups * width, self.rows.num_features + 1))
        for part, columns in self._standardised(self._folds[-1], turned.fit_rows):
            unknowns[:, :-1][:, columns] = combination @ part
        unknowns[:, -1] = flat[:, -1]
        return Minimum(unknowns.reshape(groups, width, -1), minimum.values, minimum.num_iterations, minimum.converged)


def _scores(turned: Turned, minimum: Minimum) -> np.ndarray:
    """Return the scores of the held-out rows, (m, K), for two classes (m,)."""
    flat = minimum.unknowns.reshape(-1, minimum.unknowns.shape[2])
    scores = turned.others @ flat[:, :-1].T + flat[:, -1]
    return scores[:, 0] if scores.shape[1] == 1 else scores
