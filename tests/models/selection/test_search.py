import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from thaw.models.artifacts import load_model, save_model
from thaw.models.selection.final_fit import final_fit
from thaw.models.selection.path import HeldOut, LinearPath
from thaw.models.selection.search import (
    FitOptions,
    Trial,
    best_trial,
    candidates,
    highest_trial,
    make_folds,
    try_candidate,
    without_scores,
)
from thaw.models.solver.blocks import ArrayBlocks, SquareRoots
from thaw.models.strategies import EXACT_RBF, NYSTROEM_RBF, STRATEGIES, find_strategy

OPTIONS = FitOptions(seed=0, class_weight=None, jobs=2)
ALL = {**STRATEGIES, "rbf": EXACT_RBF, "nystroem": NYSTROEM_RBF}


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    X, y = load_digits(return_X_y=True)
    return X[:500].astype(np.float32), y[:500]


def roots(X: np.ndarray) -> SquareRoots:
    return SquareRoots(ArrayBlocks(X))


def test_folds_are_stratified_and_cover_every_row_once() -> None:
    labels = np.repeat([0, 1, 2], [10, 20, 30])
    folds = make_folds(labels, None, 5, 0)
    assert sorted(np.concatenate([held_out for _, held_out in folds])) == list(range(60))
    for fit_rows, held_out in folds:
        assert not set(fit_rows) & set(held_out)
        assert np.bincount(labels[held_out]).tolist() == [2, 4, 6]


def test_a_group_is_never_in_both_parts_of_a_fold() -> None:
    labels, groups = np.tile([0, 1], 50), np.repeat(np.arange(20), 5)
    for fit_rows, held_out in make_folds(labels, groups, 5, 0):
        assert not set(groups[fit_rows]) & set(groups[held_out])


def test_the_path_scores_what_separate_fits_score(digits: tuple[np.ndarray, np.ndarray]) -> None:
    """Scaler fitted on the fit rows only, each value as from a fresh start."""
    X, y = digits
    folds = make_folds(y, None, 3, 0)
    path = try_candidate(STRATEGIES["logreg"], ArrayBlocks(X), y, folds, OPTIONS)
    tried = [(value, one.accuracy) for value, one in zip(STRATEGIES["logreg"].values, path, strict=False)]
    assert len(tried) >= 5
    for value, score in tried[3:6]:  # below, the labels hang on rounding
        separate = [
            make_pipeline(StandardScaler(), LogisticRegression(C=value, max_iter=1000, tol=1e-8))
            .fit(X[fit_rows].astype(np.float64), y[fit_rows])
            .score(X[held_out], y[held_out])
            for fit_rows, held_out in folds
        ]
        assert score == pytest.approx(np.mean(separate), abs=0.003)


@pytest.mark.parametrize("name", ["ridge", "knn"])
def test_held_out_rows_change_nothing_that_is_fitted(name: str, digits: tuple[np.ndarray, np.ndarray]) -> None:
    """The score of the first held-out rows is the same whatever the other held-out rows are."""
    X, y = digits
    moved = X.copy()
    moved[450:] *= 1000
    y = np.where(np.arange(500) < 450, y, -1)
    narrow, wide = (np.arange(400), np.arange(400, 450)), (np.arange(400), np.arange(400, 500))
    alone = try_candidate(STRATEGIES[name], ArrayBlocks(X), y, [narrow], OPTIONS)
    among_moved = try_candidate(STRATEGIES[name], ArrayBlocks(moved), y, [wide], OPTIONS)
    pairs = list(zip(alone, among_moved, strict=False))
    assert len(pairs) >= 3
    for one, other in pairs:
        np.testing.assert_array_equal(one.correct, other.correct[:50])


def test_a_plateau_at_the_majority_does_not_end_the_path() -> None:
    """With few images of one class, the smoothest models all predict the other; the path has to continue."""
    generator = np.random.default_rng(0)
    y = np.repeat([0, 1], [190, 10])
    X = generator.standard_normal((200, 20)).astype(np.float32) + 4 * y[:, None] * (np.arange(20) == 3)
    path = try_candidate(STRATEGIES["logreg"], ArrayBlocks(X), y, make_folds(y, None, 5, 0), OPTIONS)
    scores = [one.accuracy for one in path]
    assert scores[:3] == pytest.approx([0.95] * 3)
    assert max(scores) > 0.96


@pytest.mark.parametrize("name", ["logreg", "knn"])
def test_rows_are_in_their_order_and_only_those_that_a_fold_holds_out(
    name: str, digits: tuple[np.ndarray, np.ndarray]
) -> None:
    """The fold's own rows come out alike whether other folds are there or not."""
    X, y = digits
    folds = make_folds(y, None, 4, 0)
    strategy = STRATEGIES[name].among(STRATEGIES[name].values[:4])
    whole = try_candidate(strategy, ArrayBlocks(X), y, folds, OPTIONS)
    alone = try_candidate(strategy, ArrayBlocks(X), y, folds[:1], OPTIONS)
    assert {len(one.correct) for one in whole} == {len(y)}
    assert {len(one.correct) for one in alone} == {len(folds[0][1])}
    for one, all_rows in zip(alone, whole, strict=False):
        assert (one.correct != all_rows.correct[folds[0][1]]).mean() <= 0.01


def test_no_more_neighbours_than_rows() -> None:
    assert STRATEGIES["knn"].within(12).values == (10, 5, 3, 1)
    assert STRATEGIES["svm"].within(12) is STRATEGIES["svm"]


