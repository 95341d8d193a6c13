"""The RBF machine: exact, by scikit-learn and scikit-learn-intelex, and a Nystroem map with our linear solver."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.results import Figures, rows_of
from benchmarks.runner import Contender, Output, Result, take_turns
from benchmarks.samples import read_samples
from benchmarks.settings import Settings

SECTION, LAYER, NUM_TEST = "rbf", "block5_pool", 5000
NUM_ROWS = (1000, 2000, 5000, 10000, 20000)
COMPONENTS = (500, 1000, 2000, 4000)
EXACT, INTELEX = "SVC", "scikit-learn-intelex SVC"
C, NYSTROEM_C = 3.16, 1.0  # the best of half decades on 5,000 rows


def main(settings: Settings) -> Iterator[Figures]:
    """Time the fits at each number of rows; the accuracy is that on 5,000 test images."""
    for num_rows in (300,) if settings.quick else NUM_ROWS:
        task = f"{num_rows:,} rows of {LAYER}"
        if not settings.wants(task):
            continue
        with tempfile.TemporaryDirectory() as folder:
            samples = read_samples(settings, LAYER, num_rows, NUM_TEST).save(Path(folder) / "samples")
            repeats = 3 if num_rows <= 2000 else 1
            results = take_turns(contenders(samples, num_rows), repeats, other_labels, warm_up=num_rows <= 2000)
        best = f"Nystroem {min(2000, num_rows)} + LinearSVM"
        found = rows_of(SECTION, task, results, best)
        yield [row.model_copy(update={"note": note(results[row.contender])}) for row in found], []


def contenders(samples: str, num_rows: int) -> list[Contender]:
    """Return the exact machines, of which the second must label like the first, and the approximate ones."""
    build = "benchmarks.estimators:kernel"
    exact = {"samples": samples, "settings": {"C": C, "cache_size": 1000}}
    linear = {"samples": samples, "settings": {"C": NYSTROEM_C}, "estimator": "thaw.models.linear.LinearSVM"}
    return [
        Contender(EXACT, build, exact | {"estimator": "sklearn.svm.SVC"}),
        Contender(INTELEX, build, exact | {"estimator": "sklearnex.svm.SVC"}, peer=True, allowed=0.005),
        *(
            Contender(f"Nystroem {number} + LinearSVM", build, linear | {"components": number}, allowed=1.0)
            for number in COMPONENTS
            if number <= num_rows
        ),
    ]


def other_labels(output: Output, reference: Output) -> float:
    """Return the share of test images that get another label than from the reference."""
    return float(np.mean(output["predicted"] != reference["predicted"]))


def note(result: Result) -> str:
    """Return the accuracy, and how long the test images took."""
    if not result.output:
        return ""
    return f"{100 * result.output['accuracy']:.1f} %, labels 5,000 in {result.output['predict_seconds']:.2g} s"
