"""A trained strategy as one Keras model of Keras' own layers: uint8 images of any size -> class probabilities."""

from typing import TYPE_CHECKING, Any

import numpy as np

from thaw.features.backbones.keras_model import build_frozen, truncate
from thaw.features.backbones.registry import get_backbone
from thaw.features.errors import InputError
from thaw.features.onnx.images import channels_of
from thaw.features.pooling import layer_and_pooling, resolve_pooling
from thaw.models.onnx import ABSENT
from thaw.pipeline.export.onnx_model import INPUT, OUTPUT, merged_weights
from thaw.pipeline.inference.trained import Trained

if TYPE_CHECKING:
    import keras

RESIZES = ("bilinear", "bicubic")  # that Keras has as they are here


def keras_classifier(trained: Trained, weights_source: str | None = None) -> "keras.Model":
    """Return the model: `images` uint8 (N, H, W, 3) -> `probabilities` float32 (N, K), nothing in it trainable.

    Raises InputError where it needs more than Keras' own layers, or its weights cannot be had.
    """
    import keras

    check(trained)
    record = trained.record
    images = keras.Input((None, None, 3), dtype="uint8", name=INPUT)
    squares = _resized(images, record["image_size"], record["resize"])
    base = build_frozen(
        get_backbone(record["backbone"]), record["image_size"], merged_weights(trained, weights_source).tensors
    )
    inputs = _normalized(squares, record["normalize"])
    if record["views"] == 2:
        inputs = keras.ops.concatenate([inputs, keras.ops.flip(inputs, axis=2)], axis=0)
    probabilities = (_network_head if trained.architecture else _linear_head)(trained, base, inputs)
    if record["views"] == 2:
        both = keras.ops.reshape(probabilities, (2, -1, len(record["class_names"])))
        probabilities = keras.ops.mean(both, axis=0)
    model = keras.Model(images, probabilities, name="thaw")
    model.trainable = False
    return model


def check(trained: Trained) -> None:
    """Raise InputError where the strategy has a step that Keras' own layers do not have."""
    resize = trained.record["resize"]
    if resize not in RESIZES:
        raise InputError(f"Keras has no layer for --resize {resize}; export ONNX instead: --format onnx")
    if trained.architecture is None and not _is_linear(trained.model):
        raise InputError(
            f"{trained.report.name} is no linear model, and Keras has no layer for it; export ONNX instead: "
            "--format onnx"
        )


def _is_linear(model: Any) -> bool:
    steps = getattr(model, "estimator", model).steps
    return hasattr(steps[-1][1], "intercept_") and set(dict(steps)) <= {"power", "scale", "classify"} and (
        type(steps[-1][1]).__name__ != "SVC"
    )  # fmt: skip


def _resized(images: Any, size: int, method: str) -> Any:
    import keras

    floats = keras.ops.cast(images, "float32")
    return keras.layers.Resizing(size, size, interpolation=method, antialias=True, name="resize")(floats)


def _normalized(images: Any, method: str) -> Any:
    import keras

    order, scale, offset = channels_of(method)
    if order == [2, 1, 0]:
        images = keras.ops.flip(images, axis=-1)
    return keras.layers.Rescaling(scale.tolist(), offset.tolist(), name="normalize")(images)


def _linear_head(trained: Trained, base: Any, inputs: Any) -> Any:
    """Return the probabilities by a linear model on the pooled layers."""
    import keras

    record = trained.record
    wanted = [layer_and_pooling(name, record["pooling"]) for name in trained.frozen_layers]
    names = tuple(dict.fromkeys(layer for layer, _ in wanted))
    given = truncate(base, names)(inputs)
    given = dict(zip(names, given if isinstance(given, list | tuple) else [given], strict=True))
    parts = [_pooled(given[layer], pooling) for layer, pooling in wanted]
    features = keras.ops.concatenate(parts, axis=1) if len(parts) > 1 else parts[0]
    if record["dtype"] == "float16":
        features = keras.ops.cast(keras.ops.cast(features, "float16"), "float32")
    steps = dict(getattr(trained.model, "estimator", trained.model).steps)
    features = _signed_roots(features) if "power" in steps else features
    features = _standardized(features, steps["scale"].mean_, steps["scale"].scale_)
    scores = _dense(features, *_all_scores(trained, steps["classify"]), "scores")
    if getattr(trained.model, "margins", False) and len(steps["classify"].classes_) > 2:
        scores = keras.ops.log_sigmoid(scores)
    temperature = getattr(trained.model, "temperature_", 1.0)
    return keras.layers.Activation("softmax", name=OUTPUT)(scores * (1 / temperature))


