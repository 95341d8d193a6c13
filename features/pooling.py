"""Pool a layer's activations (N, H, W, C) into feature vectors (N, D)."""

import re
from collections.abc import Sequence

import numpy as np

from thaw.features.errors import InputError

POOLINGS = ("auto", "none", "avg", "max", "grid2", "grid4")
MOST_AUTO_VALUES = 8192  # of an image and a layer under `auto`


def resolve_pooling(pooling: str, shape: tuple[int, int, int]) -> str:
    """Return the pooling that `auto` means for activations of `shape` (H, W, C); another name is returned as it is.

    A layer of up to 8,192 values is flattened (`flat`); a larger one is averaged over the finest N x N grid with at
    most 8,192 values (`gridN`).
    """
    height, width, channels = shape
    if pooling != "auto":
        return pooling
    if height * width * channels <= MOST_AUTO_VALUES:
        return "flat"
    cells = int((MOST_AUTO_VALUES // channels) ** 0.5)
    return f"grid{min(cells, height, width)}" if cells >= 1 else "avg"


def split_layers(layer: str) -> list[str]:
    """Return the names of layers that are joined by `+`; of joined sets a name is `set/layer`.

    A set's name may hold a `+`, a layer's cannot.

    >>> split_layers("block4_pool+block5_pool")
    ['block4_pool', 'block5_pool']
    >>> split_layers("vgg16-48-x+y/block4_pool+b-224/head")
    ['vgg16-48-x+y/block4_pool', 'b-224/head']
    """
    names: list[str] = []
    for part in layer.split("+"):
        unfinished = "/" in layer and names and "/" not in names[-1]
        names[-1:] = [f"{names[-1]}+{part}"] if unfinished else [*names[-1:], part]
    return names


def layer_and_pooling(name: str, pooling: str) -> tuple[str, str]:
    """Return the layer and the pooling that a name in a feature file means: `layer`, or `layer:pooling` of its own."""
    layer, _, own = name.partition(":")
    return layer, own or pooling


def pooled_shape(pooling: str, shape: tuple[int, int, int]) -> tuple[int, ...]:
    """Return the shape of one image's features, (D,) or (H, W, C), for activations of `shape` (H, W, C)."""
    height, width, channels = shape
    resolved = resolve_pooling(pooling, shape)
    if resolved == "none":
        return shape
    if resolved == "flat":
        return (height * width * channels,)
    return (_grid_size(resolved, height, width) ** 2 * channels,)


def pool(activations: np.ndarray, pooling: str) -> np.ndarray:
    """Return the features of `activations` (N, H, W, C), float32 (N, D), or (N, H, W, C) under `none`.

    gridN is adaptive averaging: cell i covers rows floor(i H / N) to ceil((i + 1) H / N), likewise columns, and the
    cells follow one another in reading order, each with its C channels. `avg` is grid1.
    """
    _, height, width, channels = activations.shape
    resolved = resolve_pooling(pooling, (height, width, channels))
    if resolved == "none":
        return activations
    if resolved == "flat":
        return activations.reshape(len(activations), -1)
    if resolved == "max":
        return activations.max(axis=(1, 2))
    cells = _grid_size(resolved, height, width)
    rows, columns = _cells(height, cells), _cells(width, cells)
    return np.concatenate([activations[:, r, c].mean(axis=(1, 2)) for r in rows for c in columns], axis=1)


def mean_over_views(features: Sequence[np.ndarray]) -> np.ndarray:
    """Return the mean, float32 (N, ...), of the features of N images in each of their views."""
    return features[0] if len(features) == 1 else np.stack(features).mean(axis=0, dtype=np.float32)


def _grid_size(pooling: str, height: int, width: int) -> int:
    if pooling in ("avg", "max"):
        return 1
    match = re.fullmatch(r"grid([1-9]\d*)", pooling)
    if match is None:
        raise InputError(f"--pooling {pooling}: expected one of {', '.join(POOLINGS)}")
    cells = int(match[1])
    if cells > min(height, width):
        raise InputError(
            f"--pooling {pooling} needs a map of {cells}x{cells} or more and a layer has {height}x{width}; choose "
            "--pooling auto, an earlier layer by --layers, or a larger --image-size"
        )
    return cells


def _cells(length: int, num_cells: int) -> list[slice]:
    return [slice(i * length // num_cells, -(-(i + 1) * length // num_cells)) for i in range(num_cells)]
