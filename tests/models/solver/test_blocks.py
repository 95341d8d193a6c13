import itertools
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thaw.models.solver import blocks as module
from thaw.models.solver.blocks import ArrayBlocks, BlockPool, Blocks, Known, SquareRoots, block_rows, signed_roots


def values(num_rows: int, num_features: int = 3) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((num_rows, num_features)).astype(np.float32)


@settings(max_examples=50, deadline=None)
@given(num_rows=st.integers(1, 60_000), num_features=st.integers(1, 100_000))
def test_the_slices_cover_every_row_once_and_fit(num_rows: int, num_features: int) -> None:
    array = np.broadcast_to(np.float32(0), (num_rows, num_features))
    rows = block_rows(ArrayBlocks(array))
    assert (rows[0].start, rows[-1].stop) == (0, num_rows)
    assert all(before.stop == after.start for before, after in itertools.pairwise(rows))
    assert max(part.stop - part.start for part in rows) <= max(1, min(8192, 2**23 // (4 * num_features)))


@settings(max_examples=30, deadline=None)
@given(num_rows=st.integers(1, 60_000), num_features=st.integers(1, 20_000), num_cores=st.integers(1, 64))
def test_the_slices_are_the_same_on_any_number_of_cores(num_rows: int, num_features: int, num_cores: int) -> None:
    """Unless rows are very few or wide, they are of nearly equal size, as many for each of four cores."""
    blocks = ArrayBlocks(np.broadcast_to(np.float32(0), (num_rows, num_features)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "cpu_count", lambda: num_cores)
        rows = block_rows(blocks)
    assert rows == block_rows(blocks)
    sizes = [part.stop - part.start for part in rows]
    if len(rows) > 1 and min(sizes) > 4 * len(rows):
        assert len(rows) % 4 == 0
        assert max(sizes) - min(sizes) <= len(rows)


def test_results_come_in_order_from_several_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK_ROWS", 7)
    monkeypatch.setattr(module, "_num_threads", lambda: 3)
    array, threads = values(500), set()

    def work(block: np.ndarray, known: Known) -> tuple[int, np.ndarray]:
        threads.add(threading.current_thread().name)
        return known.codes[0], block

    with BlockPool(ArrayBlocks(array)) as pool:
        results = list(pool.each(work, Known(np.arange(500))))
        again = list(pool.each(work, Known(np.arange(500))))
    assert [start for start, _ in results] == [part.start for part in pool.rows]
    np.testing.assert_array_equal(np.concatenate([block for _, block in results]), array)
    np.testing.assert_array_equal(np.concatenate([block for _, block in again]), array)
    assert threading.current_thread().name not in threads


def test_an_error_in_a_thread_reaches_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK_ROWS", 7)

    def work(block: np.ndarray, known: Known) -> None:
        if known.codes[0] > 20:
            raise OSError("the disk is gone")

    with BlockPool(ArrayBlocks(values(100))) as pool, pytest.raises(OSError, match="the disk is gone"):
        list(pool.each(work, Known(np.arange(100))))


def test_nothing_is_copied() -> None:
    array = values(100)
    assert np.shares_memory(ArrayBlocks(array).read(slice(3, 9)), array)


def test_roots_of_blocks_leave_the_blocks_as_they_are() -> None:
    array = np.array([[4, -9, 0]], np.float32)
    roots = SquareRoots(ArrayBlocks(array))
    assert isinstance(roots, Blocks)
    assert (roots.shape, roots.dtype) == ((1, 3), np.float32)
    np.testing.assert_array_equal(roots.read(slice(0, 1)), [[2, -3, 0]])
    np.testing.assert_array_equal(array, [[4, -9, 0]])
    assert signed_roots(array, out=array) is array
    np.testing.assert_array_equal(array, [[2, -3, 0]])
