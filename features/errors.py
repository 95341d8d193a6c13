"""The one error that a user can mend, and what readers of files raise on bytes that they cannot use."""

import struct
import zlib

FILE_FAULTS = (OSError, EOFError, ValueError, RuntimeError, MemoryError, struct.error, zlib.error)
"""What any of the libraries that read images and archives may raise on a torn or made-up file."""


class InputError(ValueError):
    """Something the user gave cannot be used.

    The message is one line: what was received, what was expected, and what to type next. The command line
    prints it without a traceback and exits with 1.
    """
