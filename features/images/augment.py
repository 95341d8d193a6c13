"""Random changes of an image that leave its class as it is, each drawn from a generator that the caller seeds."""

import math

import numpy as np
from PIL import Image, ImageEnhance

AUGMENTATIONS = ("none", "flip", "standard")
SMALLEST_CROP = 0.8  # share of the side that a random crop keeps at least
LARGEST_ANGLE = 10.0  # degrees
COLOUR_RANGE = 0.2  # brightness, contrast and saturation by a factor of 0.8 to 1.2


def augment(image: np.ndarray, method: str, generator: np.random.Generator) -> np.ndarray:
    """Return `image`, uint8 (H, W, 3), changed, in an array that may be the caller's own where nothing was.

    `flip` mirrors every second image; `standard` also crops, rotates (both in one bilinear resampling, beyond the
    border as in a mirror) and changes brightness, contrast and saturation a little.
    """
    if method == "none":
        return image
    if generator.random() < 0.5:
        image = image[:, ::-1]
    if method == "flip":
        return np.ascontiguousarray(image)
    return _recoloured(_moved(image, generator), generator)


def _moved(image: np.ndarray, generator: np.random.Generator) -> Image.Image:
    height, width = image.shape[:2]
    scale = generator.uniform(SMALLEST_CROP, 1)
    angle = math.radians(generator.uniform(-LARGEST_ANGLE, LARGEST_ANGLE))
    shift_y, shift_x = generator.uniform(-0.5, 0.5, 2) * (1 - scale) * (height, width)
    tilt = 0.5 * math.sin(math.radians(LARGEST_ANGLE))  # how far, in the other side's length, a corner may move out
    pad = (math.ceil(height / 4 + tilt * width), math.ceil(width / 4 + tilt * height))
    padded = np.pad(image, ((pad[0], pad[0]), (pad[1], pad[1]), (0, 0)), mode="symmetric")
    cos, sin = scale * math.cos(angle), scale * math.sin(angle)
    centre_y, centre_x = height / 2, width / 2
    # Pillow asks where each point of the result lies in the source.
    matrix = (
        *(cos, -sin, centre_x + pad[1] + shift_x - cos * centre_x + sin * centre_y),
        *(sin, cos, centre_y + pad[0] + shift_y - sin * centre_x - cos * centre_y),
    )
    method, filter_ = Image.Transform.AFFINE, Image.Resampling.BILINEAR
    return Image.fromarray(padded).transform((width, height), method, matrix, filter_)


def _recoloured(image: Image.Image, generator: np.random.Generator) -> np.ndarray:
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        image = enhance(image).enhance(generator.uniform(1 - COLOUR_RANGE, 1 + COLOUR_RANGE))
    return np.asarray(image)
