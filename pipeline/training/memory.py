"""Rows of a feature file for a fit: held in memory where they fit what a stage may still use, else read as wanted."""

import numpy as np

from thaw.features.store import FeatureFile, FeatureRows
from thaw.models.solver.blocks import ArrayBlocks, Blocks, SquareRoots, block_rows, signed_roots


def load_rows(features: FeatureFile, layer: str, transform: str, mask: np.ndarray, in_memory: bool) -> Blocks:
    """Return the rows (n, D) float32 of a layer (or several, joined by +) where `mask` (N,) holds, transformed.

    Each pass over them reads the file unless they are held `in_memory`; the numbers are the same.
    """
    names = layer.split("+")
    if not in_memory:
        rows = FeatureRows(features, names, mask)
        return SquareRoots(rows) if transform == "sqrt" else rows
    blocks = ArrayBlocks(features.read(names, mask))
    if transform == "sqrt":
        for part in block_rows(blocks):
            signed_roots(blocks.array[part], out=blocks.array[part])
    return blocks
