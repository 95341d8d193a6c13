from collections.abc import Iterator, Sequence
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from thaw.features.schema import create_feature_file
from thaw.features.store import FeatureFile
from thaw.models.neural.batches import BLOCK_ROWS, BUFFER_SHARE, FEWEST_BLOCKS, CachedActivations, rebatch

SHAPE = (2, 1, 2)
ROWS = 60
ROW_BYTES = 16
HOLES = np.arange(ROWS) % 7 % 3 != 1
INFINITE = float("inf")
EXAMPLES = settings(max_examples=60, deadline=None)

# Every value tells its row and its index in it; the values of the second view are below zero.
VALUES = np.arange(4 * ROWS, dtype=np.float32).reshape(ROWS, *SHAPE)
VIEWS = (VALUES, -VALUES - 1)


def write(path: Path, values: np.ndarray, dtype: str = "float32") -> FeatureFile:
    num_rows = len(values)
    columns = {
        "labels": np.zeros(num_rows, np.int64),
        "ids": [f"{row}.png" for row in range(num_rows)],
        "split": np.zeros(num_rows, np.uint8),
        "class_names": ["a"],
    }
    layers = {"maps": values, "flat": values.reshape(num_rows, -1)}
    with create_feature_file(path, {name: layer.shape for name, layer in layers.items()}, dtype, columns, {}) as file:
        for name, layer in layers.items():
            file[f"features/{name}"][...] = layer
    return FeatureFile(path)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[FeatureFile]]:
    """The images and a second view of them."""
    folder = tmp_path_factory.mktemp("activations")
    with write(folder / "view0.h5", VIEWS[0]) as first, write(folder / "view1.h5", VIEWS[1]) as second:
        yield [first, second]


@pytest.fixture(scope="module")
def long_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FeatureFile]:
    values = np.arange(4 * 5000, dtype=np.float32).reshape(5000, *SHAPE)
    with write(tmp_path_factory.mktemp("activations") / "long.h5", values) as file:
        yield file


def cached(
    files: Sequence[FeatureFile], mask: np.ndarray = HOLES, budget: float = INFINITE, layer: str = "maps"
) -> CachedActivations:
    return CachedActivations(files, layer, SHAPE, mask, budget)


def order(source: CachedActivations, batch_size: int = 16, seed: int = 0, epoch: int = 1) -> list[int]:
    return np.concatenate([numbers for _, numbers in source.epoch(batch_size, seed, epoch)]).tolist()


def views_taken(source: CachedActivations, mask: np.ndarray, epoch: int) -> np.ndarray:
    """Return each sample's view in an epoch, checking that all its values are that view's."""
    views = np.full(source.num_samples, -1)
    rows = np.flatnonzero(mask)
    for inputs, numbers in source.epoch(16, 0, epoch):
        views[numbers] = inputs[:, 0, 0, 0] < 0
        np.testing.assert_array_equal(inputs, np.stack(VIEWS)[views[numbers], rows[numbers]])
    return views


@EXAMPLES
@given(
    mask=arrays(bool, ROWS),
    batch_size=st.integers(1, ROWS + 5),
    budget=st.one_of(st.just(INFINITE), st.integers(0, 2 * ROW_BYTES * ROWS)),
    block_rows=st.integers(1, 20),
    num_views=st.integers(1, 2),
    layer=st.sampled_from(["maps", "flat"]),
    seed=st.integers(0, 2**31),
)
def test_every_sample_comes_once_in_full_batches_with_its_own_values(
    files: list[FeatureFile],
    mask: np.ndarray,
    batch_size: int,
    budget: float,
    block_rows: int,
    num_views: int,
    layer: str,
    seed: int,
) -> None:
    with patch("thaw.models.neural.batches.BLOCK_ROWS", block_rows):
        source = cached(files[:num_views], mask, budget, layer)
        batches = list(source.epoch(batch_size, seed, 3))
    numbers = np.concatenate([numbers for _, numbers in batches]) if batches else np.empty(0, int)
    assert source.num_samples == mask.sum()
    assert sorted(numbers) == list(range(source.num_samples))
    assert all(len(numbers) == batch_size for _, numbers in batches[:-1])
    assert all(0 < len(numbers) <= batch_size for _, numbers in batches[-1:])
    for inputs, numbers in batches:
        assert inputs.dtype == np.float32
        assert inputs.shape == (len(numbers), *SHAPE)
        rows = np.flatnonzero(mask)[numbers]
        matches = [(inputs == view[rows]).all(axis=(1, 2, 3)) for view in VIEWS[:num_views]]
        assert np.logical_or.reduce(matches).all()


@EXAMPLES
@given(
    mask=arrays(bool, ROWS),
    batch_size=st.integers(1, ROWS + 5),
    budget=st.sampled_from([INFINITE, 0]),
    view=st.integers(0, 1),
    layer=st.sampled_from(["maps", "flat"]),
)
def test_in_order_gives_the_rows_of_the_mask_in_order(
    files: list[FeatureFile], mask: np.ndarray, batch_size: int, budget: float, view: int, layer: str
) -> None:
    batches = list(cached(files, mask, budget, layer).in_order(batch_size, view))
    assert all(len(batch) == batch_size for batch in batches[:-1])
    np.testing.assert_array_equal(np.concatenate([np.empty((0, *SHAPE)), *batches]), VIEWS[view][mask])
    assert {batch.dtype for batch in batches} <= {np.dtype(np.float32)}


