"""The results of a run: where each lies, reading one back, and the comparison of two."""

import logging
import shlex
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from sklearn.metrics import confusion_matrix

from thaw.features.errors import InputError
from thaw.features.files.locks import held
from thaw.pipeline.config import Strategy
from thaw.pipeline.run.predictions_csv import read_predictions
from thaw.pipeline.run.report_json import ALL_STRATEGIES, Report, remedy

if TYPE_CHECKING:
    pass
log = logging.getLogger("thaw")


SIGNIFICANCE = 0.05


class Entry(NamedTuple):
    """A strategy's `report`; of its N test images, by `ids` in order: true class, (N,) bool rightly labelled.

    `predicted` (N,) int64 is the class that it calls them, `confidence` (N,) float64 the probability that it gives it.
    """

    report: Report
    path: Path
    ids: list[str]
    classes: list[str]
    correct: np.ndarray
    predicted: np.ndarray
    confidence: np.ndarray


def load_entry(path: Path, report: Report) -> Entry:
    """Return a result from its report.json at `path`, its predictions.csv read and found to agree with the report."""
    name, csv_path = path.parent.name, path.with_name("predictions.csv")
    ids, labels, probabilities = read_predictions(csv_path, report.class_names)
    predicted = probabilities.argmax(axis=1)
    matrix = confusion_matrix(labels, predicted, labels=range(len(report.class_names)))
    if matrix.tolist() != report.confusion_matrix:
        received = f"{np.mean(predicted == labels):.6g} on {len(ids)} images"
        expected = f"expected {report.accuracy:.6g} on {report.num_test}, confusion_matrix included, as in"
        again = f"type: {remedy(path, report.strategy)}"
        raise InputError(f"{csv_path} has the accuracy {received}; {expected} {path}; {again}")
    if report.name != name:
        log.warning("%s calls itself %s; its folder's name is used", path, report.name)
        report = report.model_copy(update={"name": name})
    order = sorted(range(len(ids)), key=ids.__getitem__)
    classes = [report.class_names[labels[row]] for row in order]
    confidence = probabilities.max(axis=1)[order]
    correct = (predicted == labels)[order]
    return Entry(report, path, [ids[row] for row in order], classes, correct, predicted[order], confidence)


class Comparison(NamedTuple):
    """Strategy `a` against `b`, in fractions; `holm_p` is `mcnemar_p` adjusted for the number of pairs."""

    a: str
    b: str
    difference: float
    ci95: list[float]
    mcnemar_p: float
    holm_p: float

    @property
    def verdict(self) -> str:
        """Say in words which of the two is better, at 5 % for all pairs together."""
        if self.holm_p >= SIGNIFICANCE:
            return f"no significant difference between {self.a} and {self.b}"
        return f"{self.a} beats {self.b}" if self.difference > 0 else f"{self.b} beats {self.a}"

    @property
    def brief_verdict(self) -> str:
        """Say the same of an `a` that is named elsewhere and is at least as accurate as `b`."""
        return f"no significant difference from {self.b}" if self.holm_p >= SIGNIFICANCE else f"beats {self.b}"


def result_folder(settings: Strategy, strategy: str) -> Path:
    """Return the folder of a result; raises InputError if something else has its name."""
    name = settings.name or strategy
    folder = settings.run_folder / name
    if name != strategy and name in ALL_STRATEGIES:
        raise InputError(f"--name {name} is the strategy {name}'s own; choose another, for example {strategy}-2")
    if folder.is_file() or name in ("activations", "advice", "plots"):
        raise InputError(f"--name {name}: {folder} is the run's own; choose another name")
    return folder


def making(folder: Path) -> AbstractContextManager[None]:
    """Return what holds the right to write a result's folder; entering it raises InputError if a process has it."""
    return held(folder, otherwise=", or give this one a name of its own by --name")


def command() -> str:
    """Return the command line that this process runs."""
    return shlex.join(["thaw", *sys.argv[1:]])
