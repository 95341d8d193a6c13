"""models/audit/similarity_search.py against whole products; the projected rows against the exact ones."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thaw.features.errors import InputError
from thaw.features.schema import create_feature_file
from thaw.features.store import FeatureFile, FeatureRows
from thaw.models.audit import similarity_search
from thaw.models.audit.similarity_search import Neighbours, find_once
from thaw.models.solver.blocks import ArrayBlocks


def features(seed: int, num_rows: int, num_features: int = 24) -> np.ndarray:
    return np.random.default_rng(seed).gamma(2.0, size=(num_rows, num_features)).astype(np.float32)


def built(rows: np.ndarray, labels: np.ndarray | None = None) -> Neighbours:
    numbers = np.arange(len(rows)) if labels is None else labels
    return Neighbours(ArrayBlocks(rows), [f"train/{row:05d}" for row in range(len(rows))], numbers)


def plain_cosines(queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
    mean = rows.mean(axis=0, dtype=np.float64)
    first, second = queries - mean, rows - mean
    return first @ second.T / (np.linalg.norm(first, axis=1)[:, None] * np.linalg.norm(second, axis=1))


def clusters(seed: int, num_rows: int, num_features: int = 1200) -> tuple[np.ndarray, np.ndarray]:
    """Rows in 60 groups, about the same 60 centres for every seed, and the group of each."""
    centres = np.random.default_rng(9).gamma(1.0, size=(60, num_features))
    generator = np.random.default_rng(seed)
    groups = generator.integers(60, size=num_rows)
    noise = generator.normal(0, 0.7, (num_rows, num_features))
    return np.maximum(centres[groups] + noise, 0).astype(np.float32), groups


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 20), st.integers(2, 60), st.integers(1, 8))
def test_the_nearest_are_those_of_the_whole_product(seed: int, num_queries: int, num_rows: int, num: int) -> None:
    queries, rows = features(seed, num_queries), features(seed + 1, num_rows)
    expected = plain_cosines(queries, rows)
    indices, similarities = built(rows).find(queries, num)
    assert indices.shape == similarities.shape == (num_queries, min(num, num_rows))
    assert (indices.dtype, similarities.dtype) == (np.int64, np.float32)
    best = -np.sort(-expected, axis=1)[:, :num]
    np.testing.assert_allclose(similarities, best, atol=1e-4)
    np.testing.assert_allclose(np.take_along_axis(expected, indices, axis=1), best, atol=1e-4)


def test_parts_and_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    queries, rows = features(0, 90), features(1, 200)
    whole = built(rows).find(queries)
    monkeypatch.setattr(similarity_search, "PRODUCT_BYTES", 4 * 200 * 7)
    monkeypatch.setattr("thaw.models.solver.blocks.BLOCK_ROWS", 33)
    pieces = built(rows).find(queries)
    np.testing.assert_array_equal(pieces[0], whole[0])
    np.testing.assert_allclose(pieces[1], whole[1], atol=1e-6)


def test_a_row_is_its_own_neighbour_beside_its_copy() -> None:
    rows = features(2, 50)
    rows[31] = rows[7]
    indices, similarities = built(rows).find(rows[[7, 20]], 2)
    assert sorted(indices[0].tolist()) == [7, 31]
    assert indices[1, 0] == 20
    assert similarities[:, 0] == pytest.approx([1, 1], abs=1e-6)
    assert similarities.max() <= 1


def test_rows_without_a_direction_are_like_none() -> None:
    rows = np.ones((4, 3), np.float32)
    assert built(rows).find(rows[:1], 2)[1].tolist() == [[0, 0]]
    assert built(features(0, 5)).find(np.empty((0, 24), np.float32))[0].shape == (0, 5)


def test_many_rows_are_kept_projected_and_are_found_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    (rows, groups), (queries, wanted) = clusters(0, 3000), clusters(1, 100)
    exact = built(rows, groups)
    monkeypatch.setattr(similarity_search, "MAX_EXACT_BYTES", 10**6)
    projected = built(rows, groups)
    assert exact.is_exact
    assert not projected.is_exact
    assert projected._directions.nbytes == 4 * 3000 * 512
    (indices, similarities), (near, roughly) = exact.find(queries, 20), projected.find(queries, 20)
    assert (projected.labels[near] == wanted[:, None]).mean() > 0.99
    assert abs(roughly - similarities).mean() < 0.1
    among = exact.find(queries, 100)[0]
    assert np.mean([np.isin(a, b).mean() for a, b in zip(near, among, strict=True)]) > 0.95
    again = built(rows, groups).find(queries, 20)
    np.testing.assert_array_equal(again[0], near)
    np.testing.assert_array_equal(again[1], roughly)
    assert np.mean([np.isin(a, b).mean() for a, b in zip(indices, near, strict=True)]) > 0.4  # all are much alike


@pytest.mark.parametrize("num", [1, 3, 50])
def test_rows_that_are_not_kept_are_compared_exactly(num: int, monkeypatch: pytest.MonkeyPatch) -> None:
    queries, rows = features(0, 12), features(1, 40)
    expected = built(rows).find(queries, num)
    monkeypatch.setattr("thaw.models.solver.blocks.BLOCK_ROWS", 7)
    monkeypatch.setattr(similarity_search, "MAX_EXACT_BYTES", 100)
    received = find_once(ArrayBlocks(rows), queries, num)
    np.testing.assert_array_equal(received[0], expected[0])
    np.testing.assert_allclose(received[1], expected[1], atol=1e-6)
    assert (received[0].dtype, received[1].dtype) == (np.int64, np.float32)


def test_a_changed_copy_is_found_among_projected_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, _ = clusters(0, 3000)
    generator = np.random.default_rng(3)
    sources = generator.permutation(3000)[:80]
    queries = (rows[sources] + generator.normal(0, 0.1, (80, 1200))).astype(np.float32)
    monkeypatch.setattr(similarity_search, "MAX_EXACT_BYTES", 10**6)
    assert (built(rows).find(queries, 1)[0][:, 0] == sources).all()


def test_rows_come_from_a_feature_file_without_the_test_images(tmp_path: Path) -> None:
    values, split = features(5, 40, 8), np.array([0, 1, 2, 0] * 10, np.uint8)
    ids = [f"train/{row:05d}" for row in range(40)]
    columns = {"labels": np.arange(40), "ids": ids, "split": split, "class_names": [str(k) for k in range(40)]}
    with create_feature_file(tmp_path / "features.h5", {"block5_pool": (40, 8)}, "float32", columns, {}) as file:
        file["features/block5_pool"][...] = values
    with FeatureFile(tmp_path / "features.h5") as opened:
        mask = opened.split != 2
        kept = [name for name, keep in zip(opened.ids, mask, strict=True) if keep]
        found = Neighbours(FeatureRows(opened, ["block5_pool"], mask), kept, opened.labels[mask])
    indices, similarities = found.find(values[[3]], 3)
    assert found.ids[indices[0, 0]] == "train/00003"
    assert found.labels[indices[0, 0]] == 3
    np.testing.assert_allclose(similarities[0], -np.sort(-plain_cosines(values[[3]], values[mask]))[0, :3], atol=1e-4)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match="received 3 rows of features, 2 ids and 3 labels; expected as many of each"):
        Neighbours(ArrayBlocks(features(0, 3)), ["a", "b"], np.arange(3))
    with pytest.raises(InputError, match="received 0 rows"):
        built(features(0, 0))
    with pytest.raises(InputError, match=r"received features of shape \(2, 23\); expected \(images, 24\)"):
        built(features(0, 3)).find(features(1, 2, 23))
    with pytest.raises(InputError, match=r"received features of shape \(24,\); expected \(images, 24\)"):
        find_once(ArrayBlocks(features(0, 3)), features(1, 1)[0], 1)
