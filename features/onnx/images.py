"""Resize, square and normalise images by nodes of an ONNX graph, as thaw.features.images does."""

from typing import Any

import numpy as np

from thaw.features.images.preprocess import neutral_colour, normalize
from thaw.features.onnx.builder import GraphBuilder

BICUBIC = -0.5  # Keys' parameter (Keys 1981), as Pillow has it
SUPPORTS = {"bilinear": 1.0, "bicubic": 2.0}  # how far the kernels reach, in pixels of the larger grid


def images_input(name: str) -> Any:
    """Return the description of the input: uint8 (N, H, W, 3), any N, H and W."""
    from onnx import TensorProto, helper

    return helper.make_tensor_value_info(name, TensorProto.UINT8, ["N", "H", "W", 3])


def squared(graph: GraphBuilder, images: str, size: int, methods: tuple[str, str, str]) -> str:
    """Return squares of `images`, uint8 (N, H, W, 3), as `aspect.fit` makes them: float32 (N, 3, size, size), 0 to 255.

    Args:
        graph: the graph that gets the nodes.
        images: the value's name.
        size: height and width of the result, in pixels.
        methods: how images are resized, made squares and normalised; from the last follows the colour of a border.
    """
    method, aspect, normalization = methods
    if aspect == "squash":
        return resized(graph, images, size, method)
    sides = [_side(graph, images, axis) for axis in (1, 2)]
    if aspect == "crop":
        side = graph.add("Min", *sides)
        starts, ends = zip(*(_middle(graph, old, side) for old in sides), strict=True)
        corners = (graph.add("Concat", *places, axis=0) for places in (starts, ends))
        return resized(graph, graph.add("Slice", images, *corners, graph.hold([1, 2])), size, method)
    border, longer = neutral_colour(normalization), graph.add("Max", *sides)
    inside = graph.add("Sub", graph.cast(images, np.float32), graph.hold(border))  # zero outside of the image
    height, width = (
        graph.add("Slice", _weights(graph, longer, size, method), *_middle(graph, longer, old), graph.hold([1]))
        for old in sides
    )
    return graph.add("Add", _applied(graph, inside, height, width), graph.hold(border.reshape(1, 3, 1, 1)))


def resized(graph: GraphBuilder, images: str, size: int, method: str) -> str:
    """Return `images`, uint8 (N, H, W, 3), resized: float32 (N, 3, size, size) in units of 0 to 255.

    Args:
        graph: the graph that gets the nodes.
        images: the value's name.
        size: height and width of the result, in pixels.
        method: as in `preprocess.resize`.
    """
    if method == "article":
        return _repeated(graph, images, size)
    height, width = (_weights(graph, _side(graph, images, axis), size, method) for axis in (1, 2))
    return _applied(graph, graph.cast(images, np.float32), height, width)


def normalized(graph: GraphBuilder, images: str, method: str) -> str:
    """Return the network's input, float32 (N, 3, S, S), from `images` of that shape in units of 0 to 255."""
    order, scale, offset = channels_of(method)
    if order != [0, 1, 2]:
        images = graph.add("Gather", images, graph.hold(order), axis=1)
    scaled = graph.add("Mul", images, graph.hold(scale.reshape(1, 3, 1, 1)))
    return graph.add("Add", scaled, graph.hold(offset.reshape(1, 3, 1, 1)))


def channels_of(method: str) -> tuple[list[int], np.ndarray, np.ndarray]:
    """Return order, scale and offset of `preprocess.normalize`: channel k is scale[k] * input[order[k]] + offset[k].

    Three indices and two float32 (3,), measured on black and on pure red, green and blue, so that no preprocessing is
    written down twice.
    """
    colours = normalize(np.float32(255) * np.eye(4, 3, dtype=np.float32), method)  # the last is black
    offset = colours[3]
    rise = (colours[:3] - offset) / np.float32(255)
    order = np.abs(rise).argmax(axis=0)
    return order.tolist(), rise[order, range(3)], offset


def _side(graph: GraphBuilder, images: str, axis: int) -> str:
    """Return the length of an axis, int64 (1,)."""
    return graph.add("Gather", graph.add("Shape", images), graph.hold([axis]), axis=0)


def _middle(graph: GraphBuilder, longer: str, shorter: str) -> tuple[str, str]:
    """Return where the middle `shorter` pixels of a `longer` side begin and end, each int64 (1,)."""
    start = graph.add("Div", graph.add("Sub", longer, shorter), graph.hold([2]))
    return start, graph.add("Add", start, shorter)


