import numpy as np
import pytest
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from thaw.models.neural.probe import Probe, from_fitted


def samples(classes: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping classes; the features differ in mean and scale, and the last is constant."""
    generator = np.random.default_rng(0)
    labels = np.repeat(classes, 30)
    X = generator.standard_normal((len(labels), 6)) + generator.standard_normal((max(classes) + 1, 6))[labels]
    X = X * [1, 2, 0.1, 5, 1, 0] + [0, 3, -1, 10, 0, 2]
    return X.astype(np.float32), labels


def fitted(X: np.ndarray, labels: np.ndarray) -> Pipeline:
    steps = [("scale", StandardScaler()), ("classify", LogisticRegression(max_iter=1000))]
    return Pipeline(steps).fit(X, labels)


def probabilities(probe: Probe, X: np.ndarray) -> np.ndarray:
    return softmax(((X - probe.mean) / probe.scale) @ probe.kernel + probe.bias, axis=1)


@pytest.mark.parametrize(
    ("classes", "num_classes"),
    [
        ([0, 1, 2], 3),
        ([0, 1], 2),
        ([0, 1, 3], 5),
        ([1, 2, 3], 4),
        ([0, 2], 3),
        ([1, 2], 4),
    ],
)
def test_the_probe_gives_the_classifiers_probabilities_and_0_to_classes_it_has_not_seen(
    classes: list[int], num_classes: int
) -> None:
    X, labels = samples(classes)
    model = fitted(X, labels)
    received = probabilities(from_fitted(model, num_classes), X)
    assert received.shape == (len(X), num_classes)
    np.testing.assert_allclose(received[:, classes], model.predict_proba(X), atol=1e-5)
    absent = [number for number in range(num_classes) if number not in classes]
    assert (received[:, absent] == 0).all()


@pytest.mark.parametrize("classes", [[0, 1], [0, 2, 3]])
def test_everything_is_float32_of_the_shapes_announced(classes: list[int]) -> None:
    probe = from_fitted(fitted(*samples(classes)), 5)
    shapes = {"mean": (6,), "scale": (6,), "kernel": (6, 5), "bias": (5,)}
    for name, shape in shapes.items():
        assert getattr(probe, name).shape == shape
        assert getattr(probe, name).dtype == np.float32
        assert np.isfinite(getattr(probe, name)).all()


def test_the_steps_before_scale_and_classify_are_not_the_probes() -> None:
    X, labels = samples([0, 1, 2])
    model = fitted(X, labels)
    longer = Pipeline([("transform", "passthrough"), *model.steps])
    np.testing.assert_array_equal(from_fitted(longer, 3).kernel, from_fitted(model, 3).kernel)
