"""A trained model as one ONNX graph: uint8 images of any size in, class probabilities out."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from thaw.features.backbones.weights import Weights
from thaw.features.errors import InputError
from thaw.features.foreign.graphs import add_network, graph_for
from thaw.features.foreign.network import OnnxNetwork
from thaw.features.onnx.builder import GraphBuilder
from thaw.features.onnx.images import images_input, normalized, squared
from thaw.features.onnx.network import network_nodes
from thaw.features.onnx.pooling import pooled
from thaw.features.pooling import pooled_shape
from thaw.models.onnx import probabilities
from thaw.pipeline.inference.classifier import Classifier, LinearClassifier, NeuralClassifier
from thaw.pipeline.inference.ensemble import EnsembleClassifier
from thaw.pipeline.inference.frozen_network import extractor_of, frozen_weights
from thaw.pipeline.inference.networks import Key, key_of, layers_of, num_views

INPUT, OUTPUT = "images", "probabilities"

Record = Mapping[str, Any]


def onnx_classifier(classifier: Classifier, weights_source: str | None = None) -> bytes:
    """Return the ONNX model: `images` uint8 (N, H, W, 3), any N, H and W -> `probabilities` float32 (N, K).

    Its metadata holds the classes as JSON under `class_names`, in the order of the probabilities, and the settings of
    the training. `weights_source` is the file of the frozen network's weights if it has moved. Raises InputError if it
    cannot be read, or if the model cannot be written as ONNX.
    """
    graph = _empty_graph(classifier, weights_source)
    match classifier:
        case NeuralClassifier():
            result = _trained_network(graph, classifier, weights_source)
        case LinearClassifier():
            features = _set_features(graph, classifier, classifier.sets, weights_source)
            result = _linear_head(graph, classifier, features)
        case EnsembleClassifier():
            sets = [one for member in classifier.members for one in member.sets]
            given = iter(_set_features(graph, classifier, sets, weights_source))
            parts = [_linear_head(graph, one, [next(given) for _ in one.sets]) for one in classifier.members]
            result = graph.add("Mean", *parts)
    output = (result, OUTPUT, ["N", len(classifier.class_names)])
    return graph.serialize([images_input(INPUT)], output, metadata_of(classifier))


def metadata_of(classifier: Classifier) -> dict[str, Any]:
    """Return what an exported file holds beside the model: its classes, settings and accuracy."""
    reported = ("backbone", "weights_sha256", "layer", "image_size")
    names = ("resize", "aspect", "normalize", "feature_views", "dataset", "split_sha256")
    given = {name: classifier.record[name] for name in ("class_names", "strategy")}
    given |= {name: value for name in reported if (value := getattr(classifier.report, name)) is not None}
    given |= {name: classifier.record[name] for name in names if name in classifier.record}
    return {**given, "accuracy": classifier.report.accuracy, "num_test": classifier.report.num_test}


def _empty_graph(classifier: Classifier, weights_source: str | None) -> GraphBuilder:
    """Return a graph of the version of the standard that the networks need; raises InputError if one cannot be had."""
    records = list(classifier.networks.records.values())
    classifier.networks.check_source(classifier.folder, weights_source)
    foreign = [one for record in records if isinstance(one := extractor_of(dict(record), weights_source), OnnxNetwork)]
    if foreign and len(records) > 1:
        raise InputError(
            f"{classifier.report.name} needs {len(records)} networks, and {foreign[0].name} comes from an ONNX file, "
            "whose graph cannot be joined with others; export a result on one network"
        )
    return graph_for(foreign[0]) if foreign else GraphBuilder()


def _set_features(
    graph: GraphBuilder, classifier: Classifier, sets: Sequence[Record], weights_source: str | None
) -> list[str]:
    """Add the frozen networks, each once; return the features (N, D) of each set, rounded as its feature file has them.

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
        inputs = _network_input(graph, record, doubled=num_views(record) == 2)
        _add_layers(graph, record, weights, tuple(dict.fromkeys(layers)), (inputs, prefixes[key]), weights_source)
    doubled = {key for key, record in classifier.networks.records.items() if num_views(record) == 2}
    return [
        _features_of(graph, one, prefixes[key_of(one)], weights_source, doubled=key_of(one) in doubled) for one in sets
    ]


