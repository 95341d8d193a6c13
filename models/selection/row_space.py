"""The path over C in the space of the rows: the same classifiers, sooner if there are fewer rows than features."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from scipy.linalg.blas import get_blas_funcs
from sklearn.pipeline import Pipeline

from thaw.models.linear import LinearModel
from thaw.models.selection.path import CHOOSING_GAIN, CHOOSING_TOLERANCE, Fitted, Folds, LinearPath, next_start
from thaw.models.selection.row_coordinates import Coordinates, turned
from thaw.models.solver.blocks import ArrayBlocks, BlockPool, Pool
from thaw.models.solver.lbfgs import SMALL_GAIN, Minimum, minimise
from thaw.models.solver.losses import Loss
from thaw.models.solver.objective import (
    MAX_ITERATIONS,
    TOLERANCE,
    Fold,
    Objective,
    Problems,
    slope_at_zero,
)

MOST_ROWS = 4000  # a fold's Gram matrix then takes 128 MB
PASSES = 150  # over the rows, for all values of C together (measured on digits and on photographs)
COLUMNS = 2048  # of the features, at once
GRAM_BYTES = 2**29  # of the Gram matrices that are made at the same time


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
    """A LinearPath that solves each fold in the coordinates of its rows, as many folds at once as there are cores.

    With a penalty of the squared coefficients, these are a combination of the fit rows A (n, D), standardised (the
    representer theorem: Schoelkopf, Herbrich and Smola, COLT 2001). With R R^T = A A^T the problem is the same on the
    rows of R (n, n), with unknowns u: the coefficients are A^T R^-T u, and a held-out row b of D features has the
    coordinates R^-1 A b. Gram matrices and products are in the precision of the features.
    """

    def held_out_scores(self, values: Sequence[float]) -> Iterator[np.ndarray]:
        """See LinearPath."""
        diagonal = self.kind.loss(len(self.classes)).curvature > 0
        with self._threads() as threads:

            def begun(fold: Fold) -> _FoldPath:
                coordinates = self._coordinates(fold, diagonal)
                return _FoldPath(self.kind.loss(len(self.classes)), fold, coordinates)

            paths = list(threads.map(begun, self._folds[:-1]))
            for value in values:
                yield self._gathered(paths, threads.map(lambda path, value=value: path.scores_at(value), paths))

    def fit(self, value: float, held_out: bool) -> Fitted:
        """Return the classifier of all rows at the C `value`, and if `held_out` the folds' scores."""

        def fitted(fold: Fold) -> tuple[_FoldPath, Minimum]:
            coordinates = self._coordinates(fold, diagonal=False)
            path = _FoldPath(self.kind.loss(len(self.classes)), fold, coordinates)
            return path, path.minimum_at(value, TOLERANCE, SMALL_GAIN)

        with self._threads() as threads:
            *of_folds, (path, minimum) = threads.map(fitted, self._folds if held_out else self._folds[-1:])
        scores = None
        if held_out:
            scores = self._gathered([one for one, _ in of_folds], [one.scores(found) for one, found in of_folds])
        converged = all(bool(found.converged.all()) for _, found in [*of_folds, (path, minimum)])
        classifier = self._classifier(value, self._in_features(path.coordinates, minimum), len(minimum.unknowns))
        return Fitted(Pipeline([("scale", self._scaler()), ("classify", classifier)]), converged, scores)

    def _threads(self) -> ThreadPoolExecutor:
        pool, most = self.rows.pool, GRAM_BYTES // (8 * len(self._held_out) ** 2)
        at_once = pool.num_threads if isinstance(pool, BlockPool) else 1
        return ThreadPoolExecutor(max(1, min(at_once, most, self.num_folds)))

    def _gathered(self, paths: Sequence["_FoldPath"], scores: Iterable[np.ndarray]) -> np.ndarray:
        """Return the scores of all rows, (N, K) or (N,), from those of each fold's held-out rows."""
        of_folds = list(scores)
        result = np.full((len(self._held_out), *of_folds[0].shape[1:]), np.nan)
        for path, own in zip(paths, of_folds, strict=True):
            result[path.coordinates.held_out] = own
        return result

    def _coordinates(self, fold: Fold, diagonal: bool) -> Coordinates:
        """Return the rows of a fold in their own coordinates; raises ValueError if a feature is not finite."""
        num_rows = len(self._held_out)
        gram = np.zeros((num_rows, num_rows), self.rows.pool.blocks.dtype, order="F")
        syrk = get_blas_funcs("syrk", (gram,))
        for part, _ in self._standardised(fold, slice(None)):
            gram = syrk(1, part.T, trans=1, beta=1, c=gram, overwrite_c=1)  # its upper triangle
        if not np.isfinite(gram).all():
            raise ValueError("features hold values that are not finite or too large; expected finite numbers")
        held_out = np.zeros(num_rows, bool) if fold.number is None else self._held_out == fold.number
        return turned(gram, self.rows.known.codes, held_out, diagonal)

    def _standardised(self, fold: Fold, rows: slice | np.ndarray) -> Iterator[tuple[np.ndarray, slice]]:
        """Yield some columns of rows at a time, standardised by a fold's fit rows, and which they are."""
        features = self.rows.pool.blocks.read(slice(None))
        mean, deviation = np.asarray(fold.scaling, features.dtype)
        for start in range(0, features.shape[1], COLUMNS):
            columns = slice(start, start + COLUMNS)
            centred = features[rows, columns] - mean[columns]
            centred /= deviation[columns]
            yield centred, columns

    def _in_features(self, coordinates: Coordinates, minimum: Minimum) -> Minimum:
        """Return the minimum with unknowns by feature, (g, k, D + 1)."""
        groups, width, _ = minimum.unknowns.shape
        flat = minimum.unknowns.reshape(groups * width, -1)
        combination = coordinates.combine(flat[:, :-1])
        unknowns = np.empty((groups * width, self.rows.num_features + 1))
        for part, columns in self._standardised(self._folds[-1], coordinates.fit_rows):
            unknowns[:, :-1][:, columns] = combination @ part
        unknowns[:, -1] = flat[:, -1]
        return Minimum(unknowns.reshape(groups, width, -1), minimum.values, minimum.num_iterations, minimum.converged)


