"""Locks that let one process at a time make a file; they end with their process and name their holder."""

import json
import logging
import os
import shlex
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from thaw.features.errors import InputError

log = logging.getLogger("thaw")


@contextmanager
def held(path: Path, wait: bool = False, otherwise: str = "") -> Iterator[None]:
    """Hold the lock of a file or a folder, and of what belongs to it, inside the `with` block.

    The lock lies beside `path` as `.NAME.lock`. The system frees it when its process ends, however that happens, so
    that a lock file that is left over stops nobody.

    Args:
        path: the file or folder; the folder that holds it exists.
        wait: whether to wait, with a line in the log, if another process holds the lock.
        otherwise: the end of the error's message.

    Raises:
        InputError: another process holds the lock, and `wait` is False; the message names the process.
    """
    lock = FileLock(_lock_path(path))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if not wait:
            raise InputError(
                f"{path} is being made by {holder(path)}; wait for its end and type the command again{otherwise}"
            ) from None
        log.info("waiting for %s, which is being made by %s; Ctrl-C gives up", path, holder(path))
        lock.acquire()
    except OSError as error:
        error.filename = str(path.parent)  # the folder that cannot be written into, not the hidden file
        raise
    try:
        _sign(path)
        yield
    finally:
        with suppress(OSError):
            os.truncate(_lock_path(path), 0)
        lock.release()


def holder(path: Path) -> str:
    """Return the process that holds the lock of `path`, with its machine, start and command if it has written them."""
    try:
        signature = json.loads(_lock_path(path).read_text("utf-8"))
        machine = "" if signature["host"] == socket.gethostname() else f" on {signature['host']}"
        return f"process {int(signature['process'])}{machine} since {signature['since']} ({signature['command']})"
    except (OSError, ValueError, LookupError, TypeError):  # it has not signed yet
        return "another process"


def _lock_path(path: Path) -> Path:
    return path.with_name(f".{path.name}.lock")


def _sign(path: Path) -> None:
    """Write the holder into the lock, which holds without it too, if the disk is full."""
    signature = {
        "process": os.getpid(),
        "host": socket.gethostname(),
        "since": datetime.now().astimezone().isoformat(sep=" ", timespec="seconds"),
        "command": shlex.join(["thaw", *sys.argv[1:]]),
    }
    with suppress(OSError):
        _lock_path(path).write_text(json.dumps(signature) + "\n", "utf-8")
