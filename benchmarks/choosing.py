"""What choosing C and the final fit cost, in processor seconds: this checkout beside an earlier one, in turns.

`python -m benchmarks.choosing --before CHECKOUT --run runs/digits` takes the layer `block4_pool` of a run of digits,
and 1,088 made-up rows of 8,192 features. Each measurement is a process of its own. Both choose by five folds among the
same 15 values of C; the earlier checkout by its own rule.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.runner import ROOT

WORKER = Path(__file__).with_name("choosing_once.py")
MADE_UP = (1088, 8192, 17)  # rows, features, classes; as many rows again are test rows
RANK, SPREAD = 200, 0.28
FOLDERS = ("features", "models", "pipeline")


def digits(run: Path) -> dict[str, np.ndarray]:
    """Return the rows of a run's block4_pool that are not test, and those that are."""
    from thaw.features.store import FeatureFile

    with FeatureFile(next((run / "features").glob("*.h5"))) as features:
        test = features.split == 2
        parts = {"features": ~test, "test_features": test}
        rows = {name: features.read(["block4_pool"], mask) for name, mask in parts.items()}
        return {**rows, "labels": features.labels[~test], "test_labels": features.labels[test]}


def made_up() -> dict[str, np.ndarray]:
    """Return rows like those of a rectified map: of low rank with noise, most values zero, columns of many scales."""
    num_rows, num_features, num_classes = MADE_UP
    generator = np.random.default_rng(0)
    labels = np.arange(2 * num_rows) % num_classes
    hidden = generator.normal(size=(len(labels), RANK)) + SPREAD * generator.normal(size=(num_classes, RANK))[labels]
    values = hidden @ generator.normal(size=(RANK, num_features)) / np.sqrt(RANK)
    values = np.maximum(0, 2 * values + 0.7 * generator.normal(size=values.shape) - 1)
    values = (values * generator.gamma(1, 10, num_features)).astype(np.float32)
    given, test = slice(0, num_rows), slice(num_rows, None)
    return {
        "features": values[given],
        "labels": labels[given],
        "test_features": values[test],
        "test_labels": labels[test],
    }


def packaged(checkout: Path, folder: Path) -> Path:
    """Make `folder/thaw` the package of a checkout, by links, and return `folder`."""
    package = folder / "thaw"
    package.mkdir(parents=True)
    for path in (checkout / "thaw").glob("*.py"):
        (package / path.name).symlink_to(path.absolute())
    for name in FOLDERS:
        (package / name).symlink_to((checkout / name).absolute())
    return folder


def measured(packages: Path, arrays: Path, strategy: str) -> dict[str, Any]:
    """Return what one process measured with the package in `packages`."""
    environment = {**os.environ, "PYTHONPATH": str(packages)}
    command = [sys.executable, str(WORKER), str(arrays), strategy]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


def rows(given: argparse.Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    """Yield for each data set and strategy the medians of both checkouts, and what each chose."""
    packages = {
        "before": packaged(given.before, folder / "before"),
        "now": packaged(ROOT, folder / "now"),
    }
    for data, values in {"digits": digits(given.run), "made up": made_up()}.items():
        np.savez(folder / "arrays.npz", **values)
        for strategy in ("svm", "logreg"):
            found: dict[str, list[dict[str, Any]]] = {"before": [], "now": []}
            for _ in range(given.rounds):
                for name, results in found.items():
                    results.append(measured(packages[name], folder / "arrays.npz", strategy))
            seconds = {name: [one["seconds"] for one in results] for name, results in found.items()}
            ratio = statistics.median(b / n for b, n in zip(seconds["before"], seconds["now"], strict=True))
            yield {
                **{"data": data, "strategy": strategy, "ratio": ratio},
                **{name: {**results[0], "seconds": seconds[name]} for name, results in found.items()},
            }


def line(row: dict[str, Any]) -> str:
    """Return a row of the table."""
    cells = [row["data"], row["strategy"]]
    for name in ("before", "now"):
        one = row[name]
        cells += [
            f"{statistics.median(one['seconds']):.1f} s",
            f"{one['chosen']:g} of {len(one['accuracies'])} (highest {one['highest']:g})",
            f"{100 * max(one['accuracies']):.2f}",
            f"{100 * one['accuracy']:.2f}",
        ]
    both = zip(row["before"]["accuracies"], row["now"]["accuracies"], strict=False)
    differs = 1000 * max(abs(before - now) for before, now in both)
    return "| " + " | ".join([*cells, f"{row['ratio']:.1f}", f"{differs:.1f}"]) + " |"


def main() -> None:
    """Measure, and print a table for docs/results.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, required=True, help="a checkout of an earlier commit")
    parser.add_argument("--run", type=Path, required=True, help="a run of digits with features of block4_pool")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each")
    given = parser.parse_args()
    columns = ["processor", "C", "best in cross-validation %", "test %"]
    print(
        "| data | strategy |",
        " | ".join(f"{column}, {name}" for name in ("before", "now") for column in columns),
        end="",
    )
    print(" | ratio | largest difference at one C, in a thousand |\n|" + " --- |" * 12)
    with tempfile.TemporaryDirectory() as folder:
        for row in rows(given, Path(folder)):
            print(line(row), flush=True)


if __name__ == "__main__":
    main()
