"""Decode an image file: bytes -> uint8 RGB (H, W, 3), upright, read as hostile input."""

import math
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

from thaw.features.errors import FILE_ERRORS, InputError, shown
from thaw.features.images.extras import number_of_bands, read_extra

MAX_PIXELS = 178_956_970
"""Most pixels of an image, unless --max-pixels says otherwise: half a GiB as uint8 RGB."""

DECODING = 3
"""Version of the rules that make pixels of a file: raise it if they change, so that features of both are not mixed."""

# Pillow's own limit warns (once per line of code, and no thread can silence it alone) and takes no value per call,
# so `decode` checks the header itself.
Image.MAX_IMAGE_PIXELS = None

# Named, because Pillow would also hand EPS to Ghostscript, and guesses at formats that have no signature.
Image.init()
FORMATS = tuple(
    name
    for name in ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "JPEG2000", "AVIF", "PPM")
    if name in Image.OPEN  # AVIF is missing from Pillow below 11.3
)

# What Pillow's readers raise on made-up bytes; a Warning if the caller made warnings errors.
IMAGE_ERRORS = (*FILE_ERRORS, Image.DecompressionBombError, Warning)

# How many times the resized side a reduced JPEG's shorter side has to be. `area` is the sharpest-edged average.
_REDUCED_SIDES = {"bilinear": 4, "bicubic": 4, "area": 8}
_COLOUR_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV")
_TILE_WIDTH_TAG, _TILE_HEIGHT_TAG = 322, 323  # of TIFF
_ORIENTATION_TAG = 0x0112  # of EXIF
MOST_BANDS = 4  # of a TIFF
NEARLY_WHITE = 240  # of 255: the mean of a drawing that white paper would hide


class KeptMiddle(NamedTuple):
    """A least side in pixels of images whose middle is used: in the reduced image it has to lie at the same place."""

    side: int


LeastSide = int | KeptMiddle
"""The pixels that the shorter side of a reduced JPEG has to have."""


def decode(
    source: bytes | Path | BinaryIO,
    name: str,
    max_pixels: int = MAX_PIXELS,
    least_side: LeastSide | None = None,
    white: float | None = None,
) -> np.ndarray:
    """Return the image in `source` as uint8 (H, W, 3) RGB, upright by its EXIF orientation.

    Grey becomes three equal channels; transparency is laid over white, or over black if the drawing is nearly white;
    of several frames or pages the first counts. 16-bit values are divided by 257 and rounded (Pillow itself cuts 16-bit
    colour to the high byte). Whole numbers of 32 bits must lie in 0..65535 and are read as 16-bit; floating point must
    lie in 0..1 and is multiplied by 255. With `white` grey of more than 8 bits is scaled by it instead.

    Args:
        source: the file's bytes, its path, or an open stream.
        name: what errors call the image.
        max_pixels: the most pixels that are accepted; checked in the header, before anything is decoded.
        least_side: if given, a JPEG is decoded at a half, a quarter or an eighth of its size: the smallest
            whose shorter side has at least so many pixels. For a KeptMiddle only those sizes count in which both
            sides are whole numbers of pixels and differ by an even one, so that the middle square's edges, and those
            of the image in a square of its longer side, lie between the same pixels as before.
        white: the value that becomes 255 in grey images of more than 8 bits, and all above it; the set's own range
            (thaw.features.images.value_range).

    Raises:
        InputError: the file is no image, is damaged, has too many pixels, or pixels that do not fit these rules.
    """
    name = shown(name)
    try:
        with Image.open(BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS) as image:
            check_pixels(image, name, max_pixels)
            return _upright(_rgb(_loaded(image, least_side), name, white), image)
    except InputError:
        raise
    except UnidentifiedImageError:
        extra = read_extra(source, name, max_pixels)
        if extra is None:
            raise InputError(_unknown(source, name)) from None
        return _upright(_rgb(extra, name, white), extra)
    except IMAGE_ERRORS as error:
        raise InputError(_damage(name, error)) from error


def shorter_side(source: bytes | Path) -> int | None:
    """Return the shorter side of an image in pixels, by its header alone; None if it cannot be read."""
    try:
        with Image.open(BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS) as image:
            return min(image.size)
    except IMAGE_ERRORS:  # decoding says what is wrong with it
        return None


def least_side(size: int, method: str, aspect: str = "squash", share: float = 1) -> LeastSide | None:
    """Return the `least_side` for `decode` if `fit` then makes the image `size` pixels wide; None for its full size.

    Over photographs, with added noise too, in JPEG qualities 75 and 92, the resized image then differs from that of
    the whole JPEG by an RMS of at most 0.7 grey levels of 255 (median 0.4); the tolerance is an RMS of 1.
    VGG16's features at 48 and 96 pixels differ by 1.5 % at most (relative L2 error of an image's layer).

    Args:
        size: height and width in pixels of what becomes of the image.
        method: how it is resized.
        aspect: how it becomes a square.
        share: the share of its sides that is used at least.
    """
    if method not in _REDUCED_SIDES:
        return None
    side = math.ceil(size * _REDUCED_SIDES[method] / share)
    return side if aspect == "squash" else KeptMiddle(side)


