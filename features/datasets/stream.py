"""Stream images to a training: decoded, changed at random, made squares and normalised while the network works."""

from collections.abc import Iterator, Sequence

import numpy as np

from thaw.features.datasets.dataset import Dataset
from thaw.features.images.aspect import fit
from thaw.features.images.augment import SMALLEST_CROP, augment
from thaw.features.images.decode import least_side
from thaw.features.images.preprocess import neutral_colour, normalize
from thaw.features.prefetch import load_ahead


class ImageStream:
    """Images of a dataset as network input, float32 (n, S, S, 3), read anew in every epoch.

    Sample k is the image at row `rows[k]`. Its random changes follow from seed, epoch and k, so that neither the
    order of the threads nor a pause alters them.

    Args:
        dataset: the dataset.
        rows: the rows of the images in the dataset, (n,).
        image_size: the side of the network's input, in pixels.
        methods: how images are resized, made squares and normalised.
        augmentation: how images are changed at random, before they become squares: what moves in from beyond a middle
            square is the image itself, and a border stays as it is.
    """

    num_views = 1
    order = "all at once"

    def __init__(
        self, dataset: Dataset, rows: Sequence[int], image_size: int, methods: tuple[str, str, str], augmentation: str
    ):
        self._dataset, self._rows, self._image_size = dataset, rows, image_size
        self._resize, self._aspect, self._normalize = methods
        self._border = neutral_colour(self._normalize)
        self._augmentation = augmentation
        self._least_side = least_side(image_size, self._resize, self._aspect, SMALLEST_CROP)
        self.num_samples = len(rows)

    def epoch(self, batch_size: int, seed: int, epoch: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield (inputs, indices of the samples) in the epoch's order until every sample came once."""
        order = np.random.default_rng((seed, epoch)).permutation(self.num_samples)
        batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
        yield from zip(load_ahead(lambda batch: self._load(batch, (seed, epoch)), batches), batches, strict=True)

    def in_order(self, batch_size: int, view: int = 0) -> Iterator[np.ndarray]:
        """Yield the unchanged inputs in the order of the samples."""
        numbers = np.arange(self.num_samples)
        batches = [numbers[start : start + batch_size] for start in range(0, len(numbers), batch_size)]
        yield from load_ahead(self._load, batches)

    def _load(self, batch: np.ndarray, seeds: tuple[int, int] | None = None) -> np.ndarray:
        inputs = []
        for number in batch:
            image = self._dataset.read(self._rows[number], self._least_side)
            if seeds:
                generator = np.random.default_rng((*seeds, int(number) + 1))  # a 0 at the end would change no seed
                image = augment(image, self._augmentation, generator)
            inputs.append(fit(image, self._image_size, self._resize, self._aspect, self._border))
        return normalize(np.stack(inputs), self._normalize)
