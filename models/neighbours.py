"""The training images most like an image by its features: a query takes milliseconds, memory is bounded."""

from collections.abc import Iterator, Sequence

import numpy as np

from features.store import InputError
from models.blocks import Blocks, block_rows

MOST_BYTES = 200 * 10**6  # of features as they are; more are projected
PROJECTED = 256  # dimensions, in which a cosine is off by 1 / sqrt(256) = 0.06 at most in two of three cases
SEED = 0
PRODUCT_BYTES = 2**25  # of the similarities that are held at a time


class Neighbours:
    """n rows of features (n, D) with their `ids` and `labels` (n,), ready to be searched.

    The similarity of two images is the cosine of their features after the mean of the n rows is subtracted, from -1 to
    1: features behind a rectifier are not negative, and without that step all of them would be alike.

    `rows` are read once. Where they take more than 200 MB, they are kept as a seeded random projection to 256
    dimensions, entries drawn from N(0, 1/256), which keeps distances and angles nearly as they are (Johnson and
    Lindenstrauss 1984; this construction: Indyk and Motwani, STOC 1998); `is_exact` is False then.
    Raises InputError where there is no row, or not as many ids or labels as rows.
    """

    def __init__(self, rows: Blocks, ids: Sequence[str], labels: np.ndarray):
        num_rows, num_features = rows.shape
        if not num_rows or len(ids) != num_rows or len(labels) != num_rows:
            raise InputError(
                f"received {num_rows} rows of features, {len(ids)} ids and {len(labels)} labels; expected as many of "
                "each, and one at least"
            )
        self.ids, self.labels, self.num_features = list(ids), np.asarray(labels), num_features
        self.is_exact = 4 * num_rows * num_features <= MOST_BYTES or num_features <= PROJECTED
        self._projection = None if self.is_exact else _projection(num_features)
        self._mean, self._directions = self._read(rows)

    def find(self, queries: np.ndarray, num: int = 5) -> tuple[np.ndarray, np.ndarray]:
        """Return the places of the rows most like each of the `queries` (q, D) float32, the most alike first.

        That is (q, num) int64, and how alike they are, (q, num) float32; of rows just as alike the first comes first.
        `num` is lowered to n. Raises InputError where the queries are not of D features.
        """
        if queries.ndim != 2 or queries.shape[1] != self.num_features:
            raise InputError(f"received features of shape {queries.shape}; expected (images, {self.num_features})")
        num = min(num, len(self.ids))
        places = np.empty((len(queries), num), np.int64)
        similarities = np.empty((len(queries), num), np.float32)
        for some in _parts(len(queries), len(self.ids)):
            centred = _unit(self._project(np.asarray(queries[some], np.float32)) - self._mean)
            places[some], similarities[some] = _largest(centred @ self._directions.T, num)
        return places, np.clip(similarities, -1, 1)  # rounding

    def _project(self, block: np.ndarray) -> np.ndarray:
        return block if self._projection is None else block @ self._projection

    def _read(self, rows: Blocks) -> tuple[np.ndarray, np.ndarray]:
        """Return the mean (d,) and the rows' directions from it (n, d), float32; both projected, or neither."""
        width = rows.shape[1] if self._projection is None else PROJECTED
        kept, total = np.empty((rows.shape[0], width), np.float32), np.zeros(width)
        for some in block_rows(rows):
            kept[some] = self._project(rows.read(some))
            total += kept[some].sum(axis=0, dtype=np.float64)
        mean = (total / len(kept)).astype(np.float32)  # the projection of the mean is the mean of the projected
        for some in block_rows(rows):
            kept[some] = _unit(kept[some] - mean)
        return mean, kept


def _projection(num_features: int) -> np.ndarray:
    """Return the random matrix (D, 256) float32; the same for the same D."""
    drawn = np.random.default_rng(SEED).standard_normal((num_features, PROJECTED), np.float32)
    return drawn / np.float32(np.sqrt(PROJECTED))


def _unit(rows: np.ndarray) -> np.ndarray:
    """Return rows (n, d) scaled to length 1; one without length stays so, and is like no other."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > np.finfo(np.float32).tiny)


def _parts(num_queries: int, num_rows: int) -> Iterator[slice]:
    step = max(1, PRODUCT_BYTES // (4 * num_rows))
    for start in range(0, num_queries, step):
        yield slice(start, min(start + step, num_queries))


def _largest(values: np.ndarray, num: int) -> tuple[np.ndarray, np.ndarray]:
    """Return places and values of the `num` largest of each row of (q, n), the largest first, then the first place."""
    if 0 < num < values.shape[1]:
        places = np.sort(np.argpartition(-values, num - 1, axis=1)[:, :num], axis=1)
    else:
        places = np.broadcast_to(np.arange(num), (len(values), num))
    order = np.argsort(-np.take_along_axis(values, places, axis=1), axis=1, kind="stable")
    places = np.take_along_axis(places, order, axis=1)
    return places, np.take_along_axis(values, places, axis=1)
