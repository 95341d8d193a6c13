"""How much memory a stage may use, and the rows of a feature file for a fit: held in memory, or read when needed."""

import logging
import os
import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from thaw.features.errors import InputError
from thaw.features.pooling import split_layers
from thaw.features.store import FeatureFile, FeatureRows
from thaw.models.selection.search import candidates, num_at_once
from thaw.models.solver.blocks import ArrayBlocks, Blocks, SquareRoots, block_rows, signed_roots
from thaw.pipeline.config import Common, Linear
from thaw.pipeline.memory import memory_budget_mb

if TYPE_CHECKING:
    from distributed import Client
log = logging.getLogger("thaw")


def load_rows(features: FeatureFile, layer: str, transform: str, mask: np.ndarray, in_memory: bool) -> Blocks:
    """Return transformed rows of a feature file.

    Args:
        features: the file.
        layer: its name, or several joined by +.
        transform: none or sqrt.
        mask: (N,) bool, which rows.
        in_memory: whether they are held in memory; otherwise each pass over them reads the file, with equal numbers.

    Returns:
        The rows (n, D) float32 in blocks.
    """
    names = split_layers(layer)
    if not in_memory:
        rows = FeatureRows(features, names, mask)
        return SquareRoots(rows) if transform == "sqrt" else rows
    blocks = ArrayBlocks(features.read(names, mask))
    if transform == "sqrt":
        for part in block_rows(blocks):
            signed_roots(blocks.array[part], out=blocks.array[part])
    return blocks


COPIES_PER_FIT = 3  # of the features: the fit rows, the transformed rows, the scaled rows


def peak_memory_mb() -> float:
    """Return the largest resident memory of this process so far, in MB (10^6 bytes)."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def spare_memory_mb(settings: Common) -> float:
    """Return the MB that a stage may still use beside what this process holds now, at least 0."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        held = pages * os.sysconf("SC_PAGE_SIZE") / 1e6
    except OSError:  # not Linux
        held = peak_memory_mb()
    return max(0.0, memory_budget_mb(settings) - held)


def check_memory(settings: Linear, features: FeatureFile, client: "Client | None" = None) -> None:
    """Raise InputError if copies of the features, without the test rows, do not fit the memory budget.

    With a `client` the folds have to fit the memory limits of its workers too, one fold for each thread.
    """
    tried = candidates(settings.layer, list(features.layers), settings.transform)
    largest = max(features.row_bytes(split_layers(layer)) for layer in tried)
    size = largest * int((features.split != 2).sum()) / 1e6
    if client is not None:
        _check_workers(size, client)
    at_once = num_at_once(settings.jobs) if client is None else 1
    needed, budget = size * (1 + COPIES_PER_FIT * at_once), memory_budget_mb(settings)
    if needed > budget:
        fewer = "fit one at a time by --jobs 1, " if at_once > 1 else ""
        raise InputError(
            f"training needs about {needed:,.0f} MB and may use {budget:,.0f} MB; {fewer}"
            f"choose a smaller layer by --layer, or allow more by --memory {int(needed) + 1}"
        )


def _check_workers(size: float, client: "Client") -> None:
    """Raise InputError if the folds of features of `size` MB do not fit the memory limit of a worker."""
    for address, worker in client.scheduler_info(n_workers=-1)["workers"].items():
        needed, limit = size * (1 + COPIES_PER_FIT) * worker["nthreads"], worker["memory_limit"] / 1e6
        if limit and needed > limit:
            raise InputError(
                f"a worker needs about {needed:,.0f} MB for its folds, and {address} may use {limit:,.0f} MB; choose a "
                f"smaller layer by --layer, or start workers with --nthreads 1 --memory-limit {int(needed) + 1}MB"
            )
