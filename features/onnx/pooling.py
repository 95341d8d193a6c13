"""Pool activations by nodes of an ONNX graph, as thaw.features.pooling does."""

import numpy as np

from thaw.features.onnx.builder import GraphBuilder
from thaw.features.pooling import pool, resolve_pooling


def pooled(graph: GraphBuilder, activations: str, pooling: str, shape: tuple[int, int, int]) -> str:
    """Return the features, float32 (N, D), of activations (N, C, H, W).

    Args:
        graph: the graph that gets the nodes.
        activations: the value's name.
        pooling: as in `pool`; `none` is flattened like `flat`: row by row, column by column, channels side by side.
        shape: (H, W, C) of the activations.
    """
    height, width, channels = shape
    resolved = resolve_pooling(pooling, shape)
    if resolved == "max":
        return graph.add("ReduceMax", activations, axes=[2, 3], keepdims=0)
    if resolved not in ("flat", "none"):
        means = _means(resolved, height), _means(resolved, width).T
        activations = graph.add("MatMul", graph.hold(means[0]), activations)
        activations = graph.add("MatMul", activations, graph.hold(means[1]))
        height, width = len(means[0]), means[1].shape[1]
    rows = graph.add("Transpose", activations, perm=[0, 2, 3, 1])
    return graph.add("Reshape", rows, graph.hold([0, height * width * channels]))


def _means(pooling: str, length: int) -> np.ndarray:
    """Return the weights, float32 (cells, length), that `pool` gives the positions along one side of a square map."""
    units = np.eye(length, dtype=np.float32).reshape(length, length, 1, 1)
    cells = pool(np.tile(units, (1, 1, length, 1)), pooling)  # (length, cells * cells), alike in every column
    num_cells = round(cells.shape[1] ** 0.5)
    return np.ascontiguousarray(cells.reshape(length, num_cells, num_cells)[:, :, 0].T)
