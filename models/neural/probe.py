"""A fitted linear classifier as numbers for a network: the probe that fine-tuning begins from."""

from dataclasses import dataclass
from typing import Any

import numpy as np

ABSENT = -1e4  # the logit of a class without training images


@dataclass(frozen=True)
class ProbeShape:
    """The layer of the probe, and how it is pooled (`flat`, `max`, `gridN`) and transformed (`none`, `sqrt`)."""

    layer: str
    pooling: str
    transform: str


@dataclass(frozen=True)
class Probe:
    """Logits ((x - mean) / scale) @ kernel + bias: mean and scale (D,), kernel (D, K), bias (K,), all float32."""

    mean: np.ndarray
    scale: np.ndarray
    kernel: np.ndarray
    bias: np.ndarray


def from_fitted(model: Any, num_classes: int) -> Probe:
    """Return the probe of a fitted scikit-learn pipeline, whose last steps are `scale` and `classify`.

    For two classes there is one row of coefficients, the logit of the second class against the first. A class without
    training images gets a logit so low that its probability is 0.
    """
    scaler, classifier = model.named_steps["scale"], model.named_steps["classify"]
    coefficients, intercepts = classifier.coef_, classifier.intercept_
    if len(classifier.classes_) == 2:
        coefficients = np.vstack([np.zeros_like(coefficients), coefficients])
        intercepts = np.concatenate([[0.0], intercepts])
    kernel = np.zeros((coefficients.shape[1], num_classes), np.float32)
    bias = np.full(num_classes, ABSENT, np.float32)
    kernel[:, classifier.classes_], bias[classifier.classes_] = coefficients.T, intercepts
    return Probe(scaler.mean_.astype(np.float32), scaler.scale_.astype(np.float32), kernel, bias)
