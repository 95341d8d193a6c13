"""The head of a trained network, as nodes of an ONNX graph; what only training has, dropout, is left out."""

from typing import Any

import numpy as np

from thaw.models.neural.probe import ProbeShape
from thaw.models.onnx import Graph, affine, signed_roots, standardized


def probe_features(graph: Graph, pooled: str, shape: ProbeShape, model: Any) -> str:
    """Return the probe's features (N, D), transformed and standardised, of the pooled ones."""
    if shape.transform == "sqrt":
        pooled = signed_roots(graph, pooled)
    mean, scale = model.get_layer("probe_scale").get_weights()
    return standardized(graph, pooled, mean, scale)


def network_probabilities(graph: Graph, flat: str, probe: str | None, model: Any) -> str:
    """Return (N, K) float32 probabilities of the network's flattened last layer and the probe's features, if any.

    `model` is the trained network of `thaw.models.neural.network`.
    """
    inputs = graph.add("Concat", flat, probe, axis=1) if probe else flat
    hidden = graph.add("Relu", affine(graph, inputs, *model.get_layer("fc1").get_weights()))
    logits = affine(graph, hidden, *model.get_layer("predictions").get_weights())
    if probe:
        logits = graph.add("Add", logits, affine(graph, probe, *model.get_layer("probe").get_weights()))
    power = model.get_layer("probabilities").power
    if power != 1:
        margins = graph.add("Sub", graph.add("ReduceMax", logits, axes=[1], keepdims=1), logits)
        logits = graph.add("Neg", graph.add("Pow", margins, graph.hold(power, np.float32)))
    return graph.add("Softmax", logits, axis=1)
