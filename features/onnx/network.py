"""A network as an ONNX graph, built in memory from its weights."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from thaw.features.backbones.graph import IMAGE, Operation
from thaw.features.backbones.registry import Backbone

if TYPE_CHECKING:
    from thaw.features.backbones.weights import Weights

INPUT = "images"
OPSET, IR_VERSION = 13, 8  # read by every runtime of the last years


def network_nodes(
    backbone: Backbone, weights: "Weights", layers: Iterable[str], input_name: str, prefix: str = ""
) -> tuple[list[Any], list[Any]]:
    """Return the nodes and initializers (onnx.NodeProto, onnx.TensorProto) of the network up to the last of `layers`.

    Args:
        backbone: the network.
        weights: its weights; a fine-tuned network has its own (thaw.features.backbones.weights.taken_from).
        layers: the cut points whose outputs, (N, C, H, W), are wanted.
        input_name: the name of the input, float32 (N, 3, H, W) for any N, H and W that the network takes.
        prefix: what the name of every node and tensor begins with; the layer's name follows it.
    """
    nodes: list[Any] = []
    tensors: list[Any] = []
    for operation in backbone.graph.up_to(layers):
        below = [input_name if name == IMAGE else prefix + name for name in operation.inputs]
        made, held = _nodes(operation, below, weights, prefix)
        nodes += made
        tensors += held
    return nodes, tensors


def network_graph(
    backbone: Backbone, weights: "Weights", layers: tuple[str, ...], image_size: int, batch_size: int
) -> bytes:
    """Return the serialised ONNX model of the network up to the last of `layers`, which are its outputs.

    The input `images` is float32 (batch_size, 3, S, S); an output, float32 (batch_size, C, H, W), has its layer's name.
    """
    from onnx import TensorProto, helper

    def described(name: str, height: int, width: int, channels: int) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch_size, channels, height, width])

    nodes, tensors = network_nodes(backbone, weights, layers, INPUT)
    inputs = [described(INPUT, image_size, image_size, 3)]
    outputs = [described(name, *backbone.output_shape(name, image_size)) for name in layers]
    graph = helper.make_graph(nodes, backbone.name, inputs, outputs, tensors)
    opsets = [helper.make_opsetid("", OPSET)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION).SerializeToString())


def _nodes(operation: Operation, below: list[str], weights: "Weights", prefix: str) -> tuple[list[Any], list[Any]]:
    from onnx import helper, numpy_helper

    name = prefix + operation.name
    held = {f"{name}/{part}": tensor for part, tensor in _tensors(operation, weights.tensors.get(operation.name, ()))}
    initializers = [numpy_helper.from_array(tensor, given) for given, tensor in held.items()]
    kind, options = _kind_and_options(operation)
    output = f"{name}/before_relu" if operation.relu else name
    nodes = [helper.make_node(kind, [*below, *held], [output], **options)]
    if operation.relu:
        nodes.append(helper.make_node("Relu", [output], [name]))
    return nodes, initializers


def _tensors(operation: Operation, tensors: tuple[np.ndarray, ...]) -> list[tuple[str, np.ndarray]]:
    """Return an operation's tensors with their names, as ONNX orders them; its kernels are (out, in, h, w)."""
    if operation.kind == "relu6":
        return [("least", np.array(0, np.float32)), ("most", np.array(6, np.float32))]
    if operation.convolves:
        outputs_first = (2, 3, 0, 1) if operation.kind == "depthwise" else (3, 2, 0, 1)
        kernel = np.ascontiguousarray(tensors[0].transpose(outputs_first))
        return list(zip(("kernel", "bias"), (kernel, *tensors[1:]), strict=False))
    if operation.kind == "norm":
        gamma = () if operation.scale else (np.ones(operation.channels, np.float32),)
        return list(zip(("gamma", "beta", "mean", "variance"), (*gamma, *tensors), strict=True))
    return []


def _kind_and_options(operation: Operation) -> tuple[str, dict[str, Any]]:
    """Return ONNX' name of an operation and those of its attributes that differ from the default."""
    window: dict[str, Any] = {"kernel_shape": list(operation.kernel)}
    if any(operation.padding):
        window["pads"] = [*operation.padding, *operation.padding]
    if operation.same:
        window["auto_pad"] = "SAME_UPPER"
    if operation.kind == "depthwise":
        window["group"] = operation.channels
    if operation.stride > 1 or operation.kind in ("max", "average"):  # MNN's converter crashes on a pooling without
        window["strides"] = [operation.stride, operation.stride]
    return {
        "conv": ("Conv", window),
        "depthwise": ("Conv", window),
        "norm": ("BatchNormalization", {"epsilon": operation.epsilon}),
        "relu": ("Relu", {}),
        "relu6": ("Clip", {}),
        "max": ("MaxPool", window),
        "average": ("AveragePool", window),  # counts no padding unless told to
        "add": ("Add", {}),
        "concat": ("Concat", {"axis": 1}),
    }[operation.kind]
