"""Images of any size as network input, by Keras' own layers and operations: resized, squared and normalised."""

from typing import Any

import numpy as np

from thaw.features.images.preprocess import neutral_colour
from thaw.features.onnx.images import channels_of

RESIZES = ("bilinear", "bicubic")  # that Keras has as they are here


def prepared(images: Any, size: int, methods: tuple[str, str, str]) -> Any:
    """Return network input (N, S, S, 3) float32 of images (N, H, W, 3) uint8.

    Args:
        images: the images, symbolic.
        size: the side S of the input, in pixels.
        methods: how images are resized, by one of RESIZES, made squares and normalised.
    """
    import keras

    resize, aspect, normalize = methods
    order, scale, offset = channels_of(normalize)
    floats = keras.ops.cast(images, "float32")
    if aspect == "pad":
        inputs = _padded(floats, size, resize, neutral_colour(normalize))
    else:
        given = {"interpolation": resize, "antialias": True, "crop_to_aspect_ratio": aspect == "crop"}
        inputs = keras.layers.Resizing(size, size, **given, name="resize")(floats)
    inputs = keras.ops.flip(inputs, axis=-1) if order == [2, 1, 0] else inputs
    return keras.layers.Rescaling(scale.tolist(), offset.tolist(), name="normalize")(inputs)


def _padded(images: Any, size: int, resize: str, border: np.ndarray) -> Any:
    """Return images (N, H, W, 3) in the middle of a square of `border`, RGB (3,), resized: (N, size, size, 3).

    Keras' own layer puts equally much on both sides, which makes no square if height and width differ by an odd number.
    The weights of the resize are computed from the sides of the images that come in, as the ONNX graph does.
    """
    import keras

    ops = keras.ops
    inside = images - border  # zero outside of the image
    axes = [ops.cumsum(ops.max(ops.ones_like(inside), axis=others)) - 0.5 for others in ((0, 2, 3), (0, 1, 3))]
    height, width = (ops.max(centres) + 0.5 for centres in axes)
    side = ops.maximum(height, width)
    whole = [_kernel(centres, side / size, size, resize) for centres in axes]
    totals = [ops.sum(weights, axis=1, keepdims=True) for weights in whole]
    total = ops.where(height >= width, *totals)  # over all pixels of the square
    rows, columns = (
        _kernel(centres + ops.floor((side - old) / 2), side / size, size, resize) / total
        for centres, old in zip(axes, (height, width), strict=True)
    )
    return ops.einsum("xw,nywc->nyxc", columns, ops.einsum("yh,nhwc->nywc", rows, inside)) + border


def _kernel(centres: Any, stride: Any, size: int, resize: str) -> Any:
    """Return the kernel at the distance of each old pixel's centre (n,) from each new one's: (size, n)."""
    import keras

    ops = keras.ops
    new = np.arange(size, dtype=np.float32)[:, np.newaxis] + np.float32(0.5)
    far = ops.abs(ops.expand_dims(centres, 0) - stride * new) / ops.maximum(stride, 1.0)
    if resize == "bilinear":
        return ops.relu(1.0 - far)
    near, outer = (1.5 * far - 2.5) * far * far + 1.0, ((-0.5 * far + 2.5) * far - 4.0) * far + 2.0
    return ops.where(far < 1.0, near, ops.where(far < 2.0, outer, 0.0))
