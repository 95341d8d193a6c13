"""Tensors of an ONNX file that lie in files beside it: checked, and read into the model."""

import hashlib
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from thaw.features.errors import InputError, shown

NUM_BITS = {"float": 32, "double": 64, "float16": 16, "bfloat16": 16, "int64": 64, "int32": 32, "int8": 8, "uint8": 8}
"""Bits of a number of each type that tensors in other files may have."""


def read_into(tensors: Sequence[Any], folder: Path, most_bytes: int) -> list[bytes]:
    """Read every tensor (onnx.TensorProto) that lies in another file, so that none does any more.

    Args:
        tensors: all tensors of a model.
        folder: the folder of the model's file, in which the others have to lie.
        most_bytes: what all of them may take.

    Returns:
        The SHA-256 digests of the files, in the order of their names.

    Raises:
        InputError: a tensor lies outside the folder, or not whole in its file, or they are too large.
    """
    from onnx import TensorProto

    outside = [tensor for tensor in tensors if tensor.data_location == TensorProto.EXTERNAL]
    paths = {location: _path_in(folder, location) for location in sorted({_entry(t, "location") for t in outside})}
    size = sum(path.stat().st_size for path in paths.values())
    if size > most_bytes:
        raise InputError(
            f"its tensors in other files take {size / 1e9:,.1f} GB, more than the {most_bytes / 1e9:,.1f} GB that one "
            "ONNX file holds beside the rest; export a smaller network"
        )
    contents = {location: path.read_bytes() for location, path in paths.items()}
    for tensor in outside:
        tensor.raw_data = _part_of(contents[_entry(tensor, "location")], tensor)
        del tensor.external_data[:]
        tensor.data_location = TensorProto.DEFAULT
    return [hashlib.sha256(content).digest() for content in contents.values()]


def _entry(tensor: Any, key: str, default: str = "") -> str:
    return str(next((entry.value for entry in tensor.external_data if entry.key == key), default))


def _path_in(folder: Path, location: str) -> Path:
    """Return the path of a file of tensors; raises InputError if it is not a plain file within the folder."""
    path, home = folder / location, folder.resolve()
    inside = location and not Path(location).is_absolute() and ".." not in Path(location).parts
    if not inside or "\\" in location or "\0" in location or Path(os.path.realpath(path)) != home / location:
        raise InputError(
            f"its tensors lie in {shown(location) or 'no file'!r}, which is outside its folder, or a link; expected a "
            "file in the folder of the .onnx: copy it there and export the network again"
        )
    if not path.is_file():
        raise InputError(f"its tensors lie in {shown(location)}, which is not in its folder; put that file beside it")
    return path


def _part_of(content: bytes, tensor: Any) -> bytes:
    """Return a tensor's bytes; raises InputError if the file does not hold as many as its shape takes."""
    name, kind = shown(tensor.name), type_name(tensor.data_type)
    expected = math.prod(tensor.dims) * NUM_BITS.get(kind, 0) // 8
    offset = _entry(tensor, "offset", "0")
    length = _entry(tensor, "length", str(expected))
    is_number = offset.isdecimal() and length.isdecimal() and len(offset + length) < 40
    is_whole = is_number and int(length) == expected and int(offset) + expected <= len(content)
    if not is_whole or min(tensor.dims, default=1) < 0:
        raise InputError(
            f"its tensor {name} ({kind}, {list(tensor.dims)}) is not whole in "
            f"{shown(_entry(tensor, 'location'))}, which is cut short or another network's; export the network again"
        )
    return content[int(offset) : int(offset) + expected]


def type_name(number: int) -> str:
    """Return the name of a type of numbers, by its number in onnx.TensorProto."""
    from onnx import TensorProto

    return TensorProto.DataType.Name(number).lower() if number in TensorProto.DataType.values() else f"type {number}"
