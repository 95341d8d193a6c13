"""elpv beside its paper: functional or defective on a 75/25 split, stratified by label and wafer type, over seeds.

`python -m benchmarks.elpv_protocol --work FOLDER --image-size 128` writes one table of files for each seed, runs
`features`, `svm` and `logreg` on it, and prints mean and standard deviation of accuracy, ROC AUC and macro F1.
"""

import argparse
import csv
import json
import shutil
import statistics
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from benchmarks.case_runs import measure

TEST_SHARE = 0.25
FIGURES = ("accuracy", "roc_auc", "macro_f1")
STRATEGIES = ("svm", "logreg")


def test_rows(labels: Sequence[str], types: Sequence[str], seed: int) -> np.ndarray:
    """Return a mask of the test images: a quarter of every label of every wafer type, drawn by `seed`."""
    from sklearn.model_selection import train_test_split

    strata = [f"{label} {kind}" for label, kind in zip(labels, types, strict=True)]
    _, test = train_test_split(np.arange(len(labels)), test_size=TEST_SHARE, stratify=strata, random_state=seed)
    mask = np.zeros(len(labels), bool)
    mask[test] = True
    return mask


def read_labels(path: Path) -> list[tuple[str, str, str]]:
    """Return path, label (`defective` above a probability of 0.5) and wafer type of each image in labels.csv."""
    rows = [line.split() for line in path.read_text("utf-8").splitlines() if line.strip()]
    return [(name, "defective" if float(value) > 0.5 else "functional", kind) for name, value, kind in rows]


def write_table(path: Path, rows: Sequence[tuple[str, str, str]], seed: int) -> None:
    """Write the table `path,label,split` of one seed, without a validation split: the stages draw it."""
    names, labels, types = zip(*rows, strict=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["path", "label", "split"])
        for name, label, test in zip(names, labels, test_rows(labels, types, seed), strict=True):
            writer.writerow([name, label, "test" if test else "train"])


def package_data() -> Path:
    """Return the folder of the package elpv_dataset that holds labels.csv and the images; its code is not run."""
    spec = find_spec("elpv_dataset")
    if spec is None or not spec.submodule_search_locations:
        sys.exit("the package elpv_dataset is not installed; type make setup EXTRA=elpv")
    return Path(spec.submodule_search_locations[0]) / "data"


def run_seed(work: Path, seed: int, image_size: int) -> dict[str, dict[str, float]]:
    """Return the figures of each strategy on one seed's split."""
    run = f"runs/{image_size}-{seed}"
    given = ["--dataset", f"csv:seed-{seed}.csv", "--image-size", str(image_size), "--seed", str(seed)]
    found = {}
    for stage, options in (("features", given), *((name, []) for name in STRATEGIES)):
        report = work / run / stage / "report.json"
        if not report.exists() and (failed := measure([stage, "--run", run, *options], work)["failed"]):
            sys.exit(f"{stage} on seed {seed}: {failed}")
        if stage != "features":
            figures = json.loads(report.read_text("utf-8"))
            found[stage] = {key: figures[key] for key in FIGURES} | {"layer": figures["layer"]}
            print(seed, stage, found[stage], file=sys.stderr, flush=True)
    return found


def table(results: Sequence[dict[str, dict[str, float]]]) -> str:
    """Return mean and standard deviation over the seeds, in Markdown; accuracy and macro F1 in %."""
    lines = ["| | accuracy % | ROC AUC | macro F1 % |", "| --- | --- | --- | --- |"]
    for name in STRATEGIES:
        cells = []
        for key, factor, places in (("accuracy", 100, 2), ("roc_auc", 1, 3), ("macro_f1", 100, 2)):
            values = [factor * result[name][key] for result in results]
            cells.append(f"{statistics.mean(values):.{places}f} ± {statistics.stdev(values):.{places}f}")
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder for the images' copy, tables and runs")
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    work, data = options.work.absolute(), package_data()
    work.mkdir(parents=True, exist_ok=True)
    shutil.copytree(data / "images", work / "images", dirs_exist_ok=True)
    rows = read_labels(data / "labels.csv")
    for seed in range(options.seeds):
        write_table(work / f"seed-{seed}.csv", rows, seed)
    print(table([run_seed(work, seed, options.image_size) for seed in range(options.seeds)]))


if __name__ == "__main__":
    main()
