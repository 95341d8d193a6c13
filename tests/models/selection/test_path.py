import functools
from itertools import pairwise
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from threadpoolctl import threadpool_limits

from thaw.models.linear import LinearModel, LinearSVM, SoftmaxRegression
from thaw.models.selection.path import LinearPath
from thaw.models.selection.search import make_folds
from thaw.models.solver.blocks import ArrayBlocks, BlockPool, Known
from thaw.models.solver.objective import TOLERANCE, Fold, KnownRows, Problems, slope_at_zero, solve

PEERS = {
    LinearSVM: lambda C, weights: LinearSVC(C=C, class_weight=weights, dual=False, tol=1e-8, max_iter=10_000),
    SoftmaxRegression: lambda C, weights: LogisticRegression(C=C, class_weight=weights, tol=1e-8, max_iter=10_000),
}
KINDS = list(PEERS)


@pytest.fixture(scope="module", params=[2, 10])
def rows(request: pytest.FixtureRequest) -> tuple[np.ndarray, np.ndarray]:
    X, y = load_digits(return_X_y=True)
    X, y = X[y < request.param].astype(np.float32), y[y < request.param]
    return X[:400] + 3, y[:400]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("class_weight", [None, "balanced"])
def test_all_folds_at_once_are_what_scikit_learn_fits_one_by_one(
    kind: type[LinearModel], class_weight: str | None, rows: tuple[np.ndarray, np.ndarray]
) -> None:
    X, y = rows
    keep = (y != 0) | (np.arange(len(y)) % 3 == 0)
    X, y = X[keep], y[keep]
    folds, C = make_folds(y, None, 3, 0), 0.01
    with BlockPool(ArrayBlocks(X)) as pool:
        path = LinearPath(kind, pool, y, folds, class_weight)
        correct = list(path.correct([0.001, C]))[-1]
        fitted = path.fit(C, held_out=True)
    for fit_rows, held_out in folds:
        theirs = make_pipeline(StandardScaler(), PEERS[kind](C, class_weight)).fit(X[fit_rows], y[fit_rows])
        assert fitted.held_out_scores is not None
        assert correct[held_out].mean() == pytest.approx(theirs.score(X[held_out], y[held_out]), abs=0.011)
        scores = theirs.decision_function(X[held_out])
        np.testing.assert_allclose(fitted.held_out_scores[held_out], scores, atol=5e-3 * np.abs(scores).max())
    theirs = make_pipeline(StandardScaler(), PEERS[kind](C, class_weight)).fit(X, y)
    ours = fitted.steps["classify"].decision_function(fitted.steps["scale"].transform(X))
    np.testing.assert_allclose(ours, theirs.decision_function(X), atol=1e-2 * np.abs(ours).max())


@pytest.mark.parametrize("kind", KINDS)
def test_held_out_rows_change_nothing_that_is_fitted(
    kind: type[LinearModel], rows: tuple[np.ndarray, np.ndarray]
) -> None:
    X, y = rows
    moved = X.copy()
    moved[-50:] *= 10
    fold = (np.arange(len(y) - 100), np.arange(len(y) - 100, len(y)))
    scores = []
    for features in (X, moved):
        with BlockPool(ArrayBlocks(features)) as pool:
            fitted = LinearPath(kind, pool, y, [fold], None).fit(0.01, held_out=True)
            scores.append(fitted.held_out_scores)
    assert np.isnan(scores[0][:-100]).all()
    np.testing.assert_allclose(scores[0][-100:-50], scores[1][-100:-50], rtol=1e-3, atol=1e-3)


