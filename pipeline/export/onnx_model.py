"""A trained strategy as one ONNX graph: uint8 images of any size in, class probabilities out."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from thaw.features.backbones.registry import get_backbone
from thaw.features.backbones.weights import Weights, taken_from
from thaw.features.onnx.builder import GraphBuilder
from thaw.features.onnx.images import images_input, normalized, resized
from thaw.features.onnx.network import network_nodes
from thaw.features.onnx.pooling import pooled
from thaw.features.pooling import layer_and_pooling
from thaw.models.onnx import probabilities
from thaw.pipeline.inference.trained import Trained, frozen_weights

INPUT, OUTPUT = "images", "probabilities"


def onnx_classifier(trained: Trained, weights_source: str | None = None) -> bytes:
    """Return the ONNX model: `images` uint8 (N, H, W, 3), any N, H and W -> `probabilities` float32 (N, K).

    Its metadata names the classes, in the order of the probabilities, as JSON under `class_names`, and how it was made.
    `weights_source` is where the frozen network's weights lie now. Raises InputError where they cannot be had or the
    model cannot be written as ONNX.
    """
    record, graph = trained.record, GraphBuilder()
    squares = resized(graph, INPUT, record["image_size"], record["resize"])
    inputs = normalized(graph, squares, record["normalize"])
    weights = merged_weights(trained, weights_source)
    if record["views"] == 2:
        mirrors = graph.add("Gather", inputs, graph.hold(np.arange(record["image_size"])[::-1]), axis=3)
        inputs = graph.add("Concat", inputs, mirrors, axis=0)
    head = _network_head if trained.architecture else _linear_head
    result = head(graph, trained, weights, inputs)
    if record["views"] == 2:
        both = graph.add("Reshape", result, graph.hold([2, -1, len(record["class_names"])]))
        result = graph.add("ReduceMean", both, axes=[0], keepdims=0)
    output = (result, OUTPUT, ["N", len(record["class_names"])])
    return graph.serialize([images_input(INPUT)], output, metadata_of(trained))


def metadata_of(trained: Trained) -> dict[str, Any]:
    """Return what an exported file says of itself."""
    names = ("class_names", "strategy", "backbone", "weights_sha256", "layer", "image_size", "resize", "normalize")
    given = {name: trained.record[name] for name in (*names, "dataset", "split_sha256") if name in trained.record}
    return {**given, "accuracy": trained.report.accuracy, "num_test": trained.report.num_test}


def merged_weights(trained: Trained, source: str | None = None) -> Weights:
    """Return the weights of the whole network: those that were trained from the model, the others from their source."""
    whole = trained.architecture is not None and trained.input_layer is None
    made_by = f"the model in {trained.folder}"
    frozen = Weights({}, made_by, "") if whole else frozen_weights(trained.folder, trained.record, source)
    if trained.architecture is None:
        return frozen
    return taken_from(trained.model, frozen, get_backbone(trained.record["backbone"]))


def _layers(graph: GraphBuilder, trained: Trained, weights: Weights, layers: Sequence[str], inputs: str) -> None:
    backbone = get_backbone(trained.record["backbone"])
    graph.extend(*network_nodes(backbone, weights, tuple(layers), inputs))


def _pooled(graph: GraphBuilder, trained: Trained, layer: str, pooling: str) -> str:
    shape = get_backbone(trained.record["backbone"]).output_shape(layer, trained.record["image_size"])
    return pooled(graph, layer, pooling, shape)


def _linear_head(graph: GraphBuilder, trained: Trained, weights: Weights, inputs: str) -> str:
    """Return the probabilities by a model on the pooled layers, side by side, stored as its features.h5 has them."""
    record = trained.record
    wanted = [layer_and_pooling(name, record["pooling"]) for name in trained.frozen_layers]
    _layers(graph, trained, weights, list(dict.fromkeys(layer for layer, _ in wanted)), inputs)
    parts = [_pooled(graph, trained, layer, pooling) for layer, pooling in wanted]
    features = graph.add("Concat", *parts, axis=1) if len(parts) > 1 else parts[0]
    if record["dtype"] == "float16":
        features = graph.cast(graph.cast(features, np.float16), np.float32)
    return probabilities(graph, features, trained.model, len(record["class_names"]))


def _network_head(graph: GraphBuilder, trained: Trained, weights: Weights, inputs: str) -> str:
    """Return the probabilities by a trained network, its frozen layers included."""
    from thaw.models.onnx import network_probabilities, probe_features

    last = get_backbone(trained.record["backbone"]).layers[-1].name
    probe = trained.architecture.probe
    _layers(graph, trained, weights, [last, probe.layer] if probe and probe.layer != last else [last], inputs)
    features = None
    if probe:
        features = probe_features(graph, _pooled(graph, trained, probe.layer, probe.pooling), probe, trained.model)
    return network_probabilities(graph, _pooled(graph, trained, last, "flat"), features, trained.model)
