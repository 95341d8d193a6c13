"""A foreign network as a part of a graph of ours: the same input and the same kind of outputs as our own networks."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from thaw.features.foreign.network import OnnxNetwork
from thaw.features.foreign.onnx_file import opset_of
from thaw.features.foreign.probing import Form
from thaw.features.foreign.pruning import pruned
from thaw.features.onnx.builder import GraphBuilder
from thaw.features.onnx.network import INPUT

PREFIX = "network/"  # of every name that comes from the file


def add_network(graph: GraphBuilder, network: OnnxNetwork, layers: Sequence[str], image_size: int, images: str) -> None:
    """Add a network up to its `layers`, each a value of the layer's name, float32 (N, C, H, W).

    Args:
        graph: the graph that gets the nodes; it is of the network's version of the standard.
        network: the network.
        layers: the names of the layers.
        image_size: height and width of the images, in pixels.
        images: the name of the images, float32 (N, 3, H, W), ready for the network.
    """
    names = [network.tensor(layer) for layer in layers]
    part = pruned(network.content.model, names).graph
    taken = images if network.image.channels_first else graph.add("Transpose", images, perm=[0, 2, 3, 1])
    new = _Renamed(network.image.name, taken)
    for node in part.node:
        node.input[:] = [new[name] for name in node.input]
        node.output[:] = [new[name] for name in node.output]
        node.name = ""
    for tensor in part.initializer:
        tensor.name = new[tensor.name]
    for sparse in part.sparse_initializer:
        sparse.values.name = new[sparse.values.name]
    graph.extend(list(part.node), list(part.initializer), list(part.sparse_initializer))
    for layer, name in zip(layers, names, strict=True):
        _add_maps(graph, new[name], network.form(layer, image_size), layer)


class _Renamed(dict[str, str]):
    """Names of the file -> names of the graph; the empty name of an input that is left out stays."""

    def __init__(self, image: str, taken: str):
        super().__init__({image: taken, "": ""})

    def __missing__(self, name: str) -> str:
        return PREFIX + name


def _add_maps(graph: GraphBuilder, values: str, form: Form, layer: str) -> None:
    """Add what makes maps (N, C, H, W) of a layer's values, and the name of the layer."""
    values = graph.cast(values, np.float32)
    if form.kind == "tokens":
        values = _class_token_and_mean(graph, values, is_alone=form.num_tokens == 1)
    if form.kind in ("tokens", "vector"):
        values = graph.add("Reshape", values, graph.hold([0, -1, 1, 1], np.int64))
    elif form.kind == "channels_last":
        values = graph.add("Transpose", values, perm=[0, 3, 1, 2])
    graph.name(values, layer)


def _class_token_and_mean(graph: GraphBuilder, tokens: str, is_alone: bool) -> str:
    """Return the first of the tokens (N, T, D) and the mean of the others, (N, 2 D); (N, D) if it is alone."""
    first = graph.add("Gather", tokens, graph.hold(0, np.int64), axis=1)
    if is_alone:
        return first
    bounds = (graph.hold([value], np.int64) for value in (1, 2**31 - 1, 1))
    others = graph.add("ReduceMean", graph.add("Slice", tokens, *bounds), axes=[1], keepdims=0)
    return graph.add("Concat", first, others, axis=1)


def network_graph_of(network: OnnxNetwork, layers: Sequence[str], image_size: int) -> bytes:
    """Return the serialised ONNX model of a network up to `layers`, which are its outputs, float32 (N, C, H, W).

    The input `images` is float32 (N, 3, S, S), with the N of the file if that is fixed.
    """
    from onnx import TensorProto, helper

    def described(name: str, channels: int, height: int, width: int) -> Any:
        sides = [network.image.batch or "N", channels, height, width]
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, sides)

    graph = graph_for(network)
    add_network(graph, network, layers, image_size, INPUT)
    shapes = {layer: network.output_shape(layer, image_size) for layer in layers}
    outputs = [described(layer, channels, height, width) for layer, (height, width, channels) in shapes.items()]
    return graph.model_of([described(INPUT, 3, image_size, image_size)], outputs)


def graph_for(network: OnnxNetwork) -> GraphBuilder:
    """Return an empty graph of the version of the standard that the network is of."""
    model = network.content.model
    return GraphBuilder(opset_of(model), model.ir_version)
