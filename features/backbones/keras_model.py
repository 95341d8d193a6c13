"""A network as a Keras model, built from its operations."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import keras

from thaw.features.backbones.graph import ACTIVATIONS, IMAGE, Operation, Tensors
from thaw.features.backbones.registry import Backbone


def build_frozen(backbone: Backbone, image_size: int, tensors: Tensors | None) -> keras.Model:
    """Return the Keras model for (N, image_size, image_size, 3) float32 input, every layer frozen.

    Args:
        backbone: the network, whose operations give the layers their names.
        image_size: height and width of the input, in pixels.
        tensors: the weights by operation; None leaves Keras' own random ones, for weights to be loaded into.

    Raises:
        InputError: the network takes no images of that size.
    """
    backbone.check_image_size(image_size)
    model = _from_operations(backbone, image_size)
    if tensors:
        for name in backbone.tensor_shapes:
            model.get_layer(name).set_weights(list(tensors[name]))
    model.trainable = False
    return model


def truncate(model: keras.Model, layers: Iterable[str]) -> keras.Model:
    """Return a model of the same input that gives the outputs of `layers`, in their order, and runs no further."""
    return keras.Model(model.input, [model.get_layer(name).output for name in layers])


@contextmanager
def dtype_policy(name: str) -> Iterator[None]:
    """Build the layers inside the `with` block under a Keras dtype policy such as `float32` or `mixed_bfloat16`."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _from_operations(backbone: Backbone, image_size: int) -> keras.Model:
    """Return a model of Keras' own layers; a padding that Keras has no word for is a layer of its own."""
    values = {IMAGE: keras.Input((image_size, image_size, 3))}
    sizes = backbone.graph.sizes(image_size)
    for operation in backbone.graph.operations.values():
        below = [values[name] for name in operation.inputs]
        if any(operation.padding) and not _keeps_size(operation):
            below = [keras.layers.ZeroPadding2D(operation.padding, name=f"{operation.name}_pad")(below[0])]
        layer = _layer(operation, sizes[operation.inputs[0]])
        values[operation.name] = layer(below if len(below) > 1 else below[0])
    return keras.Model(values[IMAGE], values[operation.name], name=backbone.name)


def _keeps_size(operation: Operation) -> bool:
    """Return whether a convolution or a mean is padded on both sides alike so that the map keeps its size.

    A max pooling is padded with zeros instead, which its map is never below.
    """
    rows, columns = operation.kernel
    centred = operation.stride == 1 and operation.padding == (rows // 2, columns // 2)
    return centred and (operation.convolves or operation.kind == "average")


def _layer(operation: Operation, size: int) -> Any:
    """Return Keras' layer of an operation on maps of height `size`; raises ValueError if there is none."""
    name, layers = operation.name, keras.layers
    padding = "same" if operation.same or _keeps_size(operation) else "valid"
    window = {"strides": operation.stride, "padding": padding, "name": name}
    convolution = {"use_bias": operation.bias, "activation": operation.activation or None, **window}
    match operation.kind:
        case "conv":
            return layers.Conv2D(operation.channels, operation.kernel, **convolution)
        case "depthwise":
            return layers.DepthwiseConv2D(operation.kernel, **convolution)
        case "norm":
            given = {"epsilon": operation.epsilon, "scale": operation.scale, "center": operation.center}
            return layers.BatchNormalization(**given, name=name)
        case "layer_norm":
            return layers.LayerNormalization(epsilon=operation.epsilon, name=name)
        case "max" | "average":
            pooling = layers.MaxPooling2D if operation.kind == "max" else layers.AveragePooling2D
            return pooling(operation.kernel, **window)
    return _layer_without_window(operation, size)


def _layer_without_window(operation: Operation, size: int) -> Any:
    """Return Keras' layer of an operation that has neither weights nor a window."""
    name, layers = operation.name, keras.layers
    match operation.kind:
        case "mean":
            return layers.GlobalAveragePooling2D(keepdims=True, name=name)
        case "add" | "multiply" | "concat":
            joins = {"add": layers.Add, "multiply": layers.Multiply, "concat": layers.Concatenate}
            return joins[operation.kind](name=name)
        case "rescale":
            return layers.Rescaling(*(_one_or_all(given) for given in (operation.factor, operation.offset)), name=name)
        case "pad":
            before, after = operation.border_of(size)
            if min(before, after) < 0:
                return layers.Cropping2D(((-before, -after),) * 2, name=name)
            return layers.ZeroPadding2D(((before, after),) * 2, name=name)
        case kind if kind in ACTIVATIONS:
            return layers.Activation(kind, name=name)
    raise ValueError(f"{operation.kind} is not known to Keras' layers")


def _one_or_all(numbers: tuple[float, ...]) -> float | list[float]:
    """Return the number, or the numbers of all channels."""
    return numbers[0] if len(numbers) == 1 else list(numbers)
