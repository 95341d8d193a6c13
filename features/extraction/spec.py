"""What is asked of an extraction, apart from the images: how each becomes feature vectors, and by what engine."""

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from thaw.features.datasets.dataset import Dataset
from thaw.features.images.decode import DECODING, least_side
from thaw.features.images.preprocess import normalize, resize

log = logging.getLogger("thaw")


PART_ROWS = 512


PART_BYTES = 2**26


class Engine(Protocol):
    """What runs the network: one batch of network input in, layer name -> activations (n, H, W, C) out."""

    batch_size: int

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Return the activations of one batch."""


@dataclass(frozen=True)
class Recipe:
    """How an image becomes feature vectors, apart from the network.

    `shapes` maps each layer to the shape of one image's features, (D,) or (H, W, C); `record` is everything that
    determines the values (settings, digests, versions) and is kept in every file made.
    """

    image_size: int
    resize: str
    normalize: str
    pooling: str
    dtype: str
    shapes: Mapping[str, tuple[int, ...]]
    record: Mapping[str, Any]
    skip_bad: bool = False
    flip: bool = False

    def load(self, dataset: Dataset, row: int) -> np.ndarray:
        """Return network input, float32 (S, S, 3), of a data set's image, decoded now; raises InputError."""
        return self.prepare(dataset.read(row, least_side(self.image_size, self.resize)))

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """Return network input, float32 (S, S, 3), from one decoded image, uint8 (H, W, 3)."""
        image = image[:, ::-1] if self.flip else image
        return normalize(resize(image, self.image_size, self.resize), self.normalize)

    @property
    def image_bytes(self) -> int:
        """The bytes that one image's features take."""
        return np.dtype(self.dtype).itemsize * sum(int(np.prod(shape)) for shape in self.shapes.values())

    def part_rows(self, batch_size: int) -> int:
        """Return the images in a part: 512, or as many as fit 64 MiB, in whole batches and at least one."""
        return max(1, min(PART_ROWS, PART_BYTES // self.image_bytes) // batch_size) * batch_size

    def digest(self, num_images: int, batch_size: int) -> str:
        """Return the SHA-256 over what determines a part; parts with another digest are not reused."""
        record = {
            **self.record,
            "decoding": DECODING,
            "part_rows": self.part_rows(batch_size),
            "batch_size": batch_size,
            "num_images": num_images,
        }
        return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
