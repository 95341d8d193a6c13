"""Each operation as nodes of ONNX gives what Keras' own layer of it gives."""

from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from thaw.features.backbones.graph import ACTIVATIONS, IMAGE, Graph
from thaw.features.backbones.keras_model import build_frozen
from thaw.features.backbones.registry import Backbone
from thaw.features.backbones.weights import Weights
from thaw.features.onnx.network import IR_VERSION, OPSET, network_nodes

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    **{kind: (kind, {}) for kind in ACTIVATIONS},
    **{f"conv-{kind}": ("conv", {"activation": kind}) for kind in ACTIVATIONS},
    "conv-same": ("conv", {"kernel": (3, 3), "stride": 2, "same": True}),
    "depthwise": ("depthwise", {"kernel": (3, 3), "padding": (1, 1), "bias": False}),
    "norm": ("norm", {}),
    "norm-of-statistics": ("norm", {"scale": False, "center": False, "epsilon": 0.0}),
    "layer_norm": ("layer_norm", {"epsilon": 1e-6}),
    "rescale": ("rescale", {"factor": (2.0, 3.0, 0.5), "offset": (-1.0,)}),
    "pad": ("pad", {"border": (0, 1)}),
    "pad-of-a-size": ("pad", {"same": True, "kernel": (3, 3), "stride": 2}),
    "crop": ("pad", {"border": (-1, 0)}),
    "max": ("max", {"kernel": (3, 3), "stride": 2, "same": True}),
    "average": ("average", {"kernel": (3, 3), "padding": (1, 1)}),
    "mean": ("mean", {}),
}


def backbone_of(graph: Graph) -> Backbone:
    return Backbone("made", None, "tf", 8, lambda: graph)


def drawn(backbone: Backbone) -> Weights:
    generator = np.random.default_rng(0)
    tensors = {
        name: tuple(generator.uniform(0.5, 1.5, shape).astype(np.float32) for shape in shapes)
        for name, shapes in backbone.tensor_shapes.items()
    }
    return Weights.checked(tensors, "drawn", backbone)


def outputs(graph: Graph, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What ONNX Runtime, with its optimizations, and Keras make of images (n, S, S, 3)."""
    backbone, size, last = backbone_of(graph), images.shape[1], next(reversed(graph.operations))
    weights = drawn(backbone)
    nodes, tensors = network_nodes(backbone, weights, [last], ("images", size))
    given = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, size, size])
    output = helper.make_tensor_value_info(last, TensorProto.FLOAT, None)
    made = helper.make_graph(nodes, "made", [given], [output], tensors)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    received = session.run(None, {"images": np.ascontiguousarray(images.transpose(0, 3, 1, 2))})[0]
    expected = build_frozen(backbone, size, weights.tensors)(images, training=False)
    return received.transpose(0, 2, 3, 1), np.asarray(expected)


@pytest.mark.parametrize("size", [8, 9])
@pytest.mark.parametrize("case", CASES)
def test_an_operation_gives_what_keras_layer_gives(case: str, size: int) -> None:
    kind, options = CASES[case]
    graph = Graph()
    graph.add("only", kind, (IMAGE,), 5 if kind == "conv" else 3, **options)
    images = np.random.default_rng(1).normal(0, 4, (2, size, size, 3)).astype(np.float32)
    received, expected = outputs(graph, images)
    assert expected.shape[1:] == (graph.sizes(size)["only"],) * 2 + (graph.channels("only"),)
    np.testing.assert_allclose(received, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["add", "multiply", "concat"])
def test_maps_are_joined_and_the_mean_of_one_counts_for_every_position(kind: str) -> None:
    graph = Graph()
    graph.add("whole", "relu", (IMAGE,), 3)
    graph.add("other", "sigmoid" if kind == "concat" else "mean", (IMAGE,), 3)
    graph.add("joined", kind, ("whole", "other"), 6 if kind == "concat" else 3)
    images = np.random.default_rng(1).normal(0, 4, (2, 8, 8, 3)).astype(np.float32)
    received, expected = outputs(graph, images)
    assert received.shape == (2, 8, 8, graph.channels("joined"))
    np.testing.assert_allclose(received, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("border", [(1, 1), (0, 1)])
def test_zeros_around_negative_values_win_in_a_max_pooling(border: tuple[int, int]) -> None:
    """ONNX Runtime makes a Pad the padding of the pooling above it, where nothing is as large as zero."""
    graph = Graph()
    padded = graph.add("padded", "pad", (IMAGE,), 3, border=border)
    graph.pool("pooled", padded, 3, 2)
    images = -np.random.default_rng(1).uniform(1, 2, (2, 8, 8, 3)).astype(np.float32)
    received, expected = outputs(graph, images)
    np.testing.assert_array_equal(received, expected)
    assert (received[:, -1 if border == (0, 1) else 0] == 0).all()
