"""Small copies of the images of a dataset, for a page."""

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from thaw.features.datasets.cifar import CIFAR, cached_archive
from thaw.features.datasets.dataset import Dataset, load_dataset
from thaw.features.datasets.options import ReadOptions
from thaw.features.errors import InputError
from thaw.features.images.decode import LeastSide
from thaw.pipeline.config import DATA_FIELDS

LONGEST_SIDE = 96  # pixels
PIXELATED = 32  # pixels; smaller images keep their pixels, without loss
QUALITY = 72


class Pictures:
    """The images of a dataset, by id."""

    def __init__(self, dataset: Dataset):
        self._dataset = dataset

    def pixels(
        self, name: str, label: str | None = None, least_side: LeastSide | None = LONGEST_SIDE
    ) -> np.ndarray | None:
        """Return an image as uint8 (H, W, 3), None if it is gone, damaged, or has another label.

        Args:
            name: The id of the image.
            label: The label that it must have, if one is given.
            least_side: What `Dataset.read` takes.
        """
        row = self._dataset.row_of.get(name)
        if row is None or label not in (None, self._dataset.class_names[self._dataset.labels[row]]):
            return None
        try:
            return self._dataset.read(row, least_side)
        except (InputError, OSError):
            return None

    def thumbnail(self, name: str, label: str | None = None, side: int = LONGEST_SIDE) -> tuple[str | None, bool]:
        """Return a data URI of an image, None if `pixels` gives none, and whether its pixels are shown.

        Args:
            name: The id of the image.
            label: The label that it must have, if one is given.
            side: The longest side, in pixels.
        """
        image = self.pixels(name, label)
        return (None, False) if image is None else encode(image, side)


def open_pictures(settings: Mapping[str, Any] | None) -> Pictures:
    """Return the images of a run by the settings of its run.json; nothing is downloaded.

    Raises InputError if run.json or the data are gone.
    """
    if settings is None:
        raise InputError("run.json, which says where the images are, is gone")
    dataset, data = settings["dataset"], Path(settings["data"]) if settings["data"] else None
    if dataset in CIFAR and data is None:
        data = cached_archive(dataset)
        if data is None:
            raise InputError(f"the archive of {dataset} is no longer in the Keras cache; type: make features again")
    options = ReadOptions(**{name: settings[name] for name in ("skip_bad", *DATA_FIELDS)})
    return Pictures(load_dataset(dataset, data, settings["target"], settings["max_pixels"], options))


def encode(pixels: np.ndarray, side: int = LONGEST_SIDE) -> tuple[str, bool]:
    """Return uint8 (H, W, 3) as a data URI of at most `side` pixels a side, and whether its pixels are shown."""
    image = Image.fromarray(pixels)
    tiny = max(image.size) <= PIXELATED
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return data_uri(image, "PNG" if tiny else "JPEG"), tiny


def data_uri(image: Image.Image, kind: str) -> str:
    """Return an image as a data URI of a kind of file, PNG or JPEG."""
    file = io.BytesIO()
    image.save(file, kind, optimize=True, quality=QUALITY)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"
