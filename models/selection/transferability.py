"""How well a layer's features suit labels, without training on them: LogME."""

import numpy as np
from scipy.linalg import eigh

MAX_ITERATIONS = 1000
TOLERANCE = 1e-10  # of the log evidence per sample, between two iterations
MAX_RATIO = 1e12  # of alpha / beta over the largest squared singular value, and of the inverse


def log_me(features: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean over classes of the maximised log evidence per sample, in nats; higher is better.

    `features` are (N, D) float32, `labels` (N,) int64. The one-hot label y of a class is modelled as F w plus noise,
    with w ~ N(0, 1/alpha) and noise ~ N(0, 1/beta). The best alpha and beta are found by MacKay's fixed point on the
    singular values of F. Classes without a sample do not count. If a class is a linear function of the features without
    any noise, the evidence has no maximum, and the score is some large number. Source: You, Liu, Wang and Long, "LogME:
    Practical Assessment of Pre-trained Models for Transfer Learning", ICML 2021, section 4.

    Raises:
        ValueError: shapes or types are others, or a value is not finite.
    """
    indicators = _indicators(features, labels)
    squares, along = _decomposed(features.astype(np.float64), indicators)
    missed = np.maximum(indicators.sum(axis=0) - along.sum(axis=0), 0)
    return float(_best_evidence(squares, along, missed, features.shape).mean())


def _indicators(features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the one-hot labels (N, K) float64 of the classes that occur, after a check of both arrays."""
    kinds = f"features {features.dtype} {features.shape}, labels {labels.dtype} {labels.shape}"
    if features.ndim != 2 or labels.shape != features.shape[:1] or 0 in features.shape or labels.dtype.kind not in "iu":
        raise ValueError(f"got {kinds}; expected floats (N, D) and integers (N,), at least one of each")
    if not np.isfinite(features).all():
        raise ValueError("features hold values that are not finite; expected finite numbers")
    classes, codes = np.unique(labels, return_inverse=True)
    return np.eye(len(classes))[codes]


def _decomposed(matrix: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return squared singular values of a matrix, and the squared lengths of targets along its left singular vectors.

    The smaller of the two Gram matrices is decomposed, in a fraction of the time that the matrix itself would take.
    Directions that are rounding are left out.

    Args:
        matrix: (N, D).
        targets: (N, K).

    Returns:
        (R,) and (R, K).
    """
    wide = matrix.shape[1] > matrix.shape[0]
    squares, vectors = eigh(matrix @ matrix.T if wide else matrix.T @ matrix, overwrite_a=True)
    kept = squares > max(matrix.shape) * np.finfo(np.float64).eps * squares[-1]
    squares, vectors = squares[kept], vectors[:, kept]
    if wide:
        return squares, np.square(vectors.T @ targets)
    return squares, np.square(vectors.T @ (matrix.T @ targets)) / squares[:, None]


def _best_evidence(squares: np.ndarray, along: np.ndarray, missed: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return each class's log evidence per sample (K,) at the best alpha and beta.

    The iteration is over the ratio alpha / beta, which determines the best beta.

    Args:
        squares: (R,), from `_decomposed`.
        along: (R, K), likewise.
        missed: the squared length of each class's indicator outside the span, (K,).
        shape: the shape of the features.
    """
    num_rows, num_classes = shape[0], along.shape[1]
    if not len(squares):  # features are all 0: what is left is noise
        squares, along = np.ones(1), np.zeros((1, num_classes))
    lowest, highest = squares.max() / MAX_RATIO, squares.max() * MAX_RATIO
    ratio = np.full(num_classes, squares.mean())
    best = np.full(num_classes, -np.inf)
    for _ in range(MAX_ITERATIONS):
        shrunk = ratio / (ratio + squares[:, None])
        effective = (1 - shrunk).sum(axis=0)
        residual = missed + (along * shrunk**2).sum(axis=0)
        length = (along * shrunk * (1 - shrunk)).sum(axis=0) / ratio
        beta = num_rows / np.maximum(residual + ratio * length, np.finfo(np.float64).tiny)
        evidence = (num_rows * (np.log(beta / (2 * np.pi)) - 1) + np.log(shrunk).sum(axis=0)) / (2 * num_rows)
        settled = np.abs(evidence - best).max() < TOLERANCE
        best = np.maximum(best, evidence)
        if settled:
            break
        numerator = effective * residual
        denominator = np.maximum((num_rows - effective) * length, np.finfo(np.float64).tiny)
        ratio = np.clip(numerator / denominator, lowest, highest)
    return best