@pytest.mark.parametrize("budget", [INFINITE, 500, 0])
def test_seed_and_epoch_alone_make_the_order(
    files: list[FeatureFile], budget: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("thaw.models.neural.batches.BLOCK_ROWS", 4)
    source = cached(files[:1], budget=budget)
    expected = order(source, seed=5, epoch=2)
    assert expected != sorted(expected)
    assert order(source, seed=5, epoch=2) == expected
    assert order(cached(files[:1], budget=budget), seed=5, epoch=2) == expected
    assert order(source, batch_size=7, seed=5, epoch=2) == expected
    assert order(source, seed=5, epoch=3) != expected
    assert order(source, seed=6, epoch=2) != expected


@pytest.mark.parametrize("budget", [INFINITE, 0])
def test_each_sample_takes_one_of_its_views_and_another_in_other_epochs(
    files: list[FeatureFile], budget: float
) -> None:
    source = cached(files, budget=budget)
    assert source.num_views == 2
    views = np.stack([views_taken(source, HOLES, epoch) for epoch in range(20)])
    assert (views.min(axis=1) == 0).all()
    assert (views.max(axis=1) == 1).all()
    assert (views.min(axis=0) == 0).all()
    assert (views.max(axis=0) == 1).all()
    assert 0.4 < views.mean() < 0.6


def test_the_same_seed_and_epoch_give_the_same_views(files: list[FeatureFile]) -> None:
    for budget in (INFINITE, 0):
        first, again, later = (views_taken(cached(files, budget=budget), HOLES, epoch) for epoch in (1, 1, 2))
        np.testing.assert_array_equal(first, again)
        assert (first != later).any()


def test_one_view_alone_gives_the_images_as_they_are(files: list[FeatureFile]) -> None:
    assert not views_taken(cached(files[:1]), HOLES, 1).any()


@pytest.mark.parametrize("num_views", [1, 2])
def test_activations_stay_in_memory_if_they_fit_the_budget(files: list[FeatureFile], num_views: int) -> None:
    needed = num_views * ROW_BYTES * int(HOLES.sum())
    assert cached(files[:num_views]).bytes == needed
    assert cached(files[:num_views], budget=needed).in_memory
    assert not cached(files[:num_views], budget=needed - 1).in_memory


def test_what_is_in_memory_needs_the_file_no_more(tmp_path: Path) -> None:
    with write(tmp_path / "features.h5", VALUES) as file:
        source = cached([file])
    assert sorted(order(source)) == list(range(source.num_samples))


def test_half_precision_in_the_file_is_single_precision_in_the_batch(tmp_path: Path) -> None:
    with write(tmp_path / "features.h5", VALUES, "float16") as file:
        for budget in (INFINITE, 0):
            inputs, numbers = next(cached([file], budget=budget).epoch(8, 0, 1))
            assert inputs.dtype == np.float32
            np.testing.assert_array_equal(inputs, VALUES[HOLES][numbers])


@pytest.mark.parametrize(("budget", "blocks"), [(0, 16), (10_000, 16), (40_000, 19), (79_999, 39)])
def test_no_more_is_read_ahead_than_the_buffer_holds(
    long_file: FeatureFile, budget: float, blocks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = cached([long_file], np.ones(5000, bool), budget)
    assert not source.in_memory
    assert source.buffer_blocks == blocks
    assert blocks == FEWEST_BLOCKS or 2 * ROW_BYTES * BLOCK_ROWS * blocks <= BUFFER_SHARE * budget
    read: list[int] = []
    read_rows = long_file.read_rows

    def counted(layer: str, rows: np.ndarray) -> np.ndarray:
        read.append(len(rows))
        return read_rows(layer, rows)

    monkeypatch.setattr(long_file, "read_rows", counted)
    ahead, given_out = [], 0
    for _, numbers in source.epoch(32, 0, 1):
        ahead.append(sum(read) - given_out)
        given_out += len(numbers)
    assert max(read) == BLOCK_ROWS
    assert sum(read) == given_out == 5000
    assert BLOCK_ROWS * blocks <= max(ahead) < BLOCK_ROWS * blocks + 32


def test_the_buffers_blocks_are_shuffled_together(long_file: FeatureFile) -> None:
    source = cached([long_file], np.ones(5000, bool), 79_999)
    blocks = [set(numbers // BLOCK_ROWS) for _, numbers in source.epoch(32, 0, 1)]
    assert all(len(mixed) >= 2 for mixed in blocks[:20])
    assert len(set.union(*blocks[: source.buffer_blocks * BLOCK_ROWS // 32 - 8])) == source.buffer_blocks


def test_the_blocks_come_in_another_order_in_every_epoch(long_file: FeatureFile) -> None:
    source = cached([long_file], np.ones(5000, bool), 0)
    orders = [list(dict.fromkeys(np.array(order(source, epoch=epoch)) // BLOCK_ROWS)) for epoch in (1, 2)]
    assert sorted(orders[0]) == sorted(orders[1])
    assert orders[0] != sorted(orders[0])
    assert orders[0] != orders[1]


@EXAMPLES
@given(st.lists(st.integers(0, 20), max_size=12), st.integers(1, 30))
def test_rebatch_keeps_the_order_and_waits_for_no_more_groups_than_it_needs(sizes: list[int], batch_size: int) -> None:
    ends = np.cumsum(sizes, dtype=int)
    taken: list[int] = []

    def groups() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for size, end in zip(sizes, ends, strict=True):
            taken.append(size)
            numbers = np.arange(end - size, end)
            yield 10 * numbers[:, None], numbers

    total, received = sum(sizes), []
    for inputs, numbers in rebatch(groups(), batch_size):
        np.testing.assert_array_equal(inputs, 10 * numbers[:, None])
        received.append(numbers)
        if len(numbers) == batch_size:
            assert sum(taken[:-1]) < len(received) * batch_size
    assert [len(numbers) for numbers in received] == [
        min(batch_size, total - start) for start in range(0, total, batch_size)
    ]
    assert [int(number) for numbers in received for number in numbers] == list(range(total))
