"""The networks, operation by operation, named as in `keras.applications` if the layers have names there."""

import math
from itertools import count
from typing import Any

from thaw.features.backbones.graph import IMAGE, Graph

EPSILON = 1.001e-5  # of batch normalisation in Keras' ResNet50 and DenseNet121
HALVED = {"stride": 2, "same": True, "bias": False}  # a convolution of EfficientNet that halves the map
GROWTH = 32  # channels that each layer of DenseNet121 adds


def vgg(convolutions: tuple[int, ...]) -> Graph:
    """Return a VGG network: five blocks of 3x3 convolutions, each ended by a 2x2 max pooling (Simonyan 2015)."""
    graph, below = Graph(), IMAGE
    for block, (number, width) in enumerate(zip(convolutions, (64, 128, 256, 512, 512), strict=True), start=1):
        for layer in range(1, number + 1):
            below = graph.cut(graph.convolve(f"block{block}_conv{layer}", below, width, 3, relu=True))
        below = graph.cut(graph.pool(f"block{block}_pool", below, 2, 2), probed=True)
    return graph


def alexnet() -> Graph:
    """Return AlexNet in its one-column form (Krizhevsky 2014), with the widths and paddings of PyTorch's weights."""
    graph, below = Graph(), IMAGE
    table = ((64, 11, 4, 2, True), (192, 5, 1, 2, True), (384, 3, 1, 1, False), (256, 3, 1, 1, False))
    for number, (width, kernel, stride, padding, pooled) in enumerate((*table, (256, 3, 1, 1, True)), start=1):
        options = {"stride": stride, "padding": padding, "relu": True}
        below = graph.cut(graph.convolve(f"conv{number}", below, width, kernel, **options))
        if pooled:
            below = graph.cut(graph.pool(f"pool{number}", below, 3, 2), probed=True)
    return graph


def _stem(graph: Graph, bias: bool, pool: str) -> str:
    """Add the 7x7 convolution and the pooling that ResNet50 and DenseNet121 begin with."""
    below = graph.convolve("conv1_conv", IMAGE, 64, 7, stride=2, padding=3, bias=bias)
    below = graph.cut(graph.rectify("conv1_relu", graph.normalize("conv1_bn", below, EPSILON)))
    return graph.cut(graph.pool(pool, below, 3, 2, padding=1), probed=True)


def resnet50() -> Graph:
    """Return ResNet50 (He 2015): four stages of bottlenecks; the first of each stage but one halves the map."""
    graph = Graph()
    below = _stem(graph, bias=True, pool="pool1_pool")
    for stage, (number, width) in enumerate(((3, 64), (4, 128), (6, 256), (3, 512)), start=2):
        for block in range(1, number + 1):
            stride = 2 if block == 1 and stage > 2 else 1
            below = _bottleneck(graph, f"conv{stage}_block{block}", below, width, stride, projected=block == 1)
            graph.cut(below, probed=block == number)
    return graph


def _bottleneck(graph: Graph, name: str, below: str, width: int, stride: int, projected: bool) -> str:
    def unit(number: int, value: str, channels: int, kernel: int, stride: int = 1) -> str:
        value = graph.convolve(f"{name}_{number}_conv", value, channels, kernel, stride=stride)
        return graph.normalize(f"{name}_{number}_bn", value, EPSILON)

    shortcut = unit(0, below, 4 * width, 1, stride) if projected else below
    value = graph.rectify(f"{name}_1_relu", unit(1, below, width, 1, stride))
    value = graph.rectify(f"{name}_2_relu", unit(2, value, width, 3))
    total = graph.join(f"{name}_add", (shortcut, unit(3, value, 4 * width, 1)), kind="add")
    return graph.rectify(f"{name}_out", total)


def densenet121() -> Graph:
    """Return DenseNet121 (Huang 2017): each layer adds 32 channels to those before; transitions halve map and width."""
    graph = Graph()
    below = _stem(graph, bias=False, pool="pool1")
    for stage, number in enumerate((6, 12, 24, 16), start=2):
        for block in range(1, number + 1):
            name = f"conv{stage}_block{block}"
            value = graph.convolve(f"{name}_1_conv", _activated(graph, f"{name}_0_", below), 4 * GROWTH, bias=False)
            value = graph.convolve(f"{name}_2_conv", _activated(graph, f"{name}_1_", value), GROWTH, 3, bias=False)
            below = graph.cut(graph.join(f"{name}_concat", (below, value)))
        if stage < 5:
            value, half = _activated(graph, f"pool{stage}_", below), graph.channels(below) // 2
            value = graph.convolve(f"pool{stage}_conv", value, half, bias=False)
            below = graph.cut(graph.pool(f"pool{stage}_pool", value, 2, 2, kind="average"), probed=True)
    graph.cut(_activated(graph, "", below), probed=True)
    return graph


def _activated(graph: Graph, prefix: str, below: str) -> str:
    return graph.rectify(f"{prefix}relu", graph.normalize(f"{prefix}bn", below, EPSILON))


# A unit of Inception is (channels, kernel) or (channels, kernel, stride): a convolution, batch normalisation and ReLU;
# a list in a branch is a fork into units with joined outputs. A unit with a stride has no padding.
Unit = tuple[Any, ...]
Block = list[list[Any]]
ROW, COLUMN = (1, 7), (7, 1)


