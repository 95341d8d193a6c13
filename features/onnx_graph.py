"""A frozen network as an ONNX graph, made in memory from the weights we hold."""

from typing import Any

import numpy as np

from features.backbones import Backbone, Layer
from features.weights import Weights

INPUT = "images"
OPSET, IR_VERSION = 13, 8  # what every reader of the last years takes


def network_graph(
    backbone: Backbone, weights: Weights, layers: tuple[str, ...], image_size: int, batch_size: int
) -> bytes:
    """Return the serialised ONNX model of the network up to the last of `layers`, with those layers as its outputs.

    Its input `images` is float32 (batch_size, 3, S, S); an output is float32 (batch_size, C, H, W) and named like its
    layer.
    """
    from onnx import TensorProto, helper

    def described(name: str, channels: int, height: int, width: int) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch_size, channels, height, width])

    nodes, tensors = network_nodes(backbone, weights, layers, INPUT)
    outputs = []
    for name in layers:
        height, width, channels = backbone.output_shape(name, image_size)
        outputs.append(described(name, channels, height, width))
    inputs = [described(INPUT, 3, image_size, image_size)]
    graph = helper.make_graph(nodes, backbone.name, inputs, outputs, tensors)
    opsets = [helper.make_opsetid("", OPSET)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION).SerializeToString())


def network_nodes(
    backbone: Backbone, weights: Weights, layers: tuple[str, ...], input_name: str
) -> tuple[list[Any], list[Any]]:
    """Return the nodes and the tensors of the network up to the last of `layers`, for any batch size.

    `input_name` is float32 (N, 3, S, S); every layer's output is float32 (N, C, H, W) and has the layer's name.
    """
    nodes: list[Any] = []
    tensors: list[Any] = []
    below = input_name
    for layer in _up_to_the_last(backbone, layers):
        made, held = _convolution(layer, below, weights) if layer.kind == "conv" else (_pooling(layer, below), [])
        nodes, tensors, below = nodes + made, tensors + held, layer.name
    return nodes, tensors


def _up_to_the_last(backbone: Backbone, layers: tuple[str, ...]) -> list[Layer]:
    wanted = [backbone.layers.index(backbone.layer(name)) for name in layers]
    return list(backbone.layers[: max(wanted) + 1])


def _convolution(layer: Layer, below: str, weights: Weights) -> tuple[list[Any], list[Any]]:
    from onnx import helper, numpy_helper

    kernel, bias = weights.tensors[layer.name]
    names = (f"{layer.name}/kernel", f"{layer.name}/bias")
    held = (np.ascontiguousarray(kernel.transpose(3, 2, 0, 1)), bias)
    before = f"{layer.name}/before_relu"
    convolution = helper.make_node("Conv", [below, *names], [before], kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    nodes = [convolution, helper.make_node("Relu", [before], [layer.name])]
    return nodes, [numpy_helper.from_array(tensor, name) for tensor, name in zip(held, names, strict=True)]


def _pooling(layer: Layer, below: str) -> list[Any]:
    from onnx import helper

    return [helper.make_node("MaxPool", [below], [layer.name], kernel_shape=[2, 2], strides=[2, 2])]
