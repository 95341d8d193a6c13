"""The page's advice: what `advise` measured and expected, how that turned out, and its audit of the data."""

from collections.abc import Sequence
from typing import Any

from scipy.stats import binomtest

from pipeline import charts
from pipeline.advice import Advice, Audit, Candidate, DuplicateImage
from pipeline.comparison import Entry
from pipeline.figures import duration, percent, total_seconds
from pipeline.hindsight import Judged, all_made, judge
from pipeline.html import Part, Run, attempt
from pipeline.html_comparison import chart
from pipeline.schema import Report

JUDGED_HEADINGS = (
    ("Strategy", "text"), ("Settings", "text"), ("Expected %", "number"), ("Measured %", "number"), ("Inside", "text"),
    ("Behind the best", "number"), ("Expected time", "number"), ("Taken", "number"),
)  # fmt: skip
LAYER_HEADINGS = (
    ("Layer", "text"), ("Auto pooling %", "number"), ("As", "text"), ("Averaged %", "number"),
    ("Random network %", "number"), ("Gain, points", "number"), ("LogME", "number"), ("H-score", "number"),
    ("Images", "number"),
)  # fmt: skip
CONFIGURATION_HEADINGS = (
    ("Layer", "text"), ("Pooling", "text"), ("Transform", "text"), ("Image size", "number"), ("Strategy", "text"),
    ("Round", "number"), ("Images", "number"), ("Accuracy %", "number"), ("Seconds", "number"), ("Kept", "text"),
)  # fmt: skip
PILOT_HEADINGS = (
    ("Trained from", "text"), ("Images", "number"), ("Held out", "number"), ("Epochs", "number"),
    ("Probe %", "number"), ("Gain, points", "number"), ("Expected of all %", "number"), ("Minutes for all", "number"),
)  # fmt: skip
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
    """Return what the templates advice.html and audit.html show."""
    if run.advice is None:
        return {"advice": Part(missing=run.advice_missing), "audit": Part(missing=run.advice_missing)}
    given = run.advice
    return {
        "advice": attempt("The advice", lambda: _advice(run, given)),
        "audit": attempt("The audit", lambda: _audit(run, given.audit)),
    }


def _points(low: float, high: float) -> str:
    return f"[{100 * low:+.1f}, {100 * high:+.1f}]"


def _expected(value: float, interval: Sequence[float]) -> str:
    return f"{100 * value:.1f} [{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]"


def _advice(run: Run, advice: Advice) -> dict[str, Any]:
    rule, curve = advice.rule_of_thumb, advice.learning_curve
    helps = "More labels would help" if curve.more_labels_help else "More labels would help little"
    layer_alt = "Probe accuracy by layer: " + "; ".join(
        f"{layer.layer} {100 * layer.auto_accuracy:.1f} %" for layer in advice.layers
    )
    curve_alt = "Probe accuracy by number of images: " + "; ".join(
        f"{point.num_images:,}: {100 * point.accuracy:.1f} %" for point in curve.points
    )
    return {
        "size_reason": _sentence(advice.size.reason),
        "similarity_reason": _sentence(advice.similarity.reason),
        "cell": rule.cell.replace("-", ", "),
        "rule": rule.text.rstrip("."),
        "evidence": _sentence(rule.evidence),
        "agrees": rule.agrees,
        "command": advice.recommended.command,
        "hindsight": run.hindsight or "",
        "judged": judged_rows(run, advice),
        "judged_headings": JUDGED_HEADINGS,
        "layer_chart": chart(run, "layers", layer_alt, 3.8, charts.layer_profile, advice.layers),
        "curve_chart": chart(run, "data-efficiency", curve_alt, 3.2, charts.data_efficiency, curve),
        "curve_caption": f"{helps}: a last doubling of the images gave {100 * curve.slope_per_doubling:+.1f} points; "
        f"twice as many would give about {_expected(curve.accuracy_at_double, curve.interval_at_double)} % "
        f"({curve.layer}). Bars are two standard errors.",
        "layers": [_layer_row(layer) for layer in advice.layers],
        "layer_headings": LAYER_HEADINGS,
        "configurations": _configuration_rows(advice),
        "configuration_headings": CONFIGURATION_HEADINGS,
        "pilots": [_pilot_row(pilot) for pilot in advice.pilots],
        "pilot_headings": PILOT_HEADINGS,
    }


