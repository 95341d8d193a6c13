"""The networks, operation by operation, named as in `keras.applications` if the layers have names there."""

from itertools import count
from typing import Any

from thaw.features.backbones.graph import IMAGE, Graph

EPSILON = 1.001e-5  # of batch normalisation in Keras' ResNet50 and DenseNet121
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
