"""The article's two experiments end to end: its script with current Keras, beside `features`, `head` and `finetune`.

Without --long only a few epochs are trained, which shows what takes the time; the whole experiments take most of
an hour. Both run as whole processes, start-up and all, on equal images and with equal recipes, each with
TensorFlow's defaults and with oneDNN on. Both train everything that is not test, and their accuracies are compared.
"""

import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.results import Figures, Row, Target
from benchmarks.runner import DEFAULTS, ROOT, environment
from benchmarks.samples import write_subset
from benchmarks.settings import Settings

SECTION = "article"
SIZES, QUICK = {"train": 2000, "test": 1000}, {"train": 300, "test": 100}
EPOCHS = {"head": 10, "finetune": 15}
FEW = {"head": 2, "finetune": 3}  # unless --long: shows what takes the time, not how long the whole experiments take
SCRIPT = ROOT / "benchmarks" / "article_script.py"
SWITCHES = {"TensorFlow's defaults": (DEFAULTS, 8.0), "oneDNN on": ("1", 4.0)}


def main(settings: Settings) -> Iterator[Figures]:
    """Run both under each switch."""
    sizes, epochs = QUICK if settings.quick else SIZES, EPOCHS if settings.long else FEW
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_subset(settings.images, folder / "subset.npz", sizes)
        write_weights(folder / "vgg16.weights.npz")
        for switch, (onednn, required) in SWITCHES.items():
            task = (
                f"{sizes['train']} + {sizes['test']} images, {epochs['head']} + {epochs['finetune']} epochs, {switch}"
            )
            if not settings.wants(task):
                continue
            ours, script = run_ours(folder, onednn, epochs), run_script(folder, onednn, epochs)
            ratio = script["seconds"] / ours["seconds"]
            targets: list[Target] = []
            rows = [row(task, "the article's script", script, ratio), row(task, "ours", ours, 1.0)]
            rows += [row(task, f"ours: {part}", {"seconds": took}, None) for part, took in ours["parts"].items()]
            if settings.long and not settings.quick:
                what = f"the article end to end, {switch}"
                targets.append(Target(section=SECTION, what=what, required=required, measured=ratio))
                targets += accuracy_targets(what, ours, script)
            yield rows, targets


def row(task: str, contender: str, run: dict[str, Any], ratio: float | None) -> Row:
    """Return the row of one side, its accuracies as a note."""
    note = ", ".join(f"{name} {100 * value:.1f} %" for name, value in run.get("accuracy", {}).items())
    figures = {"value": run["seconds"], "unit": "s", "repeats": 1, "ours_is": ratio, "note": note}
    return Row(section=SECTION, task=task, contender=contender, **figures)


def accuracy_targets(what: str, ours: dict[str, Any], script: dict[str, Any]) -> list[Target]:
    """Return how far each experiment's accuracy is from the script's, in points."""
    return [
        Target(
            section=SECTION,
            what=f"{what}: accuracy of {name}, points under the script's",
            required=1.0,
            sense="at most",
            measured=100 * (script["accuracy"][name] - ours["accuracy"][name]),
        )
        for name in script["accuracy"]
    ]


def write_weights(path: Path) -> None:
    """Write the ImageNet weights for the script, which cannot always download them: layer -> kernel, bias."""
    from thaw.features.backbones.registry import BACKBONES
    from thaw.features.backbones.weights import load_weights

    tensors = load_weights("imagenet", BACKBONES["vgg16"]).tensors
    np.savez(path, **{f"{name}/{i}": tensor for name, pair in tensors.items() for i, tensor in enumerate(pair)})


def run_script(folder: Path, onednn: str | None, epochs: dict[str, int]) -> dict[str, Any]:
    """Run the article's script; return its seconds from start to end and the accuracies that it prints."""
    given = [folder / "subset.npz", folder / "vgg16.weights.npz", *epochs.values()]
    took, printed = timed([str(SCRIPT), *map(str, given)], onednn)
    found = re.findall(r"^(transfer learning|fine-tuning): loss [\d.]+, accuracy ([\d.]+)$", printed, re.MULTILINE)
    names = {"transfer learning": "head", "fine-tuning": "finetune"}
    return {"seconds": took, "accuracy": {names[name]: float(value) for name, value in found}}


def run_ours(folder: Path, onednn: str | None, epochs: dict[str, int]) -> dict[str, Any]:
    """Run our three stages; return their seconds, each and together, and the accuracies in their reports."""
    run = folder / f"run-{onednn}"
    data = f"--dataset npz:{folder / 'subset.npz'} --resize article --normalize article --engine keras"
    train = f"--run {run} --recipe article --epochs"
    commands = {
        "features": f"features {data} --run {run}",
        "head": f"head {train} {epochs['head']}",
        "finetune": f"finetune {train} {epochs['finetune']}",
    }
    parts = {name: timed(["-m", "pipeline", *command.split()], onednn)[0] for name, command in commands.items()}
    reports = {name: json.loads((run / name / "report.json").read_text()) for name in ("head", "finetune")}
    accuracy = {name: report["accuracy"] for name, report in reports.items()}
    return {"seconds": sum(parts.values()), "parts": parts, "accuracy": accuracy}


def timed(arguments: list[str], onednn: str | None) -> tuple[float, str]:
    """Run Python with the arguments; return the seconds and what it printed. Raises if it failed."""
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=environment(onednn), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)} failed: {done.stderr[-2000:]}")
    return time.perf_counter() - began, done.stdout
