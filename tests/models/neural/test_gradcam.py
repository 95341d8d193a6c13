"""models/neural/gradcam.py on networks whose maps follow from their weights, and on those of the strategies."""

from typing import Any

import keras
import numpy as np
import pytest

from thaw.models.neural import gradcam
from thaw.models.neural.gradcam import heat_maps
from thaw.models.neural.network import Architecture, build
from thaw.models.neural.probe import ProbeShape


def inputs(seed: int, *shape: int) -> np.ndarray:
    return np.maximum(np.random.default_rng(seed).normal(size=shape), 0).astype(np.float32)


class Window(keras.layers.Layer):
    """Zero but for rows and columns from `start` to `stop`."""

    def __init__(self, rows: slice, columns: slice, **options: Any):
        super().__init__(**options)
        self.rows, self.columns = rows, columns

    def call(self, values: Any) -> Any:
        mask = np.zeros((1, *values.shape[1:3], 1), np.float32)
        mask[:, self.rows, self.columns] = 1
        return values * mask


def quadrant_network(rows: slice, columns: slice) -> keras.Model:
    """Two classes by the brightness of one part of an image of 8 x 8: bright is class 1."""
    layers = keras.layers
    image = keras.Input((8, 8, 3))
    seen = Window(rows, columns)(layers.Conv2D(4, 3, padding="same", activation="relu", name="conv")(image))
    logits = layers.Dense(2, name="predictions")(layers.Dropout(0.9)(layers.Flatten()(seen)))
    model = keras.Model(image, layers.Activation("softmax")(logits))
    model.get_layer("conv").set_weights([np.full((3, 3, 3, 4), 0.1, np.float32), np.zeros(4, np.float32)])
    kernel = np.hstack([-np.ones((256, 1)), np.ones((256, 1))]).astype(np.float32)
    model.get_layer("predictions").set_weights([kernel, np.zeros(2, np.float32)])
    return model


@pytest.mark.parametrize(("top", "left"), [(0, 0), (0, 4), (4, 0), (4, 4)])
def test_the_map_is_of_the_quadrant_that_the_logit_depends_on(top: int, left: int) -> None:
    model = quadrant_network(slice(top, top + 4), slice(left, left + 4))
    maps = heat_maps(model, inputs(0, 3, 8, 8, 3), np.ones(3, np.int64))
    assert maps is not None
    assert (maps.shape, maps.dtype) == ((3, 8, 8), np.float32)
    inside = maps[:, top : top + 4, left : left + 4]
    assert inside.max(axis=(1, 2)).tolist() == [1, 1, 1]
    assert maps.sum() == pytest.approx(inside.sum())
    assert maps.min() == 0


def test_what_speaks_against_a_class_or_not_at_all_is_no_heat() -> None:
    model = quadrant_network(slice(0, 4), slice(0, 4))
    against = heat_maps(model, inputs(0, 2, 8, 8, 3), np.zeros(2, np.int64))
    nothing = heat_maps(model, np.zeros((2, 8, 8, 3), np.float32), np.ones(2, np.int64))
    model.get_layer("predictions").set_weights([np.zeros((256, 2), np.float32), np.zeros(2, np.float32)])
    flat = heat_maps(model, inputs(0, 2, 8, 8, 3), np.ones(2, np.int64))
    for maps in (against, nothing, flat):
        assert maps is not None
        assert not maps.any()


def small(input_layer: str | None, image_size: int, probe: ProbeShape | None = None) -> tuple[keras.Model, np.ndarray]:
    cut = {"block5_pool": None, "block4_pool": "block5_conv1", None: "block1_conv1"}[input_layer]
    architecture = Architecture("vgg16", image_size, 3, input_layer, cut, probe, units=20)
    return build(architecture, None, seed=0), inputs(1, 4, *architecture.input_shape)


def test_weights_are_the_mean_derivatives_of_the_logit_without_dropout() -> None:
    model, given = small("block5_pool", 64)
    classes = np.array([2, 0, 1, 2])
    hidden, last = (model.get_layer(name).get_weights() for name in ("fc1", "predictions"))
    active = given.reshape(4, -1) @ hidden[0] + hidden[1] > 0
    slopes = (active * last[0].T[classes]) @ hidden[0].T
    weights = slopes.reshape(given.shape).mean(axis=(1, 2), keepdims=True)
    expected = np.maximum((weights * given).sum(axis=-1), 0)
    largest = expected.max(axis=(1, 2), keepdims=True)
    expected = np.divide(expected, largest, out=np.zeros_like(expected), where=largest > 0)
    assert expected.any()
    np.testing.assert_allclose(heat_maps(model, given, classes), expected, atol=1e-4)


def test_the_map_is_at_the_last_activation_of_more_than_one_position() -> None:
    model, given = small("block4_pool", 32)
    maps = heat_maps(model, given, np.zeros(4, np.int64))
    assert maps is not None
    assert maps.shape == (4, 2, 2)  # of block5_conv3: block5_pool has one position
    model, given = small("block4_pool", 64)
    source, mapped = gradcam._mapped(model)
    assert mapped is model.get_layer("block5_pool").output
    assert source is not mapped


def test_without_positions_there_is_no_map() -> None:
    model, given = small("block5_pool", 32)
    assert given.shape == (4, 1, 1, 512)
    assert heat_maps(model, given, np.zeros(4, np.int64)) is None


@pytest.mark.parametrize("transform", ["none", "sqrt"])
def test_a_probe_beside_the_network_counts_too(transform: str) -> None:
    model, given = small("block4_pool", 32, ProbeShape("block4_pool", "flat", transform))
    kernel = np.zeros((2048, 3), np.float32)
    kernel[:, 1] = 1
    model.get_layer("probe").set_weights([kernel, np.zeros(3, np.float32)])  # the head begins at zero
    assert (given == 0).any()  # there a square root has no slope
    maps = heat_maps(model, given, np.ones(4, np.int64))
    slopes = 1 / (2 * np.sqrt(np.where(given > 0, given, np.inf))) if transform == "sqrt" else np.ones_like(given)
    expected = (slopes.mean(axis=(1, 2), keepdims=True) * given).sum(axis=-1)
    np.testing.assert_allclose(maps, expected / expected.max(axis=(1, 2), keepdims=True), atol=1e-4)


def test_a_network_that_begins_at_the_image_has_maps_and_stays_as_it_is() -> None:
    model, given = small(None, 32)
    weights, trainable = model.get_weights(), [layer.trainable for layer in model.layers]
    maps = heat_maps(model, given, np.array([0, 1, 2, 0]))
    assert maps is not None
    assert maps.shape == (4, 2, 2)
    assert all(np.array_equal(a, b) for a, b in zip(weights, model.get_weights(), strict=True))
    assert [layer.trainable for layer in model.layers] == trainable


def test_images_one_by_one_have_the_same_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    model, given = small("block4_pool", 32)
    classes = np.array([0, 1, 2, 0])
    together = heat_maps(model, given, classes)
    monkeypatch.setattr(gradcam, "BATCH", 3)
    np.testing.assert_allclose(heat_maps(model, given, classes), together, atol=1e-4)
    none = heat_maps(model, given[:0], classes[:0])
    assert none is not None
    assert none.shape == (0, 2, 2)
