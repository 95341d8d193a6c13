"""One process at a time makes a file: locks of the system, which end with their process, and who holds them."""

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
    """Hold the right to make `path`, a file or a folder, and what belongs to it; the folder that it lies in is there.

    Where another process has it: with `wait` this one says who, and waits; else it raises InputError, which says who
    and what to type, `otherwise` included. A lock lies beside the file as `.NAME.lock`; a process that ends, however
    it ends, has it no more, so that a file that is left there holds nobody up.
    """
    lock = FileLock(_lock_path(path))
    with _of_the_folder(path):
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if not wait:
                raise InputError(
                    f"{path} is being made by {holder(path)}; wait for its end and type the command again{otherwise}"
                ) from None
            log.info("waiting for %s, which is being made by %s; Ctrl-C gives up", path, holder(path))
            lock.acquire()
    try:
        _sign(path)
        yield
    finally:
        with suppress(OSError):
            os.truncate(_lock_path(path), 0)
        lock.release()


def holder(path: Path) -> str:
    """Return who holds the lock of `path`, as far as it said: process, machine, since when, and its command."""
    try:
        said = json.loads(_lock_path(path).read_text("utf-8"))
        where = "" if said["host"] == socket.gethostname() else f" on {said['host']}"
        return f"process {int(said['process'])}{where} since {said['since']} ({said['command']})"
    except (OSError, ValueError, LookupError, TypeError):  # it has not said yet
        return "another process"


def _lock_path(path: Path) -> Path:
    return path.with_name(f".{path.name}.lock")


@contextmanager
def _of_the_folder(path: Path) -> Iterator[None]:
    """An error names the folder that cannot be written into, not the hidden file."""
    try:
        yield
    except OSError as error:
        error.filename = str(path.parent)
        raise


def _sign(path: Path) -> None:
    """Write into the lock who holds it; it holds without that, where the disk is full."""
    said = {
        "process": os.getpid(),
        "host": socket.gethostname(),
        "since": datetime.now().astimezone().isoformat(sep=" ", timespec="seconds"),
        "command": shlex.join(["thaw", *sys.argv[1:]]),
    }
    with suppress(OSError):
        _lock_path(path).write_text(json.dumps(said) + "\n", "utf-8")
