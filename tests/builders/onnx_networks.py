"""Small networks as ONNX files with random weights: a convolutional one and a vision transformer, and their JSON."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT = TensorProto.FLOAT
STATED = {"mean": [0.5, 0.4, 0.3], "std": [0.25, 0.2, 0.3]}


class Net:
    """Nodes and seeded tensors; every method returns the name of what it adds."""

    def __init__(self, seed: int = 0):
        self.random, self.nodes, self.tensors = np.random.default_rng(seed), [], []

    def add(self, operator: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        output = name or f"/{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [output], **attributes))
        return output

    def hold(self, values: Any) -> str:
        name = f"held_{len(self.tensors)}"
        self.tensors.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def weights(self, *shape: int) -> str:
        fan_in = int(np.prod(shape[1:])) if len(shape) == 4 else shape[0]
        return self.hold(self.random.normal(0, (2 / fan_in) ** 0.5, shape).astype(np.float32))

    def save(self, path: Path, inputs: Sequence[Any], outputs: Sequence[Any], opset: int = 17, **options: Any) -> Path:
        graph = helper.make_graph(self.nodes, "net", list(inputs), list(outputs), self.tensors)
        opsets = [helper.make_opsetid("", opset)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
        onnx.save(model, path, **options)
        return path


def value(name: str, *sides: int | str | None, kind: int = FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, list(sides))


def state(path: Path, **fields: Any) -> Path:
    """Write the JSON beside an ONNX file; returns the path of the ONNX file."""
    path.with_suffix(".json").write_text(json.dumps({**STATED, **fields}))
    return path


def convolutional(
    path: Path,
    size: int | str = 32,
    batch: int | str = "N",
    opset: int = 17,
    channels_last: bool = False,
    **options: Any,
) -> Path:
    """Write a network of two convolutions: `maps` (N, 8, S / 4, S / 4), and their averages, `features` (N, 8)."""
    net = Net()
    images = net.add("Transpose", "pixels", perm=[0, 3, 1, 2]) if channels_last else "pixels"
    window = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 2]}
    below = net.add("Relu", net.add("Conv", images, net.weights(6, 3, 3, 3), net.weights(6), **window))
    maps = net.add("Relu", net.add("Conv", below, net.weights(8, 6, 3, 3), net.weights(8), **window), name="maps")
    net.add("Flatten", net.add("GlobalAveragePool", maps), name="features")
    quarter = size // 4 if isinstance(size, int) else None
    shape = (batch, size, size, 3) if channels_last else (batch, 3, size, size)
    outputs = [value("maps", batch, 8, quarter, quarter), value("features", batch, 8)]
    return net.save(path, [value("pixels", *shape)], outputs, opset, **options)


def vision_transformer(path: Path, size: int = 32, patch: int = 8, width: int = 16, opset: int = 17) -> Path:
    """Write a vision transformer of two blocks with a class token: `tokens` (N, 1 + patches, 16)."""
    net, num_patches = Net(1), (size // patch) ** 2
    window = {"kernel_shape": [patch, patch], "strides": [patch, patch]}
    patches = net.add("Conv", "pixels", net.weights(width, 3, patch, patch), **window)
    patches = net.add("Reshape", patches, net.hold(np.array([0, width, -1])))
    patches = net.add("Transpose", patches, perm=[0, 2, 1])
    count = net.add("Gather", net.add("Shape", patches), net.hold(np.array([0])), axis=0)
    shape = net.add("Concat", count, net.hold(np.array([1, width])), axis=0)
    token = net.add("Expand", net.weights(1, 1, width), shape)
    values = net.add("Concat", token, patches, axis=1)
    values = net.add("Add", values, net.weights(1, num_patches + 1, width))
    for _ in range(2):
        values = _block(net, values, width)
    net.add("LayerNormalization", values, net.hold(np.ones(width, np.float32)), name="tokens", axis=-1)
    outputs = [value("tokens", "N", num_patches + 1, width)]
    return net.save(path, [value("pixels", "N", 3, size, size)], outputs, opset)


def _block(net: Net, values: str, width: int, heads: int = 2) -> str:
    """Add attention and a perceptron, each after a normalisation and beside what comes in."""
    normed = net.add("LayerNormalization", values, net.hold(np.ones(width, np.float32)), axis=-1)
    split = net.hold(np.array([0, 0, heads, width // heads]))
    parts = []
    for order in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]):
        part = net.add("Reshape", net.add("MatMul", normed, net.weights(width, width)), split)
        parts.append(net.add("Transpose", part, perm=order))
    scores = net.add("Softmax", net.add("MatMul", parts[0], parts[1]), axis=-1)
    attended = net.add("Transpose", net.add("MatMul", scores, parts[2]), perm=[0, 2, 1, 3])
    attended = net.add("Reshape", attended, net.hold(np.array([0, 0, width])))
    values = net.add("Add", values, net.add("MatMul", attended, net.weights(width, width)))
    normed = net.add("LayerNormalization", values, net.hold(np.ones(width, np.float32)), axis=-1)
    hidden = net.add("MatMul", normed, net.weights(width, 2 * width))
    hidden = net.add("Mul", hidden, net.add("Sigmoid", hidden))
    return net.add("Add", values, net.add("MatMul", hidden, net.weights(2 * width, width)))
