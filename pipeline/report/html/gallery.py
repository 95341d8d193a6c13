"""The images on the page: which test images are shown, and heat maps over them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from thaw.pipeline.run.results import Entry
from thaw.pipeline.thumbnails import LONGEST_SIDE, PIXELATED, data_uri

SMALL_SIDE = 56  # pixels, of images beside another one
MOST_SHOWN = 18
MOST_COVERED = 0.75  # the share of the colour over the image at the hottest point of a map


class SimilarShot(NamedTuple):
    """A training image beside the image that it is similar to; `similarity` is between -1 and 1."""

    source: str | None
    id: str
    label: str
    similarity: float
    pixelated: bool


class Shot(NamedTuple):
    """One image on the page.

    Attributes:
        source: A data URI, None if the image cannot be read.
        id: The id of the image.
        label: Its label.
        predicted: What the strategy, or the audit that doubts the label, calls it.
        confidence: The probability of that.
        pixelated: Whether its pixels are shown.
        heat: A data URI of the image under its heat map.
        heat_position: The hottest position of the map in words.
        similar: The training images most similar to it.
    """

    source: str | None
    id: str
    label: str
    predicted: str
    confidence: float
    pixelated: bool
    heat: str | None = None
    heat_position: str = ""
    similar: Sequence[SimilarShot] = ()


def most_confident(entry: Entry, chosen: np.ndarray, limit: int = MOST_SHOWN) -> np.ndarray:
    """Return the rows of `entry` that are chosen, bool (N,), the most confident first, at most `limit`."""
    rows = np.flatnonzero(chosen)
    return rows[np.argsort(-entry.confidence[rows], kind="stable")][:limit]


def overlay(pixels: np.ndarray, heat: np.ndarray) -> str:
    """Return a data URI of the grey image under its heat map, the longer side 96 pixels.

    A hot position is yellow and hides the image; a cold one stays grey. The colours are cividis, which colour-blind
    readers see alike (Nunez, Anderton and Renslow, PLOS ONE 2018).

    Args:
        pixels: The image, uint8 (H, W, 3).
        heat: The map, float (h, w) from 0 to 1.
    """
    from matplotlib import colormaps

    image = Image.fromarray(pixels).convert("L")
    longest = max(image.size)
    size = (max(1, LONGEST_SIDE * image.width // longest), max(1, LONGEST_SIDE * image.height // longest))
    resample = Image.Resampling.NEAREST if longest <= PIXELATED else Image.Resampling.LANCZOS
    grey = np.asarray(image.resize(size, resample), np.float32)
    smooth = Image.fromarray(heat.astype(np.float32)).resize(size, Image.Resampling.BILINEAR)
    warmth = np.clip(np.asarray(smooth), 0, 1)[..., None]
    colours = 255 * colormaps["cividis"](warmth[..., 0])[..., :3]
    share = MOST_COVERED * warmth
    blended = (1 - share) * grey[..., None] + share * colours
    return data_uri(Image.fromarray(np.rint(blended).astype(np.uint8)), "JPEG")


def on_image(pixels: np.ndarray, heat: np.ndarray, aspect: str) -> np.ndarray:
    """Return a map of the square that a network saw as a map of the image: float (h, w), the longer side 96 positions.

    Outside a middle square an image is cold; a border is cut off. If the image was squashed the map stays as it is.

    Args:
        pixels: The image, uint8 (H, W, 3).
        heat: The map, float (h, w) from 0 to 1.
        aspect: How the image became a square.
    """
    height, width = pixels.shape[:2]
    if aspect == "squash" or height == width:
        return heat
    rows, columns = (max(1, LONGEST_SIDE * side // max(height, width)) for side in (height, width))
    side = min(rows, columns) if aspect == "crop" else max(rows, columns)
    square = Image.fromarray(heat.astype(np.float32)).resize((side, side), Image.Resampling.BILINEAR)
    left, top = (columns - side) // 2, (rows - side) // 2
    return np.asarray(square.crop((-left, -top, columns - left, rows - top)))  # zeros beyond the square


def hottest_position(heat: np.ndarray) -> str:
    """Return in words where a map (h, w) is hottest, by thirds: `upper left`, `centre`, `lower middle`."""
    row, column = np.unravel_index(int(heat.argmax()), heat.shape)
    rows, columns = (int(3 * (index + 0.5) / side) for index, side in zip((row, column), heat.shape, strict=True))
    words = f"{('upper', 'middle', 'lower')[rows]} {('left', 'middle', 'right')[columns]}"
    return "centre" if words == "middle middle" else words
