"""Resized images -> what the network's first layer expects, and activations -> feature vectors."""

import re

import numpy as np

from thaw.features.errors import InputError

NORMALIZATIONS = ("caffe", "tf", "torch", "article")
POOLINGS = ("auto", "none", "avg", "max", "grid2", "grid4")
AUTO_VALUES = 8192  # `auto` keeps at most this many values an image and layer

# Mean pixel of the ImageNet training images in RGB order, in units of 0 to 255, that VGG16 was trained with
# (Simonyan and Zisserman 2015, section 2.1; values as published with the Caffe model).
IMAGENET_MEAN = np.array([123.68, 116.779, 103.939], np.float32)
# Mean and deviation of the same, in RGB order and units of 0 to 1, that PyTorch's and Keras' DenseNet weights are for.
TORCH_MEAN, TORCH_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def normalize(images: np.ndarray, method: str) -> np.ndarray:
    """Return network input, float32 (N, H, W, 3), from `images` (N, H, W, 3) RGB in units of 0 to 255.

    `caffe` subtracts the ImageNet mean and gives BGR, as VGG and ResNet50 were trained; `tf` maps 0 to 255 on -1 to 1,
    for Inception; `torch` divides by 255, subtracts the ImageNet mean and divides by its deviation, for DenseNet and
    AlexNet; `article` divides by 255. The last three keep RGB. The caller's array is left as it is.
    """
    if method == "caffe":
        result = np.empty(images.shape, np.float32)
        for channel in range(3):  # one at a time, which is three times as fast as all, innermost and backwards
            np.subtract(images[..., 2 - channel], IMAGENET_MEAN[2 - channel], result[..., channel], dtype=np.float32)
        return result
    if method == "tf":
        return np.asarray(images, np.float32) / np.float32(127.5) - np.float32(1)
    if method == "torch":
        scale = 1 / (255 * np.array(TORCH_DEVIATION))
        shift = np.array(TORCH_MEAN) / np.array(TORCH_DEVIATION)
        return np.asarray(images, np.float32) * scale.astype(np.float32) - shift.astype(np.float32)
    if method == "article":
        return (np.asarray(images, np.float64) / 255).astype(np.float32)
    raise ValueError(f"normalize received {method!r}; expected one of {', '.join(NORMALIZATIONS)}")


def resolve_pooling(pooling: str, shape: tuple[int, int, int]) -> str:
    """Return what `auto` means for activations of `shape` (H, W, C): `flat`, else the finest `gridN` that fits.

    A layer of up to 8,192 values is flattened; a larger one is averaged over the largest N x N grid whose values
    do not exceed that. Every other name is returned as it is.
    """
    height, width, channels = shape
    if pooling != "auto":
        return pooling
    if height * width * channels <= AUTO_VALUES:
        return "flat"
    cells = int((AUTO_VALUES // channels) ** 0.5)
    return f"grid{min(cells, height, width)}" if cells >= 1 else "avg"


def layer_and_pooling(name: str, pooling: str) -> tuple[str, str]:
    """Return the layer and the pooling of what a feature file calls `name`: a layer, or `layer:pooling` of its own."""
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
    """Return float32 features (N, D), or (N, H, W, C) under `none`, from `activations` (N, H, W, C).

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
