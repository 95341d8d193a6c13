"""Files that are whole or not there: written under another name first, by one process at a time."""

import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from filelock import FileLock, Timeout

from features.errors import InputError


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def whole_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` that takes its name only when the block ends well.

    The file is flushed to the disk before it is renamed, and the folder after it, so that after a crash or a kill
    `path` is what it was before or whole. On an error the temporary file is removed.
    """
    unique = secrets.token_hex(4)  # on a shared disk two machines may have processes of the same number
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{unique}.tmp")
    try:
        yield temporary
        _sync(temporary)
        temporary.replace(path)
        _sync(path.parent)
    except OSError as error:
        if error.filename is None:  # a failed write does not say where
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def write_whole(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Yield an open file (UTF-8 and `\\n` for text) that replaces `path` only when the block ends well."""
    encoding, newline = (None, None) if "b" in mode else ("utf-8", "")
    with whole_path(path) as temporary, temporary.open(mode, encoding=encoding, newline=newline) as file:
        yield file
        file.flush()


def remove_leftovers(folder: Path, name: str = "*") -> None:
    """Remove the temporary files of `name` (of all names unless given) that a killed process left in `folder`."""
    for path in folder.glob(f".{name}.*.tmp"):
        path.unlink(missing_ok=True)


@contextmanager
def writing_alone(path: Path) -> Iterator[None]:
    """Hold the right to make `path`; raises InputError where another process has it. A dead process loses it."""
    lock = FileLock(path.with_name(f".{path.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(f"another process is making {path}; wait for its end and type the command again") from None
    try:
        yield
    finally:
        lock.release()


def check_space(path: Path, num_bytes: int) -> None:
    """Raise InputError where the disk of `path` has not room for `num_bytes` more, and 1 % for HDF5's own tables."""
    needed, free = int(1.01 * num_bytes) + 2**20, shutil.disk_usage(path.parent).free
    if free < needed:
        raise InputError(
            f"{path} needs {needed / 1e6:,.0f} MB and the disk has {free / 1e6:,.0f} MB left; make room and type the "
            "command again: finished parts are kept"
        )


def file_digest(path: Path, algorithm: str = "sha256") -> str:
    """Return the hexadecimal digest of a file's bytes, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()