def test_folds_that_leave_rows_out_altogether_are_refused(rows: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = rows
    with BlockPool(ArrayBlocks(X)) as pool, pytest.raises(ValueError, match="fitted to all rows but those they hold"):
        LinearPath(LinearSVM, pool, y, [(np.arange(100), np.arange(200, 300))], None)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("class_weight", [None, "balanced"])
def test_a_class_that_a_fold_is_not_fitted_to(
    kind: type[LinearModel], class_weight: str | None, rows: tuple[np.ndarray, np.ndarray]
) -> None:
    """A class whose few rows are all held out at once: the fold's scores for it are low, the others' as ever."""
    X, y = rows
    rare = np.flatnonzero(y == 1)[:3]
    keep = np.sort(np.concatenate([np.flatnonzero(y != 1), rare]))
    X, y = X[keep], y[keep]
    held_out = np.union1d(np.flatnonzero(y == 1), np.arange(0, len(y), 5))
    fold = (np.setdiff1d(np.arange(len(y)), held_out), held_out)
    with BlockPool(ArrayBlocks(X)) as pool:
        path = LinearPath(kind, pool, y, [fold], class_weight)
        correct = next(path.correct([0.01]))
        fitted = path.fit(0.01, held_out=True)
    others = y[held_out] != 1
    assert not correct[fold[0]].any()
    assert correct[held_out].mean() == pytest.approx(others.mean(), abs=0.1)
    assert fitted.held_out_scores is not None
    assert np.isfinite(fitted.held_out_scores[held_out]).all()


def test_a_final_fit_that_did_not_converge_says_so(
    monkeypatch: pytest.MonkeyPatch, rows: tuple[np.ndarray, np.ndarray]
) -> None:
    X, y = rows
    with BlockPool(ArrayBlocks(X)) as pool:
        path = LinearPath(LinearSVM, pool, y, make_folds(y, None, 2, 0), None)
        assert path.fit(0.01, held_out=False).converged
        solved = functools.partial(solve, max_iterations=2)
        monkeypatch.setattr("thaw.models.selection.path.solve", solved)
        assert not path.fit(0.01, held_out=False).converged


CASES = st.tuples(st.integers(0, 2**31), st.integers(40, 120), st.integers(2, 12), st.integers(2, 4))


def random_rows(seed: int, num_rows: int, num_features: int, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Classes that overlap, as float64, so that the solver's tolerance and not rounding decides."""
    generator = np.random.default_rng(seed)
    y = np.concatenate([np.arange(num_classes), generator.integers(0, num_classes, num_rows - num_classes)])
    return generator.standard_normal((num_classes, num_features))[y] + generator.standard_normal(
        (num_rows, num_features)
    ), y


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=8, deadline=None)
@given(case=CASES)
def test_more_c_buys_less_loss_for_more_penalty(kind: type[LinearModel], case: tuple[int, int, int, int]) -> None:
    """The minimum of penalty + C loss grows with C, its penalty too, and its loss falls, whatever the data."""
    X, y = random_rows(*case)
    values, penalties, minima = [1e-3, 1e-2, 1e-1, 1.0], [], []
    with BlockPool(ArrayBlocks(X)) as pool:
        rows = KnownRows(pool, Known(y))
        for C in values:
            problems = Problems(kind.loss(len(set(y.tolist()))), C, [Fold(None, np.ones(case[3]))])
            minimum = solve(rows, problems, TOLERANCE * slope_at_zero(rows, problems))
            used = minimum.unknowns if problems.loss.penalises_intercept else minimum.unknowns[:, :, :-1]
            penalties.append(0.5 * float(np.square(used).sum()))
            minima.append(float(minimum.values.sum()))
    losses = [(total - penalty) / C for total, penalty, C in zip(minima, penalties, values, strict=True)]
    assert all(more > less for less, more in pairwise(minima))
    assert all(more >= less * (1 - 1e-3) for less, more in pairwise(penalties))
    assert all(less >= more * (1 - 1e-3) for less, more in pairwise(losses))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=8, deadline=None)
@given(case=CASES, C=st.sampled_from([1e-3, 1e-2, 1e-1]))
def test_a_warm_start_ends_at_the_solution_of_a_cold_one(
    kind: type[LinearModel], case: tuple[int, int, int, int], C: float
) -> None:
    X, y = random_rows(*case)
    with BlockPool(ArrayBlocks(X)) as pool:
        rows, start, ends = KnownRows(pool, Known(y)), None, []
        for value in (C / 10, C):
            problems = Problems(kind.loss(case[3]), value, [Fold(None, np.ones(case[3]))])
            tolerances = 1e-2 * TOLERANCE * slope_at_zero(rows, problems)
            ends.append(solve(rows, problems, tolerances))
            warm = solve(rows, problems, tolerances, start)
            start = warm.unknowns
    assert warm.converged.all()
    np.testing.assert_allclose(warm.values, ends[-1].values, rtol=1e-6)
    np.testing.assert_allclose(warm.unknowns, ends[-1].unknowns, atol=1e-3 * np.abs(ends[-1].unknowns).max())


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=8, deadline=None)
@given(case=CASES, random=st.randoms(use_true_random=False))
def test_the_order_of_rows_and_classes_does_not_matter(
    kind: type[LinearModel], case: tuple[int, int, int, int], random: Random
) -> None:
    X, y = random_rows(*case)
    order, names = random.sample(range(len(y)), len(y)), np.array(random.sample(range(case[3]), case[3]))
    with BlockPool(ArrayBlocks(X)) as pool, BlockPool(ArrayBlocks(X[order])) as shuffled:
        plain = LinearPath(kind, pool, y, [], None).fit(0.01, held_out=False)
        other = LinearPath(kind, shuffled, names[y[order]], [], None).fit(0.01, held_out=False)
    scores = plain.steps["classify"].decision_function(plain.steps["scale"].transform(X))
    renamed = other.steps["classify"].decision_function(other.steps["scale"].transform(X))
    expected = scores if case[3] > 2 else np.stack([-scores, scores], axis=1)
    received = renamed if case[3] > 2 else np.stack([-renamed, renamed], axis=1)
    np.testing.assert_allclose(received[:, names], expected, atol=5e-3 * max(1.0, float(np.abs(expected).max())))


@pytest.mark.parametrize("num_features", [600, 2000])
@pytest.mark.parametrize("kind", [LinearSVM, SoftmaxRegression])
def test_any_number_of_cores_gives_the_same(kind: type[LinearModel], num_features: int) -> None:
    """Bit by bit, both for the rows of one block and of several."""
    generator = np.random.default_rng(0)
    y = np.arange(300) % 4
    X = (generator.standard_normal((300, num_features)) + 0.2 * np.eye(num_features)[y]).astype(np.float32)
    found = []
    for num_threads in (1, 2):
        with threadpool_limits(num_threads, "blas"), BlockPool(ArrayBlocks(X), num_threads=num_threads) as pool:
            assert len(pool.rows) == (1 if num_features == 600 else 4)
            fitted = LinearPath(kind, pool, y, make_folds(y, None, 3, 0), None).fit(0.01, held_out=True)
        found.append((fitted.steps[1].coef_, fitted.held_out_scores))
    for one, two in zip(*found, strict=True):
        np.testing.assert_array_equal(one, two)
