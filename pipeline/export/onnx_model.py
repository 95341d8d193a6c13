"""A trained model as one ONNX graph: uint8 images of any size in, class probabilities out."""

from collections.abc import Sequence
from typing import Any

from thaw.features.errors import InputError
from thaw.features.foreign.graphs import graph_for
from thaw.features.foreign.network import OnnxNetwork
from thaw.features.onnx.builder import GraphBuilder
from thaw.features.onnx.images import images_input
from thaw.models.onnx import probabilities
from thaw.pipeline.export.onnx_features import (
    INPUT,
    add_layers,
    mean_of_views,
    network_input,
    pooled_layer,
    set_features,
    with_mirrors,
)
from thaw.pipeline.inference.classifier import Classifier, LinearClassifier, NeuralClassifier
from thaw.pipeline.inference.ensemble import EnsembleClassifier
from thaw.pipeline.inference.frozen_network import extractor_of

OUTPUT = "probabilities"


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
            features = set_features(graph, classifier, classifier.sets, weights_source)
            result = _linear_head(graph, classifier, features)
        case EnsembleClassifier():
            sets = [one for member in classifier.members for one in member.sets]
            given = iter(set_features(graph, classifier, sets, weights_source))
            parts = [_linear_head(graph, one, [next(given) for _ in one.sets]) for one in classifier.members]
            result = graph.add("Mean", *parts)
    output = (result, OUTPUT, ["N", len(classifier.class_names)])
    return graph.serialize([images_input(INPUT)], output, metadata_of(classifier))


def metadata_of(classifier: Classifier) -> dict[str, Any]:
    """Return what an exported file holds beside the model: its classes, settings and accuracy."""
    reported = ("backbone", "weights_sha256", "layer", "image_size")
    names = (*("resize", "aspect", "normalize", "feature_views"), *("dataset", "split_sha256"))
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


def _linear_head(graph: GraphBuilder, classifier: LinearClassifier, parts: Sequence[str]) -> str:
    """Return the probabilities by the linear model of the features of its sets."""
    features = graph.add("Concat", *parts, axis=1) if len(parts) > 1 else parts[0]
    return probabilities(graph, features, classifier.model, len(classifier.class_names))


def _trained_network(graph: GraphBuilder, classifier: NeuralClassifier, weights_source: str | None) -> str:
    """Return the probabilities by the whole network, the mean over image and mirror if it learned both."""
    record, inputs = classifier.record, network_input(graph, classifier.record)
    if record["views"] == 2:
        inputs = with_mirrors(graph, inputs, record["image_size"])
    layers = tuple(dict.fromkeys(layer for layer, _ in classifier.head_inputs))
    weights = classifier.whole_weights(weights_source)
    add_layers(graph, record, weights, layers, (inputs, ""), weights_source)
    result = _network_head(
        graph, classifier, [pooled_layer(graph, record, one, "", weights_source) for one in classifier.head_inputs]
    )
    if record["views"] == 2:
        result = mean_of_views(graph, result, len(record["class_names"]))
    return result


def _network_head(graph: GraphBuilder, classifier: NeuralClassifier, parts: list[str]) -> str:
    """Return the probabilities by the network's own layers."""
    from thaw.models.onnx import network_probabilities, probe_features

    probe, (last, *probed) = classifier.architecture.probe, parts
    features = probe_features(graph, probed[0], probe, classifier.model) if probe else None
    return network_probabilities(graph, last, features, classifier.model)
