"""The weights that a dense layer begins from: the same bytes for a seed on every backend of Keras."""

from typing import Any

import keras
import numpy as np

KEY = (0x3EC8F720, 0x02461E29)  # with which TensorFlow mixes a seed before it draws by it
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
LOW = np.uint64(0xFFFFFFFF)
MOST_SEED = 2**31 - 2  # seeds are taken modulo this


class GlorotUniform(keras.initializers.Initializer):
    """Uniform between +-sqrt(6 / (inputs + outputs)) (Glorot and Bengio 2010), drawn as Keras on TensorFlow draws it.

    The other backends have generators of their own, which give other numbers for the same seed.
    """

    def __init__(self, seed: int):
        self.seed = seed

    def __call__(self, shape: tuple[int, ...], dtype: Any = None, **_: Any) -> Any:
        """Return the kernel (inputs, outputs), in float32 unless another type is wanted."""
        limit = np.float32(np.sqrt(3 / (sum(shape) / 2)))
        values = uniform(int(np.prod(shape)), self.seed) * (limit + limit) - limit
        return keras.ops.convert_to_tensor(values.reshape(shape), dtype=dtype or "float32")

    def get_config(self) -> dict[str, Any]:
        """Return what makes the same initializer again."""
        return {"seed": self.seed}


def uniform(num: int, seed: int) -> np.ndarray:
    """Return (num,) float32 in [0, 1), as `tf.random.stateless_uniform((num,), (seed, 0))` gives them on a CPU.

    The seed gives by one call of Philox the key and half the counter of all others; of each word drawn the lowest
    23 bits are the fraction of a number from 1 to 2.
    """
    seeded = seed % MOST_SEED
    mixed = philox(np.array([[seeded, 0, 0, 0]], np.uint64), KEY)[0]
    counters = np.zeros((-(-num // 4), 4), np.uint64)
    counters[:, 0] = np.arange(len(counters))
    counters[:, 2:] = mixed[2:]
    words = philox(counters, (int(mixed[0]), int(mixed[1]))).ravel()[:num].astype(np.uint32)
    return (words & np.uint32(0x7FFFFF) | np.uint32(0x3F800000)).view(np.float32) - np.float32(1)


def philox(counters: np.ndarray, key: tuple[int, int]) -> np.ndarray:
    """Return the random words (n, 4) of `counters` (n, 4), both uint64 that hold 32 bits: Philox 4x32 of ten rounds.

    J. Salmon et al., Parallel random numbers: as easy as 1, 2, 3 (SC 2011).
    """
    a, b, c, d = counters.T
    first, second = key
    for _ in range(10):
        left, right = np.uint64(MULTIPLIERS[0]) * a, np.uint64(MULTIPLIERS[1]) * c
        a, b, c, d = (
            *((right >> np.uint64(32)) ^ b ^ np.uint64(first), right & LOW),
            *((left >> np.uint64(32)) ^ d ^ np.uint64(second), left & LOW),
        )
        first, second = (first + WEYL[0]) & 0xFFFFFFFF, (second + WEYL[1]) & 0xFFFFFFFF
    return np.stack([a, b, c, d], axis=1)
