"""The layers of our networks that Keras does not have."""

from typing import Any

import keras
from keras import ops


class Standardize(keras.layers.Layer):
    """(x - mean) / scale for (N, D), with `mean` and `scale` (D,) that no training changes."""

    def build(self, input_shape: tuple[int, ...]) -> None:
        """Make the two vectors, for `set_weights([mean, scale])`."""
        self.mean = self.add_weight(shape=input_shape[-1:], initializer="zeros", trainable=False, name="mean")
        self.scale = self.add_weight(shape=input_shape[-1:], initializer="ones", trainable=False, name="scale")

    def call(self, inputs: Any) -> Any:
        """Return the standardised inputs."""
        return (inputs - self.mean) / self.scale


class DropBranch(keras.layers.Layer):
    """In training, sets whole rows of (N, K) to zero with probability `rate`, without scaling up the others.

    The probe has seen the training images and is surer of them than of others. Beside it the convolutions would find
    nothing to learn; without it, on a random share of the images, they learn all that it knows and more.
    """

    def __init__(self, rate: float, seed: int, **options: Any):
        super().__init__(**options)
        self.rate, self.seed_generator = rate, keras.random.SeedGenerator(seed)

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Return the inputs, in training with rows left out."""
        if not training:
            return inputs
        drawn = keras.random.uniform((ops.shape(inputs)[0], 1), seed=self.seed_generator)
        return inputs * ops.cast(drawn >= self.rate, inputs.dtype)


class Probabilities(keras.layers.Layer):
    """Class probabilities of logits (N, K), the softmax of -(highest - logit) ** `power`; in training the logits.

    The loss is computed from logits: from probabilities only TensorFlow would go back to them, and the other backends
    take each below 1e-7 for 1e-7, from which nothing is learnt.
    """

    def __init__(self, power: float = 1.0, **options: Any):
        super().__init__(**options)
        self.power = power

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Return the probabilities, or in training the logits."""
        if training:
            return inputs
        if self.power == 1:
            return ops.softmax(inputs)
        return ops.softmax(-ops.power(ops.max(inputs, axis=1, keepdims=True) - inputs, self.power))