def _all_scores(trained: Trained, classifier: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the kernel (D, K) and the bias (K,) of the scores of all classes."""
    num_classes, classes = len(trained.record["class_names"]), classifier.classes_
    coefficients, intercepts = np.array(classifier.coef_, np.float64), np.array(classifier.intercept_, np.float64)
    if len(classes) == 2:  # a single score speaks for the second class
        coefficients = np.vstack([np.zeros_like(coefficients), coefficients])
        intercepts = np.concatenate([[0.0], intercepts.ravel()])
    kernel, bias = np.zeros((coefficients.shape[1], num_classes)), np.full(num_classes, ABSENT)
    kernel[:, classes], bias[classes] = coefficients.T, intercepts
    return kernel, bias


def _network_head(trained: Trained, base: Any, inputs: Any) -> Any:
    """Return the probabilities by a trained network; what only training has, dropout, is left out."""
    import keras

    model, probe = trained.model, trained.architecture.probe
    last = get_backbone(trained.record["backbone"]).layers[-1].name
    names = (last, probe.layer) if probe and probe.layer != last else (last,)
    given = truncate(base, names)(inputs)
    given = dict(zip(names, given if isinstance(given, list | tuple) else [given], strict=True))
    hidden = keras.layers.Flatten(name="flatten")(given[last])
    if probe:
        features = _pooled(given[probe.layer], probe.pooling)
        features = _signed_roots(features) if probe.transform == "sqrt" else features
        features = _standardized(features, *model.get_layer("probe_scale").get_weights())
        hidden = keras.ops.concatenate([hidden, features], axis=1)
    hidden = _copied(hidden, model.get_layer("fc1"), "relu")
    logits = _copied(hidden, model.get_layer("predictions"))
    if probe:
        logits = keras.ops.add(logits, _copied(features, model.get_layer("probe")))
    power = model.get_layer("probabilities").power
    if power != 1:
        margins = keras.ops.max(logits, axis=1, keepdims=True) - logits
        logits = -keras.ops.power(margins, power)
    return keras.layers.Activation("softmax", name=OUTPUT)(logits)


def _pooled(activations: Any, pooling: str) -> Any:
    from thaw.models.neural.network import pool

    resolved = resolve_pooling(pooling, tuple(activations.shape[1:]))
    return pool(activations, {"none": "flat", "avg": "grid1"}.get(resolved, resolved))


def _signed_roots(values: Any) -> Any:
    import keras

    return keras.ops.sign(values) * keras.ops.sqrt(keras.ops.abs(values))


def _standardized(values: Any, mean: np.ndarray, scale: np.ndarray) -> Any:
    """Return (x - mean) / scale by Keras' own layer, whose weights are the mean, the variance and a count."""
    import keras

    layer = keras.layers.Normalization(axis=-1, name="standardize")
    layer.build(values.shape)
    layer.set_weights([np.asarray(mean, np.float32), np.square(np.asarray(scale, np.float64)), np.array(0)])
    layer.finalize_state()
    return layer(values)


def _copied(inputs: Any, layer: Any, activation: str | None = None) -> Any:
    """Return the outputs of a dense layer with the name and the weights of another."""
    kernel, bias = layer.get_weights()
    return _dense(inputs, kernel, bias, layer.name, activation)


def _dense(inputs: Any, kernel: np.ndarray, bias: np.ndarray, name: str, activation: str | None = None) -> Any:
    import keras

    layer = keras.layers.Dense(len(bias), activation=activation, name=name)
    outputs = layer(inputs)
    layer.set_weights([kernel, bias])
    return outputs
