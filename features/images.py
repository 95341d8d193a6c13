"""One image: bytes -> uint8 RGB -> a float32 square, read as hostile input."""

import functools
import struct
import zlib
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from features.errors import InputError

MAX_PIXELS = 178_956_970
"""Most pixels of an image, unless --max-pixels says otherwise: half a GiB as uint8 RGB."""

RESIZES = ("bilinear", "bicubic", "area", "article")

# Pillow's own limit warns (once per place, and no thread can silence it alone) and takes no value per call,
# so `decode` checks the header itself.
Image.MAX_IMAGE_PIXELS = None

# Named, because Pillow would also hand EPS to Ghostscript, and guesses at formats that have no signature.
Image.init()
FORMATS = tuple(
    name
    for name in ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "JPEG2000", "AVIF", "PPM")
    if name in Image.OPEN  # AVIF is missing from Pillow below 11.3
)

# What Pillow's readers raise on bytes that somebody made up; Warning where the caller made warnings errors.
FAULTS = (
    OSError,
    SyntaxError,
    ValueError,
    struct.error,
    zlib.error,
    EOFError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    MemoryError,
    RuntimeError,
    Image.DecompressionBombError,
    Warning,
)

_FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
_COLOURS = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV")
_ORIENTATION = 0x0112  # the EXIF tag
_TILE_WIDTH, _TILE_HEIGHT = 322, 323  # the TIFF tags


def shown(text: object) -> str:
    """Return `text` as one printable line: a file name or another library's message may hold anything."""
    line = " ".join(str(text).splitlines())
    return line if line.isprintable() else line.encode("unicode_escape").decode("ascii")


def decode(source: bytes | Path | BinaryIO, name: str, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Return the image in `source` as uint8 (H, W, 3) RGB, upright by its EXIF orientation.

    Grey becomes three equal channels; transparency is laid over white; of several frames or pages the first
    counts. 16-bit values are divided by 257 and rounded (Pillow itself cuts 16-bit colour to the high byte).
    Whole numbers of 32 bits must lie in 0..65535 and are read as 16-bit; floating point must lie in 0..1 and
    is multiplied by 255. `name` is what errors call the image.

    Raises InputError: not an image, damaged, more than `max_pixels` pixels (by its header, before anything is
    decoded), or pixels that do not fit the rules above.
    """
    name = shown(name)
    try:
        with Image.open(BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS) as image:
            _check_pixels(image, name, max_pixels)
            image.load()
            return _upright(_rgb(image, name), image)
    except InputError:
        raise
    except UnidentifiedImageError:
        raise InputError(
            f"{name} is not an image that can be read (cannot identify image file); expected JPEG, PNG, GIF, "
            "BMP, TIFF, WebP, JPEG 2000, AVIF or PNM; remove it, or go on without it by --skip-bad"
        ) from None
    except FAULTS as error:
        raise InputError(_damage(name, error)) from error


def resize(image: np.ndarray, size: int, method: str) -> np.ndarray:
    """Return `image`, uint8 (H, W, 3), as float32 (size, size, 3) in the units 0..255.

    `bilinear`, `bicubic` and `area` put pixel centres at half-integers, average over the whole footprint when
    shrinking, weigh only pixels inside the image, and round nothing. `bicubic` is not clipped and may pass a
    little under 0 or over 255. `area` weighs each old pixel by how much of the new one it covers, so that the
    mean stays. `article` is `np.resize`, which repeats or cuts the pixels in reading order.

    Raises InputError: a method not in RESIZES.
    """
    if method not in RESIZES:
        raise InputError(f"--resize {shown(method)}: expected {', '.join(RESIZES)}; type --resize bilinear")
    if method == "article":
        return np.resize(image, (size, size, 3)).astype(np.float32)
    if method == "area":
        rows, columns = (_coverage(length, size) for length in image.shape[:2])
        squeezed = np.tensordot(rows, image.astype(np.float32), axes=(1, 0))
        return np.ascontiguousarray(np.tensordot(squeezed, columns, axes=(1, 1)).swapaxes(1, 2))
    planes = (Image.fromarray(np.ascontiguousarray(image[:, :, c], np.float32)) for c in range(3))
    return np.stack([np.asarray(plane.resize((size, size), _FILTERS[method])) for plane in planes], axis=2)


@functools.lru_cache(maxsize=64)
def _coverage(old: int, new: int) -> np.ndarray:
    """Return float32 (new, old): the part of each new pixel that each old one covers; rows sum to 1.

    Pillow's BOX filter instead takes an old pixel whole or not at all, by its centre.
    """
    edges = np.arange(new + 1)[:, np.newaxis] * (old / new)
    starts = np.arange(old)
    shared = np.minimum(edges[1:], starts + 1) - np.maximum(edges[:-1], starts)
    return (np.maximum(shared, 0) * (new / old)).astype(np.float32)


def _check_pixels(image: Image.Image, name: str, max_pixels: int) -> None:
    """Refuse by the header: the image, and the tile of a TIFF, which is allocated whole in any case."""
    tags = getattr(image, "tag_v2", {})
    tile = tags.get(_TILE_WIDTH, 0), tags.get(_TILE_HEIGHT, 0)
    sizes = [image.size, tile] if all(isinstance(length, int) for length in tile) else [image.size]
    width, height = max(sizes, key=lambda size: size[0] * size[1])
    if width * height > max_pixels:
        raise InputError(
            f"{name} has {width * height} pixels ({width} x {height}); expected at most {max_pixels}; "
            f"shrink it, allow it by --max-pixels {width * height}, or go on without it by --skip-bad"
        )


def _damage(name: str, error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return (
            f"{name} cannot be opened ({error.strerror}); expected a readable file; "
            "put it back, or go on without it by --skip-bad"
        )
    reason = shown(error) or type(error).__name__
    return f"{name} is damaged ({reason}); expected a whole image file; replace it, or go on without it by --skip-bad"


def _rgb(image: Image.Image, name: str) -> np.ndarray:
    """Return a loaded image of any mode as uint8 (H, W, 3)."""
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
    return np.array(image.convert("RGB"))


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


def _upright(pixels: np.ndarray, image: Image.Image) -> np.ndarray:
    """Return `pixels` (H, W, 3) turned as the loaded `image`'s EXIF asks; unreadable EXIF asks nothing."""
    try:
        orientation = image.getexif().get(_ORIENTATION)
    except FAULTS:
        orientation = None
    if orientation in (5, 6, 7, 8):  # the stored rows are the columns that are seen
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)
