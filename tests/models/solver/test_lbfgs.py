import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thaw.models.solver.lbfgs import minimise

LEAST, MOST = 0.01, 100.0  # curvatures


def quadratics(num: int, size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Curvatures (G, D) over four orders of magnitude, and the minimisers (G, 1, D)."""
    generator = np.random.default_rng(seed)
    curvatures = 10 ** generator.uniform(np.log10(LEAST), np.log10(MOST), (num, size))
    return curvatures, generator.standard_normal((num, 1, size))


def evaluator(curvatures: np.ndarray, best: np.ndarray, calls: list[list[int]]):
    def evaluate(unknowns: np.ndarray, problems: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        calls.append(list(problems))
        away = unknowns - best[problems]
        gradients = curvatures[problems, None] * away
        return 1 + 0.5 * (gradients * away).sum(axis=(1, 2)), gradients

    return evaluate


def check_minima(curvatures: np.ndarray, best: np.ndarray) -> None:
    """Raise AssertionError if a problem ended further from its minimum than the rule of minimise allows.

    Let e be the precision, f the objective, 1 at its minimum, A the curvatures and H the approximate inverse Hessian.
    A problem ends with a gradient g of 1e-8, so that what is left is g A^-1 g / 2 < 30 (1e-8)^2 / LEAST / 2 = 1.5e-13,
    or with g H g <= e f. The eigenvalues of A^1/2 H A^1/2 are within LEAST / MOST and MOST / LEAST in H's first form,
    and no update on a quadratic takes one further from 1 (Fletcher 1970, "A new approach to variable metric
    algorithms"). So g A^-1 g <= e f MOST / LEAST, and half of that is left, 1.1e-12: the sum over the unknowns of half
    the curvature times the squared distance. Thirty terms of f round too.
    """
    result = minimise(evaluator(curvatures, best, []), np.zeros_like(best), np.full(len(best), 1e-8), 5000)
    assert result.converged.all()
    left = 0.5 * np.finfo(float).eps * MOST / LEAST
    parts = 0.5 * curvatures[:, None] * np.square(result.unknowns - best)
    assert parts.sum(axis=(1, 2)).max() <= 1.01 * left
    np.testing.assert_allclose(result.values, 1 + parts.sum(axis=(1, 2)), atol=30 * np.finfo(float).eps, rtol=0)


@settings(max_examples=25, deadline=None)
@given(num=st.integers(1, 6), size=st.integers(1, 30), seed=st.integers(0, 1000))
def test_finds_every_minimum(num: int, size: int, seed: int) -> None:
    check_minima(*quadratics(num, size, seed))


@pytest.mark.parametrize(("size", "problem"), [(16, 55), (25, 314), (30, 172)])
def test_a_step_that_gains_nothing_far_from_the_minimum_ends_nothing(size: int, problem: int) -> None:
    """Each has a step that gains nothing while the gradient is still hundreds of times its tolerance."""
    curvatures, best = quadratics(400, size, seed=size)
    check_minima(curvatures[[problem]], best[[problem]])


def test_each_problem_takes_its_own_way_and_leaves_when_it_is_done() -> None:
    curvatures, best = quadratics(3, 20, 0)
    curvatures[1] = 1  # a sphere: one step and a length
    calls: list[list[int]] = []
    together = minimise(evaluator(curvatures, best, calls), np.zeros((3, 1, 20)), np.full(3, 1e-6), 1000)
    for problem in range(3):
        alone = minimise(
            evaluator(curvatures[[problem]], best[[problem]], []), np.zeros((1, 1, 20)), np.array([1e-6]), 1000
        )
        np.testing.assert_array_equal(alone.unknowns[0], together.unknowns[problem])
        assert alone.num_iterations[0] == together.num_iterations[problem]
    assert together.num_iterations[1] < 10 < together.num_iterations[0]
    assert calls[0] == [0, 1, 2]
    assert 1 not in calls[10]


def test_the_last_round_says_what_did_not_converge() -> None:
    curvatures, best = quadratics(2, 20, 0)
    best[1] = 0
    result = minimise(evaluator(curvatures, best, []), np.zeros((2, 1, 20)), np.full(2, 1e-6), 3)
    assert result.converged.tolist() == [False, True]
    assert result.num_iterations[1] == 0
    assert result.num_iterations[0] <= 3


def test_a_step_that_overshoots_is_shortened() -> None:
    def evaluate(unknowns: np.ndarray, problems: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.logaddexp(unknowns, -unknowns).sum(axis=(1, 2)), np.tanh(unknowns)

    for start in (8.0, 12.0, 300.0):
        result = minimise(evaluate, np.full((1, 1, 1), start), np.array([1e-9]), 500)
        assert result.converged.all()
        assert result.unknowns[0, 0, 0] == pytest.approx(0, abs=1e-8)


def test_a_problem_that_goes_nowhere_has_not_converged() -> None:
    def evaluate(unknowns: np.ndarray, problems: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.abs(unknowns).sum(axis=(1, 2)) + 1.0, -np.ones_like(unknowns)  # the slope has the wrong sign

    result = minimise(evaluate, np.ones((1, 1, 1)), np.array([1e-9]), 500)
    assert not result.converged.any()


def test_a_known_diagonal_of_the_hessian_leaves_little_to_do() -> None:
    curvatures, best = quadratics(1, 20, 0)
    evaluate, tolerance = evaluator(curvatures, best, []), np.array([1e-6])
    plain = minimise(evaluate, np.zeros((1, 1, 20)), tolerance, 1000)
    told = minimise(evaluate, np.zeros((1, 1, 20)), tolerance, 1000, metric=1 / curvatures.reshape(-1)[-20:])
    np.testing.assert_allclose(told.unknowns, plain.unknowns, atol=1e-4)
    assert told.num_iterations[0] < plain.num_iterations[0] / 2


def test_a_gain_that_is_small_enough_ends_sooner() -> None:
    curvatures, best = quadratics(1, 20, 0)
    evaluate, tolerance = evaluator(curvatures, best, []), np.array([1e9])
    rounds = [minimise(evaluate, np.zeros((1, 1, 20)), tolerance, 1000, small_gain=gain) for gain in (1e-2, 1e-8)]
    assert rounds[0].num_iterations[0] < rounds[1].num_iterations[0]
