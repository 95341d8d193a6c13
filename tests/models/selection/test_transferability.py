"""LogME against covariances written out, and what must not change it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from thaw.models.selection.transferability import log_me

EXAMPLES = settings(max_examples=40, deadline=None)


def sample(
    seed: int, num_rows: int = 40, num_features: int = 6, num_classes: int = 3, signal: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(num_classes), generator.integers(0, num_classes, num_rows - num_classes)])
    centres = signal * generator.normal(size=(num_classes, num_features))
    features = centres[labels] + generator.normal(size=(num_rows, num_features)) + 0.5
    return features.astype(np.float32), labels.astype(np.int64)


CASES = st.tuples(st.integers(0, 2**31), st.integers(8, 40), st.integers(1, 20), st.integers(2, 4))


def plain_log_me(features: np.ndarray, labels: np.ndarray) -> float:
    """The density of y under N(0, 1/beta + F F' / alpha), maximised over both logarithms from several starts."""
    outer = features.astype(np.float64) @ features.astype(np.float64).T
    scores = []
    for label in np.unique(labels):
        target = (labels == label).astype(np.float64)

        def surprise(logs: np.ndarray, target: np.ndarray = target) -> float:
            covariance = np.exp(-logs[1]) * np.eye(len(target)) + np.exp(-logs[0]) * outer
            _, log_volume = np.linalg.slogdet(2 * np.pi * covariance)
            return 0.5 * (log_volume + target @ np.linalg.solve(covariance, target))

        starts = [(0.0, 0.0), (3.0, 2.0), (-2.0, 2.0), (6.0, 0.0)]
        options = {"xatol": 1e-7, "fatol": 1e-10, "maxiter": 4000}
        bounds = [(-15, 25), (-15, 25)]
        found = [minimize(surprise, x, method="Nelder-Mead", bounds=bounds, options=options).fun for x in starts]
        scores.append(-min(found) / len(labels))
    return float(np.mean(scores))


@pytest.mark.parametrize(
    ("num_rows", "num_features", "num_classes", "signal"),
    [(40, 6, 3, 1.0), (40, 6, 3, 0.1), (60, 2, 2, 3.0), (25, 40, 3, 1.0), (30, 30, 4, 0.5), (20, 1, 2, 1.0)],
)
def test_log_me_is_the_greatest_evidence(num_rows: int, num_features: int, num_classes: int, signal: float) -> None:
    features, labels = sample(1, num_rows, num_features, num_classes, signal)
    assert log_me(features, labels) == pytest.approx(plain_log_me(features, labels), abs=2e-5)


@EXAMPLES
@given(CASES)
def test_the_order_of_rows_and_the_names_of_classes_do_not_matter(case: tuple[int, int, int, int]) -> None:
    features, labels = sample(*case)
    generator = np.random.default_rng(case[0])
    order, names = generator.permutation(len(labels)), generator.permutation(7)[: case[3]]
    expected = pytest.approx(log_me(features, labels), rel=1e-5, abs=1e-6)
    assert log_me(features[order], labels[order]) == expected
    assert log_me(features, names[labels]) == expected


@EXAMPLES
@given(CASES, st.sampled_from([0.01, 3.0, 1000.0]))
def test_rotations_and_units_leave_log_me(case: tuple[int, int, int, int], unit: float) -> None:
    features, labels = sample(*case)
    rotation = np.linalg.qr(np.random.default_rng(case[0]).normal(size=(case[2], case[2])))[0]
    moved = (unit * features @ rotation).astype(np.float32)
    assert log_me(moved, labels) == pytest.approx(log_me(features, labels), abs=1e-3)


def test_better_features_score_higher() -> None:
    scores = [log_me(*sample(5, 200, 8, 4, signal)) for signal in (0.0, 0.5, 1.0, 2.0)]
    assert scores == sorted(scores)


def test_nothing_to_learn_from_is_finite() -> None:
    labels = np.arange(12) % 3
    silent = np.zeros((12, 4), np.float32)
    third = 1 / 3  # the best Gaussian without features has the mean square of the one-hot label as its variance
    assert log_me(silent, labels) == pytest.approx(-0.5 * (np.log(2 * np.pi * third) + 1))
    perfect = np.eye(3, dtype=np.float32)[labels]
    assert 5 < log_me(perfect, labels) < np.inf


def test_arrays_that_do_not_fit_are_refused() -> None:
    features, labels = sample(0)
    with pytest.raises(ValueError, match=r"labels int64 \(39,\); expected floats \(N, D\) and integers \(N,\)"):
        log_me(features, labels[1:])
    with pytest.raises(ValueError, match="not finite"):
        log_me(np.where(features > 0, np.nan, features), labels)