def _network_input(graph: GraphBuilder, record: Record, doubled: bool) -> str:
    """Return the input of a record's network, float32 (N, 3, S, S); if `doubled` (2 N, ...): the mirrors follow."""
    methods = (record["resize"], record["aspect"], record["normalize"])
    inputs = normalized(graph, squared(graph, INPUT, record["image_size"], methods), record["normalize"])
    if not doubled:
        return inputs
    mirrors = graph.add("Gather", inputs, graph.hold(np.arange(record["image_size"])[::-1]), axis=3)
    return graph.add("Concat", inputs, mirrors, axis=0)


def _mean_of_views(graph: GraphBuilder, values: str, width: int, views: int = 2) -> str:
    """Return the mean (N, width) over the first `views` of `values` (2 N, width), all images and then all mirrors."""
    both = graph.add("Reshape", values, graph.hold([2, -1, width]))
    if views == 1:
        return graph.add("Gather", both, graph.hold(0, np.int64), axis=0)
    return graph.add("ReduceMean", both, axes=[0], keepdims=0)


def _add_layers(
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


def _features_of(graph: GraphBuilder, record: Record, prefix: str, weights_source: str | None, doubled: bool) -> str:
    """Return the pooled layers of a set side by side, (N, D), averaged and rounded as its feature file has them.

    If `doubled` the network runs on (2 N, ...): the mirrors follow the images.
    """
    parts = [_pooled(graph, record, layer, prefix, weights_source) for layer in layers_of(record)]
    features = graph.add("Concat", *parts, axis=1) if len(parts) > 1 else parts[0]
    if doubled:
        extractor, size = extractor_of(dict(record), weights_source), record["image_size"]
        shapes = [pooled_shape(pooling, extractor.output_shape(layer, size)) for layer, pooling in layers_of(record)]
        width = sum(int(np.prod(shape)) for shape in shapes)
        features = _mean_of_views(graph, features, width, num_views(record))
    if record["dtype"] == "float16":
        features = graph.cast(graph.cast(features, np.float16), np.float32)
    return features


def _pooled(
    graph: GraphBuilder, record: Record, layer: tuple[str, str], prefix: str, weights_source: str | None
) -> str:
    """Return a layer, by its name and pooling, as (N, D)."""
    shape = extractor_of(dict(record), weights_source).output_shape(layer[0], record["image_size"])
    return pooled(graph, prefix + layer[0], layer[1], shape)


def _check_batch(network: OnnxNetwork) -> None:
    """Raise InputError if a network takes a fixed number of images at once: a classifier takes any number."""
    if batch := network.image.batch:
        raise InputError(
            f"{network.name} takes {batch} image(s) at once, and an exported classifier any number; export "
            f"{network.path} again with a free batch (dynamic_axes) and train on that"
        )


def _linear_head(graph: GraphBuilder, classifier: LinearClassifier, parts: Sequence[str]) -> str:
    """Return the probabilities by the linear model of the features of its sets."""
    features = graph.add("Concat", *parts, axis=1) if len(parts) > 1 else parts[0]
    return probabilities(graph, features, classifier.model, len(classifier.class_names))


def _trained_network(graph: GraphBuilder, classifier: NeuralClassifier, weights_source: str | None) -> str:
    """Return the probabilities by the whole network, the mean over image and mirror if it learned both."""
    record = classifier.record
    inputs = _network_input(graph, record, doubled=record["views"] == 2)
    layers = tuple(dict.fromkeys(layer for layer, _ in classifier.head_inputs))
    weights = classifier.whole_weights(weights_source)
    _add_layers(graph, record, weights, layers, (inputs, ""), weights_source)
    result = _network_head(
        graph, classifier, [_pooled(graph, record, one, "", weights_source) for one in classifier.head_inputs]
    )
    if record["views"] == 2:
        result = _mean_of_views(graph, result, len(record["class_names"]))
    return result


def _network_head(graph: GraphBuilder, classifier: NeuralClassifier, parts: list[str]) -> str:
    """Return the probabilities by the network's own layers."""
    from thaw.models.onnx import network_probabilities, probe_features

    probe, (last, *probed) = classifier.architecture.probe, parts
    features = probe_features(graph, probed[0], probe, classifier.model) if probe else None
    return network_probabilities(graph, last, features, classifier.model)
