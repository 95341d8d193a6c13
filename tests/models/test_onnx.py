"""Each kind of model as ONNX, in ONNX Runtime, against its own predict_proba."""

from typing import Any

import numpy as np
import pytest
from sklearn.feature_selection import SelectKBest
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import RidgeClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from thaw.features.errors import InputError
from thaw.features.onnx.builder import GraphBuilder
from thaw.models.calibration import TemperatureScaled
from thaw.models.linear import LinearSVM, PowerNormalizer, SoftmaxRegression
from thaw.models.onnx import probabilities

onnxruntime = pytest.importorskip("onnxruntime")

NYSTROEM = ("map", Nystroem(gamma=1 / 12, n_components=40, random_state=0))


def samples(classes: list[int]) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(1)
    labels = np.resize(classes, 150)
    features = generator.normal(size=(150, 12)) + 1.2 * np.eye(12)[labels]
    return features.astype(np.float32), labels


def fitted(classifier: Any, classes: list[int], *steps: tuple[str, Any]) -> tuple[Any, np.ndarray]:
    features, labels = samples(classes)
    model = Pipeline([("scale", StandardScaler()), *steps, ("classify", classifier)]).fit(features, labels)
    if not hasattr(model, "predict_proba"):
        model = TemperatureScaled(model, isinstance(classifier, LinearSVM)).fit(
            model.decision_function(features), labels
        )
    return model, features + np.float32(0.1)


def run(model: Any, features: np.ndarray, num_classes: int) -> np.ndarray:
    from onnx import TensorProto, helper

    graph = GraphBuilder()
    given = helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", features.shape[1]])
    output = probabilities(graph, "features", model, num_classes)
    content = graph.serialize([given], (output, "probabilities", ["N", num_classes]), {})
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return session.run(None, {"features": features})[0]


@pytest.mark.parametrize("classes", [[0, 1, 2, 3], [0, 1]], ids=["four", "two"])
@pytest.mark.parametrize(
    ("classifier", "steps"),
    [
        (SoftmaxRegression(C=0.1), []),
        (LinearSVM(C=0.1), []),
        (RidgeClassifier(), []),
        (KNeighborsClassifier(5), []),
        (SVC(C=2.0), []),
        (LinearSVM(C=0.1), [NYSTROEM]),
        (SoftmaxRegression(C=0.1), [("power", PowerNormalizer())]),
    ],
    ids=["logreg", "svm", "ridge", "knn", "rbf", "nystroem", "sqrt"],
)
def test_the_graph_gives_the_models_own_probabilities(classifier: Any, steps: list[Any], classes: list[int]) -> None:
    model, features = fitted(classifier, classes, *steps)
    expected = model.predict_proba(features)
    received = run(model, features, len(classes))
    assert received.dtype == np.float32
    np.testing.assert_allclose(received, expected, atol=1e-5)
    np.testing.assert_array_equal(received.argmax(axis=1), expected.argmax(axis=1))


@pytest.mark.parametrize("classifier", [SoftmaxRegression(), LinearSVM(), KNeighborsClassifier(3), SVC()])
@pytest.mark.parametrize("classes", [[0, 2, 5], [1, 4]], ids=["three", "two"])
def test_a_class_without_training_images_gets_nothing(classifier: Any, classes: list[int]) -> None:
    model, features = fitted(classifier, classes)
    received = run(model, features, 6)
    assert not received[:, [k for k in range(6) if k not in classes]].any()
    np.testing.assert_allclose(received[:, classes], model.predict_proba(features), atol=1e-5)


def test_steps_and_classifiers_that_are_not_ours_are_one_line() -> None:
    model, features = fitted(SoftmaxRegression(), [0, 1, 2], ("select", SelectKBest(k=3)))
    with pytest.raises(InputError, match=r"a SelectKBest cannot be written as ONNX; export another strategy"):
        run(model, features, 3)
