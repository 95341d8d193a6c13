"""The images of a data set as small pictures for a page."""

import base64
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from thaw.features.datasets.cifar import CIFAR, cached_archive
from thaw.features.datasets.dataset import Dataset, load_dataset
from thaw.features.errors import InputError

SIDE = 96  # pixels, at most


PIXELATED = 32  # smaller images are shown by their pixels, and kept without loss


QUALITY = 72


class Pictures:
    """The images of a run's data set, by id, as thumbnails."""

    def __init__(self, dataset: Dataset):
        self._dataset = dataset
        self._places = {name: place for place, name in enumerate(dataset.ids)}

    def pixels(self, name: str, label: str | None = None, least_side: int | None = SIDE) -> np.ndarray | None:
        """Return image `name`, uint8 (H, W, 3), read as `Dataset.read` reads it, or None where it cannot be had.

        That is where the data set has no such image any more, has it in another class than `label`, or it is damaged.
        """
        place = self._places.get(name)
        if place is None or label not in (None, self._dataset.class_names[self._dataset.labels[place]]):
            return None
        try:
            return self._dataset.read(place, least_side)
        except (InputError, OSError):
            return None

    def thumbnail(self, name: str, label: str | None = None, side: int = SIDE) -> tuple[str | None, bool]:
        """Return a data URI of image `name`, at most `side` pixels a side, and whether its pixels are to be seen.

        The first is None where the image cannot be had, as `pixels` says.
        """
        image = self.pixels(name, label)
        return (None, False) if image is None else encode(image, side)


def open_pictures(settings: dict[str, Any] | None, load: Callable[..., Dataset] = load_dataset) -> Pictures:
    """Return the images of the run whose run.json holds `settings`; nothing is downloaded for it.

    Raises InputError where run.json or the data are gone.
    """
    if settings is None:
        raise InputError("run.json, which says where the images are, is gone")
    word, data = settings["dataset"], Path(settings["data"]) if settings["data"] else None
    if word in CIFAR and data is None:
        data = cached_archive(word)
        if data is None:
            raise InputError(f"the archive of {word} is no longer in the Keras cache; type: make features again")
    return Pictures(load(word, data, settings["target"], settings["max_pixels"]))


def encode(pixels: np.ndarray, side: int = SIDE) -> tuple[str, bool]:
    """Return uint8 (H, W, 3) as a data URI of at most `side` pixels a side, and whether its pixels are to be seen."""
    image = Image.fromarray(pixels)
    tiny = max(image.size) <= PIXELATED
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return _data_uri(image, "PNG" if tiny else "JPEG"), tiny


def _data_uri(image: Image.Image, kind: str) -> str:
    file = io.BytesIO()
    image.save(file, kind, optimize=True, **({"quality": QUALITY} if kind == "JPEG" else {}))
    return f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"
