"""Features -> class probabilities, as nodes of an ONNX graph: the `predict_proba` of a fitted model."""

from typing import Any, Protocol

import numpy as np

from thaw.features.errors import InputError
from thaw.models.neural.probe import ProbeShape

ABSENT = -1e30  # the logit of a class without training images: its probability is 0


class GraphNodes(Protocol):
    """A graph that is built, such as `thaw.features.onnx.builder.GraphBuilder`; a value is its name."""

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node and return its output."""

    def hold(self, array: Any, dtype: Any = None) -> str:
        """Add an array and return its name."""

    def cast(self, value: str, dtype: Any) -> str:
        """Add a conversion."""

    def top(self, values: str, count: str, axis: int, largest: bool) -> tuple[str, str]:
        """Add a node that returns the first of the sorted values, and their indices."""


def probabilities(graph: GraphNodes, features: str, model: Any, num_classes: int) -> str:
    """Return the probabilities of a fitted model, (N, num_classes) float32.

    Args:
        graph: the graph, which gets the nodes.
        features: the name of (N, D) float32.
        model: a fitted model of ours.
        num_classes: the number of columns; a class without training images has probability 0.

    Raises:
        InputError: the model has a step that cannot be written as ONNX.
    """
    temperature = getattr(model, "temperature_", 1.0)
    *steps, (_, classifier) = getattr(model, "estimator", model).steps
    for _, step in steps:
        features = _step(graph, features, step)
    kind = type(classifier).__name__
    if kind == "KNeighborsClassifier":
        return _neighbours(graph, features, classifier, num_classes)
    if kind == "SVC":
        scores = _support_vectors(graph, features, classifier)
    elif hasattr(classifier, "coef_"):
        scores = affine(graph, features, np.atleast_2d(classifier.coef_).T, np.atleast_1d(classifier.intercept_))
    else:
        raise InputError(f"a {kind} cannot be written as ONNX; export another strategy of the run")
    if len(classifier.classes_) == 2:  # a single score is of the second class
        scores = graph.add("Concat", graph.add("Sub", scores, scores), scores, axis=1)
    elif getattr(model, "margins", False):
        scores = graph.add("Neg", graph.add("Softplus", graph.add("Neg", scores)))  # log(sigmoid(score))
    logits = graph.add("Div", scores, graph.hold(temperature, np.float32))
    if len(classifier.classes_) < num_classes:
        known = np.zeros((len(classifier.classes_), num_classes), np.float32)
        known[range(len(known)), classifier.classes_] = 1
        logits = affine(graph, logits, known, np.where(known.any(axis=0), 0, ABSENT))
    return graph.add("Softmax", logits, axis=1)


def affine(graph: GraphNodes, inputs: str, kernel: np.ndarray, bias: np.ndarray) -> str:
    """Return inputs (N, D) @ kernel (D, K) + bias (K,), float32."""
    product = graph.add("MatMul", inputs, graph.hold(kernel, np.float32))
    return graph.add("Add", product, graph.hold(bias, np.float32))


def signed_roots(graph: GraphNodes, values: str) -> str:
    """Return sign(x) sqrt(|x|) of every value."""
    return graph.add("Mul", graph.add("Sign", values), graph.add("Sqrt", graph.add("Abs", values)))


def standardized(graph: GraphNodes, values: str, mean: np.ndarray, scale: np.ndarray) -> str:
    """Return (x - mean) / scale of (N, D), float32."""
    centred = graph.add("Sub", values, graph.hold(mean, np.float32))
    return graph.add("Div", centred, graph.hold(scale, np.float32))


def _step(graph: GraphNodes, features: str, step: Any) -> str:
    kind = type(step).__name__
    if kind == "PowerNormalizer":
        return signed_roots(graph, features)
    if kind == "StandardScaler":
        return standardized(graph, features, step.mean_, step.scale_)
    if kind == "Nystroem":
        kernel = _rbf(graph, features, step.components_, step.gamma)
        mapped = graph.add("MatMul", kernel, graph.hold(step.normalization_.T, np.float64))
        return graph.cast(mapped, np.float32)
    raise InputError(f"a {kind} cannot be written as ONNX; export another strategy of the run")


def _squared_distances(graph: GraphNodes, features: str, others: np.ndarray) -> str:
    """Return squared distances (N, M) to the rows of `others` (M, D), in float64 since their terms nearly cancel."""
    rows = graph.cast(features, np.float64)
    held = graph.cast(graph.hold(np.transpose(others), np.float32), np.float64)
    lengths = graph.add("ReduceSum", graph.add("Mul", rows, rows), graph.hold([1]), keepdims=1)
    theirs = graph.hold(np.square(np.asarray(others, np.float32), dtype=np.float64).sum(axis=1)[np.newaxis])
    product = graph.add("Mul", graph.add("MatMul", rows, held), graph.hold(2.0, np.float64))
    squares = graph.add("Sub", graph.add("Add", lengths, theirs), product)
    return graph.add("Max", squares, graph.hold(0.0, np.float64))


def _rbf(graph: GraphNodes, features: str, others: np.ndarray, gamma: float) -> str:
    """Return exp(-gamma |x - y|^2), (N, M) float64."""
    distances = _squared_distances(graph, features, others)
    return graph.add("Exp", graph.add("Mul", distances, graph.hold(-gamma, np.float64)))


def _neighbours(graph: GraphNodes, features: str, classifier: Any, num_classes: int) -> str:
    """Return the shares (N, num_classes) of the classes among the nearest training rows, which all count alike."""
    distances = _squared_distances(graph, features, classifier._fit_X)
    count = graph.hold([classifier.n_neighbors], np.int64)
    _, nearest = graph.top(distances, count, axis=1, largest=False)
    votes = np.zeros((len(classifier._y), num_classes), np.float32)
    votes[range(len(votes)), classifier.classes_[classifier._y]] = 1
    return graph.add("ReduceMean", graph.add("Gather", graph.hold(votes), nearest, axis=0), axes=[1], keepdims=0)


def _support_vectors(graph: GraphNodes, features: str, machine: Any) -> str:
    """Return scikit-learn's scores: (N, 1) for two classes, else (N, K) from the votes and margins of all pairs."""
    kernel = _rbf(graph, features, machine.support_vectors_, machine._gamma)
    coefficients, first, second = _pairs(machine)
    margins = graph.add("MatMul", kernel, graph.hold(coefficients))
    margins = graph.add("Add", margins, graph.hold(machine._intercept_, np.float64))
    if len(machine.classes_) == 2:
        return graph.cast(graph.add("Neg", margins), np.float32)
    # A pair's margin above 0 is a vote for its first class; sums of margins break ties, squeezed below a third.
    won = graph.cast(graph.add("Less", margins, graph.hold(0.0, np.float64)), np.float64)
    lost = graph.add("Sub", graph.hold(1.0, np.float64), won)
    votes = graph.add(
        "Add", *(graph.add("MatMul", *pair) for pair in ((lost, graph.hold(first)), (won, graph.hold(second))))
    )
    sums = graph.add("MatMul", margins, graph.hold(first - second))
    divisor = graph.add("Add", graph.add("Abs", sums), graph.hold(1.0, np.float64))
    squeezed = graph.add("Div", sums, graph.add("Mul", divisor, graph.hold(3.0, np.float64)))
    return graph.cast(graph.add("Add", votes, squeezed), np.float32)