class _FoldPath:
    """The solutions of one fold's problems, each from the solutions before.

    Args:
        loss: of the classifier.
        fold: the fold.
        coordinates: the fold's rows.
    """

    def __init__(self, loss: Loss, fold: Fold, coordinates: Coordinates):
        self.coordinates = coordinates
        self._loss, self._class_weights = loss, fold.class_weights
        self._slopes = slope_at_zero(coordinates.rows, self._problems(1.0))
        self._before: list[np.ndarray] = []

    def _problems(self, value: float) -> Problems:
        return Problems(self._loss, value, [Fold(None, self._class_weights)])

    def scores_at(self, value: float) -> np.ndarray:
        """Return the scores of the held-out rows (m, K), for two classes (m,), at the next C."""
        minimum = self.minimum_at(value, CHOOSING_TOLERANCE, CHOOSING_GAIN)
        self._before = [*self._before[-1:], minimum.unknowns]
        return self.scores(minimum)

    def minimum_at(self, value: float, tolerance: float, small_gain: float) -> Minimum:
        """Return the solutions at a C, to a tolerance relative to the gradient at zero."""
        objective = Objective(self.coordinates.rows, self._problems(value))
        start = next_start(self._before, self._loss)
        if start is None:
            start = np.zeros((len(self._slopes), self._loss.width, self.coordinates.rows.num_features + 1))
        tolerances, metric = tolerance * value * self._slopes, self._metric(value)
        return minimise(objective, start.astype(objective.dtype), tolerances, MAX_ITERATIONS, metric, small_gain)

    def _metric(self, value: float) -> np.ndarray | None:
        """Return the diagonal of the inverse Hessian where all rows count, (n + 1,), None if it is not known."""
        squares = self.coordinates.squares
        if squares is None:
            return None
        penalties = np.append(np.ones(len(squares)), self._loss.penalises_intercept)
        return 1 / (penalties + self._loss.curvature * value * np.append(squares, len(squares)))

    def scores(self, minimum: Minimum) -> np.ndarray:
        """Return the scores of the held-out rows (m, K), for two classes (m,)."""
        others = self.coordinates.others
        flat = minimum.unknowns.reshape(-1, minimum.unknowns.shape[2]).astype(others.dtype)
        scores = others @ flat[:, :-1].T + flat[:, -1]
        return scores[:, 0] if scores.shape[1] == 1 else scores
