"""Kill stages at random moments and see what is left: `python tests/faults/kills.py --kills 500 --out kills.json`.

Each stage runs as a process of its own, in a run whose earlier stages are done, and is killed at a random moment by
SIGKILL, SIGTERM or SIGINT. Then nothing may be lost that was finished, nothing that looks whole may be damaged
(`python -m pipeline verify`), and the same command typed again has to end with the files of an unbroken run.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import small_run

from features.parts import peek_part
from features.store import FeatureFile
from pipeline.schema import read_report
from pipeline.verify import findings

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
RESULTS = {"svm": "svm", "head": "head", "finetune": "finetune"}


def wait(child: int) -> int:
    """Return how a child ended: its exit code, or minus the signal that ended it."""
    status = os.waitpid(child, 0)[1]
    return os.waitstatus_to_exitcode(status)


def outcome(run_folder: Path, stage: str) -> Any:
    """Return what a stage is to end with, without what differs from run to run: times, memory, command lines."""
    if stage == "features":
        with FeatureFile(run_folder / "features.h5") as features:
            return features.attributes["values_sha256"]
    if stage == "report":
        reports = [read_report(path) for path in sorted(run_folder.glob("*/report.json"))]
        page = (run_folder / "report.html").read_text("utf-8")
        return [page.rstrip().endswith("</html>"), [(report.name, report.accuracy) for report in reports]]
    folder = run_folder / RESULTS[stage]
    report = read_report(folder / "report.json")
    return [hashlib.sha256((folder / "predictions.csv").read_bytes()).hexdigest(), report.confusion_matrix]


def whole_parts(run_folder: Path) -> set[str]:
    """Return the names of the finished parts of an extraction."""
    return {path.name for path in run_folder.glob("**/*.parts/part-*.h5") if peek_part(path) is not None}


def trial(stage: str, made: "Prepared", generator: random.Random) -> list[str]:
    """Kill a stage once, and go on; return what went wrong."""
    with tempfile.TemporaryDirectory() as folder:
        run_folder = Path(folder) / "run"
        shutil.copytree(made.ready[stage], run_folder)
        command = small_run.arguments(stage, made.pictures, run_folder)
        child = small_run.in_a_child(command)
        time.sleep(generator.uniform(0, made.seconds[stage]))
        before = whole_parts(run_folder)
        os.kill(child, generator.choice(SIGNALS))
        wait(child)
        faults = []
        joined = (run_folder / "features.h5").exists()
        if stage == "features" and not joined and not before <= whole_parts(run_folder):
            faults.append("a finished part is gone")
        if (run_folder / "run.json").exists() and (run_folder / "split.csv").exists():
            faults += [f"{name} looks whole and is not: {why}" for name, why in findings(run_folder) if why]
        again = wait(small_run.in_a_child(command))
        if again:
            return [*faults, f"the command typed again ended with {again}"]
        faults += [f"after going on, {name}: {why}" for name, why in findings(run_folder) if why]
        leftovers = [path for path in run_folder.rglob(".*.tmp")]
        faults += [f"{path.name} is left behind" for path in leftovers]
        return faults + ([] if outcome(run_folder, stage) == outcomes[stage] else ["the result differs"])


outcomes: dict[str, Any] = {}


class Prepared(NamedTuple):
    """A whole run on pictures of our own; for each stage the run as it was before, and how long the stage took."""

    run_folder: Path
    pictures: Path
    ready: dict[str, Path]
    seconds: dict[str, float]


@contextmanager
def prepared(stages: Iterable[str] = small_run.STAGES) -> Iterator[Prepared]:
    """Run the stages unbroken in a temporary folder and yield what they leave."""
    small_run.import_everything()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        made = Prepared(folder / "reference", small_run.make_pictures(folder / "pictures"), {}, {})
        made.run_folder.mkdir()
        for stage in stages:
            made.ready[stage] = folder / f"before-{stage}"
            shutil.copytree(made.run_folder, made.ready[stage])
            began = time.perf_counter()
            if code := wait(small_run.in_a_child(small_run.arguments(stage, made.pictures, made.run_folder))):
                raise SystemExit(f"{stage} ended with {code} without being killed")
            made.seconds[stage] = time.perf_counter() - began
            outcomes[stage] = outcome(made.run_folder, stage)
        yield made


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON with the counts")
    options = parser.parse_args()
    generator = random.Random(options.seed)
    kills: Counter[str] = Counter()
    faults: Counter[str] = Counter()
    stages = list(small_run.STAGES)
    with prepared() as made:
        for number in range(options.kills):
            stage = stages[number % len(stages)]
            found = trial(stage, made, generator)
            kills[stage] += 1
            for fault in found:
                faults[f"{stage}: {fault}"] += 1
                print(f"{stage}: {fault}", flush=True)
            if (number + 1) % 25 == 0:
                print(f"{number + 1} kills, {sum(faults.values())} faults", flush=True)
            if options.out:
                options.out.write_text(json.dumps({"kills": kills, "faults": faults}, indent=1) + "\n")
    print(f"{sum(kills.values())} kills ({dict(kills)}): {sum(faults.values())} faults")
    raise SystemExit(1 if faults else 0)


if __name__ == "__main__":
    main()
