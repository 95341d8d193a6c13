"""The first weights of a dense layer: the same bytes for a seed on every backend of Keras."""

from typing import Any

import keras
import numpy as np


class GlorotUniform(keras.initializers.Initializer):
    """Draw kernels (inputs, outputs) uniformly between +-sqrt(6 / (inputs + outputs)) (Glorot and Bengio 2010).

    NumPy draws the numbers. Each backend of Keras has a generator of its own, and they differ for the same seed.
    """

    def __init__(self, seed: int):
        self.seed = seed

    def __call__(self, shape: tuple[int, ...], dtype: Any = None, **_: Any) -> Any:
        """Return a kernel of `shape`, in float32 unless another `dtype` is given."""
        limit = np.sqrt(6 / sum(shape))
        values = np.random.default_rng(self.seed).uniform(-limit, limit, shape)
        return keras.ops.convert_to_tensor(values.astype(np.float32), dtype=dtype or "float32")

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make an equal initializer."""
        return {"seed": self.seed}
