"""Images that are copies of one another, by small grey pictures of them: equal, mirrored, turned or re-encoded."""

from collections.abc import Iterator

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from thaw.models.audit.duplicates import SAME_IMAGE_CORRELATION, centred_pixels

ROWS = 2048  # compared with all others in one product


def groups_of_copies(thumbnails: np.ndarray) -> np.ndarray:
    """Return a number for each image, int64 (n,), which copies share; images of one grey share none.

    Two images are copies if their pixels correlate by 0.985, as they are, mirrored or turned by quarters.

    Args:
        thumbnails: square grey images (n, S, S).
    """
    whole = centred_pixels(thumbnails).astype(np.float32)
    views = [centred_pixels(view).astype(np.float32) for view in _views(thumbnails)]
    first, second = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for start in range(0, len(whole), ROWS):
        part = whole[start : start + ROWS]
        for view in views:
            rows, columns = np.nonzero(part @ view.T >= SAME_IMAGE_CORRELATION)
            first.append(start + rows)
            second.append(columns)
    pairs = np.concatenate(first), np.concatenate(second)
    graph = coo_matrix((np.ones(len(pairs[0]), bool), pairs), (len(whole), len(whole)))
    return connected_components(graph, directed=False)[1].astype(np.int64)


def joined_groups(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return groups, int64 (n,), in which two rows are together if they are in either of two groupings, each (n,)."""
    num_rows = len(first)
    rows = np.arange(num_rows)
    codes = [np.unique(groups, return_inverse=True)[1] for groups in (first, second)]
    ends = np.concatenate([num_rows + codes[0], num_rows + codes[0].max(initial=-1) + 1 + codes[1]])
    total = int(ends.max(initial=num_rows - 1)) + 1
    graph = coo_matrix((np.ones(2 * num_rows, bool), (np.concatenate([rows, rows]), ends)), (total, total))
    return connected_components(graph, directed=False)[1][:num_rows].astype(np.int64)


def _views(images: np.ndarray) -> Iterator[np.ndarray]:
    for turns in range(4):
        turned = np.rot90(images, turns, axes=(1, 2))
        yield turned
        yield turned[:, :, ::-1]
