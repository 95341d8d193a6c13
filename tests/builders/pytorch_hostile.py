"""Files of PyTorch's old format that ask for more than tensors: name -> content, and what its refusal says."""

import os
import pickle

import numpy as np

from tests.builders.pytorch import file_of, state_pickle, storage, tensor

FOUR = np.arange(4, dtype=np.float32)
WHOLE = file_of(state_pickle({"a": tensor(storage("0", 4), (2, 2), (2, 1))}), {"0": FOUR})


class Executes:
    """Runs a command when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch executed",)


def of(view: bytes) -> bytes:
    return file_of(state_pickle({"a": view}), {"0": FOUR})


def in_state(instructions: bytes) -> bytes:
    return file_of(b"\x80\x02" + instructions + b".", {"0": FOUR})


ALONE = tensor(storage("0", 4), (4,), (1,))
CALLED = b"ctorch._utils\n_rebuild_tensor_v2\nX\x01\x00\x00\x00x\x85R"
HOSTILE = {
    "nothing": (b"", "."),
    "a pickle that runs a command": (pickle.dumps(Executes(), 2), r"its pickle asks for \w+.system"),
    "a command in the state dict": (of(pickle.dumps(Executes(), 2)[2:-1]), r"its pickle asks for \w+.system"),
    "a tensor made of a text": (of(CALLED), "makes something else"),
    "a tuple that is called": (in_state(b"))R"), "makes something else"),
    "an old text instruction": (in_state(b"cos\nsystem\n(S'touch executed'\ntR"), "asks for os.system"),
    "an instance by name": (in_state(b"(S'touch executed'\nios\nsystem\n"), "has the instruction STRING"),
    "a name from the stack": (in_state(b"\x8c\x02os\x8c\x06system\x93"), "has the instruction SHORT_BINUNICODE"),
    "an extension": (in_state(b"\x82\x01"), "has the instruction EXT1"),
    "attributes of a tuple": (in_state(b")}b"), "adds to what is no dict"),
    "keys that are lists": (in_state(b"}]Ns"), "keys that are no texts"),
    "more taken than was put": (in_state(b"00R"), "."),
    "a value that was not kept": (in_state(b"h\x07"), "takes what is not there"),
    "a list in place of the state dict": (in_state(b"]"), "holds no state dict"),
    "no end": (WHOLE[:40], "."),
    "half of its numbers": (WHOLE[:-8], "buffer"),
    "another magic number": (WHOLE.replace(b"\xfc\x9c", b"\xfc\x9d"), "does not begin as a file of torch.save"),
    "large numbers first": (WHOLE.replace(b"little_endian\x88", b"little_endian\x89"), "are not little-endian"),
    "another count of numbers": (WHOLE.replace(b"\x04" + bytes(7), b"\x05" + bytes(7)), "another size"),
    "numbers of no tensor": (file_of(state_pickle({}), {"0": FOUR}), "numbers of no tensor"),
    "no numbers of a tensor": (file_of(state_pickle({"a": ALONE}), {}), "numbers of a tensor are missing"),
    "a storage on no device": (in_state(b")Q"), "names a storage that is none"),
    "a view that passes the end": (of(tensor(storage("0", 4), (2,), (4,))), "larger than its storage"),
    "a view from beyond the end": (of(tensor(storage("0", 4), (1,), (1,), 4)), "larger than its storage"),
    "a view of 2^31 numbers of one": (of(tensor(storage("0", 4), (2**15, 2**15), (0, 0))), "larger than its storage"),
    "a view from before the start": (of(tensor(storage("0", 4), (2,), (1,), -1)), "makes something else"),
    "a view backwards": (of(tensor(storage("0", 4), (4,), (-1,), 3)), "makes something else"),
    "a view of 30 dimensions": (of(tensor(storage("0", 4), (1,) * 30, (1,) * 30)), "makes something else"),
}  # fmt: skip
