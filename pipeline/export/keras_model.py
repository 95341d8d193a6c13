"""A trained model as one Keras model of Keras' own layers: uint8 images of any size -> class probabilities."""

from typing import TYPE_CHECKING, Any

import numpy as np

from thaw.features.backbones.keras_model import build_frozen, truncate
from thaw.features.errors import InputError
from thaw.features.foreign.extractors import is_foreign, trainable_backbone
from thaw.features.pooling import resolve_pooling
from thaw.models.neural.probe import from_fitted
from thaw.pipeline.export.keras_images import RESIZES, prepared
from thaw.pipeline.export.onnx_model import INPUT, OUTPUT
from thaw.pipeline.inference.classifier import Classifier, LinearClassifier, NeuralClassifier
from thaw.pipeline.inference.ensemble import EnsembleClassifier

if TYPE_CHECKING:
    import keras


def keras_classifier(classifier: Classifier, weights_source: str | None = None) -> "keras.Model":
    """Return the model: `images` uint8 (N, H, W, 3) -> `probabilities` float32 (N, K), nothing in it trainable.

    Raises InputError if it needs more than Keras' own layers, or if its weights cannot be read.
    """
    import keras

    check(classifier)
    record = classifier.record
    images = keras.Input((None, None, 3), dtype="uint8", name=INPUT)
    inputs = prepared(images, record["image_size"], (record["resize"], record["aspect"], record["normalize"]))
    if record["views"] == 2 or classifier.preprocessing.views == "flip":
        inputs = keras.ops.concatenate([inputs, keras.ops.flip(inputs, axis=2)], axis=0)
    features = _head_features(classifier, weights_source, inputs)
    match classifier:
        case LinearClassifier():
            logits = _linear_logits(classifier, features)
        case NeuralClassifier():
            logits = _network_logits(classifier, features)
    probabilities = keras.layers.Activation("softmax", name=OUTPUT)(logits)
    if record["views"] == 2:
        probabilities = _mean_of_views(probabilities)
    model = keras.Model(images, probabilities, name="thaw")
    model.trainable = False
    return model


def _mean_of_views(values: Any) -> Any:
    """Return the mean (N, D) over the two views of `values` (2 N, D), all images and then all mirrors."""
    import keras

    return keras.ops.mean(keras.ops.reshape(values, (2, -1, values.shape[1])), axis=0)


def check(classifier: Classifier) -> None:
    """Raise InputError if the classifier has a step that Keras' own layers do not have."""
    if isinstance(classifier, EnsembleClassifier) or len(classifier.report.sets) > 1:
        raise InputError(
            f"{classifier.report.name} joins several models or networks, which are exported as one ONNX file alone: "
            "--format onnx"
        )
    name, resize = classifier.record["backbone"], classifier.record["resize"]
    if is_foreign(name):
        raise InputError(f"Keras cannot hold {name}, which is an ONNX file; export ONNX instead: --format onnx")
    if resize not in RESIZES:
        raise InputError(f"Keras has no layer for --resize {resize}; export ONNX instead: --format onnx")
    if isinstance(classifier, LinearClassifier) and not _has_layers(classifier.steps):
        raise InputError(
            f"{classifier.report.name} is no linear model, and Keras has no layer for it; export ONNX instead: "
            "--format onnx"
        )


def _has_layers(steps: dict[str, Any]) -> bool:
    """Return whether each step is one of Keras' layers; a support vector machine of scikit-learn has no weights."""
    classifier = steps["classify"]
    is_linear = hasattr(classifier, "intercept_") and type(classifier).__name__ != "SVC"
    return is_linear and set(steps) <= {"power", "scale", "classify"}


def _head_features(classifier: Classifier, weights_source: str | None, inputs: Any) -> list[Any]:
    """Return the pooled layers of the whole network that the head takes, each (N, D)."""
    import keras

    backbone = trainable_backbone(classifier.record["backbone"], "an export to Keras")
    tensors = classifier.whole_weights(weights_source).tensors
    network = build_frozen(backbone, classifier.record["image_size"], tensors)
    layers = list(dict.fromkeys(layer for layer, _ in classifier.head_inputs))
    outputs = dict(zip(layers, keras.tree.flatten(truncate(network, layers)(inputs)), strict=True))
    return [_pooled(outputs[layer], pooling) for layer, pooling in classifier.head_inputs]


def _linear_logits(classifier: LinearClassifier, parts: list[Any]) -> Any:
    """Return the calibrated scores by the linear model, its features averaged and rounded as the file has them."""
    import keras

    features = keras.ops.concatenate(parts, axis=1)
    if classifier.preprocessing.views == "flip":
        features = _mean_of_views(features)
    if classifier.record["dtype"] == "float16":
        features = keras.ops.cast(keras.ops.cast(features, "float16"), "float32")
    steps, model = classifier.steps, classifier.model
    features = _signed_roots(features) if "power" in steps else features
    fitted = from_fitted(getattr(model, "estimator", model), len(classifier.class_names))
    scores = _dense(_standardized(features, fitted.mean, fitted.scale), [fitted.kernel, fitted.bias], "scores")
    if getattr(model, "margins", False) and len(model.classes_) > 2:
        scores = keras.ops.log_sigmoid(scores)
    return scores * (1 / getattr(model, "temperature_", 1.0))


def _network_logits(classifier: NeuralClassifier, parts: list[Any]) -> Any:
    """Return the calibrated logits by the network's own layers; dropout, of training alone, is left out."""
    import keras

    model, probe, (hidden, *probed) = classifier.model, classifier.architecture.probe, parts
    if probe:
        features = _signed_roots(probed[0]) if probe.transform == "sqrt" else probed[0]
        features = _standardized(features, *model.get_layer("probe_scale").get_weights())
        hidden = keras.ops.concatenate([hidden, features], axis=1)
    hidden = _dense(hidden, model.get_layer("fc1").get_weights(), "fc1", "relu")
    logits = _dense(hidden, model.get_layer("predictions").get_weights(), "predictions")
    if probe:
        logits = keras.ops.add(logits, _dense(features, model.get_layer("probe").get_weights(), "probe"))
    power = model.get_layer("probabilities").power
    if power != 1:
        margins = keras.ops.max(logits, axis=1, keepdims=True) - logits
        logits = -keras.ops.power(margins, power)
    return logits


def _pooled(activations: Any, pooling: str) -> Any:
    from thaw.models.neural.layers import pool

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
    layer.set_weights([mean, np.square(scale, dtype=np.float64), np.array(0)])
    layer.finalize_state()
    return layer(values)


def _dense(inputs: Any, weights: list[np.ndarray], name: str, activation: str | None = None) -> Any:
    """Return the outputs of a dense layer with the kernel (D, K) and the bias (K,) in `weights`."""
    import keras

    layer = keras.layers.Dense(len(weights[1]), activation=activation, name=name)
    outputs = layer(inputs)
    layer.set_weights(weights)
    return outputs
