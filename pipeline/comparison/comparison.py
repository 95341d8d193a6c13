"""All strategies of a run: reading their results, checking that they can be compared, comparing each pair."""

import logging
from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

from thaw.features.errors import InputError
from thaw.features.files.atomic import file_digest
from thaw.models.metrics import compare, holm
from thaw.pipeline.run.report_json import Report, read_report, remedy
from thaw.pipeline.run.results import Comparison, Entry, load_entry

log = logging.getLogger("thaw")


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


def _check_same_images(first: Entry, other: Entry) -> None:
    images, others = (set(zip(e.ids, e.classes, strict=True)) for e in (first, other))
    if images != others:
        image, label = min(images ^ others)
        where = f"{image!r} as {label!r} is in one only"
        paths = [str(entry.path.with_name("predictions.csv")) for entry in (other, first)]
        again = f"expected the same test images; type: {remedy(other.path, other.report.strategy)}"
        raise InputError(f"{paths[0]} and {paths[1]} differ in their images ({where}); {again}")


def compare_all(entries: Sequence[Entry]) -> list[Comparison]:
    """Compare each pair of strategies, in their order, on the images that both labelled."""
    pairs = list(combinations(entries, 2))
    results = [compare(a.correct, b.correct) for a, b in pairs]
    adjusted = holm([result["mcnemar_p"] for result in results])
    return [
        Comparison(a.report.name, b.report.name, **result, holm_p=p)
        for (a, b), result, p in zip(pairs, results, adjusted, strict=True)
    ]
