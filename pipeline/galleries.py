"""Pictures for the report: which test images are worth showing, and small copies of them."""

import base64
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from features.archives import CIFAR, cached_archive
from features.datasets import Dataset, load_dataset
from features.errors import InputError
from pipeline.comparison import Entry

SIDE = 96  # pixels, at most
MOST_SHOWN = 18
PIXELATED = 32  # smaller images are shown by their pixels, and kept without loss
QUALITY = 72


class Shot(NamedTuple):
    """One image for a page: a data URI (None where the image cannot be read), and what is said of it.

    `given` is its label; `said` what the strategy, or whoever doubts the label, calls it, with `confidence`.
    """

    source: str | None
    id: str
    given: str
    said: str
    confidence: float
    pixelated: bool


def confident_mistakes(entry: Entry, limit: int = MOST_SHOWN) -> np.ndarray:
    """Return the rows of `entry` that it labels wrongly, the most confident first, at most `limit`."""
    wrong = np.flatnonzero(~entry.correct)
    return wrong[np.argsort(-entry.confidence[wrong], kind="stable")][:limit]


def fixed_and_broken(new: Entry, old: Entry, limit: int = MOST_SHOWN) -> tuple[np.ndarray, np.ndarray, int, int]:
    """Return rows that only `new` has right, and rows that only `old` has right, and how many there are of each.

    The most confident are first: of `new` in what it fixes and in what it breaks.
    """
    fixed, broken = (np.flatnonzero(mask) for mask in (new.correct & ~old.correct, old.correct & ~new.correct))
    first = [rows[np.argsort(-new.confidence[rows], kind="stable")][:limit] for rows in (fixed, broken)]
    return first[0], first[1], len(fixed), len(broken)


class Pictures:
    """The images of a run's data set, by id, as thumbnails."""

    def __init__(self, dataset: Dataset):
        self._dataset = dataset
        self._places = {name: place for place, name in enumerate(dataset.ids)}

    def thumbnail(self, name: str, label: str | None = None) -> tuple[str | None, bool]:
        """Return a data URI of image `name` and whether its pixels are to be seen; None where it cannot be had.

        That is where the data set has no such image any more, has it in another class than `label`, or it is damaged.
        """
        place = self._places.get(name)
        if place is None or label not in (None, self._dataset.class_names[self._dataset.labels[place]]):
            return None, False
        try:
            return encode(self._dataset.read(place, SIDE))
        except (InputError, OSError):
            return None, False

    def shots(self, entry: Entry, rows: np.ndarray) -> list[Shot]:
        """Return the test images of `entry` at `rows`, with what it calls them."""
        shots = []
        for row in rows.tolist():
            name, given = entry.ids[row], entry.classes[row]
            said = entry.report.class_names[entry.predicted[row]]
            source, pixelated = self.thumbnail(name, given)
            shots.append(Shot(source, name, given, said, float(entry.confidence[row]), pixelated))
        return shots


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


def encode(pixels: np.ndarray) -> tuple[str, bool]:
    """Return uint8 (H, W, 3) as a data URI of at most 96 pixels a side, and whether it is so small that pixels show."""
    image = Image.fromarray(pixels)
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    tiny, file = max(image.size) <= PIXELATED, io.BytesIO()
    if tiny:
        image.save(file, "PNG", optimize=True)
    else:
        image.save(file, "JPEG", quality=QUALITY, optimize=True)
    return f"data:image/{'png' if tiny else 'jpeg'};base64,{base64.b64encode(file.getvalue()).decode()}", tiny
