"""The part of a foreign graph that some of its tensors depend on."""

from collections.abc import Sequence
from typing import Any


def pruned(model: Any, names: Sequence[str]) -> Any:
    """Return the model (onnx.ModelProto) with the tensors `names` as its outputs, and nothing that they do not need.

    The operators keep their order and the tensors their names. What is copied is small but for the weights.
    """
    from onnx import ModelProto, ValueInfoProto

    nodes, needed = [], set(names)
    for node in reversed(model.graph.node):
        if needed.intersection(node.output):
            nodes.append(node)
            needed.update(name for name in node.input if name)
    result = ModelProto(ir_version=model.ir_version)
    result.opset_import.extend(model.opset_import)
    graph, given = result.graph, model.graph
    graph.name = "network"
    graph.node.extend(reversed(nodes))
    graph.initializer.extend(tensor for tensor in given.initializer if tensor.name in needed)
    graph.sparse_initializer.extend(tensor for tensor in given.sparse_initializer if tensor.values.name in needed)
    held = {tensor.name for tensor in given.initializer}
    graph.input.extend(value for value in given.input if value.name not in held)
    declared = {value.name: value for value in given.output}
    graph.output.extend(declared.get(name, ValueInfoProto(name=name)) for name in names)
    return result
