"""The page's audit: what is suspicious in the data, and every accuracy without the duplicates."""

from collections.abc import Sequence
from typing import Any

from thaw.models.metrics import wilson_interval
from thaw.pipeline.formatting import percent
from thaw.pipeline.report.html.advice import in_points
from thaw.pipeline.report.html.parts import Part, Run, attempt, plain_cells
from thaw.pipeline.run.advice_json import Audit, DuplicateImage
from thaw.pipeline.run.results import Entry

RESTATED_HEADINGS = (
    ("Strategy", "text"),
    ("With them %", "number"),
    ("Without them %", "number"),
    ("Change", "number"),
)
DUPLICATE_HEADINGS = (
    ("Test image", "text"),
    ("Is also", "text"),
    ("Of split", "text"),
    ("Alike", "text"),
    ("Label", "text"),
)
ERROR_HEADINGS = (
    ("Image", "text"), ("Split", "text"), ("Labelled", "text"), ("Perhaps", "text"), ("Probability", "number"),
    ("Margin", "number"),
)  # fmt: skip
COUNT_HEADINGS = (("Class", "text"), ("Training", "number"), ("Validation", "number"), ("Test", "number"))
MOST_COUNTS = 300
MOST_LISTED = 50


def context(run: Run) -> dict[str, Any]:
    """Return what the template audit.html shows, the pictures of doubtful labels apart."""
    if run.advice is None:
        return {"audit": Part(missing=run.advice_missing)}
    audit = run.advice.audit
    return {"audit": attempt("The audit", lambda: _audit(run, audit))}


def without(entry: Entry, duplicates: set[str]) -> tuple[float, list[float]] | None:
    """Return the accuracy on the test images that are none of `duplicates`, and its 95 % interval; None without any."""
    kept = [bool(hit) for name, hit in zip(entry.ids, entry.correct, strict=True) if name not in duplicates]
    if not kept:
        return None
    return sum(kept) / len(kept), wilson_interval(sum(kept), len(kept))


def _audit(run: Run, audit: Audit) -> dict[str, Any]:
    restated = restated_rows(run.entries, audit)
    return {
        "duplicates_text": _duplicates_text(audit, len(run.entries[0].ids)),
        "restated": restated,
        "restated_headings": RESTATED_HEADINGS,
        "duplicates": [
            [d.id, d.twin, d.twin_split, _alike(d), "same" if d.same_label else "other"]
            for d in audit.duplicates[:MOST_LISTED]
        ],
        "duplicate_headings": DUPLICATE_HEADINGS,
        "errors_text": _errors_text(audit),
        "errors": [
            [
                *plain_cells(e.id, e.split, e.label, e.suggested),
                (f"{e.probability:.2f}", e.probability), (f"{e.margin:.2f}", e.margin),
            ]
            for e in audit.label_errors[:MOST_LISTED]
        ],
        "error_headings": ERROR_HEADINGS,
        "balance_text": audit.imbalance_warning
        or f"The largest class has {audit.imbalance:.1f} times as many images as the smallest: no reason to worry.",
        "counts": [_count_row(row) for row in sorted(audit.class_counts, key=lambda row: row.train)[:MOST_COUNTS]],
        "counts_caption": "Images of each class and side"
        if len(audit.class_counts) <= MOST_COUNTS
        else f"Images on each side of the {MOST_COUNTS} smallest classes of {len(audit.class_counts):,}",
        "count_headings": COUNT_HEADINGS,
        "canary_text": _canary_text(audit),
    }  # fmt: skip


def restated_rows(entries: Sequence[Entry], audit: Audit) -> list[list[str]]:
    """Return a row for each strategy, its accuracy with and without the duplicates; none where there is none."""
    duplicates = set(audit.duplicate_test_ids) & set(entries[0].ids)
    rows = []
    for entry in entries if duplicates else ():
        report, rest = entry.report, without(entry, duplicates)
        if rest is not None:
            value, interval = rest
            shown = f"{percent(value, report)} [{percent(interval[0], report)}, {percent(interval[1], report)}]"
            change = f"{100 * (value - report.accuracy):+.2f}"
            rows.append([report.name, percent(report.accuracy, report), shown, change])
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


def _alike(duplicate: DuplicateImage) -> str:
    return "exact" if duplicate.exact else f"{duplicate.similarity:.4f}"


def _errors_text(audit: Audit) -> str:
    if not audit.num_label_errors:
        return "No label looks wrong."
    labels = "1 label looks" if audit.num_label_errors == 1 else f"{audit.num_label_errors:,} labels look"
    return f"{labels} wrong to a model that has not seen the image. Nothing is removed: look for yourself."


def _count_row(row: Any) -> list[Any]:
    return [(row.class_name, row.class_name), *((f"{n:,}", n) for n in (row.train, row.validation, row.test))]


def _canary_text(audit: Audit) -> str:
    canary = audit.canary
    if canary is None:
        return "The run uses the network's own preprocessing; there is nothing to check it against."
    ours, best = (f"{100 * value:.1f} %" for value in (canary.accuracy, canary.standard_accuracy))
    options = f"--resize {canary.resize} --normalize {canary.normalize}"
    text = (
        f"A small probe on {canary.num_images:,} images: {ours} under this run's preprocessing ({options}), {best} "
        f"under the network's own (difference {in_points(*canary.difference_interval)} points). "
    )
    better = "The network's own is better: leave both options out."
    return text + (better if canary.worse else "Nothing is wrong with it.")
