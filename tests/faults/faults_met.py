"""What a stage does under a fault, judged: one line and no traceback, nothing half, and the same results afterwards."""

import argparse
import ctypes
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NamedTuple

import small_run
from ledger import Ledger
from prepared import Prepared, outcome, prepared

from thaw.features.errors import InputError
from thaw.pipeline.verify.verify import findings

CAPABILITIES_VERSION = 0x20080522  # of the structures that capset takes
REMEDY = re.compile(r"; |type|make room|change its permissions|remove|expected|mend|put it back|train|export")


class Fault(NamedTuple):
    """A fault for one stage: its name, a block during which it holds in a run's folder, and what its line names.

    `goes_on` says whether the stage is to end well all the same; None leaves that open, as with a disk that is nearly
    large enough.
    """

    stage: str
    name: str
    holds: Callable[[Path], AbstractContextManager[None]]
    named: str = ""
    goes_on: bool | None = False
    bound: bool = False


def bound_by_permissions() -> None:
    """Give up what lets root pass over permissions, in this process for good; others have it not anyway."""
    if os.geteuid() == 0:
        header, none = (ctypes.c_uint32 * 2)(CAPABILITIES_VERSION, 0), (ctypes.c_uint32 * 6)()
        if ctypes.CDLL(None, use_errno=True).capset(header, none):
            raise OSError(ctypes.get_errno(), "root could not give up its capabilities")


def meet(fault: Fault, made: Prepared, run_folder: Path, said: Path) -> tuple[str, list[str]]:
    """Run a stage in a copy of the run while the fault holds, then without; return how it ended and what was wrong."""
    command = made.command(fault.stage, run_folder)
    said.unlink(missing_ok=True)
    before = bound_by_permissions if fault.bound else lambda: None
    with fault.holds(run_folder):
        code, _ = small_run.wait(small_run.in_a_child(command, before, said))
        wrong = _wrong_words(fault, code, said.read_text("utf-8", "replace"), run_folder)
    wrong += _half_done(run_folder)
    again, _ = small_run.wait(small_run.in_a_child(command, before, said))
    if again:
        wrong.append(f"with the fault gone it ended with {again}: {_last_line(said.read_text('utf-8', 'replace'))}")
    elif outcome(run_folder, fault.stage) != made.outcomes[fault.stage]:
        wrong.append("with the fault gone the result differs")
    return "ended well" if code == 0 else "refused", wrong


def _last_line(said: str) -> str:
    return said.strip().rpartition("\n")[2]


def _wrong_words(fault: Fault, code: int, said: str, run_folder: Path) -> list[str]:
    """Return what is wrong with the exit code and the words of a stage that met a fault."""
    line = _last_line(said)
    wrong = ["a traceback"] if "Traceback" in said else []
    if code not in ((0, 1) if fault.goes_on is None else (0,) if fault.goes_on else (1,)):
        return [*wrong, f"it ended with {code}: {line}"]
    if code == 0:
        return wrong
    if not line.startswith("error: ") or said.count("\nerror: ") > 1:
        wrong.append(f"no line that says what is wrong, but: {line}")
    if str(run_folder) not in line or fault.named not in line:
        wrong.append(f"the line does not name {fault.named or 'a place in the run'}: {line}")
    if not REMEDY.search(line):
        wrong.append(f"the line says no remedy: {line}")
    return wrong


def _half_done(run_folder: Path) -> list[str]:
    """Return what looks whole and is not, and what temporary files are left, now that the fault is gone."""
    wrong = [f"{path.name} is left behind" for path in run_folder.rglob(".*.tmp*")]
    if not (run_folder / "run.json").exists() or not (run_folder / "split.csv").exists():
        return wrong
    try:
        return wrong + [f"{name} looks whole and is not: {why}" for name, why in findings(run_folder) if why]
    except InputError as error:
        return [*wrong, f"verify itself fails: {error}"]


def count(fault: Fault, ended: str, wrong: list[str], ledger: Ledger) -> None:
    """Write how a fault ended to the ledger."""
    ledger.count("cases", fault.stage)
    ledger.count("outcomes", ended)
    for what in wrong:
        ledger.fault(f"{fault.stage}, {fault.name}: {what}")
    ledger.done(ledger.number)


@contextmanager
def on_a_copy(fault: Fault, made: Prepared) -> Iterator[Path]:
    """Yield a copy of the run as it was before the fault's stage, in a folder of its own."""
    with small_run.scratch() as folder:
        run_folder = folder / "run"
        shutil.copytree(made.ready[fault.stage], run_folder)
        yield run_folder


Place = Callable[[Fault, Prepared], AbstractContextManager[Path]]


def meet_all(ledger: Ledger, made: Prepared, faults: list[Fault], place: Place = on_a_copy) -> None:
    """Meet all faults in turn."""
    for fault in faults:
        with place(fault, made) as run_folder:
            count(fault, *meet(fault, made, run_folder, made.run_folder.with_name("said.txt")), ledger)


def harness(about: str | None, faults: Callable[[Prepared], list[Fault]], place: Place = on_a_copy) -> int:
    """Read the command line, meet all faults that there are of a run and say what came of them.

    Returns 1 where anything was wrong, else 0.
    """
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--only", choices=[*small_run.STAGES, *small_run.MORE_STAGES], help="the stage to break")
    parser.add_argument("--ledger", type=Path, help="JSON with the counts, added to")
    options = parser.parse_args()
    ledger = Ledger(options.ledger, f"{options.only or 'all'} cases")
    stages = [*small_run.STAGES, *small_run.MORE_STAGES]
    with prepared(stages[: stages.index(options.only) + 1] if options.only else stages) as made:
        wanted = [fault for fault in faults(made) if options.only in (None, fault.stage)]
        meet_all(ledger, made, wanted[ledger.number :], place)
    return ledger.say("cases")
