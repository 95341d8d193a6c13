"""Images that are there twice: equal contents, the nearest row by features, and pictures that correlate."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.blocks import Blocks, block_rows

# Measured on CIFAR-10 at 48 pixels with VGG16's averaged block4_pool: the cosine of an image and its own copy at half
# its JPEG quality (50), brighter by 15, or cut by a pixel on each side is above NEAR for 3 in 4, all and 19 in 20 of
# them; 1 test image in 50 has another that near among the training images, and 9 in 10 of those, looked at, are the
# same picture. Of 360 digits, which are much alike, 2 have.
NEAR = 0.9
# A mirrored image has a cosine of 0.6 or more in 5 cases of 6, but so has half of CIFAR-10: its pixels decide. The
# thumbnails of an image and its mirrored copy, even at JPEG quality 50, correlate by more than SAME_PICTURE in 99 of
# 100 cases; of CIFAR-10's and the digits' nearest images that are not NEAR, by more than that do 3 in 1,200 and none.
CANDIDATE = 0.6
SAME_PICTURE = 0.985
QUERY_ROWS = 2**16  # held at a time, 128 MiB of them with 512 features
PRODUCT_ROWS = 1024  # of the queries in one product
CONSTANT = 1e-6  # variance over mean square, of a feature whose differences are float32's rounding


@dataclass(frozen=True)
class AveragedBlocks:
    """The rows of feature maps averaged over their positions: features whose innermost axis are `channels`."""

    blocks: Blocks
    channels: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and channels."""
        return self.blocks.shape[0], self.channels

    @property
    def dtype(self) -> np.dtype:
        """The type of a block."""
        return self.blocks.dtype

    def read(self, rows: slice) -> np.ndarray:
        """Return the averages of consecutive rows (n, channels), of which the maps are read a few at a time."""
        result = np.empty((rows.stop - rows.start, self.channels), self.dtype)
        step = max(1, block_rows(self.blocks)[0].stop)
        for start in range(rows.start, rows.stop, step):
            maps = self.blocks.read(slice(start, min(start + step, rows.stop)))
            result[start - rows.start :][: len(maps)] = maps.reshape(len(maps), -1, self.channels).mean(axis=1)
        return result


@dataclass(frozen=True)
class Nearest:
    """For each of some rows, the place of the row most like it among others, (n,) int64, and how like, (n,) float32.

    The likeness is the cosine of their standardised features, from -1 to 1.
    """

    places: np.ndarray
    similarities: np.ndarray


def equal_contents(queries: Sequence[bytes], others: Sequence[bytes]) -> np.ndarray:
    """Return the place of the first of the `others` that equals each of the `queries`, (n,) int64; -1 for none."""
    places: dict[bytes, int] = {}
    for place, content in enumerate(others):
        places.setdefault(content, place)
    return np.array([places.get(content, -1) for content in queries], np.int64)


def nearest(queries: Blocks, others: Blocks) -> Nearest:
    """Return for each of the `queries` (n, D) the row most like it among the `others` (m, D), m at least 1.

    Features are standardised over the others. Memory is bounded: the others are read twice for 65,536 queries.
    """
    scaling = _moments(others)
    best, where = np.full(queries.shape[0], -np.inf, np.float32), np.zeros(queries.shape[0], np.int64)
    for start in range(0, len(best), QUERY_ROWS):
        some = slice(start, min(start + QUERY_ROWS, len(best)))
        held = _directions(queries.read(some), scaling)
        for rows in block_rows(others):
            _improve(held, _directions(others.read(rows), scaling), rows.start, (best[some], where[some]))
    return Nearest(where, best)


def _moments(blocks: Blocks) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of each feature, float32 (D,); that of a constant one is infinite."""
    count, total, square = blocks.shape[0], np.zeros(blocks.shape[1]), np.zeros(blocks.shape[1])
    for rows in block_rows(blocks):
        block = blocks.read(rows)
        total += block.sum(axis=0, dtype=np.float64)
        square += np.square(block).sum(axis=0, dtype=np.float64)
    mean = total / count
    variance = square / count - np.square(mean)
    variance[variance <= CONSTANT * square / count] = np.inf
    return mean.astype(np.float32), np.sqrt(variance).astype(np.float32)


def _directions(features: np.ndarray, scaling: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Return the standardised features (n, D) as vectors of length 1."""
    mean, deviation = scaling
    rows = (features - mean) / deviation
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    return rows


def _improve(held: np.ndarray, block: np.ndarray, first: int, found: tuple[np.ndarray, np.ndarray]) -> None:
    """Write over the best cosines and places `found`, each (n,), where a row of `block` is nearer; it is at `first`."""
    best, where = found
    for start in range(0, len(held), PRODUCT_ROWS):
        part = slice(start, start + PRODUCT_ROWS)
        cosines = held[part] @ block.T
        columns = cosines.argmax(axis=1)
        values = cosines[np.arange(len(cosines)), columns]
        better = values > best[part]
        best[part][better], where[part][better] = values[better], first + columns[better]


def picture_likeness(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the correlation of the pixels of pairs of grey pictures, two arrays (n, H, W): (n,), from -1 to 1.

    The second picture is taken as it is or mirrored, whichever is more alike. Pictures of one grey correlate with none.
    """
    whole, plain, mirrored = (_centred(pictures) for pictures in (first, second, second[:, :, ::-1]))
    return np.maximum((whole * plain).sum(axis=1), (whole * mirrored).sum(axis=1))


def _centred(pictures: np.ndarray) -> np.ndarray:
    pixels = pictures.reshape(len(pictures), -1).astype(np.float64)
    pixels -= pixels.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(pixels, axis=1, keepdims=True)
    return np.divide(pixels, lengths, out=np.zeros_like(pixels), where=lengths > 1e-6)