def _pairs(machine: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return each support vector's coefficient in each pair of classes, and the first and second class of each pair.

    LIBSVM keeps (K - 1) coefficients a vector, one for each other class (Chang and Lin 2011, section 4.1). A pair's
    margin is above 0 for its first class.

    Returns:
        The coefficients (M, P), and two arrays (P, K) float64 of 0 and 1.
    """
    counts, dual = machine.n_support_, machine._dual_coef_
    ends = np.cumsum(counts)
    rows = [slice(end - count, end) for count, end in zip(counts, ends, strict=True)]
    num_classes = len(machine.classes_)
    pairs = [(i, j) for i in range(num_classes) for j in range(i + 1, num_classes)]
    coefficients = np.zeros((dual.shape[1], len(pairs)))
    members = np.zeros((2, len(pairs), num_classes))
    for number, (i, j) in enumerate(pairs):
        coefficients[rows[i], number] = dual[j - 1, rows[i]]
        coefficients[rows[j], number] = dual[i, rows[j]]
        members[0, number, i] = members[1, number, j] = 1
    return coefficients, members[0], members[1]


def probe_features(graph: GraphNodes, pooled: str, shape: ProbeShape, model: Any) -> str:
    """Return the probe's features (N, D): the pooled ones, transformed and standardised."""
    if shape.transform == "sqrt":
        pooled = signed_roots(graph, pooled)
    mean, scale = model.get_layer("probe_scale").get_weights()
    return standardized(graph, pooled, mean, scale)


def network_probabilities(graph: GraphNodes, flat: str, probe: str | None, model: Any) -> str:
    """Return the probabilities of a trained network, (N, K) float32.

    Args:
        graph: the graph, which gets the nodes.
        flat: the name of the flattened last layer, (N, D).
        probe: the name of the probe's features, None without a probe.
        model: a network of `thaw.models.neural.network`.
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
