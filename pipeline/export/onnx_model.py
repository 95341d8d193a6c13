"""A trained model as one ONNX graph: uint8 images of any size in, class probabilities out."""

from typing import Any

import numpy as np

from thaw.features.errors import InputError
from thaw.features.foreign.graphs import add_network, graph_for
from thaw.features.foreign.network import OnnxNetwork
from thaw.features.onnx.builder import GraphBuilder
from thaw.features.onnx.images import images_input, normalized, squared
from thaw.features.onnx.network import network_nodes
from thaw.features.onnx.pooling import pooled
from thaw.models.onnx import probabilities
from thaw.pipeline.inference.classifier import Classifier, LinearClassifier, NeuralClassifier
from thaw.pipeline.inference.frozen_network import extractor_of

INPUT, OUTPUT = "images", "probabilities"


def onnx_classifier(classifier: Classifier, weights_source: str | None = None) -> bytes:
    """Return the ONNX model: `images` uint8 (N, H, W, 3), any N, H and W -> `probabilities` float32 (N, K).

    Its metadata holds the classes as JSON under `class_names`, in the order of the probabilities, and the settings of
    the training. `weights_source` is the file of the frozen network's weights if it has moved. Raises InputError if it
    cannot be read, or if the model cannot be written as ONNX.
    """
    record, extractor = classifier.record, extractor_of(classifier.record, weights_source)
    graph = graph_for(extractor) if isinstance(extractor, OnnxNetwork) else GraphBuilder()
    squares = squared(graph, INPUT, record["image_size"], (record["resize"], record["aspect"], record["normalize"]))
    inputs = normalized(graph, squares, record["normalize"])
    if record["views"] == 2 or classifier.preprocessing.views == "flip":
        mirrors = graph.add("Gather", inputs, graph.hold(np.arange(record["image_size"])[::-1]), axis=3)
        inputs = graph.add("Concat", inputs, mirrors, axis=0)
    features = _head_features(graph, classifier, weights_source, inputs)
    match classifier:
        case LinearClassifier():
            result = _linear_head(graph, classifier, features)
        case NeuralClassifier():
            result = _network_head(graph, classifier, features)
    if record["views"] == 2:
        result = _mean_of_views(graph, result, len(record["class_names"]))
    output = (result, OUTPUT, ["N", len(record["class_names"])])
    return graph.serialize([images_input(INPUT)], output, metadata_of(classifier))


def metadata_of(classifier: Classifier) -> dict[str, Any]:
    """Return what an exported file holds beside the model: its classes, settings and accuracy."""
    names = (
        *("class_names", "strategy", "backbone", "weights_sha256", "layer", "image_size", "resize", "aspect"),
        *("normalize", "feature_views", "dataset", "split_sha256"),
    )
    given = {name: classifier.record[name] for name in names if name in classifier.record}
    return {**given, "accuracy": classifier.report.accuracy, "num_test": classifier.report.num_test}


def _mean_of_views(graph: GraphBuilder, values: str, width: int) -> str:
    """Return the mean (N, width) over the two views of `values` (2 N, width), all images and then all mirrors."""
    both = graph.add("Reshape", values, graph.hold([2, -1, width]))
    return graph.add("ReduceMean", both, axes=[0], keepdims=0)


def _head_features(graph: GraphBuilder, classifier: Classifier, weights_source: str | None, inputs: str) -> list[str]:
    """Add the whole network; return its pooled layers that the head takes, each (N, D)."""
    extractor, weights = extractor_of(classifier.record, weights_source), classifier.whole_weights(weights_source)
    layers = tuple(dict.fromkeys(layer for layer, _ in classifier.head_inputs))
    image_size = classifier.record["image_size"]
    if isinstance(extractor, OnnxNetwork):
        _check_batch(extractor)
        add_network(graph, extractor, layers, image_size, inputs)
    else:
        graph.extend(*network_nodes(extractor, weights, layers, (inputs, image_size)))
    return [
        pooled(graph, layer, pooling, extractor.output_shape(layer, image_size))
        for layer, pooling in classifier.head_inputs
    ]


def _check_batch(network: OnnxNetwork) -> None:
    """Raise InputError if a network takes a fixed number of images at once: a classifier takes any number."""
    if batch := network.image.batch:
        raise InputError(
            f"{network.name} takes {batch} image(s) at once, and an exported classifier any number; export "
            f"{network.path} again with a free batch (dynamic_axes) and train on that"
        )


def _linear_head(graph: GraphBuilder, classifier: LinearClassifier, parts: list[str]) -> str:
    """Return the probabilities by the linear model, its features averaged and rounded as the feature file has them."""
    features = graph.add("Concat", *parts, axis=1) if len(parts) > 1 else parts[0]
    if classifier.preprocessing.views == "flip":
        features = _mean_of_views(graph, features, next(iter(classifier.steps.values())).n_features_in_)
    if classifier.record["dtype"] == "float16":
        features = graph.cast(graph.cast(features, np.float16), np.float32)
    return probabilities(graph, features, classifier.model, len(classifier.class_names))


def _network_head(graph: GraphBuilder, classifier: NeuralClassifier, parts: list[str]) -> str:
    """Return the probabilities by the network's own layers."""
    from thaw.models.onnx import network_probabilities, probe_features

    probe, (last, *probed) = classifier.architecture.probe, parts
    features = probe_features(graph, probed[0], probe, classifier.model) if probe else None
    return network_probabilities(graph, last, features, classifier.model)
