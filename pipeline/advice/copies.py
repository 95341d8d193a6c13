"""Copies among a run's images: they are kept together, so that none is fitted while its copy is held out."""

import logging

import numpy as np

from thaw.features.datasets.dataset import Dataset
from thaw.features.errors import InputError
from thaw.features.images.decode import least_side
from thaw.features.images.preprocess import resize
from thaw.models.audit.copies import groups_of_copies, joined_groups

log = logging.getLogger("thaw")

THUMBNAIL = 16  # pixels a side
MOST_COMPARED = 30_000  # images whose pixels are compared; of more, equal files alone are found


def groups_with_copies(dataset: Dataset, split: np.ndarray) -> np.ndarray | None:
    """Return the group of each image, int64 (N,): the data's own groups, joined if copies lie in several of them.

    Images that are not test are compared; a test image is a group of its own if the data have none. The number of
    copies is logged.

    Args:
        dataset: The N images.
        split: uint8 (N,).

    Returns:
        The groups; None if the data have none and no image has a copy.
    """
    own = np.arange(len(dataset.ids)) if dataset.groups is None else np.unique(dataset.groups, return_inverse=True)[1]
    rows = np.flatnonzero(split != 2)
    copies = np.arange(len(dataset.ids))
    copies[rows] = len(dataset.ids) + _copies(dataset, rows)
    num_copies = len(rows) - len(np.unique(copies[rows]))
    if not num_copies:
        return None if dataset.groups is None else own
    log.info("%d images that are not test are copies of others (equal, mirrored or turned): kept together", num_copies)
    return joined_groups(own, copies)


def _copies(dataset: Dataset, rows: np.ndarray) -> np.ndarray:
    """Return a number for each of the images at `rows` (n,), which copies share."""
    if len(rows) > MOST_COMPARED:
        return np.unique([dataset.content(row) for row in rows], return_inverse=True)[1]
    thumbnails = np.empty((len(rows), THUMBNAIL, THUMBNAIL))
    for place, row in enumerate(rows):
        thumbnails[place] = _thumbnail(dataset, row)
    return groups_of_copies(thumbnails)


def _thumbnail(dataset: Dataset, row: int) -> np.ndarray:
    """Return an image as a small grey one, (16, 16); one of one grey if it cannot be read."""
    try:
        return resize(dataset.read(row, least_side(THUMBNAIL, "area")), THUMBNAIL, "area").mean(axis=2)
    except InputError:
        return np.zeros((THUMBNAIL, THUMBNAIL))
