"""The out-of-fold probabilities of the final fit."""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.metrics import log_loss

from thaw.models.selection.final_fit import final_fit
from thaw.models.selection.search import FitOptions, Trial, make_folds
from thaw.models.solver.blocks import ArrayBlocks, SquareRoots
from thaw.models.strategies import EXACT_RBF, NYSTROEM_RBF, STRATEGIES

OPTIONS = FitOptions(seed=0, class_weight=None, jobs=2)
ALL = {**STRATEGIES, "rbf": EXACT_RBF, "nystroem": NYSTROEM_RBF}


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    X, y = load_digits(return_X_y=True)
    return X[:399].astype(np.float32), y[:399]


@pytest.mark.parametrize("name", ALL)
def test_each_row_is_labelled_by_a_fit_without_its_fold(name: str, digits: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = digits
    strategy, folds = ALL[name], make_folds(y, None, 3, 0)
    trial = Trial("x", "sqrt", strategy.values[len(strategy.values) // 2], 0.0)

    def fitted(rows: np.ndarray, given: list) -> object:
        return final_fit(strategy, trial, SquareRoots(ArrayBlocks(X[rows])), y[rows], given, OPTIONS)

    fit = fitted(np.arange(len(y)), folds)
    assert fit.out_of_fold.shape == (399, 10)
    np.testing.assert_allclose(fit.out_of_fold.sum(axis=1), 1, rtol=1e-6)
    for rows, held_out in folds:
        own = fitted(rows, []).model
        calibrated = strategy.calibration
        given = fit.model.scaled(own.decision_function(X[held_out])) if calibrated else own.predict_proba(X[held_out])
        np.testing.assert_allclose(fit.out_of_fold[held_out], given, atol=2e-3)


@pytest.mark.parametrize("name", ["logreg", "svm", "ridge"])
def test_no_other_temperature_suits_them_better(name: str, digits: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = digits
    strategy = STRATEGIES[name]
    trial = Trial("x", "none", strategy.values[len(strategy.values) // 2], 0.0)
    fit = final_fit(strategy, trial, ArrayBlocks(X), y, make_folds(y, None, 3, 0), OPTIONS)
    least = log_loss(y, fit.out_of_fold)
    for factor in (0.9, 1.1):
        shares = fit.out_of_fold**factor
        assert log_loss(y, shares / shares.sum(axis=1, keepdims=True)) > least


def test_without_folds_there_are_none(digits: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = digits
    for name in ("logreg", "knn"):
        strategy = STRATEGIES[name]
        fit = final_fit(strategy, Trial("x", "none", strategy.values[2], 0.0), ArrayBlocks(X), y, [], OPTIONS)
        assert fit.out_of_fold is None


def test_neighbours_do_not_see_the_row_itself(digits: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = digits
    shuffled = np.random.default_rng(0).permutation(y)
    folds = make_folds(shuffled, None, 3, 0)
    fit = final_fit(STRATEGIES["knn"], Trial("x", "none", 1, 0.0), ArrayBlocks(X), shuffled, folds, OPTIONS)
    assert (fit.model.predict(X) == shuffled).mean() > 0.99
    assert (fit.out_of_fold.argmax(axis=1) == shuffled).mean() < 0.3
