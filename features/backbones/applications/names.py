"""Names of layers that do not depend on what else a process has built."""

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

from thaw.features.backbones.graph import POOLINGS, Operation

PARTS = {"conv": "conv", "norm": "bn", "relu": "relu"}  # of a unit of InceptionV3


def stable_names(layers: Iterable[Any]) -> dict[str, str]:
    """Return the name of each layer of a model of Keras as a fresh process gives it.

    A layer that its network does not name is numbered by Keras as the process makes such layers: `activation_12`.
    """
    names: dict[str, str] = {}
    numbered: dict[str, list[tuple[int, str]]] = {}
    for layer in layers:
        prefix = _snake_case(type(layer).__name__)
        names[layer.name] = layer.name
        if found := re.fullmatch(rf"{prefix}(?:_(\d+))?", layer.name):
            numbered.setdefault(prefix, []).append((int(found[1] or 0), layer.name))
    for prefix, found_names in numbered.items():
        for place, (_, name) in enumerate(sorted(found_names)):
            names[name] = f"{prefix}_{place}" if place else prefix
    return names


def _snake_case(name: str) -> str:
    """Return a class name as Keras writes it in the names of layers.

    >>> [_snake_case(name) for name in ("Conv2D", "ReLU", "MaxPooling2D", "CustomScaleLayer")]
    ['conv2d', 're_lu', 'max_pooling2d', 'custom_scale_layer']
    """
    return re.sub(r"(?<=.)(?=[A-Z][a-z])|(?<=[a-z])(?=[A-Z])", "_", name).lower()


def inception_names(operations: Sequence[Operation]) -> dict[str, str]:
    """Return the name by position of each operation of InceptionV3, whose layers Keras only numbers.

    Below the second pooling they are `conv1_conv`, `conv1_bn`, `conv1_relu`, ..., `pool1` and `pool2`. Inside the block
    `mixed3` they are `mixed3_conv1`, `mixed3_bn1`, `mixed3_relu1`, ..., `mixed3_pool`, and `mixed3_join2` for a join
    whose first input is the second unit.

    Args:
        operations: Those of the network, each branch after the other.
    """
    names: dict[str, str] = {}
    ends = [-1, *(i for i, operation in enumerate(operations) if re.fullmatch(r"mixed\d+", operation.name))]
    pools = [i for i, operation in enumerate(operations) if operation.kind in POOLINGS][:2]
    convolutions = 0
    for operation in operations[: pools[1] + 1]:
        convolutions += operation.convolves
        is_pool = operation.kind in POOLINGS
        names[operation.name] = (
            f"pool{1 + (operation is operations[pools[1]])}"
            if is_pool
            else f"conv{convolutions}_{PARTS[operation.kind]}"
        )
    for first, last in pairwise([pools[1], *ends[1:]]):
        names |= _block_names(operations[first + 1 : last], operations[last].name)
        names[operations[last].name] = operations[last].name
    return names


def _block_names(operations: Sequence[Operation], block: str) -> dict[str, str]:
    names: dict[str, str] = {}
    unit = 0
    for operation in operations:
        unit += operation.convolves
        if operation.kind in POOLINGS:
            names[operation.name] = f"{block}_pool"
        elif operation.joins:
            first = names[operation.inputs[0]].rpartition(PARTS["relu"])[2]
            names[operation.name] = f"{block}_join{first}"
        else:
            names[operation.name] = f"{block}_{PARTS[operation.kind]}{unit}"
    return names
