"""The learning curve: accuracy against the number of training images, extrapolated to more images."""

from dataclasses import dataclass
from typing import Self

import numpy as np

EXPONENTS = np.linspace(0.1, 1.0, 19)
NUM_DRAWS = 200


@dataclass(frozen=True)
class PowerLaw:
    """accuracy(n) = ceiling - drop n^-exponent, for n images: the inverse power law of learning curves.

    Source: Figueroa, Zeng-Treitler, Kandula and Ngo, "Predicting sample size required for classification performance",
    BMC Medical Informatics and Decision Making 12 (2012), 8. The ceiling is at most 1, the drop at least 0.
    """

    ceiling: float
    drop: float
    exponent: float

    def __call__(self, num_images: float) -> float:
        """Return the accuracy at `num_images`, from 0 to 1."""
        return float(np.clip(self.ceiling - self.drop * num_images**-self.exponent, 0, 1))

    @classmethod
    def fit(cls, num_images: np.ndarray, accuracies: np.ndarray, errors: np.ndarray) -> Self:
        """Fit to n points by least squares.

        Args:
            num_images: (n,).
            accuracies: (n,).
            errors: the standard errors of the accuracies, (n,), all positive, which weight the squares.
        """
        best, least = (float(accuracies[-1]), 0.0, 1.0), np.inf
        for exponent in EXPONENTS:
            ceiling, drop = _line(num_images**-exponent, accuracies, 1 / errors**2)
            loss = float((((ceiling - drop * num_images**-exponent - accuracies) / errors) ** 2).sum())
            if loss < least:
                best, least = (ceiling, drop, float(exponent)), loss
        return cls(*best)


def _line(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """Return ceiling, at most 1, and drop, at least 0, of y = ceiling - drop x by weighted least squares."""
    mean_x, mean_y = np.average(x, weights=weights), np.average(y, weights=weights)
    spread = float((weights * (x - mean_x) ** 2).sum())
    drop = max(0.0, -float((weights * (x - mean_x) * (y - mean_y)).sum()) / spread) if spread else 0.0
    ceiling = mean_y + drop * mean_x
    if ceiling > 1:
        ceiling, drop = 1.0, max(0.0, float((weights * x * (1 - y)).sum() / (weights * x**2).sum()))
    return float(ceiling), drop


def extrapolate(
    num_images: np.ndarray, accuracies: np.ndarray, errors: np.ndarray, target: float
) -> tuple[float, list[float]]:
    """Return the accuracy at `target` images and its 95 % interval [low, high].

    The interval is of curves fitted to points that are drawn around the measured ones (a seeded parametric bootstrap).

    Args:
        num_images: (n,), of the measured points.
        accuracies: (n,).
        errors: their standard errors, (n,).
        target: the number of images.
    """
    expected = PowerLaw.fit(num_images, accuracies, errors)(target)
    generator = np.random.default_rng(0)
    drawn = [
        PowerLaw.fit(num_images, np.clip(generator.normal(accuracies, errors), 0, 1), errors)(target)
        for _ in range(NUM_DRAWS)
    ]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return expected, [min(float(low), expected), max(float(high), expected)]
