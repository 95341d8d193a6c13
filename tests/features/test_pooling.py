import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thaw.features.errors import InputError
from thaw.features.pooling import pool, pooled_shape, resolve_pooling


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((3, 3, 512), "flat"),
        ((4, 4, 512), "flat"),
        ((6, 6, 512), "grid4"),
        ((6, 6, 256), "grid5"),
        ((2, 2, 4096), "grid1"),
    ],
)
def test_auto_pooling_is_the_finest_that_fits(shape: tuple[int, int, int], expected: str) -> None:
    assert resolve_pooling("auto", shape) == expected
    assert pooled_shape("auto", shape)[0] <= 8192


@given(st.integers(1, 6), st.integers(6, 15), st.integers(6, 15))
def test_grid_is_adaptive_averaging(cells: int, height: int, width: int) -> None:
    maps = np.random.default_rng(0).standard_normal((2, height, width, 3)).astype(np.float32)
    expected = [
        maps[
            :,
            i * height // cells : -(-(i + 1) * height // cells),
            j * width // cells : -(-(j + 1) * width // cells),
        ]
        .astype(np.float64)
        .mean(axis=(1, 2))
        for i in range(cells)
        for j in range(cells)
    ]
    np.testing.assert_allclose(pool(maps, f"grid{cells}"), np.concatenate(expected, axis=1), atol=1e-5)


def test_the_other_poolings() -> None:
    maps = np.random.default_rng(0).standard_normal((2, 3, 3, 4)).astype(np.float32)
    np.testing.assert_array_equal(pool(maps, "max"), maps.max(axis=(1, 2)))
    np.testing.assert_allclose(pool(maps, "avg"), maps.mean(axis=(1, 2)), atol=1e-6)
    np.testing.assert_array_equal(pool(maps, "none"), maps)
    np.testing.assert_array_equal(pool(maps, "auto"), maps.reshape(2, 36))


@pytest.mark.parametrize("pooling", ["auto", "none", "avg", "max", "grid2"])
def test_the_shape_announced_is_the_shape_given(pooling: str) -> None:
    maps = np.zeros((2, 5, 4, 512), np.float32)
    assert pool(maps, pooling).shape[1:] == pooled_shape(pooling, maps.shape[1:])


def test_a_grid_finer_than_the_map_is_refused() -> None:
    with pytest.raises(InputError, match="--pooling grid4 needs a map of 4x4 or more and a layer has 3x3; choose"):
        pooled_shape("grid4", (3, 3, 512))
