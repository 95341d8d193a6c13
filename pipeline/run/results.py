"""The results of a run: the folder of each, the right to write it, and reading a result back."""

import logging
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from sklearn.metrics import confusion_matrix

from thaw.features.errors import InputError
from thaw.features.files.locks import held
from thaw.pipeline.config import RANDOM, StrategySettings
from thaw.pipeline.run.predictions_csv import read_predictions
from thaw.pipeline.run.report_json import ALL_STRATEGIES, Report, read_report, remedy
from thaw.pipeline.run.run_json import read_run

log = logging.getLogger("thaw")

FOLDERS = ("activations", "advice", "features", "plots")  # of a run, which no result may have


class Entry(NamedTuple):
    """A result that was read back.

    Attributes:
        report: its report.
        path: of report.json.
        ids: of the N test images, sorted.
        classes: the true class of each.
        correct: (N,) bool, whether it is labelled correctly.
        predicted: (N,) int64, the index of the predicted class.
        confidence: (N,) float64, the probability of the predicted class.
    """

    report: Report
    path: Path
    ids: list[str]
    classes: list[str]
    correct: np.ndarray
    predicted: np.ndarray
    confidence: np.ndarray


def load_entry(path: Path, report: Report) -> Entry:
    """Return the result with a report.json at `path`; raises InputError if its predictions.csv does not agree."""
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


def result_folder(settings: StrategySettings, strategy: str, named: bool = True) -> Path:
    """Return the folder of a result; raises InputError if something else has its name.

    It bears the strategy's name unless `--name` says otherwise. The name of the feature set is appended if the command
    names another one than the run's first, and if the folder holds a result on another one.

    Args:
        settings: of the stage, for one feature set.
        strategy: the strategy's name.
        named: whether the command names the feature set.
    """
    name, own = settings.name or strategy, settings.feature_set
    if name != strategy and name in ALL_STRATEGIES:
        raise InputError(f"--name {name} is the strategy {name}'s own; choose another, for example {strategy}-2")
    if (settings.run_folder / name).is_file() or name in FOLDERS:
        raise InputError(f"--name {name}: {settings.run_folder / name} is the run's own; choose another name")
    stored = read_run(settings.run_folder)
    first = stored.first if stored and stored.feature_sets else own
    is_first = own in (first, f"{first}{RANDOM}")
    suffix = own.removesuffix(RANDOM) if strategy == "random" else own
    if named and not settings.name and not is_first:
        name = f"{name}-{suffix}"
    elif (other := _features_of(settings.run_folder / name)) not in (None, own):
        log.info("%s is the result on the feature set %s; this one is named %s-%s", name, other, name, suffix)
        name = f"{name}-{suffix}"
    return settings.run_folder / name


def _features_of(folder: Path) -> str | None:
    """Return the feature set that the result in a folder is of, None if there is none that can be read."""
    try:
        return read_report(folder / "report.json").features
    except (InputError, OSError):
        return None


def making(folder: Path) -> AbstractContextManager[None]:
    """Return what holds the right to write a result's folder; entering it raises InputError if a process has it."""
    return held(folder, otherwise=", or give this one a name of its own by --name")
