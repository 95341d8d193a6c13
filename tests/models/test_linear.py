import re
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import make_blobs
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from sklearn.utils.estimator_checks import parametrize_with_checks

from thaw.models.linear import LinearModel, LinearSVM, PowerNormalizer, SoftmaxRegression
from thaw.models.solver.blocks import ArrayBlocks


def samples(num_classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    X, y = make_blobs(200, 12, centers=num_classes, cluster_std=6.0, random_state=seed)
    return StandardScaler().fit_transform(X), y


def objective(model: LinearSVM | LinearSVC, X: np.ndarray, y: np.ndarray, C: float) -> float:
    """The sum of the one-vs-rest objectives, written out."""
    total = 0.0
    for row, (weights, intercept) in enumerate(zip(model.coef_, model.intercept_, strict=True)):
        positive = model.classes_[row] if len(model.coef_) > 1 else model.classes_[1]
        for x, label in zip(X, y, strict=True):
            target = 1 if label == positive else -1
            total += C * max(0.0, 1 - target * (float(weights @ x) + float(intercept))) ** 2
        total += 0.5 * (float(weights @ weights) + float(intercept) ** 2)
    return total


@pytest.mark.parametrize("num_classes", [2, 5])
@pytest.mark.parametrize("C", [1e-3, 1e-1, 10.0])
def test_reaches_liblinears_objective_and_labels(num_classes: int, C: float) -> None:
    X, y = samples(num_classes)
    ours = LinearSVM(C, tol=1e-6).fit(X, y)
    theirs = LinearSVC(C=C, dual=False, tol=1e-8, max_iter=100_000).fit(X, y)
    assert objective(ours, X, y, C) == pytest.approx(objective(theirs, X, y, C), rel=1e-5)
    np.testing.assert_allclose(ours.decision_function(X), theirs.decision_function(X), rtol=2e-3, atol=2e-3)


def test_float32_gives_the_float64_model() -> None:
    X, y = samples(4)
    single, double = LinearSVM(0.1).fit(X.astype(np.float32), y), LinearSVM(0.1).fit(X, y)
    assert single.coef_.dtype == np.float32
    np.testing.assert_allclose(single.coef_, double.coef_, atol=1e-3)


def test_balanced_class_weights_are_liblinears() -> None:
    X, y = samples(3)
    keep = (y != 0) | (np.arange(len(y)) % 5 == 0)
    X, y = X[keep], y[keep]
    ours = LinearSVM(0.1, class_weight="balanced", tol=1e-6).fit(X, y)
    theirs = LinearSVC(C=0.1, class_weight="balanced", dual=False, tol=1e-8, max_iter=100_000).fit(X, y)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=2e-3)


def test_a_warm_start_ends_at_the_same_model_in_fewer_iterations() -> None:
    X, y = samples(4)
    cold = LinearSVM(0.11).fit(X, y)
    warm = LinearSVM(0.1, warm_start=True).fit(X, y).set_params(C=0.11).fit(X, y)
    assert warm.n_iter_ < cold.n_iter_
    np.testing.assert_allclose(warm.coef_, cold.coef_, atol=1e-3)


def test_says_when_it_did_not_converge() -> None:
    X, y = samples(4)
    with pytest.warns(ConvergenceWarning, match="LinearSVM stopped after 2 iterations"):
        LinearSVM(1.0, max_iter=2).fit(X, y)


@pytest.mark.parametrize("num_classes", [2, 5])
@pytest.mark.parametrize("C", [1e-3, 1e-1, 10.0])
@pytest.mark.parametrize("class_weight", [None, "balanced", {0: 0.5, 1: 2.0}])
def test_softmax_regression_is_logistic_regression(num_classes: int, C: float, class_weight: object) -> None:
    X, y = samples(num_classes)
    weights = np.random.default_rng(0).uniform(0, 2, len(y))
    ours = SoftmaxRegression(C, class_weight=class_weight, tol=1e-7).fit(X, y, weights)
    theirs = LogisticRegression(C=C, class_weight=class_weight, tol=1e-9, max_iter=10_000).fit(X, y, weights)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=1e-4 * np.abs(theirs.coef_).max())
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-4)
    np.testing.assert_allclose(np.exp(ours.predict_log_proba(X)), ours.predict_proba(X))


@pytest.mark.parametrize("kind", [LinearSVM, SoftmaxRegression])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_features_that_are_not_scaled_are_solved_too(kind: type[LinearModel], dtype: type) -> None:
    """The gradient at zero is 1e9: the first steps down it are far too long, and have to be shortened."""
    X, y = samples(3)
    assert kind(100.0).fit(1e4 * X.astype(dtype), y).score(1e4 * X, y) >= LinearSVC(C=1e8).fit(X, y).score(X, y) - 0.03


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({"C": -1}, "LinearSVM: C is -1; expected a positive number"),
        ({"C": "a"}, "LinearSVM: C is 'a'; expected a positive number"),
        ({"tol": 0}, "LinearSVM: tol is 0; expected a positive number"),
        ({"max_iter": 2.5}, "LinearSVM: max_iter is 2.5; expected a positive whole number"),
    ],
)
def test_parameters_that_cannot_be(parameters: dict[str, object], text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(text)):
        LinearSVM(**parameters).fit(*samples(2))  # type: ignore[arg-type]


def test_blocks_are_checked_too() -> None:
    X, y = samples(3)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        LinearSVM().fit(ArrayBlocks(X), y[:-1])
    X[3, 4] = np.nan
    with pytest.raises(ValueError, match="features hold values that are not finite or too large"):
        LinearSVM().fit(ArrayBlocks(X), y)


def test_one_class_is_refused() -> None:
    with pytest.raises(ValueError, match="LinearSVM needs samples of two classes or more; received one class, 3"):
        LinearSVM().fit(np.ones((4, 2)), [3, 3, 3, 3])


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(12)), st.integers(0, 5))
def test_the_order_of_features_does_not_matter(order: list[int], seed: int) -> None:
    X, y = samples(3, seed)
    plain, permuted = LinearSVM(0.01, tol=1e-6).fit(X, y), LinearSVM(0.01, tol=1e-6).fit(X[:, order], y)
    np.testing.assert_allclose(plain.coef_[:, order], permuted.coef_, atol=1e-3)


def test_power_normalisation_keeps_sign_precision_and_its_argument() -> None:
    X = np.array([[4, -9, 0]], np.float32)
    result = PowerNormalizer().fit(X).transform(X)
    np.testing.assert_array_equal(result, [[2, -3, 0]])
    assert result.dtype == np.float32
    np.testing.assert_array_equal(X, [[4, -9, 0]])


@parametrize_with_checks([LinearSVM(), SoftmaxRegression(), PowerNormalizer()])
def test_is_a_scikit_learn_estimator(estimator: object, check: object) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        check(estimator)  # type: ignore[operator]
