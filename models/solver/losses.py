"""The losses of linear classifiers and their slopes, for many problems of the same rows at once."""

from typing import Protocol

import numpy as np
from scipy.special import expit


class Loss(Protocol):
    """What a row's scores cost.

    A classifier is solved as one problem for each of `targets` (t,), the classes told from all others, with `width`
    scores each. `penalises_intercept` says whether the penalty counts the intercept too.
    """

    width: int
    targets: np.ndarray
    penalises_intercept: bool

    def costs(self, class_weights: np.ndarray) -> np.ndarray:
        """Return how much a row of each class counts in each problem, (t, K), from the classes' weights (K,)."""

    def __call__(
        self, scores: np.ndarray, codes: np.ndarray, costs: np.ndarray, targets: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return each problem's summed loss (g,) float64 and the slopes by score (g, k, n); `scores` is written over.

        `scores` (g, k, n) are those of n rows of the classes `codes` (n,), `costs` (g, n) how much each row counts,
        `targets` (g,) the class that a problem tells from the others.
        """


class SquaredHinge:
    """max(0, 1 - y f)^2 with y = 1 for the target class and -1 for the others (LIBLINEAR: Fan et al. 2008, eq. 2)."""

    width = 1
    penalises_intercept = True

    def __init__(self, num_classes: int):
        self.targets = np.arange(num_classes) if num_classes > 2 else np.array([1])

    def costs(self, class_weights: np.ndarray) -> np.ndarray:
        """As in LIBLINEAR, a class's weight counts where the class is the one against the rest."""
        if len(self.targets) == 1:
            return class_weights[None]
        own = np.arange(len(class_weights)) == self.targets[:, None]
        return np.where(own, class_weights, 1)

    def __call__(
        self, scores: np.ndarray, codes: np.ndarray, costs: np.ndarray, targets: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """See `Loss`."""
        slack = scores[:, 0]
        signs = np.where(codes == targets[:, None], scores.dtype.type(-1), scores.dtype.type(1))
        slack *= signs
        slack += 1
        np.maximum(slack, 0, out=slack)
        costs = costs * slack
        loss = np.einsum("gn,gn->g", slack, costs, dtype=np.float64)
        costs *= signs
        costs *= 2
        return loss, costs[:, None]


class Logistic:
    """log(1 + exp(-y f)) with y = 1 for the target class and -1 for the other."""

    width = 1
    penalises_intercept = False
    targets = np.array([1])

    def costs(self, class_weights: np.ndarray) -> np.ndarray:
        """Return the classes' weights."""
        return class_weights[None]

    def __call__(
        self, scores: np.ndarray, codes: np.ndarray, costs: np.ndarray, targets: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """See `Loss`."""
        signs = np.where(codes == targets[:, None], scores.dtype.type(-1), scores.dtype.type(1))
        margins = scores[:, 0] * signs
        loss = np.einsum("gn,gn->g", np.logaddexp(0, margins), costs, dtype=np.float64)
        return loss, (expit(margins) * signs * costs)[:, None]


class Softmax:
    """-log of the true class's softmax: multinomial logistic regression."""

    penalises_intercept = False
    targets = np.array([0])  # of no meaning: the scores of all classes belong to one problem

    def __init__(self, num_classes: int):
        self.width = num_classes

    def costs(self, class_weights: np.ndarray) -> np.ndarray:
        """Return the classes' weights."""
        return class_weights[None]

    def __call__(
        self, scores: np.ndarray, codes: np.ndarray, costs: np.ndarray, targets: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """See `Loss`."""
        rows = np.arange(len(codes))
        scores -= scores.max(axis=1, keepdims=True)
        right = scores[:, codes, rows]
        np.exp(scores, out=scores)
        total = scores.sum(axis=1)
        loss = np.einsum("gn,gn->g", np.log(total) - right, costs, dtype=np.float64)
        scores *= (costs / total)[:, None]
        scores[:, codes, rows] -= costs
        return loss, scores
