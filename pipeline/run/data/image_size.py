"""The image size of a new feature set, if the user names none: chosen once by the images, before the extraction."""

import logging

import numpy as np

from thaw.features.backbones.image_size import evenly_spaced, expected_seconds, fitting_image_size
from thaw.features.backbones.registry import get_backbone
from thaw.features.datasets.dataset import Dataset
from thaw.pipeline.config import Common
from thaw.pipeline.formatting import duration

log = logging.getLogger("thaw")


def image_size_of(settings: Common, dataset: Dataset) -> int:
    """Return the side in pixels that suits the images and the network of the settings, and log the reason.

    If no image can be read, it is the network's usual size.
    """
    median = median_side(dataset)
    if median is None:
        return settings.image_size
    network, number = get_backbone(settings.backbone), len(dataset.ids)
    size = fitting_image_size(network, median, number)
    seconds = settings.num_views * expected_seconds(network, size, number)
    log.info(
        "%d pixels: the images' shorter sides have a median of %.0f; %s images take about %s here without a GPU "
        "(--image-size takes another size)",
        *(size, median, f"{number:,}", duration(seconds)),
    )
    return size


def median_side(dataset: Dataset) -> float | None:
    """Return the median of the images' shorter sides in pixels, None if none can be read.

    It is over at most 1,000 images, evenly spaced by id; those that cannot be read are left out.
    """
    sides = [dataset.images.shorter_side(row) for row in evenly_spaced(len(dataset.ids))]
    known = [side for side in sides if side is not None]
    return float(np.median(known)) if known else None
