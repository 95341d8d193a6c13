"""The losses of linear classifiers and their slopes, for many problems on the same rows at once."""

import numpy as np
from scipy.special import expit


class Loss:
    """The loss of a row's scores; this base is multinomial, without a penalty of the intercept.

    Attributes:
        width: the number of scores of each problem, k.
        targets: the class that each problem tells from the others, (t,); a classifier is solved as t problems.
        penalises_intercept: whether the penalty counts the intercept too.
        curvature: the second derivative by a score if it is one number for most rows, 0 if it differs from row to row.
    """

    width = 1
    targets = np.array([1])
    penalises_intercept = False
    curvature = 0.0

    def costs(self, class_weights: np.ndarray) -> np.ndarray:
        """Return how much a row of each class counts in each problem, (t, K), from the classes' weights (K,)."""
        return class_weights[None]

    def __call__(
        self, scores: np.ndarray, codes: np.ndarray, costs: np.ndarray, targets: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return each problem's summed loss, and the slopes by score.

        Args:
            scores: (g, k, n), of n rows, which are written over.
            codes: the class of each row, (n,).
            costs: how much each row counts in each problem, (g, n).
            targets: the class that each problem tells from the others, (g,).

        Returns:
            The losses (g,) float64, and the slopes (g, k, n) in the precision of the scores.
        """
        raise NotImplementedError


class SquaredHinge(Loss):
    """max(0, 1 - y f)^2 with y = 1 for the target class and -1 for the others (LIBLINEAR: Fan et al. 2008, eq. 2)."""

    penalises_intercept = True
    curvature = 2.0

    def __init__(self, num_classes: int):
        self.targets = np.arange(num_classes) if num_classes > 2 else np.array([1])

    def costs(self, class_weights: np.ndarray) -> np.ndarray:
        """Return (t, K); as in LIBLINEAR, a class's weight counts only in the problem that tells the class apart."""
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


class Logistic(Loss):
    """log(1 + exp(-y f)) with y = 1 for the target class and -1 for the other."""

    def __call__(
        self, scores: np.ndarray, codes: np.ndarray, costs: np.ndarray, targets: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """See `Loss`."""
        signs = np.where(codes == targets[:, None], scores.dtype.type(-1), scores.dtype.type(1))
        margins = scores[:, 0] * signs
        loss = np.einsum("gn,gn->g", np.logaddexp(0, margins), costs, dtype=np.float64)
        return loss, (expit(margins) * signs * costs)[:, None]


class Softmax(Loss):
    """-log of the true class's softmax: multinomial logistic regression."""

    targets = np.array([0])  # without a meaning: the scores of all classes belong to one problem

    def __init__(self, num_classes: int):
        self.width = num_classes

    def __call__(
        self, scores: np.ndarray, codes: np.ndarray, costs: np.ndarray, targets: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """See `Loss`."""
        rows = np.arange(len(codes))
        scores -= scores.max(axis=1, keepdims=True)
        true_scores = scores[:, codes, rows]
        np.exp(scores, out=scores)
        total = scores.sum(axis=1)
        loss = np.einsum("gn,gn->g", np.log(total) - true_scores, costs, dtype=np.float64)
        scores *= (costs / total)[:, None]
        scores[:, codes, rows] -= costs
        return loss, scores


def logistic_loss(num_classes: int) -> Loss:
    """Return the loss of multinomial logistic regression: of one score for two classes, else of a score a class."""
    return Logistic() if num_classes == 2 else Softmax(num_classes)
