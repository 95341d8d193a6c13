"""The features are Keras' own: same network, same input, same numbers."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from thaw.features.backbones.keras_model import build_frozen
from thaw.features.backbones.registry import BACKBONES
from thaw.features.backbones.weights import load_weights
from thaw.features.datasets.dataset import load_dataset
from thaw.features.engines.agreement import relative_error
from thaw.features.engines.keras_engine import KerasEngine
from thaw.features.engines.network import Network
from thaw.features.errors import InputError
from thaw.features.images.preprocess import normalize, resize

VGG16 = BACKBONES["vgg16"]


@pytest.fixture(scope="module")
def engine() -> KerasEngine:
    return KerasEngine(VGG16, load_weights("random", VGG16), ("block2_pool", "block5_pool"), 32, batch_size=4)


def test_the_table_of_layers_is_the_network(engine: KerasEngine) -> None:
    expected = [layer.name for layer in VGG16.layers]
    assert [layer.name for layer in engine.network.layers[1:]] == expected
    for layer in engine.network.layers[1:]:
        assert tuple(layer.output.shape[1:]) == VGG16.output_shape(layer.name, 32)


def test_everything_is_frozen(engine: KerasEngine) -> None:
    assert not engine.network.trainable_weights
    assert len(engine.network.layers) == 19
    assert engine.network.count_params() == 14_714_688


def test_several_layers_come_from_one_pass_in_the_shape_announced(engine: KerasEngine) -> None:
    outputs = engine(np.zeros((3, 32, 32, 3), np.float32))
    assert {name: out.shape for name, out in outputs.items()} == {
        "block2_pool": (3, 8, 8, 128),
        "block5_pool": (3, 1, 1, 512),
    }


def test_an_images_features_do_not_depend_on_its_batch(engine: KerasEngine) -> None:
    images = np.random.default_rng(0).uniform(-100, 100, (4, 32, 32, 3)).astype(np.float32)
    alone, together = engine(images[2:3]), engine(images)
    assert relative_error(alone["block5_pool"], together["block5_pool"][2:3]) < 1e-5


def test_below_the_minimum_size() -> None:
    with pytest.raises(InputError) as error:
        VGG16.check_image_size(31)
    assert str(error.value) == (
        "--image-size 31 is below the minimum of vgg16; expected 32 or more, for example --image-size 48"
    )


def test_unknown_layer() -> None:
    with pytest.raises(
        InputError, match="vgg16 has no layer 'block6_pool'; expected one of block1_conv1, block1_conv2, "
    ):
        VGG16.layer("block6_pool")


def test_16_bits_change_the_numbers_a_little_and_nothing_else() -> None:
    import keras

    images = np.random.default_rng(0).uniform(-124, 152, (2, 32, 32, 3)).astype(np.float32)
    network = Network(VGG16, load_weights("random", VGG16), ("block1_pool", "block5_pool"), 32)
    exact = network.start("keras", 2)(images)
    rounded = replace(network, precision="bfloat16").start("keras", 2)(images)
    for name, values in exact.items():
        assert rounded[name].dtype == values.dtype == np.float32
        assert 1e-4 < relative_error(rounded[name], values) < 3e-2
    assert keras.config.dtype_policy().name == "float32"


def images_of(word: str, step: int) -> np.ndarray:
    dataset = load_dataset(word)
    return np.stack([resize(dataset.read(row), 48, "bilinear") for row in range(0, len(dataset.ids), step)])


def check_against_keras(images: np.ndarray) -> None:
    """RGB/BGR and mean order included: Keras' own network, preprocessing and predict on the same resized images."""
    import keras

    weights = load_weights("imagenet", VGG16)
    reference = keras.applications.VGG16(weights=None, include_top=False, input_shape=(48, 48, 3))
    reference.set_weights(build_frozen(VGG16, 48, weights.tensors).get_weights())
    expected = reference.predict(keras.applications.vgg16.preprocess_input(images.copy()), verbose=0)
    engine = KerasEngine(VGG16, weights, ("block4_pool", "block5_pool"), 48, batch_size=32)
    received = engine(normalize(images, "caffe"))["block5_pool"]
    assert relative_error(received, expected) < 1e-5


@pytest.mark.weights
def test_features_of_digits_are_keras_own() -> None:
    check_against_keras(images_of("digits", 40))


@pytest.mark.weights
def test_features_of_photographs_are_keras_own(cifar10_zip: Path) -> None:
    check_against_keras(images_of(f"folder:{cifar10_zip}", 1000))


@pytest.mark.parametrize("word", ["digits", "photographs"])
def test_the_articles_input_is_exactly_the_articles_code(word: str, request: pytest.FixtureRequest) -> None:
    if word == "photographs":
        word = f"folder:{request.getfixturevalue('cifar10_zip')}"
    dataset = load_dataset(word)
    for row in range(0, len(dataset.ids), len(dataset.ids) // 10):
        image = dataset.read(row)
        expected = np.resize(image, (48, 48, 3)) / 255
        received = normalize(resize(image, 48, "article"), "article")
        np.testing.assert_array_equal(received, expected.astype(np.float32))
