"""The image size of a new run, if the user names none: chosen once by the images, before anything is extracted."""

import logging
from typing import TypeVar

import numpy as np

from thaw.features.backbones.image_size import evenly_spaced, fitting_image_size
from thaw.features.backbones.registry import get_backbone
from thaw.features.foreign.extractors import is_foreign
from thaw.pipeline.config import Common
from thaw.pipeline.run.run_json import dataset_of

log = logging.getLogger("thaw")

Settings = TypeVar("Settings", bound=Common)


def with_image_size(settings: Settings) -> Settings:
    """Return the settings of a new run with the image size that suits its images, unless the user named one.

    The median is over the shorter sides of at most 1,000 images, evenly spaced by id; images that cannot be read are
    left out. The article's resizing is for its 48 pixels, and a network from a file has a size of its own.
    """
    if "image_size" in settings.model_fields_set or settings.resize == "article" or is_foreign(settings.backbone):
        return settings
    dataset = dataset_of(settings)
    sides = [dataset.images.shorter_side(row) for row in evenly_spaced(len(dataset.ids))]
    known = [side for side in sides if side is not None]
    if not known:
        return settings
    median = float(np.median(known))
    size = fitting_image_size(get_backbone(settings.backbone), median, len(dataset.ids))
    reason = f"the images' shorter sides have a median of {median:.0f}"
    log.info("%d pixels: %s (--image-size takes another size)", size, reason)
    return settings.model_copy(update={"image_size": size})
