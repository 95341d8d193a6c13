"""Duplicate images: equal contents, the nearest row by features, and images whose pixels correlate."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from thaw.models.audit.similarity_search import unit_rows
from thaw.models.solver.blocks import Blocks, OtherBlocks, block_rows

# A row is near by its cosine, and by its distance (1 - cosine) as a share of the distance of the tenth nearest row.
# The tenth tells what is usual around a row: if images are much alike, all are near. Measured on CIFAR-10 at 48 pixels
# with the averaged block4_pool of VGG16, 120 training images, each changed in one way, are found as near to themselves:
# all if 15 grey levels brighter or of a seventh more contrast, 99 % if moved by a pixel, 98 % without the outermost
# pixels, 95 % in half the JPEG quality. In samples of 16 pairs of test and training images from 0.86, from 0.8 and from
# 0.75 on, about 16, 15 and 13 were one image; but from 0.8 on there are also 22 of 360 digits, from 0.85 on 7.
NEAR_COSINE = 0.85
NEAR_DISTANCE_SHARE = 0.5
NUM_NEAREST = 10
# Mirrored images are found by features in 14 % of the cases. Cosines of 0.6 and more are everyday, but then the pixels
# can be compared. Of thumbnails of 16 x 16, those of the mirrored copies (and at half the JPEG quality) all correlate
# by 0.985, those of the digits' nearest images never, of CIFAR-10's in 3 of 1,200 cases. With them 85 % are found.
CANDIDATE_COSINE = 0.6
SAME_IMAGE_CORRELATION = 0.985
QUERY_ROWS = 2**16  # held at a time, 128 MiB of them with 512 features
PRODUCT_ROWS = 1024  # of the queries in one product
MAX_CONSTANT_VARIANCE = 1e-6  # over the mean square; below, a variance is float32's rounding
MIN_CONTRAST = 1e-6  # length of an image's centred pixels; below, the image has one grey


class AveragedBlocks(OtherBlocks):
    """The rows of feature maps averaged over their positions: the innermost axis of the maps are `channels`."""

    def __init__(self, blocks: Blocks, channels: int):
        super().__init__(blocks)
        self.shape = (blocks.shape[0], channels)

    def read(self, rows: slice) -> np.ndarray:
        """Return the averages of consecutive rows (n, channels); few maps are held at a time."""
        result = np.empty((rows.stop - rows.start, self.shape[1]), self.dtype)
        step = max(1, block_rows(self.blocks)[0].stop)
        for start in range(rows.start, rows.stop, step):
            maps = self.blocks.read(slice(start, min(start + step, rows.stop)))
            result[start - rows.start :][: len(maps)] = maps.reshape(len(maps), -1, self.shape[1]).mean(axis=1)
        return result


@dataclass(frozen=True)
class NearestRows:
    """For each of n rows, the most similar row among others.

    The similarity is the cosine of standardised features, from -1 to 1.

    Attributes:
        indices: the index of the most similar row, (n,) int64.
        similarities: its similarity, (n,) float32.
        tenth: the similarity of the tenth most similar row, (n,) float32.
    """

    indices: np.ndarray
    similarities: np.ndarray
    tenth: np.ndarray

    @property
    def is_near(self) -> np.ndarray:
        """Whether each row, (n,) bool, has a cosine of 0.85 and half the distance of the tenth."""
        stands_out = 1 - self.similarities <= NEAR_DISTANCE_SHARE * (1 - self.tenth)
        return stands_out & (self.similarities >= NEAR_COSINE)


def equal_contents(queries: Sequence[bytes], others: Sequence[bytes]) -> np.ndarray:
    """Return the index of the first of the `others` that equals each of the `queries`, (n,) int64; -1 for none."""
    indices: dict[bytes, int] = {}
    for index, content in enumerate(others):
        indices.setdefault(content, index)
    return np.array([indices.get(content, -1) for content in queries], np.int64)


def nearest(queries: Blocks, others: Blocks) -> NearestRows:
    """Return the most similar of the `others` (m, D) for each of the `queries` (n, D), m at least 1.

    Features are standardised over the others. Memory is bounded: the others are read twice for 65,536 queries.
    """
    scaling = _moments(others)
    cosines = np.full((queries.shape[0], NUM_NEAREST), -1, np.float32)
    indices = np.zeros(queries.shape[0], np.int64)
    for start in range(0, len(indices), QUERY_ROWS):
        some = slice(start, min(start + QUERY_ROWS, len(indices)))
        held = _directions(queries.read(some), scaling)
        for rows in block_rows(others):
            _improve(held, _directions(others.read(rows), scaling), rows.start, (cosines[some], indices[some]))
    cosines = np.minimum(cosines, 1)  # rounding
    return NearestRows(indices, cosines.max(axis=1), cosines.min(axis=1))


def _moments(blocks: Blocks) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of each feature, float32 (D,); infinity for a constant feature."""
    count, total, square = blocks.shape[0], np.zeros(blocks.shape[1]), np.zeros(blocks.shape[1])
    for rows in block_rows(blocks):
        block = blocks.read(rows)
        total += block.sum(axis=0, dtype=np.float64)
        square += np.square(block).sum(axis=0, dtype=np.float64)
    mean = total / count
    variance = square / count - np.square(mean)
    variance[variance <= MAX_CONSTANT_VARIANCE * square / count] = np.inf
    return mean.astype(np.float32), np.sqrt(variance).astype(np.float32)


def _directions(features: np.ndarray, scaling: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Return the standardised features (n, D) as vectors of length 1."""
    mean, deviation = scaling
    return unit_rows((features - mean) / deviation)


def _improve(held: np.ndarray, block: np.ndarray, first: int, found: tuple[np.ndarray, np.ndarray]) -> None:
    """Replace what a block improves on.

    Args:
        held: the directions of the queries, (n, D).
        block: the directions of some others.
        first: the index of the block's first row.
        found: the ten best cosines (n, 10) and the best one's index (n,), which are changed.
    """
    best, indices = found
    for start in range(0, len(held), PRODUCT_ROWS):
        part = slice(start, start + PRODUCT_ROWS)
        cosines = held[part] @ block.T
        columns = cosines.argmax(axis=1)
        better = cosines[np.arange(len(cosines)), columns] > best[part].max(axis=1)
        indices[part][better] = first + columns[better]
        if cosines.shape[1] > NUM_NEAREST:
            cosines = np.partition(cosines, -NUM_NEAREST, axis=1)[:, -NUM_NEAREST:]
        best[part] = np.partition(np.hstack([best[part], cosines]), -NUM_NEAREST, axis=1)[:, -NUM_NEAREST:]


def pixel_correlation(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the correlations of pairs of grey images, two arrays (n, H, W): (n,), from -1 to 1.

    The second image is taken as it is or mirrored, whichever is more alike. Images of one grey correlate with none.
    """
    whole, plain, mirrored = (centred_pixels(images) for images in (first, second, second[:, :, ::-1]))
    return np.maximum((whole * plain).sum(axis=1), (whole * mirrored).sum(axis=1))


def centred_pixels(images: np.ndarray) -> np.ndarray:
    """Return the pixels of grey images (n, H, W) less their mean, as vectors of length 1: (n, H * W) float64.

    Images of one grey are zero.
    """
    pixels = images.reshape(len(images), int(np.prod(images.shape[1:]))).astype(np.float64)
    return unit_rows(pixels - pixels.mean(axis=1, keepdims=True), MIN_CONTRAST)
