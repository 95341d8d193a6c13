"""Networks and image sizes on photographs: the same seeds, each a run that holds every feature set.

`python -m benchmarks.photographs trashnet.zip --runs FOLDER --docs` makes what is missing under FOLDER and writes the
table into docs/results.md. Each seed draws its own test images; the rows of a seed are judged by the same ones.
"""

import argparse
import shlex
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.stats import t as student

from benchmarks.runner import ROOT
from thaw.pipeline.run.report_json import Report, read_report

PAGE = ROOT / "docs" / "results.md"
BEGIN, END = "<!-- photographs -->\n", "<!-- end of photographs -->\n"


class Row(NamedTuple):
    """A row of the table: the folder of its result in each run, and the options of `logreg`."""

    name: str
    options: str


ROWS = (
    Row("logreg", ""),
    Row("lite0", "--backbone efficientnet_lite0 --name lite0"),
    Row("lite0-joined", "--backbone efficientnet_lite0 --layer block5c_add+top_activation --name lite0-joined"),
    Row("lite2", "--backbone efficientnet_lite2 --name lite2"),
    Row("lite2-joined", "--backbone efficientnet_lite2 --layer block5d_add+top_activation --name lite2-joined"),
    Row("chosen", "--features auto --name chosen"),  # the last one, when the run has all its feature sets
)


def main(images: Path, runs: Path, seeds: Sequence[int]) -> str:
    """Run what is missing and return the table."""
    found: dict[str, list[Report]] = {row.name: [] for row in ROWS}
    for seed in seeds:
        folder = runs / f"photographs-{seed}"
        for row in ROWS:
            path = folder / row.name / "report.json"
            if not path.exists():
                data = ["--dataset", f"folder:{images}", "--seed", str(seed)] if not folder.exists() else []
                call(["logreg", "--run", str(folder), *data, *row.options.split()])
            found[row.name].append(read_report(path))
    return table(found)


def call(arguments: Sequence[str]) -> None:
    """Run a stage at the root of the repository; its command is printed."""
    print(shlex.join(["thaw", *arguments]), file=sys.stderr, flush=True)
    subprocess.run([sys.executable, "-m", "pipeline", *arguments], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def table(found: dict[str, list[Report]]) -> str:
    """Return the table in Markdown: accuracies by seed, their mean, and the mean difference to the first row."""
    first = [report.accuracy for report in found[ROWS[0].name]]
    seeds = ", ".join(str(report.seed) for report in found[ROWS[0].name])
    lines = [
        f"| `thaw logreg` | feature set | layer | test accuracy %, seeds {seeds} | mean | to the first row, points |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in ROWS:
        reports = found[row.name]
        accuracies = [report.accuracy for report in reports]
        each = ", ".join(f"{100 * value:.1f}" for value in accuracies)
        sets, layers = ({str(getattr(report, name)) for report in reports} for name in ("features", "layer"))
        options = row.options.rpartition("--name")[0].strip()
        cells = [
            f"`{options}`" if options else "all left alone", " or ".join(sorted(sets)),
            " or ".join(f"`{layer}`" for layer in sorted(layers)), each, f"{100 * statistics.mean(accuracies):.1f}",
            "" if row is ROWS[0] else difference(np.subtract(accuracies, first), reports[0]),
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def difference(differences: np.ndarray, report: Report) -> str:
    """Return the mean of paired differences over seeds, with a 95 % interval.

    The training images of the seeds overlap, which a plain t-interval does not know of: its variance is multiplied by
    1 + n * test / training. Source: Nadeau and Bengio, Inference for the Generalization Error, Machine Learning 52
    (2003), 239-281.
    """
    n = len(differences)
    share = report.num_test / (report.num_train + report.num_validation)
    error = float(np.sqrt((1 / n + share) * differences.var(ddof=1)))
    half = float(student.ppf(0.975, n - 1)) * error
    mean = float(differences.mean())
    return f"{100 * mean:+.1f} [{100 * (mean - half):+.1f}, {100 * (mean + half):+.1f}]"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.photographs", description=__doc__)
    parser.add_argument("images", type=Path, help="photographs: an image folder or a zip of one")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--docs", action="store_true", help="put the table into docs/results.md")
    given = parser.parse_args()
    made = main(given.images.absolute(), given.runs.absolute(), range(given.seeds))
    print(made, end="")
    if given.docs:
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
        PAGE.write_text(before + BEGIN + made + END + rest.partition(END)[2], encoding="utf-8")
