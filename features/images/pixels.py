"""A picture that Pillow has loaded, of any mode -> upright uint8 RGB."""

import numpy as np
from PIL import Image

from thaw.features.errors import FILE_FAULTS, InputError

# What Pillow's readers raise on bytes that somebody made up; Warning where the caller made warnings errors.
IMAGE_FAULTS = (
    *FILE_FAULTS,
    SyntaxError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    Image.DecompressionBombError,
    Warning,
)

_COLOURS = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV")
_ORIENTATION = 0x0112  # the EXIF tag


def rgb(image: Image.Image, name: str) -> np.ndarray:
    """Return a loaded image of any mode as uint8 (H, W, 3); raises InputError, calling it `name`, where none fits."""
    if image.mode.startswith("I") or image.mode == "F":
        return np.repeat(_grey(image, name)[:, :, np.newaxis], 3, axis=2)
    if image.mode not in _COLOURS:
        raise InputError(
            f"{name} has pixels of kind {image.mode}; expected grey, palette, RGB or CMYK; "
            "save it as RGB, or go on without it by --skip-bad"
        )
    if image.has_transparency_data:
        paper = Image.new("RGBA", image.size, "white")
        paper.alpha_composite(image.convert("RGBA"))
        image = paper
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def _grey(image: Image.Image, name: str) -> np.ndarray:
    """Return a grey image of more than 8 bits as uint8 (H, W): modes I;16*, I and F."""
    values = np.asarray(image)
    top = 1 if image.mode == "F" else 65535
    if not (values.min() >= 0 and values.max() <= top):  # so written that NaN does not pass
        raise InputError(
            f"{name} has grey values from {values.min()} to {values.max()}; expected 0 to {top}; "
            "save it with 8 bits, or go on without it by --skip-bad"
        )
    key = image.info.get("transparency")
    values = np.where(values == key, top, values) if isinstance(key, int) else values
    return np.rint(values * (255 / top)).astype(np.uint8)


def upright(pixels: np.ndarray, image: Image.Image) -> np.ndarray:
    """Return `pixels` (H, W, 3) turned as the loaded `image`'s EXIF asks; unreadable EXIF asks nothing."""
    try:
        orientation = image.getexif().get(_ORIENTATION)
    except IMAGE_FAULTS:
        orientation = None
    if orientation in (5, 6, 7, 8):  # the stored rows are the columns that are seen
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)