def test_the_highest_trial_is_the_first_of_equals() -> None:
    trials = [Trial("a", "none", 0.1, 0.8), Trial("a", "none", 1.0, 0.9), Trial("b", "sqrt", 0.1, 0.9)]
    assert highest_trial(trials) == trials[1]
    assert best_trial(trials) == trials[1]  # as read from a report


def test_a_trial_without_scores_is_chosen_alike() -> None:
    correct, scores = np.ones(10, bool), np.zeros((10, 3), np.float32)
    trial = Trial("a", "none", 0.1, 1.0, HeldOut(correct, scores))
    less = without_scores(trial)
    assert less == trial
    assert less.held_out is not None
    assert less.held_out.scores is None
    assert best_trial([less]) is less
    assert without_scores(Trial("a", "none", 0.1, 1.0)).held_out is None


def test_the_best_trial_is_the_smoothest_within_an_error_of_the_highest_one_of_its_layer() -> None:
    def trial(layer: str, value: float, num_wrong: int) -> Trial:
        correct = np.arange(1000) >= num_wrong
        return Trial(layer, "none", value, float(correct.mean()), HeldOut(correct))

    trials = [trial("a", 0.1, 11), trial("b", 0.01, 100), trial("b", 0.1, 12), trial("b", 1.0, 10), trial("b", 10, 11)]
    assert highest_trial(trials) == trials[3]
    assert best_trial(trials) == trials[3]  # 2 of 1,000 rows that only one labels correctly: an error of 0.0017
    assert best_trial([*trials[:2], trial("b", 0.1, 11), *trials[3:]]) == trial("b", 0.1, 11)


def test_auto_stands_for_every_stored_layer_and_transform() -> None:
    assert candidates("auto", ["x", "y"], "auto") == {"x": ["none", "sqrt"], "y": ["none", "sqrt"]}
    assert candidates("x+y", ["x", "y"], "none") == {"x+y": ["none"]}
    assert list(candidates("auto", ["x", "y"], "none", joined=True)) == ["x", "y", "x+y"]
    assert list(candidates("auto", ["x"], "none", joined=True)) == ["x"]
    assert list(candidates("y", ["x", "y"], "none", joined=True)) == ["y"]


@pytest.mark.parametrize("name", ALL)
def test_every_strategy_learns_gives_probabilities_and_keeps_its_label(
    name: str, digits: tuple[np.ndarray, np.ndarray]
) -> None:
    X, y = digits
    strategy = ALL[name]
    trial = Trial("x", "sqrt", strategy.values[len(strategy.values) // 2], 0.0)
    fit = final_fit(strategy, trial, roots(X[:400]), y[:400], make_folds(y[:400], None, 3, 0), OPTIONS)
    probabilities = fit.model.predict_proba(X[400:])
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    assert (probabilities.argmax(axis=1) == y[400:]).mean() > 0.8
    if strategy.calibration:
        scores = fit.model.decision_function(X[400:])
        np.testing.assert_array_equal(scores.argmax(axis=1), probabilities.argmax(axis=1))
        assert fit.temperature is not None
        assert fit.temperature > 0


def test_calibration_takes_the_scores_that_the_setting_was_chosen_by(
    digits: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They give nearly the temperature of scores that are made anew, and no fold is fitted again."""
    X, y = digits
    strategy, folds = STRATEGIES["logreg"].among([0.01]), make_folds(y, None, 3, 0)
    (held_out,) = try_candidate(strategy, ArrayBlocks(X), y, folds, OPTIONS)
    alone = final_fit(strategy, Trial("x", "none", 0.01, 0.9), ArrayBlocks(X), y, folds, OPTIONS)
    asked, fit = [], LinearPath.fit
    monkeypatch.setattr(
        LinearPath, "fit", lambda path, value, held_out: asked.append(held_out) or fit(path, value, held_out)
    )
    reused = final_fit(strategy, Trial("x", "none", 0.01, 0.9, held_out), ArrayBlocks(X), y, folds, OPTIONS)
    assert reused.temperature == pytest.approx(alone.temperature, rel=0.05)
    some = try_candidate(strategy, ArrayBlocks(X), y, folds[:1], OPTIONS)[0]
    final_fit(strategy, Trial("x", "none", 0.01, 0.9, some), ArrayBlocks(X), y, folds, OPTIONS)
    assert some.scores is None
    assert asked == [False, True]


@pytest.mark.parametrize("name", ALL)
def test_a_saved_model_reads_back_and_predicts_the_same(
    name: str, digits: tuple[np.ndarray, np.ndarray], tmp_path: "object"
) -> None:
    X, y = digits
    strategy = ALL[name]
    trial = Trial("x", "sqrt", strategy.values[len(strategy.values) // 2], 0.0)
    fit = final_fit(strategy, trial, roots(X), y, make_folds(y, None, 3, 0), OPTIONS)
    path = tmp_path / "model.skops"  # type: ignore[operator]
    save_model(path, fit.model, {"layer": "x"})
    model, record = load_model(path)
    assert record == {"layer": "x"}
    np.testing.assert_array_equal(model.predict_proba(X), fit.model.predict_proba(X))


def test_balanced_class_weights_reach_the_classifier() -> None:
    classifier = STRATEGIES["logreg"].classifier(0.5, 3, "balanced")
    assert (classifier.C, classifier.class_weight) == (0.5, "balanced")
    assert EXACT_RBF.classifier(0.5, 3).random_state == 3
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