def _applied(graph: GraphBuilder, images: str, height: str, width: str) -> str:
    """Return `images`, float32 (N, H, W, 3), times the weights (size, H) and (size, W): (N, 3, size, size)."""
    rows = graph.add("MatMul", height, graph.add("Reshape", images, graph.hold([0, 0, -1])))  # x (N, H, W * 3)
    planes = graph.add("Reshape", rows, graph.hold([0, 0, -1, 3]))
    planes = graph.add("Transpose", planes, perm=[0, 3, 1, 2])
    return graph.add("MatMul", planes, graph.add("Transpose", width, perm=[1, 0]))


def _repeated(graph: GraphBuilder, images: str, size: int) -> str:
    """Return the images as np.resize makes them: the values in reading order, repeated or cut."""
    shape = graph.add("Shape", images)
    values = graph.add("Reshape", images, graph.hold([0, -1]))
    count = graph.add("ReduceProd", graph.add("Slice", shape, graph.hold([1]), graph.hold([4])), keepdims=1)
    indices = graph.add("Mod", graph.hold(np.arange(size * size * 3)), count)
    square = graph.add("Reshape", graph.add("Gather", values, indices, axis=1), graph.hold([0, size, size, 3]))
    return graph.cast(graph.add("Transpose", square, perm=[0, 3, 1, 2]), np.float32)


def _weights(graph: GraphBuilder, old: str, size: int, method: str) -> str:
    """Return the weight of each old pixel in each new one, float32 (size, old), from float64; rows sum to 1."""
    side = graph.cast(old, np.float64)  # (1,)
    scale = graph.add("Div", side, graph.hold(float(size), np.float64))
    scalar = graph.add("Squeeze", old)
    starts = graph.add("Range", graph.hold(0, np.int64), scalar, graph.hold(1, np.int64))
    starts = graph.cast(graph.add("Unsqueeze", starts, graph.hold([0])), np.float64)  # (1, old)
    weights = (_shared if method == "area" else _kernel)(graph, starts, scale, size, method)
    total = graph.add("ReduceSum", weights, graph.hold([1]), keepdims=1)
    return graph.cast(graph.add("Div", weights, total), np.float32)


def _shared(graph: GraphBuilder, starts: str, scale: str, size: int, _: str) -> str:
    """Return how much of each old pixel a new one covers, float64 (size, old)."""
    edges = np.arange(size + 1, dtype=np.float64)[:, np.newaxis]
    above, below = (graph.add("Mul", graph.hold(part), scale) for part in (edges[:-1], edges[1:]))
    ends = graph.add("Min", below, graph.add("Add", starts, graph.hold(1.0, np.float64)))
    shared = graph.add("Sub", ends, graph.add("Max", above, starts))
    return graph.add("Max", shared, graph.hold(0.0, np.float64))


def _kernel(graph: GraphBuilder, starts: str, scale: str, size: int, method: str) -> str:
    """Return the kernel's value at each old pixel's distance from the new one's centre; it widens if images shrink."""
    centres = graph.add("Mul", graph.hold(np.arange(size, dtype=np.float64)[:, np.newaxis] + 0.5), scale)
    middles = graph.add("Add", starts, graph.hold(0.5, np.float64))
    stretch = graph.add("Max", scale, graph.hold(1.0, np.float64))
    far = graph.add("Abs", graph.add("Div", graph.add("Sub", middles, centres), stretch))
    if method == "bilinear":
        return graph.add("Max", graph.add("Sub", graph.hold(1.0, np.float64), far), graph.hold(0.0, np.float64))
    # Keys' cubic: ((a + 2) x - (a + 3)) x^2 + 1 up to 1, a (((x - 5) x + 8) x - 4) up to 2, and 0 beyond.
    near = _polynomial(graph, far, (BICUBIC + 2, -(BICUBIC + 3), 0.0, 1.0))
    outer = _polynomial(graph, far, (BICUBIC, -5 * BICUBIC, 8 * BICUBIC, -4 * BICUBIC))
    beyond = graph.add("Where", _below(graph, far, SUPPORTS[method]), outer, graph.hold(0.0, np.float64))
    return graph.add("Where", _below(graph, far, 1.0), near, beyond)


def _below(graph: GraphBuilder, values: str, limit: float) -> str:
    return graph.add("Less", values, graph.hold(limit, np.float64))


def _polynomial(graph: GraphBuilder, values: str, coefficients: tuple[float, ...]) -> str:
    """Return a polynomial of `values` by Horner's rule; the coefficient of the highest power comes first."""
    result = graph.hold(coefficients[0], np.float64)
    for coefficient in coefficients[1:]:
        result = graph.add("Add", graph.add("Mul", result, values), graph.hold(coefficient, np.float64))
    return result
