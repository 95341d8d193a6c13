"""The audit on the page: what is suspicious in the data, and every accuracy without the duplicates."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from thaw.models.metrics import wilson_interval
from thaw.pipeline.formatting import in_points, percent, with_interval
from thaw.pipeline.report.html.parts import Part, attempt, plain_cells
from thaw.pipeline.report.inputs import ReportInputs
from thaw.pipeline.run.advice_json import Audit, ClassCount, DuplicateImage, ProbableLabelError
from thaw.pipeline.run.results import Entry

MOST_COUNTS = 300
MOST_LISTED = 50


def context(inputs: ReportInputs) -> dict[str, Any]:
    """Return what the template audit.html shows, without the images of doubtful labels."""
    if inputs.advice is None:
        return {"audit": Part(missing=inputs.advice_missing)}
    audit = inputs.advice.audit
    return {"audit": attempt("The audit", lambda: _audit(inputs.entries, audit))}


def _audit(entries: Sequence[Entry], audit: Audit) -> dict[str, Any]:
    num_classes = len(audit.class_counts)
    if num_classes <= MOST_COUNTS:
        counts_caption = "Images of each class and split"
    else:
        counts_caption = f"Images in each split of the {MOST_COUNTS} smallest classes of {num_classes:,}"
    balance = f"The largest class has {audit.imbalance:.1f} times as many images as the smallest: no reason to worry."
    return {
        "duplicates_text": _duplicates_text(audit, len(entries[0].ids)),
        "restated": restated_rows(entries, audit),
        "duplicates": [_duplicate_row(duplicate) for duplicate in audit.duplicates[:MOST_LISTED]],
        "errors_text": _errors_text(audit),
        "errors": [_error_row(error) for error in audit.label_errors[:MOST_LISTED]],
        "balance_text": audit.imbalance_warning or balance,
        "counts": [_count_row(row) for row in sorted(audit.class_counts, key=lambda row: row.train)[:MOST_COUNTS]],
        "counts_caption": counts_caption,
        "canary_text": _canary_text(audit),
    }


def restated_rows(entries: Sequence[Entry], audit: Audit) -> list[list[str]]:
    """Return a row for each strategy: its accuracy with and without the duplicates; [] if there are none."""
    kept = ~np.isin(entries[0].ids, audit.duplicate_test_ids)
    num_kept = int(kept.sum())
    if num_kept in (0, len(kept)):
        return []
    rows = []
    for entry in entries:
        report, num_correct = entry.report, int(entry.correct[kept].sum())
        accuracy = num_correct / num_kept
        restated = with_interval(accuracy, wilson_interval(num_correct, num_kept), report.num_test)
        change = f"{100 * (accuracy - report.accuracy):+.2f}"
        rows.append([report.name, percent(report.accuracy, report.num_test), restated, change])
    return rows


def _duplicates_text(audit: Audit, num_test: int) -> str:
    found = len(audit.duplicate_test_ids)
    if not found:
        return "No test image is, exactly or nearly, a training or validation image too."
    alike = f"{audit.num_exact_duplicates:,} exactly, {audit.num_near_duplicates:,} nearly"
    verb = "is a training or validation image too" if found == 1 else "are training or validation images too"
    return (
        f"{found:,} of {num_test:,} test images {verb}: {alike}. A strategy may have learnt them by heart, so here is "
        "each without them."
    )


def _duplicate_row(duplicate: DuplicateImage) -> list[str]:
    alike = "exact" if duplicate.exact else f"{duplicate.similarity:.4f}"
    label = "same" if duplicate.same_label else "other"
    return [duplicate.id, duplicate.twin, duplicate.twin_split, alike, label]


def _errors_text(audit: Audit) -> str:
    if not audit.num_label_errors:
        return "No label looks wrong."
    labels = "1 label looks" if audit.num_label_errors == 1 else f"{audit.num_label_errors:,} labels look"
    return f"{labels} wrong to a model that has not seen the image. Nothing is removed: look for yourself."


def _error_row(error: ProbableLabelError) -> list[Any]:
    names = plain_cells(error.id, error.split, error.label, error.suggested)
    return [*names, (f"{error.probability:.2f}", error.probability), (f"{error.margin:.2f}", error.margin)]


def _count_row(row: ClassCount) -> list[Any]:
    return [(row.class_name, row.class_name), *((f"{n:,}", n) for n in (row.train, row.validation, row.test))]


def _canary_text(audit: Audit) -> str:
    canary = audit.canary
    if canary is None:
        return "The run uses the network's own preprocessing; there is nothing to check it against."
    text = (
        f"A small probe on {canary.num_images:,} images: {percent(canary.accuracy)} % under this run's preprocessing "
        f"(--resize {canary.resize} --normalize {canary.normalize}), {percent(canary.standard_accuracy)} % "
        f"under the network's own (difference {in_points(*canary.difference_interval)} points). "
    )
    better = "The network's own is better: leave both options out."
    return text + (better if canary.worse else "Nothing is wrong with it.")
