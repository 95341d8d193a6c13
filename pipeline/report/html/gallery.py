"""Pictures for the report: which test images are worth showing, small copies of them, and heat maps over these."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from thaw.pipeline.run.results import Entry
from thaw.pipeline.thumbnails import PIXELATED, SIDE, Pictures, _data_uri

SMALL_SIDE = 56  # of images beside another one
MOST_SHOWN = 18
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


def shots_of(pictures: Pictures, entry: Entry, rows: np.ndarray) -> list[Shot]:
    """Return the test images of `entry` at `rows`, with what it calls them."""
    shots = []
    for row in rows.tolist():
        name, given = entry.ids[row], entry.classes[row]
        said = entry.report.class_names[entry.predicted[row]]
        source, pixelated = pictures.thumbnail(name, given)
        shots.append(Shot(source, name, given, said, float(entry.confidence[row]), pixelated))
    return shots


def place_of(heat: np.ndarray) -> str:
    """Return in words where a map (h, w) is hottest, by thirds: `upper left`, `centre`, `lower middle`."""
    row, column = np.unravel_index(int(heat.argmax()), heat.shape)
    rows, columns = (int(3 * (place + 0.5) / side) for place, side in zip((row, column), heat.shape, strict=True))
    words = f"{('upper', 'middle', 'lower')[rows]} {('left', 'middle', 'right')[columns]}"
    return "centre" if words == "middle middle" else words
