"""The regularised objectives of many linear classifiers on the same rows, evaluated in one pass over them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from thaw.models.solver.block_functions import NO_FOLD, HeldOutScores, Moments, Slopes
from thaw.models.solver.blocks import Known, Pool
from thaw.models.solver.lbfgs import SMALL_GAIN, Minimum, minimise
from thaw.models.solver.losses import Loss

MAX_ITERATIONS = 1000
TOLERANCE = 1e-4  # of the gradient at zero
MAX_CONSTANT_VARIANCE = 1e-10  # over the mean square about the first block's mean; below, a variance is rounding
NOTHING = -2  # the rows that are held out from a fold with all rows


@dataclass(frozen=True)
class KnownRows:
    """N rows of features, with what is known of each row."""

    pool: Pool
    known: Known

    @property
    def num_features(self) -> int:
        """The number of features, D."""
        return self.pool.blocks.shape[1]


@dataclass(frozen=True)
class Fold:
    """The rows that a classifier is fitted to.

    Attributes:
        number: the fold whose rows are held out, None to fit to all rows.
        class_weights: the weights of the classes, (K,).
        scaling: means and standard deviations (2, D) that standardise the features as they are read, None for neither.
    """

    number: int | None
    class_weights: np.ndarray
    scaling: np.ndarray | None = None


class Problems:
    """The G problems of several classifiers on the same rows at one C: for each of `folds` those of the loss."""

    def __init__(self, loss: Loss, C: float, folds: Sequence[Fold]):
        self.loss = loss
        self.costs = C * np.concatenate([loss.costs(fold.class_weights) for fold in folds])
        self.targets = np.tile(loss.targets, len(folds))
        self.fold_indices = np.repeat(np.arange(len(folds)), len(loss.targets))
        self.folds = np.array([NOTHING if fold.number is None else fold.number for fold in folds])[self.fold_indices]
        scalings = [fold.scaling for fold in folds if fold.scaling is not None]
        self._scaling = np.stack(scalings, axis=1) if scalings else None

    def __len__(self) -> int:
        return len(self.targets)

    def to_rows(self, unknowns: np.ndarray, live: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return coefficients (g, k, D) and intercepts (g, k) for rows that are not standardised."""
        coefficients, intercepts = unknowns[:, :, :-1], unknowns[:, :, -1]
        if self._scaling is None:
            return coefficients, intercepts
        mean, deviation = self._scaling[:, self.fold_indices[live]]
        coefficients = coefficients / deviation[:, None]
        return coefficients, intercepts - np.einsum("gkd,gd->gk", coefficients, mean)

    def from_rows(self, slopes: np.ndarray, totals: np.ndarray, live: np.ndarray) -> np.ndarray:
        """Return slopes by coefficient (g, k, D) for standardised rows.

        Args:
            slopes: the slopes (g, k, D) for rows that are not standardised, which are written over.
            totals: the slopes by intercept, (g, k).
            live: the numbers of the problems, (g,).
        """
        if self._scaling is not None:
            mean, deviation = self._scaling[:, self.fold_indices[live]]
            slopes -= totals[:, :, None] * mean[:, None]
            slopes /= deviation[:, None]
        return slopes


