"""The value that becomes white in a new run's images of more than 8 bits, and whether the images have shades."""

import logging

from thaw.features.backbones.image_size import evenly_spaced
from thaw.features.datasets.dataset import Dataset
from thaw.features.errors import InputError
from thaw.features.images.value_range import FEW_LEVELS, has_few_levels, white_of

log = logging.getLogger("thaw")

LOOKED_AT, DECODED = 200, 40  # images, evenly spaced by id
LEAST_SIDE = 64  # pixels


def white_of_images(dataset: Dataset) -> float | None:
    """Return the value that becomes white, None if it is the type's highest; say so, and warn of images without shades.

    Of grey images with more than 8 bits it is the highest value that the bits in use can have, over 200 images: 4095
    of 12 bits.
    """
    rows = evenly_spaced(len(dataset.ids))
    looks = [dataset.images.peek(row) for row in _some(rows, LOOKED_AT)]
    found = [look.highest for look in looks if look.highest is not None]
    highest = max(found, default=0)
    white = white_of(highest, all(look.is_whole for look in looks)) if found else None
    if several := sum(look.has_frames for look in looks):
        log.info("%d of %d images looked at have several pages or frames: the first counts", several, len(looks))
    if white:
        log.info(
            "%d of %d images looked at have more than 8 bits, with values up to %g: %g becomes white, here and in "
            "labelling (--white takes another value)",
            *(len(found), len(looks), highest, white),
        )
    if not found:
        _warn_of_few_levels(dataset, _some(rows, DECODED))
    return white


def _some(rows: list[int], count: int) -> list[int]:
    return rows[:: max(1, -(-len(rows) // count))]


def _warn_of_few_levels(dataset: Dataset, rows: list[int]) -> None:
    few = []
    for row in rows:
        try:
            few.append(has_few_levels(dataset.read(row, LEAST_SIDE)))
        except InputError:  # reading it again says so, or skips it
            continue
    if few and 2 * sum(few) > len(few):
        log.warning(
            "%d of %d images looked at have fewer than %d different values, so hardly any shades: masks, drawings, or "
            "photographs that lost them on the way; look at some",
            *(sum(few), len(few), FEW_LEVELS),
        )
