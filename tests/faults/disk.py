"""Fill the disk under every stage: `python tests/faults/disk.py --ledger disk.json`.

The run lies on a small disk in memory (tmpfs), which has room for a share of what the stage writes and no more; where
this process may not mount one, a limit on the size of files stands in its place. A stage that does not fit has to end
with one line that names the place, and with room made the same command has to end as if nothing had been.
"""

import os
import resource
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import small_run
from faults_met import Fault, harness
from prepared import Prepared

SHARES = (0.0, 0.02, 0.1, 0.3, 0.6, 0.9)  # of what the stage leaves more than it found
ROOM = 2**30  # bytes of the disk while it is not full
FILE_BYTES = (4096, 65536, 2**20)  # the limits on a file's size


def mounted(folder: Path) -> bool:
    """Mount a disk in memory at `folder`; return whether that can be."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", str(folder)]
    return (
        shutil.which("mount") is not None and subprocess.run(command, check=False, capture_output=True).returncode == 0
    )


def unmount(folder: Path) -> None:
    """Take the disk at `folder` away, at once."""
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def on_a_small_disk(fault: Fault, made: Prepared) -> Iterator[Path]:
    """Yield a copy of the run as it was before the fault's stage, on a disk of its own."""
    with small_run.scratch() as folder:
        if not mounted(folder):
            raise SystemExit("this process may not mount a disk any more")
        try:
            shutil.copytree(made.ready[fault.stage], folder / "run")
            yield folder / "run"
        finally:
            unmount(folder)


@contextmanager
def filled(num_bytes: int, run_folder: Path) -> Iterator[None]:
    """The disk has room for `num_bytes` more during the block."""
    filling = run_folder.parent / "filling"
    free = os.statvfs(run_folder).f_bavail * os.statvfs(run_folder).f_frsize
    with filling.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(1, free - num_bytes))
    try:
        yield
    finally:
        filling.unlink()


@contextmanager
def limited(num_bytes: int, _: Path) -> Iterator[None]:
    """No file may grow beyond `num_bytes` during the block, in this process and in its children."""
    kept, how = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, kept[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, kept)
        signal.signal(signal.SIGXFSZ, how)


def written(made: Prepared, stage: str) -> int:
    """Return the bytes that a stage leaves more than it found."""
    after = {**made.ready, "": made.run_folder}
    folders = list(after)
    return _size(after[folders[folders.index(stage) + 1]]) - _size(after[stage])


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def full_disks(made: Prepared) -> list[Fault]:
    """Return every case on a small disk: nothing but the last may fit."""
    return [
        Fault(stage, f"room for {100 * share:g} %", partial(filled, int(share * written(made, stage))), goes_on=None)
        for stage in made.ready
        for share in SHARES
    ]


def short_files(made: Prepared) -> list[Fault]:
    """Return every case of a limit on the size of files."""
    return [
        Fault(stage, f"files of {num_bytes} bytes", partial(limited, num_bytes), goes_on=None)
        for stage in made.ready
        for num_bytes in FILE_BYTES
    ]


def can_mount() -> bool:
    """Return whether this process may mount a disk."""
    with small_run.scratch() as folder:
        possible = mounted(folder)
        if possible:
            unmount(folder)
    return possible


def main() -> None:
    """Meet a full disk, or where none can be mounted the limit."""
    if can_mount():
        raise SystemExit(harness(__doc__, full_disks, on_a_small_disk))
    print("no disk can be mounted here, so that a limit on the size of files takes its place", flush=True)
    raise SystemExit(harness(__doc__, short_files))


if __name__ == "__main__":
    main()
