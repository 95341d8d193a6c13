"""The network in training: the same through cached activations, the same start as the probe, nothing frozen moves."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from thaw.features.backbones.registry import BACKBONES
from thaw.features.backbones.weights import Weights, load_weights
from thaw.features.datasets.dataset import load_dataset
from thaw.features.engines.keras_engine import KerasEngine
from thaw.features.errors import InputError
from thaw.features.images.preprocess import normalize, resize
from thaw.features.pooling import pool as feature_pool
from thaw.models.calibration import powered
from thaw.models.neural import network, saved_network
from thaw.models.neural.layers import DropBranch, pool
from thaw.models.neural.network import Architecture
from thaw.models.neural.prediction import calibrate, predict
from thaw.models.neural.probe import ProbeShape, from_fitted

VGG16 = BACKBONES["vgg16"]
SIZE = 48


@pytest.fixture(scope="module")
def weights() -> Weights:
    return load_weights("imagenet", VGG16)


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    """48 digit images as network input and their labels."""
    dataset = load_dataset("digits")
    inputs = normalize(np.stack([resize(dataset.read(row), SIZE, "bilinear") for row in range(48)]), "caffe")
    return inputs, dataset.labels[:48]


def activations(inputs: np.ndarray, weights: Weights, layer: str) -> np.ndarray:
    engine = KerasEngine(VGG16, weights, (layer,), SIZE, batch_size=len(inputs))
    return engine(inputs)[layer]


def three_steps(model: keras.Model, inputs: np.ndarray, labels: np.ndarray) -> list[float]:
    model.compile(keras.optimizers.SGD(1e-4), keras.losses.CategoricalCrossentropy(from_logits=True), jit_compile=False)
    targets = np.eye(10, dtype=np.float32)[labels]
    batches = (slice(0, 16), slice(16, 32), slice(32, 48))
    return [float(model.train_on_batch(inputs[rows], targets[rows])) for rows in batches]


def tensors(model: keras.Model, layers: list[str]) -> dict[str, np.ndarray]:
    return {weight.path: np.array(weight) for name in layers for weight in model.get_layer(name).weights}


def relative_error(received: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(received - expected) / np.linalg.norm(expected))


@pytest.mark.weights
@pytest.mark.parametrize(
    ("input_layer", "unfreeze_from"),
    [("block5_pool", None), ("block4_pool", "block5_conv1"), ("block5_conv1", "block5_conv2")],
)
def test_cached_activations_train_as_the_whole_frozen_network_does(
    weights: Weights, digits: tuple[np.ndarray, np.ndarray], input_layer: str, unfreeze_from: str | None
) -> None:
    inputs, labels = digits
    whole = network.build(Architecture("vgg16", SIZE, 10, None, unfreeze_from), weights, seed=3)
    upper = network.build(Architecture("vgg16", SIZE, 10, input_layer, unfreeze_from), weights, seed=3)
    trained = sorted({variable.path.split("/")[0] for variable in upper.trainable_variables})
    assert trained == sorted({variable.path.split("/")[0] for variable in whole.trainable_variables})
    frozen = [layer.name for layer in VGG16.trainable if layer.name not in trained]
    before, started = tensors(whole, frozen), tensors(upper, trained)

    losses = three_steps(upper, activations(inputs, weights, input_layer), labels)
    assert three_steps(whole, inputs, labels) == pytest.approx(losses, rel=1e-5)

    for path, tensor in tensors(upper, trained).items():
        assert not np.array_equal(tensor, started[path]), f"{path} was not trained"
        assert relative_error(tensors(whole, trained)[path], tensor) < 1e-5, path
    for path, tensor in tensors(whole, frozen).items():
        assert np.array_equal(tensor, before[path]), f"{path} is frozen and changed"


@pytest.mark.weights
@pytest.mark.parametrize(
    ("layer", "pooling", "transform"),
    [
        ("block4_pool", "flat", "none"),
        ("block4_pool", "flat", "sqrt"),
        ("block4_pool", "grid2", "none"),
        ("block4_pool", "max", "none"),
        ("block5_pool", "flat", "none"),
    ],
)
def test_a_network_with_a_probe_begins_with_the_probes_probabilities(
    weights: Weights, digits: tuple[np.ndarray, np.ndarray], layer: str, pooling: str, transform: str
) -> None:
    inputs, labels = digits
    features = feature_pool(activations(inputs, weights, layer), "auto" if pooling == "flat" else pooling)
    features = np.sqrt(features) if transform == "sqrt" else features
    fitted = Pipeline([("scale", StandardScaler()), ("classify", LogisticRegression(C=1e-2))]).fit(features, labels)
    architecture = Architecture("vgg16", SIZE, 10, "block4_pool", "block5_conv1", ProbeShape(layer, pooling, transform))
    model = network.build(architecture, weights, 0, from_fitted(fitted, 10))
    received = predict(model, iter([activations(inputs, weights, "block4_pool")]))
    np.testing.assert_allclose(received, fitted.predict_proba(features), atol=1e-4)
    assert np.array_equal(received.argmax(axis=1), fitted.predict(features))


def test_grid_pooling_is_that_of_the_features() -> None:
    maps = np.random.default_rng(0).standard_normal((3, 7, 5, 4)).astype(np.float32)
    for pooling in ("grid1", "grid2", "grid3", "grid5", "max"):
        expected = feature_pool(maps, "avg" if pooling == "grid1" else pooling)
        np.testing.assert_allclose(np.asarray(pool(maps, pooling)), expected, rtol=1e-5, atol=1e-6)


def small(probe: bool = False) -> Architecture:
    shape = ProbeShape("block5_conv3", "grid1", "none") if probe else None
    return Architecture("vgg16", 32, 3, "block5_conv3", None, shape, units=8)


@pytest.mark.parametrize("probe", [False, True])
def test_a_saved_network_is_the_same_when_loaded(tmp_path: Path, probe: bool) -> None:
    model = network.build(small(probe), None, seed=5)
    for weight in model.weights:
        weight.assign(np.random.default_rng(1).standard_normal(weight.shape))
    saved_network.save(tmp_path / "model.json", model, small(probe), {"class_names": ["a", "b", "c"]})
    loaded, architecture, record = saved_network.load(tmp_path / "model.json")
    inputs = np.random.default_rng(0).standard_normal((4, 2, 2, 512)).astype(np.float32)
    assert architecture == small(probe)
    assert record == {"class_names": ["a", "b", "c"]}
    assert np.array_equal(loaded.predict_on_batch(inputs), model.predict_on_batch(inputs))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.json", "model.weights.h5"]


def damage_nothing(folder: Path) -> None:
    (folder / "model.json").unlink()


def damage_weights(folder: Path) -> None:
    (folder / "model.weights.h5").write_bytes(b"no HDF5")


def damage_architecture(folder: Path) -> None:
    content: dict[str, Any] = json.loads((folder / "model.json").read_text())
    content["architecture"]["units"] = 9
    (folder / "model.json").write_text(json.dumps(content))


def damage_fields(folder: Path) -> None:
    (folder / "model.json").write_text('{"architecture": {"layers": "eval"}}')


@pytest.mark.parametrize("damage", [damage_nothing, damage_weights, damage_architecture, damage_fields])
def test_a_network_that_cannot_be_read_is_refused(tmp_path: Path, damage: Any) -> None:
    saved_network.save(tmp_path / "model.json", network.build(small(), None, seed=0), small(), {})
    damage(tmp_path)
    with pytest.raises(InputError, match="is not a network that can be read .*; train the model again"):
        saved_network.load(tmp_path / "model.json")


def test_the_head_is_the_articles() -> None:
    model = network.build(Architecture("vgg16", SIZE, 10, "block5_pool", None), None, seed=0)
    names = [layer.name for layer in model.layers[1:]]
    assert names == ["flatten", "fc1", "dropout", "predictions", "probabilities"]
    assert model.get_layer("fc1").units == 1000
    assert model.get_layer("fc1").activation is keras.activations.relu
    assert model.get_layer("dropout").rate == 0.3


def test_one_seed_one_network() -> None:
    first, again, other = (network.build(small(), None, seed).get_layer("fc1").get_weights()[0] for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_the_dtype_policy_is_put_back() -> None:
    network.build(Architecture("vgg16", 32, 3, "block5_pool", None, precision="mixed_bfloat16"), None, seed=0)
    assert keras.config.dtype_policy().name == "float32"


def test_a_dropped_branch_is_whole_at_inference_and_drops_rows_in_training() -> None:
    layer, ones = DropBranch(0.5, seed=0), np.ones((2000, 3), np.float32)
    assert np.array_equal(layer(ones, training=False), ones)
    dropped = np.asarray(layer(ones, training=True))
    assert set(np.unique(dropped.sum(axis=1))) == {0.0, 3.0}
    assert 0.45 < (dropped[:, 0] == 0).mean() < 0.55


def test_calibration_changes_probabilities_and_no_label(tmp_path: Path) -> None:
    architecture = Architecture("vgg16", 32, 3, "block5_pool", None, units=16)
    model = network.build(architecture, None, seed=0)
    inputs = np.random.default_rng(0).normal(size=(900, 1, 1, 512)).astype(np.float32)
    before = predict(model, iter([inputs]))
    labels = np.where(np.random.default_rng(1).random(900) < 0.6, before.argmax(axis=1), 0)
    temperature, power = calibrate(model, before, labels)
    after = predict(model, iter([inputs]))
    assert power != 1
    np.testing.assert_array_equal(before.argmax(axis=1), after.argmax(axis=1))
    expected = softmax(powered(np.log(np.maximum(before, 1e-30)) / temperature, power), axis=1)
    np.testing.assert_allclose(after, expected, atol=1e-3)
    losses = [-np.log(np.maximum(p[np.arange(900), labels], 1e-12)).mean() for p in (before, after)]
    assert losses[1] < losses[0]
    saved_network.save(tmp_path / "model.json", model, replace(architecture, power=power), {})
    loaded, _, _ = saved_network.load(tmp_path / "model.json")
    np.testing.assert_allclose(predict(loaded, iter([inputs])), after, atol=1e-6)