class Objective:
    """0.5 |w|^2 + the summed costs of the losses, of all problems in one pass over the rows.

    Unknowns are (g, k, D + 1), the intercept last. Products are in the precision of the features, sums over blocks in
    float64.
    """

    def __init__(self, rows: KnownRows, problems: Problems):
        self.rows, self.problems = rows, problems
        self.dtype = rows.pool.blocks.dtype
        self._costs = problems.costs.astype(self.dtype)

    def __call__(self, unknowns: np.ndarray, live: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return objectives (g,) and gradients (g, k, D + 1), float64, of the problems `live` (g,)."""
        coefficients, flat, offsets = self._flat(unknowns, live)
        penalised = unknowns if self.problems.loss.penalises_intercept else unknowns[:, :, :-1]
        values = 0.5 * np.einsum("gkd,gkd->g", penalised, penalised)
        slopes, totals = np.zeros(flat.shape), np.zeros(len(flat))
        work = Slopes(
            *(self.problems.loss, flat, offsets, self._costs[live]),
            folds=self.problems.folds[live],
            targets=self.problems.targets[live],
        )
        self.rows.pool.add(work, self.rows.known, (values, totals, slopes))
        width = unknowns.shape[1]
        return values, self._gradient(unknowns, slopes.reshape(coefficients.shape), totals.reshape(-1, width), live)

    def _flat(self, unknowns: np.ndarray, live: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return coefficients (g, k, D), then flat coefficients (g k, D) and offsets (g k, 1) for the products."""
        coefficients, intercepts = self.problems.to_rows(unknowns, live)
        flat = coefficients.reshape(-1, self.rows.num_features).astype(self.dtype)
        return coefficients, flat, intercepts.reshape(-1, 1).astype(self.dtype)

    def _gradient(self, unknowns: np.ndarray, slopes: np.ndarray, totals: np.ndarray, live: np.ndarray) -> np.ndarray:
        slopes = self.problems.from_rows(slopes, totals, live)
        gradient = np.concatenate([slopes, totals[:, :, None]], axis=2)
        penalised = gradient.shape[2] - (not self.problems.loss.penalises_intercept)
        gradient[:, :, :penalised] += unknowns[:, :, :penalised]
        return gradient

    def held_out_scores(self, unknowns: np.ndarray) -> np.ndarray:
        """Return each row's scores (N, t k) from the fold that leaves it out, NaN if no fold does."""
        _, flat, offsets = self._flat(unknowns, np.arange(len(self.problems)))
        per_fold = len(self.problems.loss.targets) * unknowns.shape[1]
        work = HeldOutScores(flat, offsets, per_fold)
        return np.concatenate(list(self.rows.pool.each(work, self.rows.known))).astype(unknowns.dtype)


def slope_at_zero(rows: KnownRows, problems: Problems) -> np.ndarray:
    """Return the largest entry of each problem's gradient at zero, (G,), which tolerances are relative to.

    Raises ValueError if a feature is not finite.
    """
    objective = Objective(rows, problems)
    zero = np.zeros((len(problems), problems.loss.width, rows.num_features + 1), objective.dtype)
    _, gradients = objective(zero, np.arange(len(problems)))
    if not np.isfinite(gradients).all():
        raise ValueError("features hold values that are not finite or too large; expected finite numbers")
    return np.abs(gradients).max(axis=(1, 2))


def solve(
    rows: KnownRows,
    problems: Problems,
    tolerances: np.ndarray,
    start: np.ndarray | None = None,
    max_iterations: int = MAX_ITERATIONS,
    small_gain: float = SMALL_GAIN,
) -> Minimum:
    """Solve all problems together.

    Args:
        rows: the rows.
        problems: the G problems.
        tolerances: the largest gradient entry that may be left of each problem, (G,).
        start: the unknowns to begin at, (G, k, D + 1), None for zero.
        max_iterations: the most iterations of a problem.
        small_gain: the relative decrease of the last step at which a small gradient ends a problem.
    """
    objective = Objective(rows, problems)
    if start is None:
        start = np.zeros((len(problems), problems.loss.width, rows.num_features + 1))
    return minimise(objective, start.astype(objective.dtype), tolerances, max_iterations, small_gain=small_gain)


def measure(rows: KnownRows, folds: Sequence[int | None]) -> np.ndarray:
    """Return mean and standard deviation of each fold's fit rows, (len(folds), 2, D) float64, in one pass.

    The deviation of a constant feature is 1. Sums are kept for the rows of each fold, and those of the fit rows are
    added. To subtract held-out rows from a total would leave rounding if a feature is constant except in these rows.
    """
    shift = rows.pool.blocks.read(rows.pool.rows[0]).mean(axis=0, dtype=np.float64)
    held_out = np.full(len(rows.known.codes), NO_FOLD) if rows.known.folds is None else rows.known.folds
    parts, counts = np.unique(held_out, return_counts=True)
    sums = np.zeros((len(parts), 2, rows.num_features))
    for part in rows.pool.each(Moments(parts, shift), rows.known):
        sums += part
    result = []
    for fold in folds:
        fitted = parts != (NOTHING if fold is None else fold)
        mean, square = sums[fitted].sum(axis=0) / counts[fitted].sum()
        variance = np.maximum(square - np.square(mean), 0)
        constant = variance <= MAX_CONSTANT_VARIANCE * square
        result.append(np.stack([mean + shift, np.sqrt(np.where(constant, 1, variance))]))
    return np.stack(result)
