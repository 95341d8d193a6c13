"""Make reads of a run's files fail: `python tests/faults/reads.py --ledger reads.json`.

Each file that a stage reads is cut to half, made empty, taken away between two stages, replaced by a folder, or by a
link to a place where every read ends with the system's own error of a broken disk (EIO). The stage has to end with one
line that names the file and says what to do, and with the file put back the same command has to end as if nothing had
been.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import small_run
from faults_met import Fault, harness
from prepared import Prepared

BROKEN = Path("/proc/self/mem")  # Linux; nothing is mapped where it begins, so that reading it fails with EIO
READ = {
    "run.json": ("svm", "head", "advise"),
    "split.csv": ("svm", "head", "finetune", "advise"),
    small_run.FEATURES: ("svm", "head", "finetune", "advise"),
    "svm/report.json": ("report", "export"),
    "svm/predictions.csv": ("report",),
    "svm/model.skops": ("export",),
}
# Without these the stage can make what it lacks, or tells of a run that lacks it.
GOES_ON = {("gone", small_run.FEATURES), ("gone", "svm/report.json")}


def cut(path: Path) -> None:
    """Leave the first half of a file."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def empty(path: Path) -> None:
    """Leave nothing in a file."""
    path.write_bytes(b"")


def gone(path: Path) -> None:
    """Take a file away."""
    path.unlink()


def folder(path: Path) -> None:
    """Put a folder in the place of a file."""
    path.unlink()
    path.mkdir()


def broken(path: Path) -> None:
    """Put in the place of a file one whose every read fails."""
    path.unlink()
    path.symlink_to(BROKEN)


HARMS: tuple[Callable[[Path], None], ...] = (cut, empty, gone, folder, broken)


@contextmanager
def harmed(harm: Callable[[Path], None], name: str, run_folder: Path) -> Iterator[None]:
    """A file of the run is harmed during the block, and what it was is put back then."""
    path = run_folder / name
    kept = path.read_bytes()
    harm(path)
    try:
        yield
    finally:
        if path.is_dir():
            path.rmdir()
        path.unlink(missing_ok=True)
        path.write_bytes(kept)


def _named(harm: Callable[[Path], None], name: str) -> str:
    """Return what the stage's line has to hold: the file, but for the one without which there is no run at all."""
    return "there is no run in" if (harm, name) == (gone, "run.json") else name


def faults(_: Prepared) -> list[Fault]:
    """Return every case: each harm, to each file that a stage reads."""
    return [
        Fault(
            stage,
            f"{name}: {harm.__name__}",
            partial(harmed, harm, name),
            named=_named(harm, name),
            goes_on=None if (harm.__name__, name) in GOES_ON else False,
        )
        for name, stages in READ.items()
        for stage in stages
        for harm in HARMS
    ]


if __name__ == "__main__":
    raise SystemExit(harness(__doc__, faults))