def check_pixels(image: Image.Image, name: str, max_pixels: int) -> None:
    """Check the header's size, and the size of a TIFF's tile, which is allocated whole in any case."""
    tags = getattr(image, "tag_v2", {})
    tile = tags.get(_TILE_WIDTH_TAG, 0), tags.get(_TILE_HEIGHT_TAG, 0)
    sizes = [image.size, tile] if all(isinstance(length, int) for length in tile) else [image.size]
    width, height = max(sizes, key=lambda size: size[0] * size[1])
    if width * height > max_pixels:
        raise InputError(
            f"{name} has {width * height} pixels ({width} x {height}); expected at most {max_pixels}; "
            f"shrink it, allow it by --max-pixels {width * height}, or leave it out by --skip-bad"
        )


def _loaded(image: Image.Image, least_side: LeastSide | None) -> Image.Image:
    """Return the opened image with its pixels decoded, a JPEG reduced as far as `least_side` allows."""
    scales = _scales(image.size, least_side) if least_side else []
    reduced = None
    if scales and isinstance(image, JpegImageFile):
        width, height = image.size
        reduced = image.draft(None, (width // scales[-1], height // scales[-1]))
    image.load()
    if reduced is None:
        return image
    # The last row and column may lie partly outside the image: that would stretch it.
    box = reduced[1]
    return image.resize((round(box[2]), round(box[3])), Image.Resampling.BICUBIC, box)


def _scales(size: tuple[int, int], least_side: LeastSide) -> list[int]:
    """Return by which numbers the sides of a JPEG may be divided, in rising order."""
    least = least_side.side if isinstance(least_side, KeptMiddle) else least_side
    scales = [scale for scale in (2, 4, 8) if min(size) >= scale * least]
    if not isinstance(least_side, KeptMiddle):
        return scales
    width, height = size
    return [scale for scale in scales if width % scale == 0 and (width - height) % (2 * scale) == 0]


def _rgb(image: Image.Image, name: str, white: float | None) -> np.ndarray:
    """Return a loaded image of any mode as uint8 (H, W, 3); raises InputError if no rule fits."""
    if is_deep(image):
        return np.repeat(_grey(image, name, white)[:, :, np.newaxis], 3, axis=2)
    if image.mode not in _COLOUR_MODES:
        raise InputError(
            f"{name} has pixels of kind {image.mode}; expected grey, palette, RGB or CMYK; "
            "save it as RGB, or leave it out by --skip-bad"
        )
    if image.has_transparency_data:
        return on_paper(np.asarray(image.convert("RGBA")))
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def is_deep(image: Image.Image) -> bool:
    """Return whether an image has grey values of more than 8 bits (modes I;16*, I and F)."""
    return image.mode.startswith("I") or image.mode == "F"


def on_paper(pixels: np.ndarray) -> np.ndarray:
    """Return RGBA, uint8 (H, W, 4), as RGB (H, W, 3), laid over white, or black if what is seen is nearly white."""
    image, alpha = Image.fromarray(np.ascontiguousarray(pixels)), pixels[..., 3].astype(np.float64)
    seen = (pixels[..., :3].min(axis=2) * alpha).sum() / max(alpha.sum(), 1)
    paper = Image.new("RGBA", image.size, "black" if seen > NEARLY_WHITE and alpha.min() < 255 else "white")
    paper.alpha_composite(image)
    return np.array(paper.convert("RGB"))


def _grey(image: Image.Image, name: str, white: float | None) -> np.ndarray:
    """Return a grey image of more than 8 bits as uint8 (H, W)."""
    values = np.asarray(image)
    top = white or (1 if image.mode == "F" else 65535)
    highest = np.inf if white else top  # of other images; those of the set were looked at, and may be clipped
    if not (values.min() >= 0 and values.max() <= highest and np.isfinite(values.max())):  # NaN does not pass
        raise InputError(
            f"{name} has grey values from {values.min()} to {values.max()}; expected 0 to {top:g}; "
            "save it with 8 bits, or leave it out by --skip-bad"
        )
    key = image.info.get("transparency")
    values = np.where(values == key, top, values) if isinstance(key, int) else values
    return np.rint(np.minimum(values, top) * (255 / top)).astype(np.uint8)


def _upright(pixels: np.ndarray, image: Image.Image) -> np.ndarray:
    """Return `pixels` (H, W, 3) turned as the loaded `image`'s EXIF says, or as they are if it cannot be read."""
    try:
        orientation = image.getexif().get(_ORIENTATION_TAG)
    except IMAGE_ERRORS:
        orientation = None
    if orientation in (5, 6, 7, 8):  # the stored rows are the columns that are seen
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def _unknown(source: bytes | Path | BinaryIO, name: str) -> str:
    """Return the error for a file that no reader takes: if it is a TIFF, perhaps because of its bands."""
    bands = number_of_bands(source)
    if bands is not None and bands > MOST_BANDS:
        return (
            f"{name} is a TIFF of {bands} bands; expected at most {MOST_BANDS}: choose three of them and save these, "
            "or leave "
            "it out by --skip-bad"
        )
    return (
        f"{name} is not an image that can be read (cannot identify image file); expected JPEG, PNG, GIF, "
        "BMP, TIFF, WebP, JPEG 2000, AVIF or PNM; remove it, or leave it out by --skip-bad"
    )


def _damage(name: str, error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return (
            f"{name} cannot be opened ({error.strerror}); expected a readable file; "
            "check its name and permissions, or leave it out by --skip-bad"
        )
    reason = shown(error) or type(error).__name__
    return f"{name} is damaged ({reason}); expected a whole image file; replace it, or leave it out by --skip-bad"
