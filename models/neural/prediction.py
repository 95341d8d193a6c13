"""The class probabilities of a trained network, and their calibration."""

from collections.abc import Iterator

import keras
import numpy as np

from thaw.models.calibration import fit_margins

NETWORK_MAX_LOG_TEMPERATURE = 3.0  # beyond, float32 no longer tells the classes of an untrained network apart


def predict(model: keras.Model, batches: Iterator[np.ndarray]) -> np.ndarray:
    """Return the class probabilities (N, K) of all batches, float64; each row sums to 1."""
    parts = [np.asarray(model.predict_on_batch(inputs), np.float64) for inputs in batches]
    probabilities = np.concatenate(parts)
    return probabilities / probabilities.sum(axis=1, keepdims=True)


def calibrate(model: keras.Model, probabilities: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Calibrate the network's probabilities by a temperature and a power; no label changes.

    The logits are sums of the outputs of linear layers. So the weights of these layers are divided by the temperature.

    Args:
        model: a network of `thaw.models.neural.network`, which is changed.
        probabilities: the network's own (n, K) float64, of images that it was not trained on.
        labels: the classes (n,) int64 of these images.

    Returns:
        The temperature and the power, see `thaw.models.calibration.fit_margins`.
    """
    logits = np.log(np.maximum(probabilities, np.finfo(np.float32).tiny))
    smoothing = 1 / (len(labels) + 2)  # Laplace's rule of succession
    temperature, power = fit_margins(logits, labels, smoothing, NETWORK_MAX_LOG_TEMPERATURE)
    for layer in model.layers:
        if layer.name in ("predictions", "probe"):
            layer.set_weights([weights / temperature for weights in layer.get_weights()])
    model.get_layer("probabilities").power = power
    model.make_predict_function(force=True)  # the function that was compiled before holds the former power
    return temperature, power
