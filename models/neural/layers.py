"""The layers that our networks add to those of Keras, and the pooling of the probe's features."""

from typing import Any

import keras
import numpy as np
from keras import ops


class Standardize(keras.layers.Layer):
    """Standardise (N, D): (x - mean) / scale, with `mean` and `scale` (D,) that no training changes."""

    def build(self, input_shape: tuple[int, ...]) -> None:
        """Make the two vectors, for `set_weights([mean, scale])`."""
        self.mean = self.add_weight(shape=input_shape[-1:], initializer="zeros", trainable=False, name="mean")
        self.scale = self.add_weight(shape=input_shape[-1:], initializer="ones", trainable=False, name="scale")

    def call(self, inputs: Any) -> Any:
        """Return the standardised inputs (N, D)."""
        return (inputs - self.mean) / self.scale


class DropBranch(keras.layers.Layer):
    """Set whole rows of (N, K) to zero in training, with probability `rate`, without scaling the others up.

    The probe has seen the training images, and its probabilities are higher on them than on others. With the probe
    always beside them, the convolutions would find nothing to learn. Without it, on a random share of the images, they
    learn all that the probe knows and more.
    """

    def __init__(self, rate: float, seed: int, **options: Any):
        super().__init__(**options)
        self.rate, self.seed_generator = rate, keras.random.SeedGenerator(seed)

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Return the inputs (N, K), in training with some rows at zero."""
        if not training:
            return inputs
        drawn = keras.random.uniform((ops.shape(inputs)[0], 1), seed=self.seed_generator)
        return inputs * ops.cast(drawn >= self.rate, inputs.dtype)


class Probabilities(keras.layers.Layer):
    """Turn logits (N, K) into probabilities: the softmax of -(highest - logit) ** `power`; in training keep the logits.

    The loss is computed from logits. From probabilities only TensorFlow would go back to logits; the other backends
    raise each probability below 1e-7 to 1e-7, and from a constant nothing is learnt.
    """

    def __init__(self, power: float = 1.0, **options: Any):
        super().__init__(**options)
        self.power = power

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Return the probabilities (N, K), or in training the logits."""
        if training:
            return inputs
        if self.power == 1:
            return ops.softmax(inputs)
        return ops.softmax(-ops.power(ops.max(inputs, axis=1, keepdims=True) - inputs, self.power))


def pool(activations: Any, pooling: str) -> Any:
    """Return (N, D) from (N, H, W, C) as the features of the linear strategies are made: `flat`, `max` or `gridN`.

    gridN is adaptive averaging: cell i covers rows floor(i H / N) to ceil((i + 1) H / N), likewise columns.
    """
    if pooling == "max":
        return ops.max(activations, axis=(1, 2))
    if pooling != "flat":
        cells = int(pooling.removeprefix("grid"))
        rows, columns = (ops.convert_to_tensor(_averages(side, cells)) for side in activations.shape[1:3])
        activations = ops.einsum("nhwc,gh,kw->ngkc", activations, rows, columns)
    return ops.reshape(activations, (-1, int(np.prod(activations.shape[1:]))))


def _averages(length: int, num_cells: int) -> np.ndarray:
    """Return a matrix (num_cells, length) float32; each row takes the mean over one cell."""
    matrix = np.zeros((num_cells, length), np.float32)
    for cell in range(num_cells):
        covered = slice(cell * length // num_cells, -(-(cell + 1) * length // num_cells))
        matrix[cell, covered] = 1 / (covered.stop - covered.start)
    return matrix
