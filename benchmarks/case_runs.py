"""Every command of a case, run as a user would type it, with its wall-clock time and the accuracy that it reports.

What was measured lies in one JSON, so that a second call continues after the first.
"""

import csv
import json
import os
import resource
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.cases import Case
from thaw.features.files.atomic import write_whole

ROOT = Path(__file__).resolve().parent.parent
STRATEGIES = ("svm", "logreg", "knn", "ridge", "head", "finetune", "random", "scratch")
FEWEST_SCRATCH_EPOCHS = 9  # its patience is 8: the first epoch may be the best, and eight more are waited for
Entry = dict[str, Any]


class Ledger:
    """What was measured, by case and command, in a JSON that is written after each."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: dict[str, dict[str, Entry]] = json.loads(path.read_text("utf-8")) if path.exists() else {}

    def has(self, case: str, name: str) -> bool:
        """Return whether a command of a case has been measured; one that failed has not."""
        return self.entries.get(case, {}).get(name, {"failed": True}).get("failed") is None

    def put(self, case: str, name: str, entry: Entry) -> None:
        """Keep what was measured."""
        self.entries.setdefault(case, {})[name] = entry
        with write_whole(self.path) as file:
            file.write(json.dumps(self.entries, indent=1) + "\n")


def strategy_commands(case: Case, dataset: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield the name and the words of each command after `python -m pipeline`, in the order in which they run."""
    run = ["--run", f"runs/{case.name}"]
    yield "features", ["features", *run, *dataset, "--image-size", str(case.image_size)]
    for name in STRATEGIES:
        epochs = {"scratch": case.scratch_epochs, "finetune": case.few_epochs}.get(name)
        yield name, [name, *run, *(["--epochs", str(epochs)] if epochs else [])]


def advise_command(case: Case, dataset: Sequence[str]) -> list[str]:
    """Return the words of `advise` in a run directory of its own, so that its extraction is counted."""
    size = ["--image-size", str(case.image_size)] if case.size_given else []
    return ["advise", "--run", f"advice/{case.name}", *dataset, *size]


def measure(words: Sequence[str], work: Path) -> Entry:
    """Run `thaw` with `words` in `work`; return its seconds, and why it failed or None.

    `cpu_seconds` are those of processors, of all its processes, which other work on the machine changes little.
    """
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-m", "thaw", *words], cwd=work, env=environment, capture_output=True, text=True
    )
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    last = (done.stderr.strip().splitlines() or ["nothing on standard error"])[-1]
    failed = None if done.returncode == 0 else f"exit code {done.returncode}: {last}"
    command = f"thaw {shlex.join(words)}".replace(f"{work}/", "")
    return {"command": command, "seconds": round(seconds, 2), "cpu_seconds": round(cpu, 2), "failed": failed}


def result_of(folder: Path) -> Entry:
    """Return what report.json in `folder` holds, and the seconds of an epoch if there is a learning curve."""
    report = json.loads((folder / "report.json").read_text("utf-8"))
    fields = ("accuracy", "accuracy_ci95", "layer", "num_train", "num_validation", "num_test")
    entry = {key: report[key] for key in fields}
    curve = folder / "learning_curve.csv"
    if curve.exists():
        with curve.open(encoding="utf-8", newline="") as file:
            epochs = [float(row["seconds"]) for row in csv.DictReader(file) if row["epoch"] != "0"]
        entry |= {"epochs": len(epochs), "epoch_seconds": round(min(epochs), 2)}
    return entry


def run_strategies(case: Case, images: Path, work: Path, ledger: Ledger) -> None:
    """Run what of the strategies' commands has not been measured yet."""
    for name, words in strategy_commands(case, case.dataset(work, images)):
        if ledger.has(case.name, name):
            continue
        entry = measure(words, work)
        if name != "features" and entry["failed"] is None:
            entry |= result_of(work / "runs" / case.name / name)
        if name == "scratch" and entry["failed"] is None:
            missing = max(0, FEWEST_SCRATCH_EPOCHS - entry["epochs"])
            epoch = entry["epoch_seconds"] * entry["cpu_seconds"] / entry["seconds"]
            entry["counted_cpu_seconds"] = round(entry["cpu_seconds"] + missing * epoch, 2)
        ledger.put(case.name, name, entry)
        _say(case, name, entry)


def run_advice(case: Case, images: Path, work: Path, ledger: Ledger) -> None:
    """Ask for advice, then run the command that it recommends and keep the accuracy that was then measured."""
    if not ledger.has(case.name, "advise"):
        entry = measure(advise_command(case, case.dataset(work, images)), work)
        if entry["failed"] is None:
            entry["advice"] = json.loads((work / "advice" / case.name / "advice.json").read_text("utf-8"))
        ledger.put(case.name, "advise", entry)
        _say(case, "advise", entry)
        ledger.entries[case.name].pop("recommended", None)
    advise = ledger.entries[case.name]["advise"]
    if advise["failed"] is None and not ledger.has(case.name, "recommended"):
        words = recommended_words(advise["advice"]["recommended"]["command"])
        entry = measure(words, work)
        if entry["failed"] is None:
            entry |= result_of(result_folder(words, work))
        ledger.put(case.name, "recommended", entry)
        _say(case, "recommended", entry)


def recommended_words(command: str) -> list[str]:
    """Return the words after `thaw` of a recommended command."""
    return shlex.split(command)[1:]


def result_folder(words: Sequence[str], work: Path) -> Path:
    """Return the folder that the command with `words` writes its report to."""
    parts = [part for word in words for part in (word.split("=", 1) if word.startswith("--") else [word])]
    given = dict(pairwise(parts))
    return work / given["--run"] / given.get("--name", words[0])


def _say(case: Case, name: str, entry: Entry) -> None:
    found = entry["failed"] or f"{100 * entry['accuracy']:.2f} %" if "accuracy" in entry or entry["failed"] else "done"
    print(f"{case.name}: {name}: {entry['seconds']:.0f} s: {found}", file=sys.stderr, flush=True)
