"""models/audit/duplicates.py against whole products; planted copies, blocks, mirrored images."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thaw.models.audit.duplicates import (
    NEAR_COSINE,
    AveragedBlocks,
    NearestRows,
    equal_contents,
    nearest,
    pixel_correlation,
)
from thaw.models.solver.blocks import ArrayBlocks


def features(seed: int, num_rows: int, num_features: int = 24) -> np.ndarray:
    return np.random.default_rng(seed).gamma(2.0, size=(num_rows, num_features)).astype(np.float32)


def plain_cosines(queries: np.ndarray, others: np.ndarray) -> np.ndarray:
    mean, deviation = others.mean(axis=0, dtype=np.float64), others.std(axis=0, dtype=np.float64)
    first, second = (queries - mean) / deviation, (others - mean) / deviation
    lengths = np.linalg.norm(first, axis=1)[:, None] * np.linalg.norm(second, axis=1)
    return first @ second.T / lengths


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 40), st.integers(8, 60))
def test_the_nearest_row_is_that_of_the_whole_product(seed: int, num_queries: int, num_others: int) -> None:
    queries, others = features(seed, num_queries), features(seed + 1, num_others)
    expected = plain_cosines(queries, others)
    found = nearest(ArrayBlocks(queries), ArrayBlocks(others))
    np.testing.assert_allclose(found.similarities, expected.max(axis=1), atol=1e-4)
    tenth = np.sort(expected, axis=1)[:, -10] if num_others >= 10 else np.full(num_queries, -1)
    np.testing.assert_allclose(found.tenth, tenth, atol=1e-4)
    np.testing.assert_allclose(expected[np.arange(num_queries), found.indices], expected.max(axis=1), atol=1e-4)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    queries, others = ArrayBlocks(features(0, 90)), ArrayBlocks(features(1, 200))
    whole = nearest(queries, others)
    monkeypatch.setattr("thaw.models.audit.duplicates.QUERY_ROWS", 40)
    monkeypatch.setattr("thaw.models.audit.duplicates.PRODUCT_ROWS", 7)
    monkeypatch.setattr("thaw.models.solver.blocks.BLOCK_ROWS", 33)
    pieces = nearest(queries, others)
    np.testing.assert_array_equal(pieces.indices, whole.indices)
    np.testing.assert_allclose(pieces.similarities, whole.similarities, atol=1e-6)


def test_planted_copies_are_near_and_strangers_are_not() -> None:
    queries, others = features(0, 100), features(1, 300)
    generator = np.random.default_rng(2)
    sources = generator.permutation(300)[:30]
    queries[:30] = others[sources] + generator.normal(0, 0.1, (30, 24))
    found = nearest(ArrayBlocks(queries), ArrayBlocks(others))
    assert (found.indices[:30] == sources).all()
    assert found.is_near.tolist() == [True] * 30 + [False] * 70


def test_a_row_is_near_if_it_stands_out() -> None:
    similarities = np.array([0.9, 0.9, 0.99, NEAR_COSINE - 0.01], np.float32)
    tenth = np.array([0.75, 0.85, 0.985, 0.2], np.float32)  # a crowd lies around the second and the third
    assert NearestRows(np.arange(4), similarities, tenth).is_near.tolist() == [True, False, False, False]


def test_constant_features_do_not_count() -> None:
    queries, others = features(0, 20), features(1, 50)
    constant = [np.hstack([rows, np.full((len(rows), 3), 0.1, np.float32)]) for rows in (queries, others)]
    constant[0][:, -1] = 5  # elsewhere it would outweigh all others
    bare, found = (nearest(ArrayBlocks(a), ArrayBlocks(b)) for a, b in ((queries, others), constant))
    np.testing.assert_array_equal(found.indices, bare.indices)
    np.testing.assert_allclose(found.similarities, bare.similarities, atol=1e-5)


def test_no_queries() -> None:
    found = nearest(ArrayBlocks(features(0, 0)), ArrayBlocks(features(1, 5)))
    assert len(found.indices) == len(found.similarities) == 0


def test_maps_are_averaged_over_their_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    maps = np.random.default_rng(0).random((30, 3, 2, 5)).astype(np.float32)
    monkeypatch.setattr("thaw.models.solver.blocks.BLOCK_ROWS", 4)
    averaged = AveragedBlocks(ArrayBlocks(maps.reshape(30, -1)), 5)
    assert averaged.shape == (30, 5)
    np.testing.assert_allclose(averaged.read(slice(3, 28)), maps[3:28].mean(axis=(1, 2)), rtol=1e-5)


def test_equal_contents() -> None:
    indices = equal_contents([b"b", b"x", b"a"], [b"a", b"b", b"b"])
    assert indices.tolist() == [1, -1, 0]


def test_images_correlate_if_mirrored_or_brighter() -> None:
    images = np.random.default_rng(0).random((6, 8, 8))
    assert pixel_correlation(images, images[:, :, ::-1]) == pytest.approx(np.ones(6))
    assert pixel_correlation(images, 3 * images + 20) == pytest.approx(np.ones(6))
    assert (pixel_correlation(images, np.roll(images, 1, axis=0)) < 0.6).all()
    assert pixel_correlation(images[:1], np.full((1, 8, 8), 0.3)).tolist() == [0]


def test_no_pairs_of_images_have_no_correlation() -> None:
    assert pixel_correlation(np.empty((0, 16, 16)), np.empty((0, 16, 16))).shape == (0,)
