"""The image size that suits a network and a dataset: that of the images, as far as it is affordable."""

import time
from functools import cache

import numpy as np

from thaw.features.backbones.registry import Backbone

SIZES = (48, 64, 96, 128, 160, 192, 224)  # pixels, beside the network's own
LEAST_OF_VGG, LEAST_OF_OTHERS = 48, 128  # pixels
MAX_MULTIPLY_ADDS = 1.2e14  # of all images together
MATRIX_SIDE = 768
# The multiply-adds a second of a network over those of a product of matrices: Winograd's convolutions need fewer.
RATIO_OF_VGG, RATIO_OF_OTHERS = 2.4, 0.6


def fitting_image_size(backbone: Backbone, median_side: float, num_images: int) -> int:
    """Return the side in pixels that images are resized to, the same on every machine.

    It is the smallest of the sizes that is not below the images, at most the network's own; smaller if all images
    together would take more than 1.2e14 multiply-adds; never below 48 for VGG and 128 for the others.

    Args:
        backbone: The network.
        median_side: The median of the images' shorter sides, in pixels.
        num_images: The number of images of the dataset.

    >>> from thaw.features.backbones.registry import get_backbone
    >>> [fitting_image_size(get_backbone("vgg16"), side, 2000) for side in (8, 32, 50, 240, 4000)]
    [48, 48, 64, 224, 224]
    >>> fitting_image_size(get_backbone("vgg16"), 240, 60_000)
    64
    """
    least = LEAST_OF_VGG if backbone.name.startswith("vgg") else LEAST_OF_OTHERS
    own = backbone.own_image_size
    sizes = [size for size in sorted({*SIZES, own}) if max(least, backbone.min_image_size) <= size <= own]
    wanted = min((size for size in sizes if size >= median_side), default=own)
    top = backbone.layers[-1].name
    costs = {size: num_images * backbone.cost(top, size)[1] for size in sizes if size <= wanted}
    return max((size for size, cost in costs.items() if cost <= MAX_MULTIPLY_ADDS), default=sizes[0])


def expected_seconds(backbone: Backbone, image_size: int, num_images: int) -> float:
    """Return about how long this processor takes to run the network over all images.

    It is estimated from the speed of a product of matrices, and from how much faster or slower the network's
    multiply-adds are on the engine `mnn` (measured by `python -m benchmarks.network_speed`).
    """
    of_all = num_images * backbone.cost(backbone.layers[-1].name, image_size)[1]
    ratio = RATIO_OF_VGG if backbone.name.startswith("vgg") else RATIO_OF_OTHERS
    return of_all / (ratio * _products_a_second())


@cache
def _products_a_second() -> float:
    """Return the multiply-adds a second of NumPy's product of two matrices, the best of a few."""
    matrix = np.ones((MATRIX_SIDE, MATRIX_SIDE), np.float32)

    def once() -> float:
        began = time.perf_counter()
        matrix @ matrix
        return time.perf_counter() - began

    return MATRIX_SIDE**3 / min(once() for _ in range(5))


def evenly_spaced(num_images: int, most: int = 1000) -> list[int]:
    """Return at most `most` row numbers, evenly spaced over a dataset."""
    return np.unique(np.linspace(0, num_images - 1, min(num_images, most)).astype(int)).tolist()
