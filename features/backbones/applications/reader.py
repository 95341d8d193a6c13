"""Read a network of `keras.applications` into our graph: Keras' own functional graph, layer by layer."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import keras

from thaw.features.backbones.applications.layers import Step, steps_of, tensors_of
from thaw.features.backbones.applications.names import inception_names, stable_names
from thaw.features.backbones.graph import IMAGE, Graph, Operation, Tensors

RECTIFIED = ("relu", "relu6")
NUMBERED = "inception_v3"  # Keras' name of the network whose operations are named by position


def application(builder: str, image_size: int) -> keras.Model:
    """Return the model of `keras.applications` as it is, without its top and with random weights."""
    shape = (image_size, image_size, 3)
    return getattr(keras.applications, builder)(weights=None, include_top=False, input_shape=shape)


def read_graph(models: Sequence[keras.Model]) -> Graph:
    """Return the graph of a network.

    Padding that depends on whether a map's size is even or odd is told from the same network at several sizes.

    Args:
        models: The network for square images of several sizes, built as if with the published weights.

    Raises:
        ValueError: a layer has no counterpart here, or a padding was seen at even or at odd sizes alone.
    """
    operations, last = _operations(models[0])
    for name, border in _borders(models).items():
        operations[name] = replace(operations[name], **border)
    padded = {name: _with_padding(operation, operations) for name, operation in operations.items()}
    ordered, graph = _in_order(padded, last), Graph()
    names = _final_names(models[0], ordered)
    for operation in ordered:
        inputs = tuple(names[below] for below in operation.inputs)
        graph.operations[names[operation.name]] = replace(operation, name=names[operation.name], inputs=inputs)
    return graph


def layers_by_operation(model: keras.Model) -> dict[str, Any]:
    """Return the layer or operator of Keras that gives what each operation in the graph that is read of it gives.

    Operations inside a layer that computes several are left out.
    """
    names, final = stable_names(_layers(model)), _final_names(model, _in_order(*_operations(model)))
    return {final[name]: layer for layer in _layers(model) if (name := names[layer.name]) in final}


def tensors_by_operation(model: keras.Model) -> Tensors:
    """Return the weights of a model of Keras, float32, by the name of the operation in the graph that is read of it."""
    found: dict[str, Any] = {}
    for name, layer in layers_by_operation(model).items():
        if getattr(layer, "weights", None):
            found |= {name + suffix: tensors for suffix, tensors in tensors_of(layer).items()}
    return found


def places_of_weights(model: keras.Model) -> dict[str, int]:
    """Return the place of each operation with weights in a weights file of Keras' old format.

    It is the number of the layer, among those that have weights, of the model itself: the layers of a nested model and
    the operations of one layer share a place.
    """
    names, final = stable_names(_layers(model)), _final_names(model, _in_order(*_operations(model)))
    with_weights = [layer for layer in model.layers if layer.weights]
    return {
        final[names[inside.name] + suffix]: place
        for place, layer in enumerate(with_weights)
        for inside in (layer.layers if isinstance(layer, keras.Sequential) else [layer])
        for suffix in tensors_of(inside)
    }


def _layers(model: keras.Model) -> Iterator[Any]:
    """Yield the layers and operators of a model, in order, and those of a nested model in its place."""
    for layer in model.operations:
        if isinstance(layer, keras.Sequential):
            yield from layer.layers
        elif not isinstance(layer, keras.layers.InputLayer):
            yield layer


def _operations(model: keras.Model) -> tuple[dict[str, Operation], str]:
    """Return the operations by their stable names, in Keras' order, and the name of the last one."""
    names, operations = stable_names(_layers(model)), dict[str, Operation]()
    makers: dict[int, str] = {}  # name of the operation that makes a tensor of Keras
    for layer in model.operations:
        if isinstance(layer, keras.layers.InputLayer):
            makers[id(layer.output)] = IMAGE
            continue
        below = [makers[id(tensor)] for tensor in keras.tree.flatten(layer.input)]
        for inside in layer.layers if isinstance(layer, keras.Sequential) else [layer]:
            below = [_add_steps(operations, inside, names[inside.name], below)]
        makers[id(layer.output)] = below[0]
    return operations, makers[id(model.output)]


