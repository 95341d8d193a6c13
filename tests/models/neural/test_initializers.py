import keras
import numpy as np
import pytest

from thaw.models.neural.initializers import GlorotUniform, philox


def test_philox_gives_the_published_numbers() -> None:
    """The known answers that Random123 comes with, for counters and keys of zeros and of ones."""
    ones = 2**32 - 1
    zero = philox(np.zeros((1, 4), np.uint64), (0, 0))[0]
    full = philox(np.full((1, 4), ones, np.uint64), (ones, ones))[0]
    assert [hex(word) for word in zero] == ["0x6627e8d5", "0xe169c58d", "0xbc57ac4c", "0x9b00dbd8"]
    assert [hex(word) for word in full] == ["0x408f276d", "0x41c83b0e", "0xa20bc7c6", "0x6d5451fd"]


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="compares with Keras' own on TensorFlow")
@pytest.mark.parametrize("seed", [0, 1, 2**31 - 2, 2**32 - 1, 2**32])
@pytest.mark.parametrize("shape", [(461, 100), (100, 10), (7, 3)])
def test_first_weights_are_those_of_keras_on_tensorflow(seed: int, shape: tuple[int, int]) -> None:
    own, kerass = (np.asarray(kind(seed=seed)(shape)) for kind in (GlorotUniform, keras.initializers.GlorotUniform))
    assert own.dtype == kerass.dtype == np.float32
    assert own.tobytes() == kerass.tobytes()


def test_the_initializer_is_made_again_from_its_configuration() -> None:
    made = GlorotUniform.from_config(GlorotUniform(5).get_config())
    np.testing.assert_array_equal(np.asarray(made((3, 4))), np.asarray(GlorotUniform(5)((3, 4))))
