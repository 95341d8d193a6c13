"""The memory that a stage may use, and whether the images of one forward pass fit it."""

import os

from thaw.features.backbones.graph import IMAGE
from thaw.features.backbones.image_size import SIZES
from thaw.features.errors import InputError
from thaw.features.foreign.extractors import Extractor
from thaw.features.foreign.network import OnnxNetwork
from thaw.pipeline.config import Common


def memory_budget_mb(settings: Common) -> float:
    """Return the MB that a stage may use: --memory, else three quarters of the machine's memory."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e6
    return settings.memory or 0.75 * total


def check_image_memory(settings: Common, extractor: Extractor, batch_size: int) -> None:
    """Raise InputError if the images of one forward pass cannot fit the memory, before any of it is taken."""
    size, budget = settings.image_size, memory_budget_mb(settings)
    needed = batch_size * image_mb(extractor, size)
    if needed <= budget:
        return
    fits = int(batch_size * budget / needed)
    smaller = [side for side in SIZES if batch_size * image_mb(extractor, side) <= budget and side < size]
    advice = f"--batch-size {fits}" if fits else f"--image-size {smaller[-1]}" if smaller else "--memory with more MB"
    raise InputError(
        f"--image-size {size}: {batch_size} images at once take {needed:,.0f} MB or more in {extractor.name}, and may "
        f"use {budget:,.0f} MB; type {advice}"
    )


def image_mb(extractor: Extractor, image_size: int) -> float:
    """Return the MB that one image takes at least: the largest operation's input and output, in float32.

    Of a network from a file no more is known than its input.
    """
    if isinstance(extractor, OnnxNetwork):
        return 4e-6 * 3 * image_size**2
    graph = extractor.graph
    sides = graph.sizes(image_size)
    values = {name: side**2 * graph.channels(name) for name, side in sides.items()}
    steps = (values[step.name] + max(values[name] for name in step.inputs) for step in graph.operations.values())
    return 4e-6 * max(values[IMAGE], *steps)
