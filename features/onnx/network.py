"""A network as an ONNX graph, built in memory from its weights."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from thaw.features.backbones.graph import IMAGE
from thaw.features.backbones.registry import Backbone
from thaw.features.onnx.operations import OperationNodes

if TYPE_CHECKING:
    from thaw.features.backbones.weights import Weights

INPUT = "images"
OPSET, IR_VERSION = 13, 8  # read by every runtime of the last years


def network_nodes(
    backbone: Backbone, weights: "Weights", layers: Iterable[str], image: tuple[str, int], prefix: str = ""
) -> tuple[list[Any], list[Any]]:
    """Return the nodes and initializers (onnx.NodeProto, onnx.TensorProto) of the network up to the last of `layers`.

    Args:
        backbone: the network.
        weights: its weights; a fine-tuned network has its own (thaw.features.backbones.weights.taken_from).
        layers: the layers whose outputs, (N, C, H, W), are wanted.
        image: the name of the input, float32 (N, 3, S, S) for any N, and S in pixels.
        prefix: what the name of every node and tensor begins with; the layer's name follows it.
    """
    nodes: list[Any] = []
    tensors: list[Any] = []
    input_name, image_size = image
    sizes, readers = backbone.graph.sizes(image_size), backbone.graph.readers()
    for operation in backbone.graph.up_to(layers):
        below = [input_name if name == IMAGE else prefix + name for name in operation.inputs]
        under_max = any(reader.kind == "max" for reader in readers[operation.name])
        made = OperationNodes(prefix + operation.name, sizes[operation.inputs[0]], under_max)
        made.compute(operation, below, weights.tensors.get(operation.name, ()))
        nodes += made.nodes
        tensors += made.tensors
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

    nodes, tensors = network_nodes(backbone, weights, layers, (INPUT, image_size))
    inputs = [described(INPUT, image_size, image_size, 3)]
    outputs = [described(name, *backbone.output_shape(name, image_size)) for name in layers]
    graph = helper.make_graph(nodes, backbone.name, inputs, outputs, tensors)
    opsets = [helper.make_opsetid("", OPSET)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION).SerializeToString())
