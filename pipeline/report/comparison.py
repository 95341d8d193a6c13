"""All strategies of a run: reading their results, checking that they can be compared, comparing each pair."""

import logging
from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np

from thaw.features.errors import InputError
from thaw.features.files.atomic import file_digest
from thaw.models.metrics import compare, confusion_matrix, holm
from thaw.pipeline.run.predictions_csv import read_predictions
from thaw.pipeline.run.report_json import Report, read_report, remedy

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


def load_run(run: Path) -> list[Entry]:
    """Read, check and order (best first: accuracy, then log loss, then name) all reports of a run."""
    paths = sorted(path for path in run.glob("*/report.json") if not path.parent.name.startswith("."))
    if not paths:
        expected = f"expected at least one {run}/<name>/report.json"
        raise InputError(f"no report in {run}; {expected}; type: {remedy(run / 'svm' / 'report.json')}")
    reports = [(path, read_report(path)) for path in paths]
    _check_splits(run, reports)
    entries = [load_entry(path, report) for path, report in reports]
    for entry in entries[1:]:
        _check_same_images(entries[0], entry)
    return sorted(entries, key=lambda e: (-e.report.accuracy, e.report.log_loss, e.report.name))


def _check_splits(run: Path, reports: Sequence[tuple[Path, Report]]) -> None:
    """Refuse a report that was made on another split than split.csv's, or failing that than most others'."""
    counts = Counter(report.split_sha256 for _, report in reports)
    file = run / "split.csv"
    digest = file_digest(file) if file.exists() else ""
    expected = digest if digest in counts else counts.most_common(1)[0][0]
    same = next(path for path, report in reports if report.split_sha256 == expected)
    for path, report in reports:
        if report.split_sha256 != expected:
            digests = f"split_sha256 {report.split_sha256[:12]} and {expected[:12]}"
            again = f"expected one split for all; type: {remedy(path, report.strategy)}"
            raise InputError(f"{path} and {same} were made on different splits ({digests}); {again}")


def load_entry(path: Path, report: Report) -> Entry:
    """Return a result from its report.json at `path`, its predictions.csv read and found to agree with the report."""
    name, csv_path = path.parent.name, path.with_name("predictions.csv")
    ids, labels, probabilities = read_predictions(csv_path, report.class_names)
    predicted = probabilities.argmax(axis=1)
    if confusion_matrix(labels, predicted, len(report.class_names)).tolist() != report.confusion_matrix:
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


def _check_same_images(first: Entry, other: Entry) -> None:
    images, others = (set(zip(e.ids, e.classes, strict=True)) for e in (first, other))
    if images != others:
        image, label = min(images ^ others)
        where = f"{image!r} as {label!r} is in one only"
        paths = [str(entry.path.with_name("predictions.csv")) for entry in (other, first)]
        again = f"expected the same test images; type: {remedy(other.path, other.report.strategy)}"
        raise InputError(f"{paths[0]} and {paths[1]} differ in their images ({where}); {again}")


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


def compare_all(entries: Sequence[Entry]) -> list[Comparison]:
    """Compare each pair of strategies, in their order, on the images that both labelled."""
    pairs = list(combinations(entries, 2))
    results = [compare(a.correct, b.correct) for a, b in pairs]
    adjusted = holm([result["mcnemar_p"] for result in results])
    return [
        Comparison(a.report.name, b.report.name, **result, holm_p=p)
        for (a, b), result, p in zip(pairs, results, adjusted, strict=True)
    ]
