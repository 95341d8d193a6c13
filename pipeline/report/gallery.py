"""Pictures for the report: which test images are worth showing, small copies of them, and heat maps over these."""

import base64
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from thaw.features.datasets.cifar import CIFAR, cached_archive
from thaw.features.datasets.dataset import Dataset, load_dataset
from thaw.features.errors import InputError
from thaw.pipeline.report.comparison import Entry

SIDE = 96  # pixels, at most
SMALL_SIDE = 56  # of images beside another one
MOST_SHOWN = 18
PIXELATED = 32  # smaller images are shown by their pixels, and kept without loss
QUALITY = 72
MOST_COVERED = 0.75  # of the picture, by the colour where a map is hottest


class Shot(NamedTuple):
    """One image for a page: a data URI (None where the image cannot be read), and what is said of it.

    `given` is its label; `said` what the strategy, or whoever doubts the label, calls it, with `confidence`. `heat` is
    the picture under its heat map, the hottest in its `heat_place`; `like` are the training images most like it.
    """

    source: str | None
    id: str
    given: str
    said: str
    confidence: float
    pixelated: bool
    heat: str | None = None
    heat_place: str = ""
    like: Sequence["LikeShot"] = ()


class LikeShot(NamedTuple):
    """A training image beside the image that it is like: as a `Shot`, and how like, from -1 to 1."""

    source: str | None
    id: str
    label: str
    similarity: float
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


def overlay(pixels: np.ndarray, heat: np.ndarray) -> str:
    """Return a data URI of the grey picture of uint8 (H, W, 3) under a map (h, w) of 0 to 1, the longer side 96 pixels.

    The hotter, the yellower and the less of the picture is left; what is cold stays grey. The colours are those of
    cividis, which colour-blind readers see alike (Nunez, Anderton and Renslow, PLOS ONE 2018).
    """
    from matplotlib import colormaps

    image = Image.fromarray(pixels).convert("L")
    longest = max(image.size)
    size = (max(1, SIDE * image.width // longest), max(1, SIDE * image.height // longest))
    tiny = longest <= PIXELATED
    grey = np.asarray(image.resize(size, Image.Resampling.NEAREST if tiny else Image.Resampling.LANCZOS), np.float32)
    smooth = Image.fromarray(heat.astype(np.float32)).resize(size, Image.Resampling.BILINEAR)
    warmth = np.clip(np.asarray(smooth), 0, 1)[..., None]
    colours = 255 * colormaps["cividis"](warmth[..., 0])[..., :3]
    share = MOST_COVERED * warmth
    blended = (1 - share) * grey[..., None] + share * colours
    return _data_uri(Image.fromarray(np.rint(blended).astype(np.uint8)), "JPEG")


def place_of(heat: np.ndarray) -> str:
    """Return in words where a map (h, w) is hottest, by thirds: `upper left`, `centre`, `lower middle`."""
    row, column = np.unravel_index(int(heat.argmax()), heat.shape)
    rows, columns = (int(3 * (place + 0.5) / side) for place, side in zip((row, column), heat.shape, strict=True))
    words = f"{('upper', 'middle', 'lower')[rows]} {('left', 'middle', 'right')[columns]}"
    return "centre" if words == "middle middle" else words
