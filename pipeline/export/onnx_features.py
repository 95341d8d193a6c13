"""The frozen networks below a trained model as nodes of an ONNX graph, and the features of each set."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from thaw.features.backbones.weights import Weights
from thaw.features.errors import InputError
from thaw.features.foreign.graphs import add_network
from thaw.features.foreign.network import OnnxNetwork
from thaw.features.onnx.builder import GraphBuilder
from thaw.features.onnx.images import normalized, squared
from thaw.features.onnx.network import network_nodes
from thaw.features.onnx.pooling import pooled
from thaw.features.pooling import pooled_shape
from thaw.pipeline.inference.classifier import Classifier
from thaw.pipeline.inference.frozen_network import extractor_of, frozen_weights
from thaw.pipeline.inference.networks import BOTH_VIEWS, Key, feature_views, key_of, layers_of

INPUT = "images"

Record = Mapping[str, Any]


def set_features(
    graph: GraphBuilder, classifier: Classifier, sets: Sequence[Record], weights_source: str | None
) -> list[str]:
    """Add the frozen networks, each once; return the features (N, D) of each set, as its feature file has them.

    A network of which a set takes the mean over both views gets the images and then their mirrors as one batch.

    Args:
        graph: the graph that gets the nodes.
        classifier: that takes the features.
        sets: the records of the feature sets.
        weights_source: the file of the only network's weights, if it has moved.
    """
    wanted: dict[Key, list[str]] = defaultdict(list)
    for one in sets:
        wanted[key_of(one)] += [layer for layer, _ in layers_of(one)]
    prefixes = {key: f"{number}/" if len(wanted) > 1 else "" for number, key in enumerate(wanted)}
    for key, layers in wanted.items():
        record = classifier.networks.records[key]
        weights = frozen_weights(classifier.folder, dict(record), weights_source)
        inputs = network_input(graph, record)
        if feature_views(record) == BOTH_VIEWS:
            inputs = with_mirrors(graph, inputs, record["image_size"])
        add_layers(graph, record, weights, tuple(dict.fromkeys(layers)), (inputs, prefixes[key]), weights_source)
    return [_features_of(graph, classifier, one, prefixes[key_of(one)], weights_source) for one in sets]


def _features_of(
    graph: GraphBuilder, classifier: Classifier, record: Record, prefix: str, weights_source: str | None
) -> str:
    """Return the pooled layers of a set side by side, (N, D), averaged and rounded as its feature file has them.

    Args:
        graph: the graph that gets the nodes.
        classifier: that takes the features.
        record: of the set.
        prefix: of the names of the network's layers.
        weights_source: the file of the network's weights, if it has moved.
    """
    parts = [
        pooled_layer(graph, record, (layer, pooling), prefix, weights_source) for layer, pooling in layers_of(record)
    ]
    features = graph.add("Concat", *parts, axis=1) if len(parts) > 1 else parts[0]
    if feature_views(record) == BOTH_VIEWS:
        features = mean_of_views(graph, features, _num_features(record, weights_source))
    elif feature_views(classifier.networks.records[key_of(record)]) == BOTH_VIEWS:  # for another set's sake
        both = _by_view(graph, features, _num_features(record, weights_source))
        features = graph.add("Gather", both, graph.hold(0), axis=0)
    if record["dtype"] == "float16":
        features = graph.cast(graph.cast(features, np.float16), np.float32)
    return features


def _num_features(record: Record, weights_source: str | None) -> int:
    """Return the number D of features that a model takes of a set."""
    layers = layers_of(record)
    return sum(int(np.prod(pooled_shape(pooling, _shape(record, name, weights_source)))) for name, pooling in layers)


def network_input(graph: GraphBuilder, record: Record) -> str:
    """Return the input of a record's network, float32 (N, 3, S, S)."""
    methods = (record["resize"], record["aspect"], record["normalize"])
    return normalized(graph, squared(graph, INPUT, record["image_size"], methods), record["normalize"])


def with_mirrors(graph: GraphBuilder, inputs: str, image_size: int) -> str:
    """Return the network input (2 N, 3, S, S) of all images and then of all their mirrors, of `inputs` (N, 3, S, S)."""
    mirrors = graph.add("Gather", inputs, graph.hold(np.arange(image_size)[::-1]), axis=3)
    return graph.add("Concat", inputs, mirrors, axis=0)


def mean_of_views(graph: GraphBuilder, values: str, width: int) -> str:
    """Return the mean (N, width) over images and mirrors of what `with_mirrors` became, (2 N, width)."""
    return graph.add("ReduceMean", _by_view(graph, values, width), axes=[0], keepdims=0)


def _by_view(graph: GraphBuilder, values: str, width: int) -> str:
    """Return as (2, N, width) what `with_mirrors` became, (2 N, width)."""
    return graph.add("Reshape", values, graph.hold([2, -1, width]))


def add_layers(
    graph: GraphBuilder,
    record: Record,
    weights: Weights,
    layers: tuple[str, ...],
    place: tuple[str, str],
    weights_source: str | None,
) -> None:
    """Add a network up to its `layers`.

    Args:
        graph: the graph that gets the nodes.
        record: of the feature set.
        weights: of the network.
        layers: each becomes a value (N, C, H, W), named by the prefix and the layer.
        place: the name of the network's input, and the prefix.
        weights_source: the file of the network's weights, if it has moved.
    """
    extractor, (inputs, prefix) = extractor_of(dict(record), weights_source), place
    if isinstance(extractor, OnnxNetwork):
        _check_batch(extractor)
        add_network(graph, extractor, layers, record["image_size"], inputs)
    else:
        graph.extend(*network_nodes(extractor, weights, layers, (inputs, record["image_size"]), prefix))


def pooled_layer(
    graph: GraphBuilder, record: Record, layer: tuple[str, str], prefix: str, weights_source: str | None
) -> str:
    """Return a layer, by its name and pooling, as (N, D)."""
    return pooled(graph, prefix + layer[0], layer[1], _shape(record, layer[0], weights_source))


def _shape(record: Record, layer: str, weights_source: str | None) -> tuple[int, int, int]:
    """Return the shape (H, W, C) of a layer of a record's network."""
    return extractor_of(dict(record), weights_source).output_shape(layer, record["image_size"])


def _check_batch(network: OnnxNetwork) -> None:
    """Raise InputError if a network takes a fixed number of images at once: a classifier takes any number."""
    if batch := network.image.batch:
        raise InputError(
            f"{network.name} takes {batch} image(s) at once, and an exported classifier any number; export "
            f"{network.path} again with a free batch (dynamic_axes) and train on that"
        )
