"""label_errors: planted label errors are found, thresholds by hand, unequal classes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from thaw.models.audit.label_errors import C_TIMES_ROWS, MIN_MARGIN, imbalance, out_of_fold, probable_label_errors
from thaw.models.selection.search import make_folds

NAMES = ["cat", "dog", "owl"]


def digits_with_errors(share: float = 0.05) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The digits' pixels, their labels with some replaced, and which those are."""
    pixels, labels = load_digits(return_X_y=True)
    generator = np.random.default_rng(0)
    wrong = generator.random(len(labels)) < share
    moved = np.where(wrong, (labels + generator.integers(1, 10, len(labels))) % 10, labels)
    return pixels.astype(np.float32), moved.astype(np.int64), wrong


def test_planted_label_errors_are_found() -> None:
    features, labels, wrong = digits_with_errors()
    probabilities = out_of_fold(features, labels, make_folds(labels, None, 5, 0), 10)
    doubts = probable_label_errors(labels, probabilities)
    found = wrong[doubts.rows]
    assert found.sum() > 0.6 * wrong.sum()
    assert found.mean() > 0.85
    assert found[: wrong.sum() // 2].mean() > 0.95  # the surest come first
    assert (np.diff(doubts.margins) <= 0).all()
    true = load_digits().target[doubts.rows[found]]
    assert (doubts.suggested[found] == true).mean() > 0.9


def test_labels_of_a_clean_set_are_hardly_doubted() -> None:
    features, labels, _ = digits_with_errors(0)
    doubts = probable_label_errors(labels, out_of_fold(features, labels, make_folds(labels, None, 5, 0), 10))
    assert len(doubts.rows) < 0.01 * len(labels)


def test_thresholds_by_hand() -> None:
    probabilities = np.array(
        [[0.9, 0.1, 0.0], [0.7, 0.3, 0.0], [0.1, 0.9, 0.0], [0.8, 0.2, 0.0], [0.45, 0.55, 0.0], [0.3, 0.1, 0.6]]
    )
    labels = np.array([0, 0, 1, 1, 0, 1])
    # Of class 0 the mean is (0.9 + 0.7 + 0.45) / 3 = 0.683, of class 1 (0.9 + 0.2 + 0.1) / 3 = 0.4, of class 2 none.
    doubts = probable_label_errors(labels, probabilities)
    # Row 4 reaches the threshold of class 1, but by little; row 5 is likeliest of class 2, which has no row.
    assert doubts.rows.tolist() == [3]
    assert doubts.suggested.tolist() == [0]
    assert doubts.probabilities == pytest.approx([0.8])
    assert doubts.margins == pytest.approx([0.6])


def test_a_class_below_its_threshold_is_not_suggested() -> None:
    probabilities = np.array([[0.95, 0.05], [0.99, 0.01], [0.8, 0.2], [0.1, 0.9]])
    labels = np.array([0, 0, 1, 1])  # 0.8 for class 0 in the third row is less than the mean, 0.97, of its own rows
    assert probable_label_errors(labels, probabilities).rows.tolist() == []


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.integers(5, 60), st.integers(2, 5))
def test_doubts_follow_the_rows_and_the_classes_around(seed: int, num_rows: int, num_classes: int) -> None:
    generator = np.random.default_rng(seed)
    probabilities = generator.dirichlet(np.full(num_classes, 0.3), num_rows)
    labels = generator.integers(0, num_classes, num_rows)
    order, names = generator.permutation(num_rows), generator.permutation(num_classes)
    doubts = probable_label_errors(labels, probabilities)
    moved = probable_label_errors(names[labels[order]], probabilities[order][:, np.argsort(names)])
    assert order[moved.rows].tolist() == doubts.rows.tolist()
    assert moved.suggested.tolist() == names[doubts.suggested].tolist()
    assert moved.margins == pytest.approx(doubts.margins)
    assert (doubts.margins >= MIN_MARGIN).all()


def test_out_of_fold_probabilities_are_scikit_learn_s() -> None:
    features, labels, _ = digits_with_errors()
    few = np.random.default_rng(0).permutation(len(labels))[:400]
    features, labels = features[few], labels[few]
    folds = make_folds(labels, None, 4, 0)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=C_TIMES_ROWS / len(labels), tol=1e-6, max_iter=1000))
    expected = cross_val_predict(model, features.astype(np.float64), labels, cv=folds, method="predict_proba")
    np.testing.assert_allclose(out_of_fold(features, labels, folds, 10), expected, atol=5e-3)


@pytest.mark.parametrize("present", [[0, 2], [0, 1, 2]])
def test_a_class_without_rows_has_no_probability(present: list[int]) -> None:
    labels = np.array(present * 20)
    features = np.random.default_rng(0).normal(size=(len(labels), 4)).astype(np.float32)
    probabilities = out_of_fold(features, labels, make_folds(labels, None, 4, 0), 4)
    assert probabilities.sum(axis=1) == pytest.approx(np.ones(len(labels)))
    assert (probabilities[:, present] > 0).all()
    assert (probabilities[:, [k for k in range(4) if k not in present]] == 0).all()


def test_folds_that_leave_rows_out_are_refused() -> None:
    labels = np.arange(30) % 2
    features = np.random.default_rng(0).normal(size=(30, 2)).astype(np.float32)
    with pytest.raises(ValueError, match="expected folds that hold out every row"):
        out_of_fold(features, labels, make_folds(labels, None, 3, 0)[:2], 2)


def test_imbalance_is_warned_of_from_ten_on() -> None:
    assert imbalance([99, 10, 20], NAMES) == (9.9, None)
    ratio, warning = imbalance([100, 10, 20], NAMES)
    assert ratio == 10
    assert warning == (
        "the class cat has 100 images, 10 times as many as dog with 10: look at the balanced accuracy rather than the "
        "accuracy, or type --class-weight balanced"
    )
    assert imbalance([7, 0, 7], NAMES) == (1, None)
