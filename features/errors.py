"""The one error that a user can mend, and what readers of files raise on bytes that they cannot use."""

import lzma
import struct
import tokenize
import zipfile
import zlib

FILE_FAULTS = (OSError, EOFError, ValueError, RuntimeError, MemoryError, struct.error, zlib.error)
"""What any of the libraries that read images and archives may raise on a torn or made-up file."""

CONTAINER_FAULTS = (
    *(*FILE_FAULTS, LookupError, TypeError, AttributeError, ArithmeticError, AssertionError, SyntaxError),
    *(tokenize.TokenError, lzma.LZMAError, zipfile.BadZipFile),
)
"""What the libraries that read zips, .npy, HDF5, ONNX and models may raise besides, as fuzzing them has shown."""


class InputError(ValueError):
    """Something the user gave cannot be used.

    The message is one line: what was received, what was expected, and what to type next. The command line
    prints it without a traceback and exits with 1.
    """


NO_MEMORY = ("ResourceExhaustedError", "OutOfMemoryError")  # TensorFlow's and PyTorch's, which are not imported here


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that the machine or its GPU has no memory left, whatever library says it."""
    named = type(error).__name__ in NO_MEMORY or "RESOURCE_EXHAUSTED" in str(error)  # the latter is JAX's
    return named or isinstance(error, MemoryError)
