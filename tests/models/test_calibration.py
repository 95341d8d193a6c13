import numpy as np
import pytest
from scipy.special import softmax
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import make_blobs
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import log_loss
from sklearn.svm import LinearSVC

from thaw.models.calibration import TemperatureScaled, fit_margins, fit_temperature, powered


@pytest.mark.parametrize("num_classes", [2, 4])
def test_the_temperature_is_scikit_learns(num_classes: int) -> None:
    X, y = make_blobs(600, 5, centers=num_classes, cluster_std=6.0, random_state=0)
    y = np.array(["ant", "bee", "cat", "dog"])[y]
    classifier = LinearSVC(C=10, random_state=0).fit(X[:300], y[:300])
    ours = TemperatureScaled(classifier).fit(classifier.decision_function(X[300:]), y[300:])
    theirs = CalibratedClassifierCV(FrozenEstimator(classifier), method="temperature").fit(X[300:], y[300:])
    received, expected = (
        log_loss(y[300:], model.predict_proba(X[300:]), labels=model.classes_) for model in (ours, theirs)
    )
    assert received == pytest.approx(expected, rel=1e-4)
    np.testing.assert_array_equal(ours.predict(X), classifier.predict(X))
    np.testing.assert_array_equal(ours.classes_[ours.predict_proba(X).argmax(axis=1)], ours.predict(X))
    np.testing.assert_allclose(ours.predict_proba(X).sum(axis=1), 1)


def test_scores_that_are_never_wrong_end_at_a_finite_temperature() -> None:
    X, y = make_blobs(50, 2, centers=[[-9, 0], [9, 0]], random_state=0)
    classifier = LinearSVC(random_state=0).fit(X, y)
    scaled = TemperatureScaled(classifier).fit(classifier.decision_function(X), y)
    assert 0 < scaled.temperature_ < np.inf
    assert np.isfinite(scaled.predict_proba(X)).all()


def test_a_power_of_the_margins_mends_what_no_temperature_can() -> None:
    generator = np.random.default_rng(0)
    truth = generator.normal(size=(4000, 5)) * 2
    codes = np.array([generator.choice(5, p=row) for row in softmax(powered(truth, 0.7), axis=1)])
    temperature, power = fit_margins(1.7 * truth, codes, 0.0, 3.0)
    assert temperature == pytest.approx(1.7, rel=0.1)
    assert power == pytest.approx(0.7, rel=0.1)


def test_few_images_fit_no_power() -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(100, 3))
    codes = logits.argmax(axis=1)
    codes[:30] = generator.integers(0, 3, 30)
    temperature, power = fit_margins(logits, codes, 0.0, 3.0)
    assert power == 1
    assert temperature == fit_temperature(logits, codes, 0.0, 3.0)
