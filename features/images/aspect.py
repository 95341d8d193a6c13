"""Make a square of an image of any shape: squash it, take its middle, or put it into the middle of a border."""

import functools
import math

import numpy as np
from PIL import Image

from thaw.features.errors import InputError, shown
from thaw.features.images.preprocess import FILTERS, pixel_weights, resize

ASPECTS = ("squash", "crop", "pad")

_REACH = {"bilinear": 1.0, "bicubic": 2.0, "area": 0.5}  # of the kernels, in pixels of the coarser grid


def fit(image: np.ndarray, size: int, method: str, aspect: str, border: np.ndarray) -> np.ndarray:
    """Return `image`, uint8 (H, W, 3), as a float32 square (size, size, 3) in units of 0 to 255.

    `squash` resizes height and width each by its own factor. `crop` takes the largest square in the middle and resizes
    that. `pad` puts the image into the middle of a square of its longer side, fills the rest with `border`, and
    resizes that. If the sides differ by an odd number d of pixels, (d - 1) / 2 of them are cut off, or added, above or
    on the left, and (d + 1) / 2 below or on the right. Of a square image all three are the same. Nothing is rounded.

    Args:
        image: uint8 (H, W, 3).
        size: height and width of the result, in pixels.
        method: as in `preprocess.resize`.
        aspect: one of ASPECTS.
        border: RGB, float32 (3,) in units of 0 to 255.

    Raises:
        InputError: another aspect or method, or `crop` or `pad` of the article's resize.
    """
    check_aspect(aspect, method)
    height, width = image.shape[:2]
    if height == width or aspect == "squash":
        return resize(image, size, method)
    return resize(middle_square(image), size, method) if aspect == "crop" else _padded(image, size, method, border)


def check_aspect(aspect: str, method: str) -> None:
    """Raise InputError if there is no such aspect, or if the resize knows no rows and columns to keep in proportion."""
    if aspect not in ASPECTS:
        raise InputError(f"--aspect {shown(aspect)}: expected {', '.join(ASPECTS)}; type --aspect squash")
    if aspect != "squash" and method not in FILTERS and method != "area":
        raise InputError(
            f"--aspect {aspect} does not go with --resize {shown(method)}; expected bilinear, bicubic or area; type "
            f"--resize bilinear --aspect {aspect}"
        )


def middle_square(image: np.ndarray) -> np.ndarray:
    """Return the largest square in the middle of an image (H, W, 3), a view of it."""
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return image[top : top + side, left : left + side]


def _padded(image: np.ndarray, size: int, method: str, border: np.ndarray) -> np.ndarray:
    """Return an image that is not square, in the middle of its border, resized: float32 (size, size, 3).

    What is resized is the difference to the border, which is zero outside the image, so that the square, which can be
    far larger than the image, is never made.
    """
    height, width = image.shape[:2]
    if height > width:
        return _padded(image.swapaxes(0, 1), size, method, border).swapaxes(0, 1)
    planes = np.ascontiguousarray((image - border).transpose(2, 0, 1), np.float32)
    squares = _inner_weights(width, size, method, height) @ _narrowed(planes, size, method)
    return squares.transpose(1, 2, 0) + border


def _narrowed(planes: np.ndarray, size: int, method: str) -> np.ndarray:
    """Return planes (3, H, W) float32 with their width resized: (3, H, size)."""
    if method == "area":
        return planes @ pixel_weights(planes.shape[2], size, method).T
    target = (size, planes.shape[1])
    return np.stack([np.asarray(Image.fromarray(plane).resize(target, FILTERS[method])) for plane in planes])


@functools.lru_cache(maxsize=16)
def _inner_weights(old: int, new: int, method: str, count: int) -> np.ndarray:
    """Return the weights of `pixel_weights` for the `count` old pixels in the middle alone, float32 (new, count)."""
    start, stride = (old - count) // 2, old / new
    stretch = stride if method == "area" else max(stride, 1.0)
    weights = np.zeros((new, count), np.float32)
    for row in range(new):
        centre = (row + 0.5) * stride
        reach = _REACH[method] * stretch
        first, last = max(0, math.floor(centre - reach)), min(old, math.ceil(centre + reach))
        low, high = max(first, start), min(last, start + count)
        if low < high:
            window = _kernel(np.arange(first, last) + 0.5 - centre, stretch, method)
            weights[row, low - start : high - start] = window[low - first : high - first] / window.sum()
    return weights


def _kernel(distances: np.ndarray, stretch: float, method: str) -> np.ndarray:
    """Return the kernel at the distances (n,) of old pixels' centres from a new one's; for `area` what is covered."""
    if method == "area":
        covered = np.minimum(distances + 0.5, stretch / 2) - np.maximum(distances - 0.5, -stretch / 2)
        return np.maximum(covered, 0)
    far = np.abs(distances / stretch)
    if method == "bilinear":
        return np.maximum(1 - far, 0)
    near, outer = (1.5 * far - 2.5) * far**2 + 1, ((-0.5 * far + 2.5) * far - 4) * far + 2  # Keys 1981, a = -0.5
    return np.where(far < 1, near, np.where(far < 2, outer, 0))
