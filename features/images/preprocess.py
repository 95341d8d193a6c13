"""Prepare an image for a network: uint8 RGB -> a float32 square -> the input of the first layer."""

import functools
import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from thaw.features.errors import InputError, shown

RESIZES = ("bilinear", "bicubic", "area", "article")
NORMALIZATIONS = ("caffe", "tf", "torch", "lite", "pixels", "article")

# Mean pixel of the ImageNet training images in RGB order, in units of 0 to 255, that VGG16 was trained with
# (Simonyan and Zisserman 2015, section 2.1; values as published with the Caffe model).
IMAGENET_MEAN = np.array([123.68, 116.779, 103.939], np.float32)
# Mean and deviation of the same images, in RGB order and units of 0 to 1, for PyTorch's and Keras' DenseNet weights.
TORCH_MEAN, TORCH_DEVIATION = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])

# OpenBLAS takes a second thread, which the network could use, for products of more multiplications.
_MULTIPLICATIONS_OF_ONE_THREAD = 2**18
MOST_STATED = 1e4  # of a mean that is stated, in units of 0 to 1, and of the inverse of a deviation
FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def resize(image: np.ndarray, size: int, method: str) -> np.ndarray:
    """Return `image`, uint8 (H, W, 3), as float32 (size, size, 3) in units of 0 to 255.

    `bilinear`, `bicubic` and `area` put pixel centres at half-integers, average over the whole footprint when
    shrinking, weigh only pixels inside the image, and round nothing. `bicubic` is not clipped and may pass a
    little under 0 or over 255. `area` weighs each old pixel by how much of the new one it covers, so that the
    mean stays. `article` is `np.resize`, which repeats or cuts the pixels in reading order.

    Args:
        image: uint8 (H, W, 3).
        size: height and width of the result, in pixels.
        method: one of RESIZES.

    Raises:
        InputError: another method.
    """
    if method not in RESIZES:
        raise InputError(f"--resize {shown(method)}: expected {', '.join(RESIZES)}; type --resize bilinear")
    if method == "article":
        return np.resize(image, (size, size, 3)).astype(np.float32)
    height, width = image.shape[:2]
    small = max(height, width) <= 1024 and size * width * max(height, size) <= _MULTIPLICATIONS_OF_ONE_THREAD
    if method == "area" or small:
        planes = np.ascontiguousarray(image.transpose(2, 0, 1), np.float32)
        squares = pixel_weights(height, size, method) @ planes @ pixel_weights(width, size, method).T
        return squares.transpose(1, 2, 0)
    channels = (Image.fromarray(np.ascontiguousarray(image[:, :, c], np.float32)) for c in range(3))
    return np.stack([np.asarray(plane.resize((size, size), FILTERS[method])) for plane in channels], axis=2)


@functools.lru_cache(maxsize=64)
def pixel_weights(old: int, new: int, method: str) -> np.ndarray:
    """Return the weight of each old pixel of a row or column in each new one, float32 (new, old); rows sum to 1."""
    if method != "area":
        image = Image.fromarray(np.eye(old, dtype=np.float32))
        return np.asarray(image.resize((old, new), FILTERS[method]))
    # Pillow's BOX filter would take an old pixel whole or not at all, by its centre.
    edges = np.arange(new + 1)[:, np.newaxis] * (old / new)
    starts = np.arange(old)
    shared = np.minimum(edges[1:], starts + 1) - np.maximum(edges[:-1], starts)
    return (np.maximum(shared, 0) * (new / old)).astype(np.float32)


