from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from models.artifacts import load_model, save_model
from models.selection import (
    Trial,
    best_trial,
    candidates,
    final_fit,
    make_folds,
    preparation,
    try_candidate,
)
from models.strategies import EXACT_RBF, NYSTROEM_RBF, STRATEGIES, find_strategy

OPTIONS = SimpleNamespace(seed=0, class_weight=None, jobs=2)
ALL = {**STRATEGIES, "rbf": EXACT_RBF, "nystroem": NYSTROEM_RBF}


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    X, y = load_digits(return_X_y=True)
    return X[:500].astype(np.float32), y[:500]


def test_folds_are_stratified_and_cover_every_row_once() -> None:
    labels = np.repeat([0, 1, 2], [10, 20, 30])
    folds = make_folds(labels, None, 5, 0)
    assert sorted(np.concatenate([held_out for _, held_out in folds])) == list(range(60))
    for fit_rows, held_out in folds:
        assert not set(fit_rows) & set(held_out)
        assert np.bincount(labels[held_out]).tolist() == [2, 4, 6]


def test_a_group_is_never_on_both_sides_of_a_fold() -> None:
    labels, groups = np.tile([0, 1], 50), np.repeat(np.arange(20), 5)
    for fit_rows, held_out in make_folds(labels, groups, 5, 0):
        assert not set(groups[fit_rows]) & set(groups[held_out])


def test_the_path_scores_what_separate_fits_score(digits: tuple[np.ndarray, np.ndarray]) -> None:
    """Scaler fitted on the fit rows only, each value as from a fresh start."""
    X, y = digits
    folds = make_folds(y, None, 3, 0)
    scores = try_candidate(STRATEGIES["logreg"], X, y, folds, ["none"], OPTIONS)["none"]
    for value, score in list(zip(STRATEGIES["logreg"].values, scores, strict=True))[3:7]:
        if score < 0:
            continue
        separate = [
            make_pipeline(StandardScaler(), LogisticRegression(C=value, max_iter=1000))
            .fit(X[fit_rows], y[fit_rows])
            .score(X[held_out], y[held_out])
            for fit_rows, held_out in folds
        ]
        assert score == pytest.approx(np.mean(separate), abs=0.003)


def test_what_comes_before_the_classifier_sees_the_fit_rows_only(digits: tuple[np.ndarray, np.ndarray]) -> None:
    """Held-out rows of another size change the scores of the held-out rows, never what was fitted."""
    X, _ = digits
    fold = (np.arange(400), np.arange(400, 500))
    moved = X.copy()
    moved[400:] *= 100
    for transform in ("none", "sqrt"):
        fitted = [preparation(STRATEGIES["svm"], transform, 400, 64, 0).fit(rows[fold[0]]) for rows in (X, moved)]
        np.testing.assert_array_equal(fitted[0].transform(X[:5]), fitted[1].transform(X[:5]))


def test_the_best_trial_is_the_smoothest_of_equals() -> None:
    trials = [Trial("a", "none", 0.1, 0.8), Trial("a", "none", 1.0, 0.9), Trial("b", "sqrt", 0.1, 0.9)]
    assert best_trial(trials) == trials[1]


def test_auto_stands_for_every_stored_layer_and_transform() -> None:
    assert candidates("auto", ["x", "y"], "auto") == {"x": ["none", "sqrt"], "y": ["none", "sqrt"]}
    assert candidates("x+y", ["x", "y"], "none") == {"x+y": ["none"]}


@pytest.mark.parametrize("name", ALL)
def test_every_strategy_learns_gives_probabilities_and_keeps_its_label(
    name: str, digits: tuple[np.ndarray, np.ndarray], tmp_path: object
) -> None:
    X, y = digits
    strategy = ALL[name]
    folds = make_folds(y, None, 3, 0)
    trial = Trial("x", "sqrt", strategy.values[len(strategy.values) // 2], 0.0)
    fit = final_fit(strategy, trial, X[:400], y[:400], make_folds(y[:400], None, 3, 0), OPTIONS)
    probabilities = fit.model.predict_proba(X[400:])
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    assert (probabilities.argmax(axis=1) == y[400:]).mean() > 0.8
    if strategy.scores_only:
        scores = fit.model.calibrated_classifiers_[0].estimator.decision_function(X[400:])
        np.testing.assert_array_equal(scores.argmax(axis=1), probabilities.argmax(axis=1))
        assert fit.temperature is not None
        assert fit.temperature > 0
    assert len(folds) == 3


@pytest.mark.parametrize("name", ALL)
def test_a_saved_model_reads_back_and_predicts_the_same(
    name: str, digits: tuple[np.ndarray, np.ndarray], tmp_path: "object"
) -> None:
    X, y = digits
    strategy = ALL[name]
    trial = Trial("x", "sqrt", strategy.values[len(strategy.values) // 2], 0.0)
    fit = final_fit(strategy, trial, X, y, make_folds(y, None, 3, 0), OPTIONS)
    path = tmp_path / "model.skops"  # type: ignore[operator]
    save_model(path, fit.model, {"layer": "x"})
    model, record = load_model(path)
    assert record == {"layer": "x"}
    np.testing.assert_array_equal(model.predict_proba(X), fit.model.predict_proba(X))


def test_balanced_class_weights_reach_the_classifier() -> None:
    classifier = STRATEGIES["logreg"].classifier(0.5, 3, "balanced")
    assert (classifier.C, classifier.class_weight, classifier.random_state) == (0.5, "balanced", 3)
    with pytest.raises(ValueError, match="KNeighborsClassifier knows no class weights"):
        STRATEGIES["knn"].classifier(5, 0, "balanced")


def test_the_exact_kernel_up_to_5000_rows() -> None:
    assert find_strategy("svm", "rbf", 5000) is EXACT_RBF
    assert find_strategy("svm", "rbf", 5001) is NYSTROEM_RBF
    assert find_strategy("svm", "linear", 5001) is STRATEGIES["svm"]


def test_values_run_on_a_log_grid_from_smooth_to_flexible() -> None:
    for name in ("svm", "logreg"):
        steps = np.diff(np.log10(STRATEGIES[name].values))
        np.testing.assert_allclose(steps, 0.5, atol=0.01)
