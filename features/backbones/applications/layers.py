"""Keras' layers as operations of our graphs, and their weights as the tensors of these operations."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from thaw.features.backbones.graph import ACTIVATIONS

SAME_WHILE_FROZEN = ("Dropout", "StochasticDepth")  # layers that change nothing outside training
NAMES = {"silu": "swish", "hard_silu": "hard_swish", "linear": ""}  # of activations, if ours differ


class Step(NamedTuple):
    """An operation that a layer computes: its kind, its options and what its name ends with beside the layer's.

    `num_outputs` is the channels, None if these are the layer's own. `reads` are places among the layer's inputs, -1
    the step before; if it is empty the first step reads all inputs, and others read the step before.
    """

    kind: str
    options: Mapping[str, Any] = {}
    suffix: str = ""
    num_outputs: int | None = None
    reads: tuple[int, ...] = ()


def steps_of(layer: Any) -> list[Step]:
    """Return what a layer of Keras computes, in order, empty if it changes nothing outside training.

    Raises:
        ValueError: the layer has no counterpart among our operations.
    """
    kind = type(layer).__name__
    if kind in SAME_WHILE_FROZEN:
        return []
    if kind not in _STEPS:
        raise ValueError(f"Keras' layer {layer.name} is a {kind}; expected one of {', '.join(_STEPS)}")
    return _STEPS[kind](layer)


def tensors_of(layer: Any) -> dict[str, tuple[np.ndarray, ...]]:
    """Return the weights of a layer of Keras as float32 tensors by the suffix of their step, empty if it has none."""
    weights = [np.asarray(value, np.float32) for value in layer.get_weights()]
    match type(layer).__name__:
        case "SeparableConv2D":
            return {"_depthwise": (weights[0],), "": tuple(weights[1:])}
        case "Dense":
            weights[0] = weights[0][np.newaxis, np.newaxis]
        case "Conv2D" if layer.groups > 1:
            weights[0] = np.ascontiguousarray(weights[0].transpose(0, 1, 3, 2))
        case "LayerScale":
            weights[0] = weights[0][np.newaxis, np.newaxis, :, np.newaxis]
        case "Normalization":
            weights = [weight.reshape(-1) for weight in weights[:2]]  # the third one counts what it was adapted to
    return {"": tuple(weights)} if weights else {}


def _activation(function: Any) -> str:
    """Return our name of an activation of Keras; raises ValueError if there is none."""
    name = getattr(function, "__name__", str(function))
    name = NAMES.get(name, name)
    if name and name not in ACTIVATIONS:
        raise ValueError(f"Keras' activation {name} is not known here; expected one of {', '.join(ACTIVATIONS)}")
    return name


def _window(layer: Any, kernel: tuple[int, int]) -> dict[str, Any]:
    """Return kernel, stride and padding of a layer; a map that keeps its size is padded on both sides alike."""
    (rows, columns), (stride, other) = kernel, layer.strides
    if stride != other:
        raise ValueError(f"Keras' layer {layer.name} has strides {layer.strides}; expected equal ones")
    options: dict[str, Any] = {"kernel": (rows, columns), "stride": stride}
    if layer.padding.lower() == "same" and rows * columns > 1:
        odd = rows % 2 and columns % 2
        options |= {"padding": (rows // 2, columns // 2)} if stride == 1 and odd else {"same": True}
    return options


def _conv(layer: Any) -> list[Step]:
    inputs = layer.input.shape[-1]
    if layer.dilation_rate not in (1, (1, 1)) or layer.groups not in (1, inputs):
        raise ValueError(f"Keras' layer {layer.name} is dilated, or has {layer.groups} groups of {inputs} channels")
    options = {"bias": layer.use_bias, "activation": _activation(layer.activation)}
    kind = "conv" if layer.groups == 1 else "depthwise"
    return [Step(kind, {**_window(layer, layer.kernel_size), **options})]


def _depthwise(layer: Any) -> list[Step]:
    options = {"bias": layer.use_bias, "activation": _activation(layer.activation)}
    return [Step("depthwise", {**_window(layer, layer.kernel_size), **options})]


def _separable(layer: Any) -> list[Step]:
    first = Step("depthwise", {**_window(layer, layer.kernel_size), "bias": False}, "_depthwise", layer.input.shape[-1])
    return [first, Step("conv", {"bias": layer.use_bias, "activation": _activation(layer.activation)})]


def _dense(layer: Any) -> list[Step]:
    return [Step("conv", {"bias": layer.use_bias, "activation": _activation(layer.activation)})]


def _relu(layer: Any) -> list[Step]:
    if layer.negative_slope or layer.threshold or layer.max_value not in (None, 6):
        raise ValueError(f"Keras' layer {layer.name} is a ReLU of another kind: {layer.get_config()}")
    return [Step("relu6" if layer.max_value else "relu")]


def _pooling(kind: str) -> Callable[[Any], list[Step]]:
    return lambda layer: [Step(kind, _window(layer, layer.pool_size))]


def _batch_norm(layer: Any) -> list[Step]:
    return [Step("norm", {"epsilon": layer.epsilon, "scale": layer.scale, "center": layer.center})]


def _rescaling(layer: Any) -> list[Step]:
    factor, offset = (tuple(float(n) for n in np.ravel(value)) for value in (layer.scale, layer.offset))
    return [Step("rescale", {"factor": factor, "offset": offset})]


def _normalization(layer: Any) -> list[Step]:
    """Return one normalisation by fixed numbers, or one by weights, which is batch normalisation without epsilon."""
    if layer.input_mean is None:
        return [Step("norm", {"scale": False, "center": False, "epsilon": 0.0})]
    mean, variance = (np.ravel(value).astype(float) for value in (layer.input_mean, layer.input_variance))
    factor = 1 / np.sqrt(variance)
    return [Step("rescale", {"factor": tuple(factor.tolist()), "offset": tuple((-mean * factor).tolist())})]


def _sum(layer: Any) -> list[Step]:
    """Return a sum of maps, or of a map and a number."""
    number = _number(layer)
    return [Step("add") if number is None else Step("rescale", {"offset": (number,)})]


def _product(layer: Any) -> list[Step]:
    number = _number(layer)
    return [Step("multiply") if number is None else Step("rescale", {"factor": (number,)})]


def _scaled_sum(layer: Any) -> list[Step]:
    """Return the sum of the first map and the scaled second one."""
    scaled = Step("rescale", {"factor": (float(layer.scale),)}, "_scaled", reads=(1,))
    return [scaled, Step("add", reads=(0, -1))]


def _number(layer: Any) -> float | None:
    """Return the number that an operator such as `x + 3.0` takes beside a map, None if it takes maps alone."""
    numbers = [given for given in layer._inbound_nodes[0].arguments.args if isinstance(given, int | float)]
    return float(numbers[0]) if numbers else None


def _same_shape(layer: Any) -> list[Step]:
    if math.prod(layer.output.shape[1:]) != layer.output.shape[-1]:
        raise ValueError(f"Keras' layer {layer.name} gives {layer.output.shape}; expected one position")
    return []


def _border(cropped: bool) -> Callable[[Any], list[Step]]:
    def steps(layer: Any) -> list[Step]:
        rows, columns = layer.cropping if cropped else layer.padding
        if tuple(rows) != tuple(columns):
            raise ValueError(f"Keras' layer {layer.name} has borders {rows} and {columns}; expected equal ones")
        return [Step("pad", {"border": tuple(-row if cropped else row for row in rows)})]

    return steps


_STEPS: dict[str, Callable[[Any], list[Step]]] = {
    "Conv2D": _conv,
    "DepthwiseConv2D": _depthwise,
    "SeparableConv2D": _separable,
    "Dense": _dense,
    "BatchNormalization": _batch_norm,
    "LayerNormalization": lambda layer: [Step("layer_norm", {"epsilon": layer.epsilon})],
    "LayerScale": lambda layer: [Step("depthwise", {"bias": False})],
    "Activation": lambda layer: [Step(kind)] if (kind := _activation(layer.activation)) else [],
    "ReLU": _relu,
    "MaxPooling2D": _pooling("max"),
    "AveragePooling2D": _pooling("average"),
    "GlobalAveragePooling2D": lambda layer: [Step("mean")],
    "Reshape": _same_shape,
    "Add": _sum,
    "Multiply": _product,
    "Concatenate": lambda layer: [Step("concat")],
    "CustomScaleLayer": _scaled_sum,
    "Rescaling": _rescaling,
    "Normalization": _normalization,
    "ZeroPadding2D": _border(cropped=False),
    "Cropping2D": _border(cropped=True),
}
