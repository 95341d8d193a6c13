import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thaw.models.solver.losses import Logistic, Softmax, SquaredHinge

LOSSES = {"svm-2": SquaredHinge(2), "svm-4": SquaredHinge(4), "logistic": Logistic(), "softmax": Softmax(4)}


@pytest.mark.parametrize("name", LOSSES)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), size=st.sampled_from([0.1, 1.0, 30.0]))
def test_slopes_are_those_of_the_loss(name: str, seed: int, size: float) -> None:
    loss, generator = LOSSES[name], np.random.default_rng(seed)
    num_classes = 4 if name in ("svm-4", "softmax") else 2
    shape = (len(loss.targets), loss.width, 6)
    scores, direction = size * generator.standard_normal(shape), generator.standard_normal(shape)
    codes, costs = generator.integers(num_classes, size=6), generator.uniform(0, 2, (len(loss.targets), 6))

    def at(step: float) -> np.ndarray:
        return loss(scores + step * direction, codes, costs.copy(), loss.targets)[0]

    _, slopes = loss(scores.copy(), codes, costs.copy(), loss.targets)
    measured = (at(1e-6) - at(-1e-6)) / 2e-6
    np.testing.assert_allclose((slopes * direction).sum(axis=(1, 2)), measured, rtol=1e-4, atol=1e-4 * size)


@pytest.mark.parametrize(
    ("name", "expected"), [("svm-2", 2e8), ("svm-4", [2e8, 2e8, 2e8, 2e8]), ("logistic", 2e4), ("softmax", 2e4)]
)
def test_enormous_scores(name: str, expected: object) -> None:
    """Two rows, each as wrong by 10,000 as can be."""
    loss = LOSSES[name]
    codes = np.array([0, 1])
    scores = np.zeros((len(loss.targets), loss.width, 2), np.float32)
    if loss.width == 1:
        scores[:, 0] = np.where(codes == loss.targets[:, None], -1e4, 1e4)
    else:
        scores[:, codes, [0, 1]] = -1e4
    value, slopes = loss(scores, codes, np.ones((len(loss.targets), 2), np.float32), loss.targets)
    np.testing.assert_allclose(value, expected, rtol=1e-3)
    assert np.isfinite(slopes).all()


def test_class_weights_count_as_in_the_peers() -> None:
    weights = np.array([1.0, 2.0, 3.0, 4.0])
    np.testing.assert_array_equal(Softmax(4).costs(weights), [weights])
    np.testing.assert_array_equal(SquaredHinge(2).costs(weights[:2]), [[1, 2]])
    assert SquaredHinge(4).costs(weights)[2].tolist() == [1, 1, 3, 1]