def normalize(images: np.ndarray, method: str) -> np.ndarray:
    """Return network input, float32 (N, H, W, 3), from `images` (N, H, W, 3) RGB in units of 0 to 255.

    `caffe` subtracts the ImageNet mean and gives BGR, as VGG and ResNet50 were trained; `tf` maps 0 to 255 on -1 to 1,
    for Inception; `torch` divides by 255, subtracts the ImageNet mean and divides by its deviation, for DenseNet and
    AlexNet; `lite` subtracts 127 and divides by 128, for EfficientNet-Lite; `pixels` leaves 0 to 255, for networks that
    rescale their input themselves; `article` divides by 255. All but `caffe` keep RGB. What `stated` returns divides by
    255, puts the channels into its order, subtracts its means and divides by its deviations. The caller's array is left
    as it is.
    """
    if own := _statement(method):
        order, mean, deviation = own
        ordered = np.asarray(images, np.float32)[..., :: -1 if order == "bgr" else 1]
        scale, shift = 1 / (255 * deviation), mean / deviation
        return ordered * scale.astype(np.float32) - shift.astype(np.float32)
    if method == "caffe":
        result = np.empty(images.shape, np.float32)
        for channel in range(3):  # one at a time, which is three times as fast as all, innermost and backwards
            np.subtract(images[..., 2 - channel], IMAGENET_MEAN[2 - channel], result[..., channel], dtype=np.float32)
        return result
    if method == "tf":
        return np.asarray(images, np.float32) / np.float32(127.5) - np.float32(1)
    if method == "torch":
        scale, shift = 1 / (255 * TORCH_DEVIATION), TORCH_MEAN / TORCH_DEVIATION
        return np.asarray(images, np.float32) * scale.astype(np.float32) - shift.astype(np.float32)
    if method == "lite":
        return (np.asarray(images, np.float32) - np.float32(127)) / np.float32(128)
    if method == "pixels":
        return np.array(images, np.float32)
    if method == "article":
        return (np.asarray(images, np.float64) / 255).astype(np.float32)
    raise ValueError(f"normalize received {method!r}; expected one of {', '.join(NORMALIZATIONS)}")


def neutral_colour(method: str) -> np.ndarray:
    """Return the RGB colour, float32 (3,) in units of 0 to 255, that `normalize` turns into zeros (up to rounding).

    It is the mean colour of ImageNet for `caffe` and `torch`, grey for `tf` and `lite`, and black for `article`. For
    `pixels` it is the mean colour too, which such networks turn into zeros themselves, or nearly. For what `stated`
    returns it is its means.
    """
    if own := _statement(method):
        return np.asarray(255 * own[1][:: -1 if own[0] == "bgr" else 1], np.float32)
    colours = {
        "caffe": IMAGENET_MEAN,
        "tf": np.full(3, 127.5),
        "torch": 255 * TORCH_MEAN,
        "lite": np.full(3, 127),
        "pixels": 255 * TORCH_MEAN,
        "article": np.zeros(3),
    }
    return np.asarray(colours[method], np.float32)


def stated(order: str, mean: Sequence[float], deviation: Sequence[float]) -> str:
    """Return a normalisation of one's own as a word that `normalize` takes.

    Args:
        order: `rgb` or `bgr`, the channels' order in the network's input.
        mean: three numbers in units of 0 to 1, in that order.
        deviation: three numbers above 0, likewise.

    >>> stated("rgb", [0.5, 0.5, 0.5], [0.25, 0.25, 0.25])
    'rgb:0.5,0.5,0.5:0.25,0.25,0.25'
    """
    return ":".join([order, *(",".join(f"{float(value):.9g}" for value in values) for values in (mean, deviation))])


def is_normalization(method: str) -> bool:
    """Return whether `normalize` takes the word."""
    return method in NORMALIZATIONS or _statement(method) is not None


@functools.lru_cache(maxsize=16)
def _statement(method: str) -> tuple[str, np.ndarray, np.ndarray] | None:
    """Return order, means and deviations, float64 (3,), of what `stated` returned; None for any other word."""
    order, *numbers = method.split(":")
    try:
        values = [np.array([float(value) for value in part.split(",")]) for part in numbers]
    except ValueError:
        return None
    if order not in ("rgb", "bgr") or [value.shape for value in values] != [(3,), (3,)]:
        return None
    mean, deviation = values
    is_usable = bool((np.abs(mean) < MOST_STATED).all() and (deviation > 1 / MOST_STATED).all())
    return (order, mean, deviation) if is_usable and all(map(math.isfinite, deviation)) else None