def _sentence(text: str) -> str:
    """Return a reason of advice.json as a sentence: it begins with a capital and ends with a full stop."""
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def judged_rows(run: Run, advice: Advice) -> list[list[str]]:
    """Return a row for the recommended strategy and each other candidate: what was expected and what measured."""
    reports = [entry.report for entry in run.entries]
    made = all_made(run.folder, reports, advice)
    candidates = [advice.recommended, *(c for c in advice.candidates if c != advice.recommended)]
    rows = [judge(candidate, made, reports[0]) for candidate in candidates]
    return [_judged_row(row, reports[0], row.candidate == advice.recommended) for row in rows]


def _judged_row(judged: Judged, best: Report, recommended: bool) -> list[str]:
    candidate, report = judged.candidate, judged.report
    cells = [
        candidate.strategy + (" (recommended)" if recommended else ""),
        _settings(candidate),
        _expected(candidate.accuracy, candidate.accuracy_interval),
    ]
    took = duration(60 * candidate.minutes)
    if report is None or judged.behind is None:
        return [*cells, "not run", "-", "-", took, "-"]
    behind = percent(judged.behind, best)
    inside = "yes" if judged.inside else "no"
    return [*cells, percent(report.accuracy, report), inside, behind, took, duration(total_seconds(report))]


def _settings(candidate: Candidate) -> str:
    return f"{candidate.layer}, {candidate.image_size} px, {candidate.pooling}, {candidate.transform}"


def _layer_row(layer: Any) -> list[str]:
    shares = [f"{100 * value:.1f}" for value in (layer.auto_accuracy, layer.average_accuracy, layer.random_accuracy)]
    scores = [f"{100 * layer.gain:+.1f}", f"{layer.log_me:.3f}", f"{layer.h_score:.2f}", f"{layer.num_rows:,}"]
    return [layer.layer, shares[0], layer.auto_pooling, *shares[1:], *scores]


def _configuration_rows(advice: Advice) -> list[list[Any]]:
    ordered = sorted(advice.configurations, key=lambda tried: (tried.round, -tried.accuracy))
    return [
        [
            *_plain_cells(tried.layer, tried.pooling, tried.transform, tried.image_size, tried.strategy, tried.round),
            (f"{tried.num_images:,}", tried.num_images), (f"{100 * tried.accuracy:.1f}", tried.accuracy),
            (f"{tried.seconds:.1f}", tried.seconds), *_plain_cells("yes" if tried.kept else "no"),
        ]
        for tried in ordered
    ]  # fmt: skip


def _plain_cells(*values: str | int) -> list[tuple[str, str | int]]:
    """Return cells that sort by what they show."""
    return [(str(value), value) for value in values]


def _pilot_row(pilot: Any) -> list[str]:
    gain = f"{100 * pilot.gain:+.1f} {_points(*pilot.gain_interval)}"
    expected = _expected(pilot.expected_accuracy, pilot.expected_interval)
    images = [f"{pilot.num_images:,}", f"{pilot.num_held_out:,}", str(pilot.epochs)]
    return [pilot.unfreeze_from, *images, f"{100 * pilot.start_accuracy:.1f}", gain, expected, f"{pilot.minutes:.1f}"]


# The audit.


def without(entry: Entry, duplicates: set[str]) -> tuple[float, list[float]] | None:
    """Return the accuracy on the test images that are none of `duplicates`, and its 95 % interval; None without any."""
    kept = [bool(hit) for name, hit in zip(entry.ids, entry.correct, strict=True) if name not in duplicates]
    if not kept:
        return None
    # Wilson's, as in report.json.
    interval = binomtest(sum(kept), len(kept)).proportion_ci(0.95, method="wilson")
    return sum(kept) / len(kept), [float(interval.low), float(interval.high)]


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
                *_plain_cells(e.id, e.split, e.label, e.suggested),
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
        f"under the network's own (difference {_points(*canary.difference_interval)} points). "
    )
    better = "The network's own is better: leave both options out."
    return text + (better if canary.worse else "Nothing is wrong with it.")
