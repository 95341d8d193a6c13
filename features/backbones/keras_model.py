"""A network as a Keras model: from `keras.applications`, or from its operations if Keras has no such network."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import keras

from thaw.features.backbones.graph import IMAGE, Graph, Operation, Tensors
from thaw.features.backbones.registry import Backbone

LAYERS = {
    "conv": keras.layers.Conv2D,
    "depthwise": keras.layers.DepthwiseConv2D,
    "norm": keras.layers.BatchNormalization,
    "relu": keras.layers.Activation,
    "relu6": keras.layers.Activation,
    "max": keras.layers.MaxPooling2D,
    "average": keras.layers.AveragePooling2D,
    "add": keras.layers.Add,
    "concat": keras.layers.Concatenate,
}


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
    model = _built(backbone, image_size)
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


def _built(backbone: Backbone, image_size: int) -> keras.Model:
    """Return the model with Keras' random weights, its layers named like the operations."""
    if backbone.builder is None:
        return _from_operations(backbone, image_size)
    model = application(backbone, image_size)
    names = {layer.name: operation.name for operation, layer in matched(backbone.graph, model)}
    if all(old == new for old, new in names.items()):
        return model

    def renamed(layer: Any) -> Any:
        return type(layer).from_config({**layer.get_config(), "name": names.get(layer.name, layer.name)})

    image = keras.Input((image_size, image_size, 3))
    return keras.models.clone_model(model, input_tensors=image, clone_function=renamed)


def application(backbone: Backbone, image_size: int) -> keras.Model:
    """Return the model of `keras.applications` as it is, without its top and with random weights."""
    shape = (image_size, image_size, 3)
    return getattr(keras.applications, str(backbone.builder))(weights=None, include_top=False, input_shape=shape)


def matched(graph: Graph, model: keras.Model) -> Iterator[tuple[Operation, Any]]:
    """Yield each operation with its layer, found from the last one downwards by position, whatever the names.

    Raises ValueError if the model is another network than the graph.
    """
    makers = {id(layer.output): layer for layer in model.layers}
    last = list(graph.operations)[-1]
    todo, seen = [(last, model.output)], set()
    while todo:
        name, tensor = todo.pop()
        if name == IMAGE or name in seen:
            continue
        seen.add(name)
        operation, layer = graph.operations[name], makers[id(tensor)]
        inputs = layer.input if isinstance(layer.input, list) else [layer.input]
        if not _matches(operation, layer) or len(inputs) != len(operation.inputs):
            raise ValueError(f"Keras' layer {layer.name} is not the operation {name}")
        todo += [(below, _unpadded(given, makers)) for below, given in zip(operation.inputs, inputs, strict=True)]
        yield operation, layer
    if len(seen) != len(graph.operations):
        raise ValueError(f"Keras' model has {len(seen)} of {len(graph.operations)} operations")


def _unpadded(tensor: Any, makers: dict[int, Any]) -> Any:
    """Return the tensor below a padding layer, since an operation includes its padding."""
    layer = makers[id(tensor)]
    return layer.input if isinstance(layer, keras.layers.ZeroPadding2D) else tensor


def _matches(operation: Operation, layer: Any) -> bool:
    """Return whether a layer computes what the operation does, its padding left out."""
    if not isinstance(layer, LAYERS[operation.kind]):
        return False
    steps = (operation.kernel, (operation.stride, operation.stride))
    if operation.kind == "conv":
        shape = (layer.filters, layer.use_bias, layer.activation is keras.activations.relu)
        expected = (operation.channels, operation.bias, operation.relu)
        return (layer.kernel_size, layer.strides) == steps and shape == expected
    if operation.kind == "depthwise":
        return (layer.kernel_size, layer.strides, layer.use_bias) == (*steps, operation.bias)
    if operation.kind == "norm":
        return (layer.epsilon, layer.scale, layer.center) == (operation.epsilon, operation.scale, True)
    if operation.kind in ("relu", "relu6"):
        return layer.activation is getattr(keras.activations, operation.kind)
    return operation.kind not in ("max", "average") or (layer.pool_size, layer.strides) == steps


def _from_operations(backbone: Backbone, image_size: int) -> keras.Model:
    """Return a model of Keras' own layers; a padding that Keras has no word for is a layer of its own."""
    values = {IMAGE: keras.Input((image_size, image_size, 3))}
    for operation in backbone.graph.operations.values():
        below = [values[name] for name in operation.inputs]
        if any(operation.padding) and not _keeps_size(operation):
            below = [keras.layers.ZeroPadding2D(operation.padding, name=f"{operation.name}_pad")(below[0])]
        values[operation.name] = _layer(operation)(below if len(below) > 1 else below[0])
    return keras.Model(values[IMAGE], values[operation.name], name=backbone.name)


def _keeps_size(operation: Operation) -> bool:
    """Return whether a convolution is padded on both sides alike so that the map keeps its size."""
    rows, columns = operation.kernel
    return operation.convolves and operation.stride == 1 and operation.padding == (rows // 2, columns // 2)


def _layer(operation: Operation) -> Any:
    """Return Keras' layer of an operation; raises ValueError if none of the networks built here has such a one."""
    name, layer = operation.name, LAYERS[operation.kind]
    padding = "same" if operation.same or _keeps_size(operation) else "valid"
    window = {"strides": operation.stride, "padding": padding, "name": name}
    match operation.kind:
        case "max":
            return layer(operation.kernel, **window)
        case "conv":
            activation = "relu" if operation.relu else None
            return layer(operation.channels, operation.kernel, use_bias=operation.bias, activation=activation, **window)
        case "depthwise":
            return layer(operation.kernel, use_bias=operation.bias, **window)
        case "norm":
            return layer(epsilon=operation.epsilon, scale=operation.scale, name=name)
        case "relu" | "relu6":
            return layer(operation.kind, name=name)
        case "add" | "concat":
            return layer(name=name)
    raise ValueError(f"{operation.kind} is not built here")