def _add_steps(operations: dict[str, Operation], layer: Any, name: str, below: list[str]) -> str:
    """Add what a layer computes of the operations `below`, and return the name of its last operation."""
    latest = below[0]
    for number, step in enumerate(steps_of(layer)):
        inputs = _inputs(step, below, latest) if number or step.reads else tuple(below)
        received = sum(3 if name == IMAGE else operations[name].channels for name in inputs)
        channels = step.num_outputs or layer.output.shape[-1]
        latest = name + step.suffix
        operations[latest] = Operation(latest, step.kind, inputs, received, channels, **step.options)
    return latest


def _inputs(step: Step, below: list[str], latest: str) -> tuple[str, ...]:
    return tuple(latest if place < 0 else below[place] for place in step.reads) or (latest,)


def _borders(models: Sequence[keras.Model]) -> dict[str, dict[str, Any]]:
    """Return the options of each zero padding, by what it adds to maps of even and of odd size."""
    seen: dict[str, dict[int, tuple[int, int]]] = {}
    for model in models:
        names = stable_names(_layers(model))
        for layer in _layers(model):
            if isinstance(layer, keras.layers.ZeroPadding2D):
                border = tuple(layer.padding[0])
                found = seen.setdefault(names[layer.name], {})
                if found.setdefault(layer.input.shape[1] % 2, border) != border:
                    raise ValueError(f"{layer.name} pads by something else than whether the map's size is even")
    return {name: _border(name, found) for name, found in seen.items()}


def _border(name: str, found: dict[int, tuple[int, int]]) -> dict[str, Any]:
    if len(found) < 2:
        raise ValueError(f"{name} was seen at {'odd' if 1 in found else 'even'} sizes alone; read it at more sizes")
    half = found[1][0]
    if found[0] == found[1]:
        return {"border": found[0]}
    if found != {0: (half - 1, half), 1: (half, half)}:
        raise ValueError(f"{name} adds {found[0]} to even maps and {found[1]} to odd ones: not for a stride of 2")
    return {"border": (0, 0), "same": True, "kernel": (2 * half + 1, 2 * half + 1), "stride": 2}


def _with_padding(operation: Operation, operations: dict[str, Operation]) -> Operation:
    """Return the operation with the padding below it as its own, if it is one that it can have.

    A max pooling sees nothing beyond the edge, and zeros only if all of the map is at least zero.
    """
    pad = operations.get(operation.inputs[0])
    if pad is None or pad.kind != "pad" or operation.same or any(operation.padding):
        return operation
    source = operations.get(pad.inputs[0])
    rectified = source is not None and (source.kind in RECTIFIED or source.activation in RECTIFIED)
    if not operation.convolves and not (operation.kind == "max" and rectified):
        return operation
    if pad.same:
        fits = (operation.kernel, operation.stride) == (pad.kernel, pad.stride)
        return replace(operation, inputs=pad.inputs, same=True) if fits else operation
    before, after = pad.border
    return replace(operation, inputs=pad.inputs, padding=pad.border) if before == after else operation


def _in_order(operations: dict[str, Operation], last: str) -> list[Operation]:
    """Return the operations that the last one needs, each after its inputs, one branch after the other."""
    ordered: dict[str, Operation] = {}
    todo = [last]
    while todo:
        operation = operations[todo[-1]]
        missing = [name for name in operation.inputs if name != IMAGE and name not in ordered]
        if missing:
            todo.append(missing[0])
        else:
            ordered.setdefault(todo.pop(), operation)
    return list(ordered.values())


def _final_names(model: keras.Model, operations: Sequence[Operation]) -> dict[str, str]:
    by_position = inception_names(operations) if model.name == NUMBERED else {}
    return {IMAGE: IMAGE, **{operation.name: operation.name for operation in operations}, **by_position}
