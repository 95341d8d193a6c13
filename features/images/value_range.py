"""The range of values that a set of images has: which value is white, and whether there are any shades."""

import math
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from thaw.features.images.decode import FORMATS, IMAGE_ERRORS, check_pixels, is_deep

FEW_LEVELS = 8  # fewer different values of a pixel than this are a drawing, or a scaling that lost the image


def white_of(highest: float, is_whole: bool) -> float | None:
    """Return the white of images whose highest value is given: 2^bits - 1 of the bits in use; None for all 16, or 1.

    >>> white_of(3987, True), white_of(1, True), white_of(60000, True), white_of(0.8, False)
    (4095, 1, None, None)
    """
    if not highest > 0 or (highest <= 1 and not is_whole):
        return None
    bits = max(1, math.ceil(math.log2(highest + 1)))
    return None if bits >= 16 and is_whole and highest <= 65535 else 2**bits - 1


class Peek(NamedTuple):
    """What a look at an image shows: the highest value if it has more than 8 bits, and if it has several frames.

    `is_whole` says whether the values are whole numbers.
    """

    highest: float | None = None
    is_whole: bool = True
    has_frames: bool = False


def peek(source: bytes | Path, max_pixels: int) -> Peek:
    """Return what a look at an image shows; nothing of one that cannot be read."""
    try:
        with Image.open(BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS) as image:
            check_pixels(image, "image", max_pixels)
            frames = bool(getattr(image, "is_animated", False))
            if not is_deep(image):
                return Peek(has_frames=frames)
            highest = float(np.asarray(image).max())
            return Peek(highest if np.isfinite(highest) else None, image.mode != "F", frames)
    except IMAGE_ERRORS:  # decoding says what is wrong with it
        return Peek()


def has_few_levels(image: np.ndarray) -> bool:
    """Return whether an image, uint8 (H, W, 3), has fewer than 8 different values, so hardly any shades."""
    return int(np.count_nonzero(np.bincount(image.reshape(-1), minlength=256))) < FEW_LEVELS
