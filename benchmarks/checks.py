"""How far a contender's features are from the reference's."""

import numpy as np

from benchmarks.runner import Output
from thaw.features.engines import agreement


def largest_error(output: Output, reference: Output) -> float:
    """Return the largest relative L2 error of an image's features over all layers."""
    return max(relative_error(output[name], reference[name]) for name in reference)


def relative_error(values: np.ndarray, reference: np.ndarray) -> float:
    """Return the largest |values - reference| / |reference| of a row; infinity if the shapes differ."""
    if values.shape != reference.shape:
        return float("inf")
    return agreement.relative_error(values, reference)
