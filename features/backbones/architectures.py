"""The networks that Keras does not have, operation by operation."""

import math

from thaw.features.backbones.graph import IMAGE, Graph

HALVED = {"stride": 2, "same": True, "bias": False}  # a convolution of EfficientNet that halves the map


def alexnet() -> Graph:
    """Return AlexNet in its one-column form (Krizhevsky 2014), with the widths and paddings of PyTorch's weights."""
    graph, below = Graph(), IMAGE
    table = ((64, 11, 4, 2, True), (192, 5, 1, 2, True), (384, 3, 1, 1, False), (256, 3, 1, 1, False))
    for number, (width, kernel, stride, padding, pooled) in enumerate((*table, (256, 3, 1, 1, True)), start=1):
        options: dict[str, int | str] = {"stride": stride, "padding": padding, "activation": "relu"}
        below = graph.convolve(f"conv{number}", below, width, kernel, **options)
        if pooled:
            below = graph.pool(f"pool{number}", below, 3, 2)
    return graph


# The stages of EfficientNet-B0: kernel, stride, width multiplier of the expansion, channels, blocks (Tan and Le 2019).
STAGES = ((3, 1, 1, 16, 1), (3, 2, 6, 24, 2), (5, 2, 6, 40, 2), (3, 2, 6, 80, 3), (5, 1, 6, 112, 3), (5, 2, 6, 192, 4))
LAST_STAGE = (3, 1, 6, 320, 1)


def efficientnet_lite(width: float, depth: float) -> Graph:
    """Return an EfficientNet-Lite: EfficientNet without gates and with ReLU6, for quick and exact arithmetic.

    Its stem and head have the same width at every scale; its first and last stage have the same number of blocks (Tan
    and Le 2019; the Lite variants were published with their weights).

    Args:
        width: what the channels of a stage are multiplied by, then rounded to a multiple of 8.
        depth: what the blocks of a stage are multiplied by, then rounded up.
    """
    graph, stages = Graph(), (*STAGES, LAST_STAGE)
    below = _rectified(graph, "stem_", graph.convolve("stem_conv", IMAGE, 32, 3, **HALVED))
    for number, (kernel, stride, expansion, channels, blocks) in enumerate(stages, start=1):
        blocks = blocks if number in (1, len(stages)) else math.ceil(blocks * depth)
        for block in range(blocks):
            name, steps = f"block{number}{chr(ord('a') + block)}_", (kernel, 1 if block else stride)
            below = _inverted_bottleneck(graph, name, below, _multiple_of_8(channels * width), expansion, steps)
    _rectified(graph, "top_", graph.convolve("top_conv", below, 1280, bias=False))
    return graph


def _multiple_of_8(channels: float) -> int:
    """Return the nearest multiple of 8, the next one if that is below nine tenths."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest


def _rectified(graph: Graph, prefix: str, below: str) -> str:
    return graph.rectify(f"{prefix}activation", graph.normalize(f"{prefix}bn", below), kind="relu6")


def _inverted_bottleneck(
    graph: Graph, name: str, below: str, channels: int, expansion: int, steps: tuple[int, int]
) -> str:
    """Add a block that widens the map, filters each channel by itself and narrows it again (Sandler 2018).

    `steps` are the kernel and the stride. A block that keeps the map's shape adds it to its own output.
    """
    (kernel, stride), value = steps, below
    if expansion > 1:
        value = graph.convolve(f"{name}expand_conv", below, expansion * graph.channels(below), bias=False)
        value = _rectified(graph, f"{name}expand_", value)
    value = graph.convolve_each(f"{name}dwconv", value, kernel, **(HALVED if stride == 2 else {"bias": False}))
    value = graph.convolve(f"{name}project_conv", _rectified(graph, name, value), channels, bias=False)
    value = graph.normalize(f"{name}project_bn", value)
    if stride == 2 or channels != graph.channels(below):
        return value
    return graph.sum(f"{name}add", (below, value))
