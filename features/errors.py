"""The one error that a user can fix, and what readers of files raise on bytes that they cannot use."""

import lzma
import struct
import tokenize
import zipfile
import zlib

FILE_ERRORS = (
    *(OSError, EOFError, ValueError, RuntimeError, MemoryError, LookupError, TypeError, AttributeError),
    *(ArithmeticError, AssertionError, SyntaxError),
    *(struct.error, zlib.error, lzma.LZMAError, tokenize.TokenError, zipfile.BadZipFile),
)
"""What the libraries that read images, zips, .npy, HDF5, ONNX and models may raise on a torn or made-up file.

Fuzzing them has shown it.
"""

NO_MEMORY = ("ResourceExhaustedError", "OutOfMemoryError")  # TensorFlow's and PyTorch's, which are not imported here


class InputError(ValueError):
    """Something the user gave cannot be used.

    The message is one line: what was received, what was expected, and what to type next. The command line
    prints it without a traceback and exits with 1.
    """


def shown(text: object) -> str:
    """Return `text` as one printable line: a file name or another library's message may hold anything."""
    line = " ".join(str(text).splitlines())
    return line if line.isprintable() else line.encode("unicode_escape").decode("ascii")


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error of any library means that the machine or its GPU has no memory left."""
    named = type(error).__name__ in NO_MEMORY or "RESOURCE_EXHAUSTED" in str(error)  # the text is JAX's
    return named or isinstance(error, MemoryError)
