"""`thaw fit` from nothing on several data sets, each seed in a folder of its own, and beside it what an expert gets.

`python -m benchmarks.fits folder:trashnet.zip --minutes 10 --seeds 5 --work FOLDER` runs what is missing under FOLDER,
prints a table, and keeps what was measured in FOLDER/fits.json. No run sees another one's features.
"""

import argparse
import json
import shlex
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.runner import ROOT
from thaw.features.files.atomic import write_whole
from thaw.pipeline.run.advice_json import read_advice
from thaw.pipeline.run.report_json import read_report

Entry = dict[str, Any]


def main(dataset: str, minutes: float, seeds: range, work: Path) -> str:
    """Run what is missing and return the table."""
    path = work / "fits.json"
    known: dict[str, Entry] = json.loads(path.read_text("utf-8")) if path.exists() else {}
    name = Path(dataset.partition(":")[2] or dataset).stem
    for seed in seeds:
        key = f"{name} {minutes:g} {seed}"
        if key not in known:
            known[key] = measure(dataset, minutes, seed, work / f"{name}-{minutes:g}-{seed}" / "run")
            with write_whole(path) as file:
                file.write(json.dumps(known, indent=1) + "\n")
    return table([known[f"{name} {minutes:g} {seed}"] for seed in seeds])


def measure(dataset: str, minutes: float, seed: int, run: Path) -> Entry:
    """Run `fit`, then the expert's script on the same split; return the accuracy and the minutes of both."""
    words = ["fit", "--dataset", dataset, "--run", str(run), "--seed", str(seed), "--minutes", f"{minutes:g}"]
    seconds, _ = _call(["-m", "thaw", *words])
    advice = read_advice(run)
    reports = [read_report(path) for path in run.glob("*/report.json")]
    if advice is None:
        raise SystemExit(f"{run} has no advice.json")
    chosen = next(
        report
        for report in reports
        if (report.strategy, report.features) == (advice.recommended.strategy, advice.recommended.features)
    )
    _, printed = _call(["-m", "benchmarks.expert", str(run)])
    return {
        "command": shlex.join(["thaw", *words]).replace(str(run), "RUN"),
        "seed": seed,
        "minutes": round(seconds / 60, 2),
        "result": chosen.name,
        "features": chosen.features,
        "accuracy": chosen.accuracy,
        "expected": advice.recommended.accuracy,
        "interval": advice.recommended.accuracy_interval,
        "others": {report.name: report.accuracy for report in reports if report.model_bytes},
        "expert": json.loads(printed),
    }


def _call(words: list[str]) -> tuple[float, str]:
    print(shlex.join(words), file=sys.stderr, flush=True)
    began = time.perf_counter()
    done = subprocess.run([sys.executable, *words], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return time.perf_counter() - began, done.stdout


def table(entries: list[Entry]) -> str:
    """Return a row for each seed, and the means, in Markdown."""
    lines = [
        "| seed | `fit`: accuracy % | expected | minutes | result | by hand: accuracy % | minutes | network |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for one in entries:
        low, high = (f"{100 * bound:.1f}" for bound in one["interval"])
        hand = one["expert"]
        cells = [
            str(one["seed"]),
            f"{100 * one['accuracy']:.1f}",
            f"{100 * one['expected']:.1f} [{low}, {high}]",
            f"{one['minutes']:.1f}",
            f"{one['result']} on {one['features'].replace('+', ' + ')}",
            f"{100 * hand['accuracy']:.1f}",
            f"{hand['minutes']:.1f}",
            f"{hand['network']} at {hand['image_size']}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    ours, theirs = (
        [one["accuracy"] for one in entries],
        [one["expert"]["accuracy"] for one in entries],
    )
    means = [f"{100 * statistics.mean(values):.1f}" for values in (ours, theirs)]
    lines.append(f"| mean | {means[0]} | | | | {means[1]} | | |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fits", description=__doc__)
    parser.add_argument("dataset", help="as --dataset takes it")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--work", type=Path, required=True, help="folder for the runs and what was measured")
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    print(main(given.dataset, given.minutes, range(given.seeds), given.work.absolute()), end="")
