"""One measurement of `benchmarks.choosing`, with whichever `thaw` is on the path: arrays, a strategy -> JSON.

It runs with the present checkout and with earlier ones, whose search gave accuracies alone.
"""

import json
import sys
import time
from typing import Any

import numpy as np

from thaw.models.selection.final_fit import final_fit
from thaw.models.selection.search import FitOptions, Trial, best_trial, make_folds, try_candidate
from thaw.models.solver.blocks import ArrayBlocks
from thaw.models.strategies import STRATEGIES


def trials_of(tried: list[Any], values: tuple[float, ...]) -> list[Trial]:
    """Return what was tried as trials; an earlier search gave -1 for a value that it skipped."""
    if isinstance(tried[0], float):
        return [Trial("x", "none", *pair) for pair in zip(values, tried, strict=True) if pair[1] >= 0]
    return [Trial("x", "none", value, one.accuracy, one) for value, one in zip(values, tried, strict=False)]


def main(path: str, name: str) -> None:
    """Choose C, fit, label the test rows and print what it took, beside what was found."""
    with np.load(path) as file:
        arrays = dict(file)
    labels, blocks, strategy = arrays["labels"], ArrayBlocks(arrays["features"]), STRATEGIES[name]
    folds, options = make_folds(labels, None, 5, 0), FitOptions(0, None, -1)
    began = time.process_time()
    trials = trials_of(try_candidate(strategy, blocks, labels, folds, options), strategy.values)
    chosen = best_trial(trials)
    model = final_fit(strategy, chosen, blocks, labels, folds, options).model
    seconds = time.process_time() - began
    found = {
        "seconds": seconds,
        "accuracies": [trial.accuracy for trial in trials],
        "chosen": chosen.value,
        "highest": max(trials, key=lambda trial: trial.accuracy).value,
        "accuracy": float(np.mean(model.predict(arrays["test_features"]) == arrays["test_labels"])),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
