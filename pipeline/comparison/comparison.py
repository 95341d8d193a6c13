"""All strategies of a run: read their results, check that they can be compared, and compare each pair."""

import logging
from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

from thaw.features.errors import InputError
from thaw.features.files.atomic import file_digest
from thaw.models.metrics import compare, holm
from thaw.pipeline.run.data.images_csv import read_images
from thaw.pipeline.run.report_json import Report, read_report, remedy
from thaw.pipeline.run.results import Entry, load_entry

log = logging.getLogger("thaw")

SIGNIFICANCE = 0.05


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
        """Which of the two is better, in words, at the 5 % level for all pairs together."""
        if self.holm_p >= SIGNIFICANCE:
            return f"no significant difference between {self.a} and {self.b}"
        return f"{self.a} beats {self.b}" if self.difference > 0 else f"{self.b} beats {self.a}"

    @property
    def brief_verdict(self) -> str:
        """The verdict without the name of `a`, which is at least as accurate as `b`."""
        return f"no significant difference from {self.b}" if self.holm_p >= SIGNIFICANCE else f"beats {self.b}"


def load_run(run: Path) -> list[Entry]:
    """Read and check all results of a run; return them best first, by accuracy, then log loss, then name."""
    paths = sorted(path for path in run.glob("*/report.json") if not path.parent.name.startswith("."))
    if not paths:
        expected = f"expected at least one {run}/<name>/report.json"
        raise InputError(f"no report in {run}; {expected}; type: {remedy(run / 'svm' / 'report.json')}")
    reports = _without_stale(run, [(path, read_report(path)) for path in paths])
    _check_splits(run, reports)
    entries = [load_entry(path, report) for path, report in reports]
    for entry in entries[1:]:
        _check_same_images(entries[0], entry)
    return sorted(entries, key=lambda e: (-e.report.accuracy, e.report.log_loss, e.report.name))


def _without_stale(run: Path, reports: Sequence[tuple[Path, Report]]) -> Sequence[tuple[Path, Report]]:
    """Return the results that were made since the images of the run last changed, and say which are left out.

    Raises InputError if none was.
    """
    record, file = read_images(run / "images.csv"), run / "split.csv"
    if record is None or len(record.digests) < 2 or not file.exists():
        return reports
    digest = file_digest(file)
    current = [(path, report) for path, report in reports if report.split_sha256 == digest]
    stale = [path.parent.name for path, report in reports if report.split_sha256 != digest]
    if not current:
        raise InputError(
            f"all results of {run} are stale ({', '.join(stale)}): its images changed since; type: "
            f"{remedy(*_named(reports[0]))}"
        )
    if stale:
        log.warning("stale, and left out, since the images changed after they were made: %s", ", ".join(stale))
    return current


def _named(result: tuple[Path, Report]) -> tuple[Path, str]:
    path, report = result
    return path, report.strategy


def _check_splits(run: Path, reports: Sequence[tuple[Path, Report]]) -> None:
    """Raise InputError for a report on another split than split.csv, or than most others if split.csv has none."""
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


def _check_same_images(first: Entry, other: Entry) -> None:
    images, others = (set(zip(e.ids, e.classes, strict=True)) for e in (first, other))
    if images != others:
        image, label = min(images ^ others)
        difference = f"{image!r} as {label!r} is in one only"
        path, first_path = (entry.path.with_name("predictions.csv") for entry in (other, first))
        again = f"expected the same test images; type: {remedy(other.path, other.report.strategy)}"
        raise InputError(f"{path} and {first_path} differ in their images ({difference}); {again}")


def compare_all(entries: Sequence[Entry]) -> list[Comparison]:
    """Compare each pair of strategies on their test images, in the order of the strategies."""
    names = combinations([entry.report.name for entry in entries], 2)
    results = [compare(a, b) for a, b in combinations([entry.correct for entry in entries], 2)]
    adjusted = holm([result["mcnemar_p"] for result in results])
    return [Comparison(a, b, **result, holm_p=p) for (a, b), result, p in zip(names, results, adjusted, strict=True)]
