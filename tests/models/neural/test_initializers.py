"""models/neural/initializers.py: bytes that a seed fixes on every backend, Glorot's limits, a uniform distribution."""

from hashlib import sha256

import numpy as np
import pytest
from scipy.stats import kstest

from thaw.models.neural.initializers import GlorotUniform

SHAPES = [(461, 100), (100, 10), (7, 3)]
DIGEST = "bcaaf2ffc137f88641435652a6392dc251039a5ebed5f9f97f31430850fcab4c"


def first_weights(seed: int, shape: tuple[int, int]) -> np.ndarray:
    return np.asarray(GlorotUniform(seed)(shape))


def test_a_seed_gives_these_bytes_on_every_backend() -> None:
    """The digest stands here, so that a run on TensorFlow, JAX or PyTorch compares with the two others."""
    assert sha256(first_weights(3, (461, 100)).tobytes()).hexdigest() == DIGEST


@pytest.mark.parametrize("seed", [0, 1, 2**31 - 2, 2**32 - 1, 2**32])
@pytest.mark.parametrize("shape", SHAPES)
def test_weights_are_float32_and_those_of_numpy_s_generator(seed: int, shape: tuple[int, int]) -> None:
    limit = np.sqrt(6 / sum(shape))
    expected = np.random.default_rng(seed).uniform(-limit, limit, shape).astype(np.float32)
    received = first_weights(seed, shape)
    assert received.dtype == np.float32
    assert received.shape == shape
    assert received.tobytes() == expected.tobytes()
    assert not np.array_equal(received, first_weights(seed + 1, shape))


@pytest.mark.parametrize("shape", SHAPES)
def test_weights_are_uniform_between_glorot_s_limits(shape: tuple[int, int]) -> None:
    limit = np.sqrt(6 / sum(shape))
    weights = np.concatenate([first_weights(seed, shape).ravel() for seed in range(50)])
    assert abs(weights).max() <= np.float32(limit)
    assert abs(weights).max() > 0.98 * limit
    assert kstest(weights, "uniform", (-limit, 2 * limit)).pvalue > 0.01


def test_the_initializer_is_made_again_from_its_configuration() -> None:
    made = GlorotUniform.from_config(GlorotUniform(5).get_config())
    np.testing.assert_array_equal(np.asarray(made((3, 4))), np.asarray(GlorotUniform(5)((3, 4))))