def inceptionv3() -> Graph:
    """Return InceptionV3 (Szegedy 2015); Keras' numbers depend on the process, these names on the position alone."""
    graph, below = Graph(), IMAGE
    stem = ((32, 3, 2, 0), (32, 3, 1, 0), (64, 3, 1, 1), (80, 1, 1, 0), (192, 3, 1, 0))
    for number, (width, kernel, stride, padding) in enumerate(stem, start=1):
        below = graph.convolve(f"conv{number}_conv", below, width, kernel, stride=stride, padding=padding, bias=False)
        below = graph.normalize(f"conv{number}_bn", below, scale=False)
        below = graph.cut(graph.rectify(f"conv{number}_relu", below))
        if number in (3, 5):
            below = graph.cut(graph.pool(f"pool{1 if number == 3 else 2}", below, 3, 2), probed=True)
    for number, branches in enumerate(_mixed_blocks()):
        name, numbers = f"mixed{number}", count(1)
        outputs = [_branch(graph, name, numbers, below, branch) for branch in branches]
        below = graph.cut(graph.join(name, outputs), probed=number in (2, 7, 10))
    return graph


def _mixed_blocks() -> list[Block]:
    blocks: list[Block] = [
        [[(64, 1)], [(48, 1), (64, 5)], [(64, 1), (96, 3), (96, 3)], ["average", (width, 1)]] for width in (32, 64, 64)
    ]
    blocks.append([[(384, 3, 2)], [(64, 1), (96, 3), (96, 3, 2)], ["max"]])
    blocks += [_sevens(width) for width in (128, 160, 160, 192)]
    sevens = [(192, 1), (192, ROW), (192, COLUMN), (192, 3, 2)]
    blocks.append([[(192, 1), (320, 3, 2)], sevens, ["max"]])
    fork = [(384, (1, 3)), (384, (3, 1))]
    blocks += [[[(320, 1)], [(384, 1), fork], [(448, 1), (384, 3), fork], ["average", (192, 1)]] for _ in range(2)]
    return blocks


def _sevens(width: int) -> Block:
    """Return a block whose 7x7 convolutions are each a row and a column."""
    once = [(width, 1), (width, ROW), (192, COLUMN)]
    twice = [(width, 1), (width, COLUMN), (width, ROW), (width, COLUMN), (192, ROW)]
    return [[(192, 1)], once, twice, ["average", (192, 1)]]


def _branch(graph: Graph, name: str, numbers: "count[int]", below: str, branch: list[Any]) -> str:
    for step in branch:
        if step == "max":
            below = graph.pool(f"{name}_pool", below, 3, 2)
        elif step == "average":
            below = graph.pool(f"{name}_pool", below, 3, 1, padding=1, kind="average")
        elif isinstance(step, list):
            forked = [_unit(graph, name, next(numbers), below, unit) for unit in step]
            below = graph.join(f"{name}_join{forked[0].rpartition('u')[2]}", forked)
        else:
            below = _unit(graph, name, next(numbers), below, step)
    return below


def _unit(graph: Graph, name: str, number: int, below: str, unit: Unit) -> str:
    channels, kernel, *stride = unit
    options = {"stride": stride[0], "padding": 0} if stride else {}
    below = graph.convolve(f"{name}_conv{number}", below, channels, kernel, bias=False, **options)
    return graph.rectify(f"{name}_relu{number}", graph.normalize(f"{name}_bn{number}", below, scale=False))


# The stages of EfficientNet-B0: kernel, stride, width multiplier of the expansion, channels, blocks (Tan and Le 2019).
STAGES = ((3, 1, 1, 16, 1), (3, 2, 6, 24, 2), (5, 2, 6, 40, 2), (3, 2, 6, 80, 3), (5, 1, 6, 112, 3), (5, 2, 6, 192, 4))
LAST_STAGE = (3, 1, 6, 320, 1)


def efficientnet_lite(width: float, depth: float) -> Graph:
    """Return an EfficientNet-Lite: EfficientNet without gates and with ReLU6, for quick and exact arithmetic.

    Its stem and head have the same width at every scale; its first and last stage have the same number of blocks. The
    features are the last maps at each stride (Tan and Le 2019; the Lite variants were published with their weights).

    Args:
        width: what the channels of a stage are multiplied by, then rounded to a multiple of 8.
        depth: what the blocks of a stage are multiplied by, then rounded up.
    """
    graph, stages = Graph(), (*STAGES, LAST_STAGE)
    below = graph.cut(_rectified(graph, "stem_", graph.convolve("stem_conv", IMAGE, 32, 3, **HALVED)))
    for number, (kernel, stride, expansion, channels, blocks) in enumerate(stages, start=1):
        blocks = blocks if number in (1, len(stages)) else math.ceil(blocks * depth)
        for block in range(blocks):
            name, steps = f"block{number}{chr(ord('a') + block)}_", (kernel, 1 if block else stride)
            below = graph.cut(
                _inverted_bottleneck(graph, name, below, _multiple_of_8(channels * width), expansion, steps)
            )
        graph.cut(below, probed=number in (1, 2, 3, 5))  # after the stages 4, 6 and 7 the stride stays
    head = graph.convolve("top_conv", below, 1280, bias=False)
    graph.cut(_rectified(graph, "top_", head), probed=True)
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
    return graph.join(f"{name}add", (below, value), kind="add")
