"""The inverse power law of learning curves, and what it says of more images."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thaw.models.selection.learning_curve import PowerLaw, extrapolate

SIZES = np.array([20.0, 50, 100, 200, 500, 1000])


@given(st.floats(0.6, 1.0), st.floats(0.1, 1.5), st.sampled_from([0.3, 0.5, 0.8]))
def test_points_on_a_law_are_continued_along_it(ceiling: float, drop: float, exponent: float) -> None:
    law = PowerLaw(ceiling, drop, exponent)
    points = ceiling - drop * SIZES**-exponent
    fitted = PowerLaw.fit(SIZES, points, np.full(6, 0.01))
    assert fitted(4000) == pytest.approx(law(4000), abs=2e-3)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=6), st.integers(1, 10**7))
def test_a_law_never_leaves_the_fractions_and_never_falls_with_more_images(points: list[float], target: int) -> None:
    law = PowerLaw.fit(SIZES[: len(points)], np.array(points), np.full(len(points), 0.02))
    assert 0 <= law(target) <= law(2 * target) <= 1


def test_the_interval_of_the_extrapolation_covers_the_truth() -> None:
    law = PowerLaw(0.9, 1.2, 0.5)
    errors = np.full(6, 0.015)
    generator = np.random.default_rng(3)
    covered = 0
    for _ in range(40):
        drawn = np.array([law(size) for size in SIZES]) + generator.normal(0, errors)
        expected, (low, high) = extrapolate(SIZES, drawn, errors, 2000)
        assert low <= expected <= high
        covered += low <= law(2000) <= high
    assert covered >= 34


def test_a_single_point_is_continued_as_it_is() -> None:
    assert PowerLaw.fit(np.array([100.0]), np.array([0.7]), np.array([0.02]))(1000) == pytest.approx(0.7)
