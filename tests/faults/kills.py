"""Kill stages at random moments: `python tests/faults/kills.py --kills 500 --seed 0 --ledger kills.json`.

Each stage runs as a process of its own, in a run whose earlier stages are done, and is killed at a random moment by
SIGKILL, SIGTERM or SIGINT. Then nothing may be lost that was finished, nothing that looks whole may be damaged
(`python -m pipeline verify`), and the same command typed again has to end with the files of an unbroken run.

The moment is a random share of the processor time that the unbroken stage took, so that a busy machine changes nothing;
a stage that ended before its moment counts as no kill, and another moment is drawn. What a ledger already has of a seed
is not done again: the same command goes on, another seed adds to it.
"""

import argparse
import os
import random
import shutil
import signal
import time
from pathlib import Path
from typing import NamedTuple

import small_run
from ledger import Ledger
from prepared import Prepared, outcome, prepared

from thaw.features.extraction.parts import peek_part
from thaw.pipeline.verify.verify import findings

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
JITTER = 0.02  # seconds, since processor time comes in ticks of a hundredth


class Killed(NamedTuple):
    """How a stage was killed, whether it was before its end, and the parts that were finished the moment before."""

    by: signal.Signals
    in_time: bool
    parts: set[str]


def kill(stage: str, made: Prepared, run_folder: Path, generator: random.Random) -> Killed:
    """Run a stage in `run_folder` until a random share of its processor time, and kill it."""
    by, moment = generator.choice(SIGNALS), generator.uniform(0, made.seconds[stage])
    jitter = generator.uniform(0, JITTER)
    child = small_run.in_a_child(made.command(stage, run_folder))
    while small_run.is_running(child) and small_run.processor_seconds(child) < moment:
        time.sleep(JITTER / 4)
    time.sleep(jitter)
    parts = whole_parts(run_folder)
    in_time = small_run.is_running(child)
    os.kill(child, by)
    small_run.wait(child)
    return Killed(by, in_time, parts)


def whole_parts(run_folder: Path) -> set[str]:
    """Return the names of the finished parts of an extraction."""
    return {path.name for path in run_folder.glob("**/*.parts/part-*.h5") if peek_part(path) is not None}


def trial(stage: str, made: Prepared, generator: random.Random) -> tuple[Killed, list[str]]:
    """Kill a stage once, and go on; return how it was killed and what went wrong."""
    with small_run.scratch() as folder:
        run_folder = folder / "run"
        shutil.copytree(made.ready[stage], run_folder)
        killed = kill(stage, made, run_folder, generator)
        if not killed.in_time:
            return killed, []
        faults = _after_the_kill(run_folder, stage, killed)
        code, _ = small_run.wait(small_run.in_a_child(made.command(stage, run_folder)))
        if code:
            return killed, [*faults, f"the command typed again ended with {code}"]
        return killed, faults + _after_going_on(run_folder, stage, made)


def _after_the_kill(run_folder: Path, stage: str, killed: Killed) -> list[str]:
    faults = []
    joined = (run_folder / small_run.FEATURES).exists()
    if stage == "features" and not joined and not killed.parts <= whole_parts(run_folder):
        faults.append("a finished part is gone")
    if (run_folder / "run.json").exists() and (run_folder / "split.csv").exists():
        faults += [f"{name} looks whole and is not: {why}" for name, why in findings(run_folder) if why]
    return faults


def _after_going_on(run_folder: Path, stage: str, made: Prepared) -> list[str]:
    faults = [f"after going on, {name}: {why}" for name, why in findings(run_folder) if why]
    faults += [f"{path.name} is left behind" for path in run_folder.rglob(".*.tmp*")]
    return faults + ([] if outcome(run_folder, stage) == made.outcomes[stage] else ["the result differs"])


def one_kill(number: int, seed: int, made: Prepared, ledger: Ledger) -> None:
    """Do the kill of a number: the stages take turns, and a moment after the end is drawn again."""
    generator = random.Random(f"{seed}/{number}")
    stage = list(made.ready)[number % len(made.ready)]
    killed, faults = trial(stage, made, generator)
    while not killed.in_time:
        ledger.count("too late, drawn again", stage)
        killed, faults = trial(stage, made, generator)
    ledger.count("kills", stage)
    ledger.count("signals", killed.by.name)
    for fault in faults:
        ledger.fault(f"kill {number} of seed {seed}, {stage}, {killed.by.name}: {fault}")
    ledger.done(number)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=25, help="that the ledger is to have of this seed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ledger", type=Path, help="JSON with the counts, added to")
    options = parser.parse_args()
    ledger = Ledger(options.ledger, f"seed {options.seed}")
    if ledger.number < options.kills:
        with prepared() as made:
            for number in range(ledger.number, options.kills):
                one_kill(number, options.seed, made, ledger)
    raise SystemExit(ledger.say("kills"))


if __name__ == "__main__":
    main()
