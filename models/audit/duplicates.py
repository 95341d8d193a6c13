"""Images that are there twice: equal contents, the nearest row by features, and pictures that correlate."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from thaw.models.solver.blocks import Blocks, block_rows

# What makes a row near: its cosine, and its distance (1 - cosine) as a share of the tenth nearest row's, which is what
# is usual around it: where images are much alike, all are near. Measured on CIFAR-10 at 48 pixels with the averaged
# block4_pool of VGG16. 120 training images, each changed in one way, are found as near to themselves: all where 15 grey
# levels brighter or of a seventh more contrast, 99 % where moved by a pixel, 98 % without the outermost pixels, 95 % in
# half the JPEG quality. In samples of 16 pairs of test and training images from 0.86, from 0.8 and from 0.75 on, about
# 16, 15 and 13 were the same picture; but from 0.8 on there are also 22 of 360 digits, from 0.85 on 7.
NEAR = 0.85
STANDING_OUT = 0.5
NUM_NEAREST = 10
# Mirrored images are found by features in 14 % of the cases. Cosines of 0.6 and more are everyday, but then the pixels
# can be looked at: of thumbnails of 16 x 16, those of the mirrored copies (and at half the JPEG quality) all correlate
# by 0.985, those of the digits' nearest images never, of CIFAR-10's in 3 of 1,200 cases. With them 85 % are found.
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

    The likeness is the cosine of their standardised features, from -1 to 1; `tenth` is that of the tenth nearest.
    """

    places: np.ndarray
    similarities: np.ndarray
    tenth: np.ndarray

    @property
    def is_near(self) -> np.ndarray:
        """Which rows, (n,) bool, have one that stands out: as near as 0.85, and twice as near as the tenth."""
        stands_out = 1 - self.similarities <= STANDING_OUT * (1 - self.tenth)
        return stands_out & (self.similarities >= NEAR)


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
    cosines = np.full((queries.shape[0], NUM_NEAREST), -1, np.float32)
    places = np.zeros(queries.shape[0], np.int64)
    for start in range(0, len(places), QUERY_ROWS):
        some = slice(start, min(start + QUERY_ROWS, len(places)))
        held = _directions(queries.read(some), scaling)
        for rows in block_rows(others):
            _improve(held, _directions(others.read(rows), scaling), rows.start, (cosines[some], places[some]))
    cosines = np.minimum(cosines, 1)  # rounding
    return Nearest(places, cosines.max(axis=1), cosines.min(axis=1))


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
    """Write over what is `found`, the ten best cosines (n, 10) and the best one's place (n,), where `block` has better.

    The block's first row is at the place `first`.
    """
    best, places = found
    for start in range(0, len(held), PRODUCT_ROWS):
        part = slice(start, start + PRODUCT_ROWS)
        cosines = held[part] @ block.T
        columns = cosines.argmax(axis=1)
        better = cosines[np.arange(len(cosines)), columns] > best[part].max(axis=1)
        places[part][better] = first + columns[better]
        if cosines.shape[1] > NUM_NEAREST:
            cosines = np.partition(cosines, -NUM_NEAREST, axis=1)[:, -NUM_NEAREST:]
        best[part] = np.partition(np.hstack([best[part], cosines]), -NUM_NEAREST, axis=1)[:, -NUM_NEAREST:]


def picture_likeness(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the correlation of the pixels of pairs of grey pictures, two arrays (n, H, W): (n,), from -1 to 1.

    The second picture is taken as it is or mirrored, whichever is more alike. Pictures of one grey correlate with none.
    """
    whole, plain, mirrored = (_centred(pictures) for pictures in (first, second, second[:, :, ::-1]))
    return np.maximum((whole * plain).sum(axis=1), (whole * mirrored).sum(axis=1))


def _centred(pictures: np.ndarray) -> np.ndarray:
    pixels = pictures.reshape(len(pictures), int(np.prod(pictures.shape[1:]))).astype(np.float64)
    pixels -= pixels.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(pixels, axis=1, keepdims=True)
    return np.divide(pixels, lengths, out=np.zeros_like(pixels), where=lengths > 1e-6)
