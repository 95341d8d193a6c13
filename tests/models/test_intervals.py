"""The 95 % intervals of models/metrics.py hold the truth in 95 % of samples; McNemar's p is statsmodels'."""

from itertools import product

import numpy as np
import pytest
from scipy.stats import binom
from statsmodels.stats.contingency_tables import mcnemar

from thaw.models.metrics import compare, evaluate, paired_interval

NUM_SIMULATIONS = 2000


def accuracy_interval(num_correct: int, num_images: int) -> list[float]:
    """The interval that `evaluate` gives for so many correct labels among so many images."""
    predicted = (np.arange(num_images) >= num_correct).astype(np.int64)
    labels = np.zeros(num_images, np.int64)
    interval: list[float] = evaluate(labels, np.eye(2)[predicted], ["right", "wrong"])["accuracy_ci95"]
    return interval


@pytest.mark.parametrize("num_images", [50, 100, 200, 360])
def test_the_accuracy_s_interval_covers_it_in_95_percent(num_images: int) -> None:
    # Exact: every possible count of correct labels, weighted by its chance.
    bounds = np.array([accuracy_interval(count, num_images) for count in range(num_images + 1)])
    truths = np.linspace(0.3, 0.98, 69)
    inside = (bounds[:, :1] <= truths) & (truths <= bounds[:, 1:])
    coverage = (binom.pmf(np.arange(num_images + 1)[:, None], num_images, truths) * inside).sum(axis=0)
    assert 0.94 < coverage.mean() < 0.965
    assert coverage.min() > 0.90  # the score interval's dips beside 1, known and narrow


def test_the_accuracy_s_interval_of_simulated_larger_test_sets() -> None:
    generator = np.random.default_rng(0)
    coverage = []
    for num_images, truth in product((1000, 5000), (0.5, 0.8, 0.9, 0.97)):
        counts, times = np.unique(generator.binomial(num_images, truth, NUM_SIMULATIONS), return_counts=True)
        bounds = np.array([accuracy_interval(int(count), num_images) for count in counts])
        coverage.append(times[(bounds[:, 0] <= truth) & (truth <= bounds[:, 1])].sum() / NUM_SIMULATIONS)
    assert 0.94 < np.mean(coverage) < 0.96
    assert min(coverage) > 0.92


def simulated_coverage(num_images: int, only_a: float, only_b: float, generator: np.random.Generator) -> float:
    """How often the paired interval holds only_a - only_b, over seeded samples of pairs of classifiers."""
    cells = generator.multinomial(num_images, [only_a, only_b, 1 - only_a - only_b], NUM_SIMULATIONS)
    pairs, times = np.unique(cells[:, :2], axis=0, return_counts=True)
    bounds = np.array([paired_interval(int(a), int(b), num_images) for a, b in pairs])
    truth = only_a - only_b
    return float(times[(bounds[:, 0] <= truth) & (truth <= bounds[:, 1])].sum() / NUM_SIMULATIONS)


def test_the_paired_interval_covers_the_difference_in_95_percent() -> None:
    generator = np.random.default_rng(0)
    cases = [
        (n, rate, gap)
        for n, rate in product((200, 500, 2000, 10_000), (0.02, 0.05, 0.1, 0.2, 0.4))
        for gap in (0.0, 0.3, 0.7)
    ]
    coverage = [simulated_coverage(n, rate * (1 + gap) / 2, rate * (1 - gap) / 2, generator) for n, rate, gap in cases]
    assert 0.94 < np.mean(coverage) < 0.965
    assert min(coverage) > 0.92


def test_mcnemar_s_p_is_statsmodels() -> None:
    generator = np.random.default_rng(1)
    tables = [generator.multinomial(n, generator.dirichlet([4, 1, 1, 2])) for n in (5, 20, 60, 400, 3000) * 20]
    for both, only_a, only_b, neither in tables:
        correct_a = np.repeat([True, True, False, False], [both, only_a, only_b, neither])
        correct_b = np.repeat([True, False, True, False], [both, only_a, only_b, neither])
        expected = mcnemar([[both, only_a], [only_b, neither]], exact=True).pvalue
        assert compare(correct_a, correct_b)["mcnemar_p"] == pytest.approx(expected, rel=1e-9)
