"""The training images most like an image by its features: a query takes milliseconds, memory is bounded."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from thaw.features.errors import InputError
from thaw.models.solver.blocks import Blocks, block_rows

MAX_EXACT_BYTES = 200 * 10**6  # of features as they are; more are projected
# In 512 dimensions a cosine is off by about 1 / sqrt(512) = 0.04. Of the three images of 3,116 that are most like one
# of CIFAR-10 by the flattened block4_pool of VGG16, 55 % are among the three that are found then; with 256 dimensions
# 41 %, with 1,024, twice as slow and as large, 64 %. The images found instead are nearly as near: 0.34, not 0.36.
PROJECTED_FEATURES = 512
SEED = 0
PRODUCT_BYTES = 2**25  # of the similarities that are held at a time


class Likeness(NamedTuple):
    """An image that is not test: its id, its class's name, and its similarity to another image, from -1 to 1."""

    id: str
    label: str
    similarity: float


class Neighbours:
    """A search among n rows of features (n, D).

    The similarity of two images is the cosine of their features minus the mean of the n rows, from -1 to 1. Features
    behind a rectifier are not negative; with their mean, all of them would be alike.

    The rows are read once. If they take more than 200 MB, they are kept as a seeded random projection to 512
    dimensions, entries drawn from N(0, 1/512), which nearly keeps distances and angles (Johnson and Lindenstrauss 1984;
    this construction: Indyk and Motwani, STOC 1998). Then `is_exact` is False.

    Args:
        rows: the features.
        ids: the ids of the n images.
        labels: their classes, (n,).

    Raises:
        InputError: there is no row, or the numbers of rows, ids and labels differ.
    """

    def __init__(self, rows: Blocks, ids: Sequence[str], labels: np.ndarray):
        num_rows, num_features = rows.shape
        if not num_rows or len(ids) != num_rows or len(labels) != num_rows:
            raise InputError(
                f"received {num_rows} rows of features, {len(ids)} ids and {len(labels)} labels; expected as many of "
                "each, and one at least"
            )
        self.ids, self.labels, self.num_features = list(ids), np.asarray(labels), num_features
        self.is_exact = 4 * num_rows * num_features <= MAX_EXACT_BYTES or num_features <= PROJECTED_FEATURES
        self._projection = None if self.is_exact else _projection(num_features)
        self._mean, self._directions = self._read(rows)

    def find(self, queries: np.ndarray, num: int = 5) -> tuple[np.ndarray, np.ndarray]:
        """Return the indices of the rows most like each query, the most alike first, and their similarities.

        Args:
            queries: (q, D) float32.
            num: the number of rows for each query, lowered to n.

        Returns:
            (q, num) int64 and (q, num) float32.

        Raises:
            InputError: the queries have another number of features.
        """
        _check(queries, self.num_features)
        num = min(num, len(self.ids))
        indices = np.empty((len(queries), num), np.int64)
        similarities = np.empty((len(queries), num), np.float32)
        for some in _parts(len(queries), len(self.ids)):
            directions = unit_rows(self._project(np.asarray(queries[some], np.float32) - self._mean))
            indices[some], similarities[some] = _largest(directions @ self._directions.T, num)
        return indices, np.clip(similarities, -1, 1)  # rounding

    def _project(self, block: np.ndarray) -> np.ndarray:
        return block if self._projection is None else block @ self._projection

    def _read(self, rows: Blocks) -> tuple[np.ndarray, np.ndarray]:
        """Return the mean (D,) and the rows' directions from it, (n, D) or projected, float32."""
        width = rows.shape[1] if self._projection is None else PROJECTED_FEATURES
        kept, total = np.empty((rows.shape[0], width), np.float32), np.zeros(rows.shape[1])
        for some in block_rows(rows):
            block = rows.read(some)
            kept[some] = self._project(block)
            total += block.sum(axis=0, dtype=np.float64)
        mean = (total / len(kept)).astype(np.float32)
        centre = self._project(mean[None])
        for some in block_rows(rows):
            kept[some] = unit_rows(kept[some] - centre)
        return mean, kept


def find_once(rows: Blocks, queries: np.ndarray, num: int) -> tuple[np.ndarray, np.ndarray]:
    """Return what `Neighbours(rows, ...).find(queries, num)` does, but exactly however many rows there are.

    It is for a few queries that are all at hand. A block and the best rows are held, and the rows are read twice.
    """
    _check(queries, rows.shape[1])
    total = np.zeros(rows.shape[1])
    for some in block_rows(rows):
        total += rows.read(some).sum(axis=0, dtype=np.float64)
    mean = (total / rows.shape[0]).astype(np.float32)
    directions = unit_rows(np.asarray(queries, np.float32) - mean)
    indices, similarities = np.empty((len(queries), 0), np.int64), np.empty((len(queries), 0), np.float32)
    for some in block_rows(rows):
        cosines = directions @ unit_rows(rows.read(some) - mean).T
        new = np.broadcast_to(np.arange(some.start, some.stop), cosines.shape)
        indices, similarities = np.hstack([indices, new]), np.hstack([similarities, cosines])
        best, similarities = _largest(similarities, min(num, indices.shape[1]))
        indices = np.take_along_axis(indices, best, axis=1)
    return indices, np.clip(similarities, -1, 1)


def _check(queries: np.ndarray, num_features: int) -> None:
    if queries.ndim != 2 or queries.shape[1] != num_features:
        raise InputError(f"received features of shape {queries.shape}; expected (images, {num_features})")


def _projection(num_features: int) -> np.ndarray:
    """Return the random matrix (D, 512) float32, which depends on D alone."""
    drawn = np.random.default_rng(SEED).standard_normal((num_features, PROJECTED_FEATURES), np.float32)
    return drawn / np.float32(np.sqrt(PROJECTED_FEATURES))


def unit_rows(rows: np.ndarray, smallest: float = float(np.finfo(np.float32).tiny)) -> np.ndarray:
    """Return rows (n, d) scaled to length 1; a row of at most the `smallest` length becomes 0 and is like no other."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > smallest)


def _parts(num_queries: int, num_rows: int) -> Iterator[slice]:
    step = max(1, PRODUCT_BYTES // (4 * num_rows))
    for start in range(0, num_queries, step):
        yield slice(start, min(start + step, num_queries))


def _largest(values: np.ndarray, num: int) -> tuple[np.ndarray, np.ndarray]:
    """Return indices and values of the `num` largest of each row of (q, n), the largest first."""
    if 0 < num < values.shape[1]:
        indices = np.sort(np.argpartition(-values, num - 1, axis=1)[:, :num], axis=1)
    else:
        indices = np.broadcast_to(np.arange(num), (len(values), num))
    order = np.argsort(-np.take_along_axis(values, indices, axis=1), axis=1, kind="stable")
    indices = np.take_along_axis(indices, order, axis=1)
    return indices, np.take_along_axis(values, indices, axis=1)
