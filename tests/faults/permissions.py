"""Take permissions away from files of a run: `python tests/faults/permissions.py --ledger permissions.json`.

Permissions bind each stage: where the harness is run by root, the stage is without root's capabilities. It has to end
with one line that names the file and says what to do, and with the permissions back the same command has to end as if
nothing had been.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import small_run
from faults_met import Fault, harness
from prepared import Prepared

READ_ONLY_FOLDER, UNREADABLE = 0o555, 0o000
STAGES = (*small_run.STAGES, *small_run.MORE_STAGES)
# What each stage reads of a run, and so has to say where it may not.
READ = {
    "run.json": (*STAGES[1:4], "advise"),
    "split.csv": ("svm", "head", "finetune", "advise"),
    small_run.FEATURES: ("svm", "head", "finetune", "advise"),
    "svm/report.json": ("report", "export"),
    "svm/predictions.csv": ("report",),
    "svm/model.skops": ("export",),
    "head/report.json": ("report",),
    "chance/report.json": ("svm", "report"),
}


@contextmanager
def without(mode: int, name: str, run_folder: Path) -> Iterator[None]:
    """A file or folder of the run has the permissions `mode` during the block."""
    path = run_folder / name
    kept = path.stat().st_mode
    path.chmod(mode)
    try:
        yield
    finally:
        path.chmod(kept)


@contextmanager
def closed_folder(name: str, run_folder: Path) -> Iterator[None]:
    """A result's folder is there, and nothing may be written into it, during the block."""
    (run_folder / name).mkdir(exist_ok=True)
    with without(READ_ONLY_FOLDER, name, run_folder):
        yield


def faults(_: Prepared) -> list[Fault]:
    """Return every case: the run's folder, results' folders, and each file that a stage reads."""
    closed = [
        Fault(stage, "the run's folder is read-only", partial(without, READ_ONLY_FOLDER, ""), bound=True)
        for stage in STAGES
        if stage != "export"  # it writes into the result's folder alone
    ]
    results = {"svm": "svm", "head": "head", "finetune": "finetune", "export": "svm", "report": "plots"}
    closed += [
        Fault(stage, f"{name}/ is read-only", partial(closed_folder, name), name, bound=True)
        for stage, name in results.items()
    ]
    return closed + [
        Fault(stage, f"{name} is unreadable", partial(without, UNREADABLE, name), name, bound=True)
        for name, stages in READ.items()
        for stage in stages
        if not (stage == "svm" and name.startswith("chance"))  # which svm writes itself
    ]


if __name__ == "__main__":
    raise SystemExit(harness(__doc__, faults))
