"""The layers of a network that features are taken from and training begins from, worked out from its graph."""

from dataclasses import dataclass
from itertools import pairwise

from thaw.features.backbones.graph import ACTIVATIONS, IMAGE, POOLINGS, Graph, Operation

NORMALIZATIONS = ("norm", "layer_norm")


@dataclass(frozen=True)
class Layer:
    """An operation whose output can be taken out of the network.

    `splits` is whether everything above depends on it alone: only from there can training begin. `channels` are those
    of the output. `probed` is whether features are taken there by themselves, `trainable` whether it splits the
    network and a convolution lies between the layer below that does and here.
    """

    name: str
    channels: int
    probed: bool
    trainable: bool
    splits: bool = True


def layers_of(graph: Graph) -> tuple[Layer, ...]:
    """Return the layers of a network, from the image upwards."""
    cuts = _block_ends(graph)
    readers = graph.readers()
    named = [
        operation
        for name, operation in graph.operations.items()
        if name in cuts or (operation.kind == "concat" and len(readers[name]) > 1)
    ]
    probed = _probed(graph, named)
    layers, convolves = [], False
    numbered = {operation.name: number for number, operation in enumerate(named)}
    for name, operation in graph.operations.items():
        convolves = convolves or operation.convolves
        if name in numbered:
            splits = name in cuts
            trainable = splits and convolves
            layers.append(Layer(name, operation.channels, numbered[name] in probed, trainable, splits))
            convolves = convolves and not splits
    return tuple(layers)


def cut_points(graph: Graph) -> list[Operation]:
    """Return the operations whose output splits the network, in order: all that comes after depends on it alone."""
    order = {name: index for index, name in enumerate((IMAGE, *graph.operations))}
    lowest_read, found = len(order), []
    for name, operation in reversed(graph.operations.items()):
        if lowest_read >= order[name]:
            found.append(operation)
        lowest_read = min([lowest_read, *(order[below] for below in operation.inputs)])
    return found[::-1]


def _block_ends(graph: Graph) -> set[str]:
    """Return the names of the cut points that end a block, a step of the network with its activation.

    Left out are a map whose normalisation, activation or pooling is still to come; a depthwise convolution without the
    pointwise one that completes it; what only prepares the next block's input; and the wide map inside a block that
    widens and narrows again. Each of them would split the network too, but is larger, or no map that its block gave.
    """
    readers, last = graph.readers(), next(reversed(graph.operations))
    ends: list[Operation] = []
    stepped = False  # whether more than a normalisation or an activation lies above the last end
    latest = ""  # the kind of the latest convolution that all depends on
    for operation in cut_points(graph):
        latest = operation.kind if operation.convolves else latest
        stepped = stepped or operation.convolves or operation.joins or operation.kind in POOLINGS
        is_last = operation.name == last
        if not is_last and (latest == "depthwise" or not stepped or _is_unfinished(operation, readers[operation.name])):
            continue
        if len(ends) > 1 and _is_narrow(operation) and _is_widened(ends[-1], ends[-2], operation):
            ends.pop()
        ends.append(operation)
        stepped = False
    return {operation.name for operation in ends}


def _is_unfinished(operation: Operation, readers: list[Operation]) -> bool:
    """Return whether the only reader of a map completes the step that began with it."""
    if operation.kind == "pad":
        return True
    if len(readers) != 1:
        return False
    reader = readers[0].kind
    if operation.joins:
        return reader in ACTIVATIONS
    linear = (operation.convolves and not operation.activation) or operation.kind in NORMALIZATIONS
    return linear and reader in (*NORMALIZATIONS, *ACTIVATIONS, *POOLINGS, "pad")


def _is_narrow(operation: Operation) -> bool:
    """Return whether a map comes from a convolution without an activation, as at the end of an inverted bottleneck."""
    return operation.kind in NORMALIZATIONS or (operation.convolves and not operation.activation)


def _is_widened(operation: Operation, below: Operation, above: Operation) -> bool:
    return not operation.joins and operation.channels > max(below.channels, above.channels)


def _probed(graph: Graph, named: list[Operation]) -> set[int]:
    """Return the places of the layers that features are taken from by themselves: poolings and the ends of stages.

    A stage ends with the last layer, and with each one before a map that is smaller by something else than a pooling.
    """
    strides = _strides(graph)
    found = {len(named) - 1}
    for place, (operation, above) in enumerate(pairwise(named)):
        ends = strides[above.name] > strides[operation.name] and above.kind not in POOLINGS
        if operation.kind in POOLINGS or ends:
            found.add(place)
    return found


def _strides(graph: Graph) -> dict[str, int]:
    """Return the pixels of the image from one position of each operation's output to the next."""
    strides = {IMAGE: 1}
    for operation in graph.operations.values():
        step = 1 if operation.kind == "pad" else operation.stride
        strides[operation.name] = step * min(strides[below] for below in operation.inputs)
    return strides
