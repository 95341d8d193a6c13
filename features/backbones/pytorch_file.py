"""Read a state dict from PyTorch's old file format: pickles, then the raw numbers of each storage.

The pickles are not run. The few instructions that a state dict needs are followed here, on values that are numbers,
texts, containers and descriptions of tensors. Nothing that a file names is looked up, imported or called.
"""

import io
import math
import pickletools
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # what the first two pickles hold
MOST_VALUES = 2**40  # of a storage; a larger number in a file is no size
DTYPES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
}
MARK = object()


class Name(NamedTuple):
    """A name that a pickle asks for, as text."""

    module: str
    name: str


class Storage(NamedTuple):
    """The numbers that tensors are views of: their key in the file, their type and how many there are."""

    key: str
    dtype: np.dtype[Any]
    size: int


class Tensor(NamedTuple):
    """A view of a storage; `strides`, like `offset`, count numbers."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


ORDERED_DICT = Name("collections", "OrderedDict")
REBUILD_TENSOR = Name("torch._utils", "_rebuild_tensor_v2")
KNOWN = (ORDERED_DICT, REBUILD_TENSOR, *(Name("torch", storage) for storage in DTYPES))


def read_state(content: bytes) -> dict[str, np.ndarray]:
    """Return the tensors of a state dict by name, as read-only views of `content`.

    Raises ValueError if the file is torn, or holds anything else.
    """
    file = io.BytesIO(content)
    if (load(file), load(file)) != (MAGIC, PROTOCOL):
        raise ValueError("it does not begin as a file of torch.save in the old format")
    system, state, keys = load(file), load(file), load(file)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise ValueError("its numbers are not little-endian")
    if not isinstance(state, dict) or not isinstance(keys, list):
        raise ValueError("it holds no state dict")
    tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    storages = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
    numbers = _numbers(content, file.tell(), keys, storages)
    return {name: _view(tensor, numbers) for name, tensor in tensors.items()}


def load(file: io.BytesIO) -> Any:
    """Return the value of the next pickle; raises ValueError if it has an instruction that no state dict needs."""
    try:
        return _followed(file)
    except LookupError:
        raise ValueError("its pickle takes what is not there") from None


def _followed(file: io.BytesIO) -> Any:
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    for instruction, argument, _ in pickletools.genops(file):
        if instruction.name == "STOP":
            return stack.pop()
        if not (_push(stack, memo, instruction.name, argument) or _gather(stack, instruction.name)):
            raise ValueError(f"its pickle has the instruction {instruction.name}")
    raise ValueError("its pickle does not end")


def _push(stack: list[Any], memo: dict[int, Any], name: str, argument: Any) -> bool:
    """Follow an instruction that puts a value on the stack or into the memo; return False for any other."""
    match name:
        case "PROTO":
            pass
        case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINUNICODE":
            stack.append(argument)
        case "NONE" | "NEWTRUE" | "NEWFALSE":
            stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[name])
        case "EMPTY_TUPLE" | "EMPTY_LIST" | "EMPTY_DICT" | "MARK":
            stack.append({"EMPTY_TUPLE": (), "EMPTY_LIST": [], "EMPTY_DICT": {}, "MARK": MARK}[name])
        case "BINPUT" | "LONG_BINPUT":
            memo[argument] = stack[-1]
        case "BINGET" | "LONG_BINGET":
            stack.append(memo[argument])
        case "GLOBAL":
            stack.append(_known(Name(*argument.split(" ", 1))))
        case _:
            return False
    return True


def _gather(stack: list[Any], name: str) -> bool:
    """Follow an instruction that makes one value of others, or adds to one; return False for any other."""
    match name:
        case "TUPLE":
            stack.append(tuple(_above_mark(stack)))
        case "TUPLE1" | "TUPLE2" | "TUPLE3":
            items = [stack.pop() for _ in range(int(name[-1]))]
            stack.append(tuple(reversed(items)))
        case "APPENDS":
            items = _above_mark(stack)
            _top(stack, list).extend(items)
        case "SETITEMS" | "SETITEM":
            items = _above_mark(stack) if name == "SETITEMS" else [stack.pop(), stack.pop()][::-1]
            _set_items(_top(stack, dict), items)
        case "BINPERSID":
            stack.append(_storage(stack.pop()))
        case "REDUCE":
            arguments, called = stack.pop(), stack.pop()
            stack.append(_rebuilt(called, arguments))
        case "BUILD":
            stack.pop()  # the attributes of the dictionary below, which say nothing of the tensors
            _top(stack, dict)
        case _:
            return False
    return True


def _above_mark(stack: list[Any]) -> list[Any]:
    """Take the values above the last mark off the stack, and the mark, and return them in order."""
    items = []
    while (item := stack.pop()) is not MARK:
        items.append(item)
    return items[::-1]


def _top(stack: list[Any], kind: type) -> Any:
    if not stack or not isinstance(stack[-1], kind):
        raise ValueError(f"its pickle adds to what is no {kind.__name__}")
    return stack[-1]


def _set_items(dictionary: dict[str, Any], items: list[Any]) -> None:
    if len(items) % 2 or not all(isinstance(key, str) for key in items[::2]):
        raise ValueError("its pickle has keys that are no texts")
    dictionary.update(zip(items[::2], items[1::2], strict=True))


def _known(name: Name) -> Name:
    if name not in KNOWN:
        raise ValueError(f"its pickle asks for {name.module}.{name.name}")
    return name


def _storage(identity: Any) -> Storage:
    """Return the storage that a pickle describes: ('storage', type, key, device, number of values, None)."""
    match identity:
        case ("storage", Name("torch", kind), str(key), str(), int(size), None) if 0 <= size < MOST_VALUES:
            return Storage(key, np.dtype(DTYPES[kind]), size)
    raise ValueError("its pickle names a storage that is none")


def _rebuilt(called: Any, arguments: Any) -> Any:
    """Return an empty dictionary, or the tensor of (storage, offset, shape, strides, requires gradient, hooks)."""
    if called == ORDERED_DICT and arguments == ():
        return {}
    match arguments:
        case (Storage() as storage, int(offset), tuple(shape), tuple(strides), bool(), dict()) if (
            called == REBUILD_TENSOR
        ):
            numbers = (offset, *shape, *strides)
            if len(shape) == len(strides) <= 8 and all(type(n) is int and 0 <= n < MOST_VALUES for n in numbers):
                return Tensor(storage, offset, shape, strides)
    raise ValueError("its pickle makes something else than a tensor")


def _numbers(content: bytes, start: int, keys: list[Any], storages: Mapping[str, Storage]) -> dict[str, np.ndarray]:
    """Return the numbers of each storage; they lie one after the other from `start` on, each after its count, int64."""
    found: dict[str, np.ndarray] = {}
    for key in keys:
        storage = storages.get(key) if isinstance(key, str) else None
        if storage is None or key in found:
            raise ValueError("it holds numbers of no tensor")
        if int.from_bytes(content[start : start + 8], "little") != storage.size:
            raise ValueError(f"the storage {key!r} has another size than its tensors say")
        found[key] = np.frombuffer(content, storage.dtype, storage.size, start + 8)
        start += 8 + found[key].nbytes
    if len(found) < len(storages):
        raise ValueError("numbers of a tensor are missing")
    return found


def _view(tensor: Tensor, numbers: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return a tensor as a view of its storage, no larger than that."""
    values = numbers[tensor.storage.key]
    last = tensor.offset + sum((n - 1) * stride for n, stride in zip(tensor.shape, tensor.strides, strict=True))
    if math.prod(tensor.shape) > len(values) or (0 not in tensor.shape and last >= len(values)):
        raise ValueError("a tensor is larger than its storage")
    if 0 in tensor.shape:
        return np.empty(tensor.shape, values.dtype)
    strides = [stride * values.itemsize for stride in tensor.strides]
    return np.lib.stride_tricks.as_strided(values[tensor.offset :], tensor.shape, strides, writeable=False)
