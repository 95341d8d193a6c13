"""Files that are whole or missing: written under a temporary name first, then renamed."""

import ctypes
import errno
import functools
import glob
import hashlib
import os
import secrets
import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from thaw.features.errors import InputError

KEEP_LENGTH = 1  # FALLOC_FL_KEEP_SIZE
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def whole_path(path: Path, ending: str = "") -> Iterator[Path]:
    """Yield a temporary path beside `path` that takes its name only if the block ends well.

    The file is flushed to the disk before it is renamed, and the folder after it, so that after a crash or a kill
    `path` is unchanged or whole. On an error the temporary file is removed. The temporary name has the `ending`, on
    which some libraries insist.
    """
    temporary = path.with_name(f"{_temporary_name(path)}{ending}")
    _remove_leftovers_of(path)
    try:
        yield temporary
        _sync(temporary)
        temporary.replace(path)
        _sync(path.parent)
    except OSError as error:
        if error.filename in (None, str(temporary)):  # a failed write names no file, a refused one the temporary file
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def write_whole(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Yield an open file (UTF-8 and `\\n` for text) that replaces `path` only if the block ends well."""
    encoding, newline = (None, None) if "b" in mode else ("utf-8", "")
    with whole_path(path) as temporary, temporary.open(mode, encoding=encoding, newline=newline) as file:
        yield file


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield the temporary path of a folder, for the block to make and fill, that takes the name `path` if it ends well.

    A folder that had the name is then removed; after a kill there may be no folder, but never half of one.
    """
    temporary, former = (path.with_name(f"{_temporary_name(path)}{ending}") for ending in ("", ".former"))
    _remove_leftovers_of(path)
    try:
        yield temporary
        for file in temporary.rglob("*"):
            _sync(file)
        if path.exists():
            path.replace(former)
        temporary.replace(path)
        _sync(path.parent)
    finally:
        for folder in (temporary, former):
            shutil.rmtree(folder, ignore_errors=True)


def _temporary_name(path: Path) -> str:
    """Return a name that no other writer of `path` has, on any machine that shares the disk."""
    return f".{path.name}.{_machine()}-{os.getpid()}-{secrets.token_hex(4)}.tmp"


@functools.cache
def _machine() -> str:
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]


def _remove_leftovers_of(path: Path) -> None:
    """Remove the temporary files of `path` that killed processes of this machine left."""
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.{_machine()}-*.tmp*"):
        number = leftover.name.removeprefix(f".{path.name}.{_machine()}-").partition("-")[0]
        if number.isdigit() and not _is_running(int(number)):
            _remove(leftover)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # another user's
        return True
    return True


def remove_leftovers(folder: Path, name: str = "*") -> None:
    """Remove the temporary files that a killed process left in `folder`, of `name` alone if it is given."""
    for path in folder.glob(f".{name}.*.tmp*"):
        _remove(path)


def check_space(path: Path, num_bytes: int) -> None:
    """Raise InputError if the disk of `path` has no room for `num_bytes` more, and 1 % for HDF5's own tables."""
    needed, free = int(1.01 * num_bytes) + 2**20, shutil.disk_usage(path.parent).free
    if free < needed:
        raise InputError(
            f"{path} needs {needed / 1e6:,.0f} MB and the disk has {free / 1e6:,.0f} MB left; make room and type the "
            "command again: finished parts are kept"
        )


def reserve(path: Path, num_bytes: int) -> None:
    """Reserve `num_bytes` on the disk for the file at `path`, whose length does not change.

    Raises OSError if there is no room: HDF5 itself crashes the process on a full disk. Does nothing if the system or
    the disk cannot reserve.
    """
    if not sys.platform.startswith("linux"):
        return
    with path.open("rb+") as file:
        library = ctypes.CDLL(None, use_errno=True)
        bounds = (ctypes.c_int64(0), ctypes.c_int64(num_bytes))
        failed = library.fallocate64(file.fileno(), KEEP_LENGTH, *bounds)
        number = ctypes.get_errno()
    if failed and number in NO_ROOM:
        raise OSError(number, os.strerror(number), str(path))


def file_digest(path: Path, algorithm: str = "sha256") -> str:
    """Return the hexadecimal digest of a file's bytes, read in pieces."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, algorithm).hexdigest()
    except OSError as error:
        error.filename = str(path)  # a failed read names no file
        raise
