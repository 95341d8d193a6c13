"""The work on a block of rows in a pass over all rows: in a thread, or by a worker of a cluster."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from thaw.models.solver.blocks import Known
from thaw.models.solver.losses import Loss

NO_FOLD = -1  # of a row that is never held out


@dataclass(frozen=True)
class Slopes:
    """The losses of G problems with k scores each, and their slopes.

    Attributes:
        loss: the loss of the scores.
        coefficients: (G k, D), for rows that are not standardised, in the precision of the products.
        offsets: (G k, 1), likewise.
        costs: how much a row of each class counts in each problem, (G, K).
        folds: the fold whose rows do not count in each problem, (G,).
        targets: the class that each problem tells from the others, (G,).
    """

    loss: Loss
    coefficients: np.ndarray
    offsets: np.ndarray
    costs: np.ndarray
    folds: np.ndarray
    targets: np.ndarray

    def __call__(self, block: np.ndarray, known: Known) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return summed losses (G,) and slopes by offset (G k,), float64, and by coefficient (G k, D)."""
        scores = self.coefficients @ block.T
        scores += self.offsets
        scores = scores.reshape(len(self.targets), -1, len(block))
        loss, slopes = self.loss(scores, known.codes, self._row_costs(known), self.targets)
        slopes = slopes.reshape(-1, len(block))
        return loss, slopes.sum(axis=1, dtype=np.float64), slopes @ block

    def _row_costs(self, known: Known) -> np.ndarray:
        costs = self.costs[:, known.codes]
        if known.folds is not None:
            costs[known.folds == self.folds[:, None]] = 0
        if known.weights is not None:
            costs *= known.weights
        return costs


@dataclass(frozen=True)
class HeldOutScores:
    """The scores of each row from the fold that leaves it out.

    `coefficients` (F p, D) and `offsets` (F p, 1) are of F folds, one fold after the other; `per_fold` is p.
    """

    coefficients: np.ndarray
    offsets: np.ndarray
    per_fold: int

    def __call__(self, block: np.ndarray, known: Known) -> np.ndarray:
        """Return scores (n, p), NaN for a row that no fold leaves out."""
        scores = (self.coefficients @ block.T + self.offsets).reshape(-1, self.per_fold, len(block))
        result = np.full((len(block), self.per_fold), np.nan, scores.dtype)
        if known.folds is not None:
            rows = np.flatnonzero(known.folds != NO_FOLD)
            result[rows] = scores[known.folds[rows], :, rows]
        return result


@dataclass(frozen=True)
class Moments:
    """The sums behind means and deviations: `parts` (P,) are the folds, `shift` (D,) is near the means."""

    parts: np.ndarray
    shift: np.ndarray

    def __call__(self, block: np.ndarray, known: Known) -> np.ndarray:
        """Return the sums of the differences from `shift` and of their squares, by fold: (P, 2, D) float64."""
        folds = np.full(len(block), NO_FOLD) if known.folds is None else known.folds
        members = (folds == self.parts[:, None]).astype(np.float64)
        centred = block - self.shift
        sums = members @ centred
        return np.stack([sums, members @ np.square(centred, out=centred)], axis=1)


@dataclass(frozen=True)
class ModelProbabilities:
    """The class probabilities of a fitted model."""

    model: Any

    def __call__(self, block: np.ndarray, _: Known) -> np.ndarray:
        """Return the probabilities (n, K) of a block's rows."""
        return self.model.predict_proba(block)
