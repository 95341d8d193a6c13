"""The page's advice: what `advise` measured and expected, and how that turned out."""

from collections.abc import Sequence
from typing import Any

from thaw.pipeline.comparison.advice_outcome import Judged, all_made, judge
from thaw.pipeline.formatting import duration, percent, total_seconds
from thaw.pipeline.plots import charts
from thaw.pipeline.report.html.parts import Part, Run, attempt, chart, plain_cells
from thaw.pipeline.run.advice_json import Advice, Candidate
from thaw.pipeline.run.report_json import NEURAL, Report

JUDGED_HEADINGS = (
    ("Strategy", "text"), ("Settings", "text"), ("Expected %", "number"), ("Measured %", "number"), ("Inside", "text"),
    ("Points behind the best", "number"), ("Expected time", "number"), ("Taken", "number"),
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


def context(run: Run) -> dict[str, Any]:
    """Return what the template advice.html shows."""
    if run.advice is None:
        return {"advice": Part(missing=run.advice_missing)}
    given = run.advice
    return {"advice": attempt("The advice", lambda: _advice(run, given))}


def in_points(low: float, high: float) -> str:
    """Return an interval of a difference of fractions in points."""
    return f"[{100 * low:+.1f}, {100 * high:+.1f}]"


def _expected(value: float, interval: Sequence[float]) -> str:
    return f"{100 * value:.1f} [{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]"


def _advice(run: Run, advice: Advice) -> dict[str, Any]:
    rule, curve = advice.rule_of_thumb, advice.learning_curve
    near = advice.similarity.cell == "similar"
    layer_alt = "Probe accuracy by layer: " + "; ".join(
        f"{layer.layer} {100 * layer.auto_accuracy:.1f} %" for layer in advice.layers
    )
    curve_alt = "Probe accuracy by number of images: " + "; ".join(
        f"{point.num_images:,}: {100 * point.accuracy:.1f} %" for point in curve.points
    )
    return {
        "size": advice.size.cell.capitalize(),
        "size_reason": _sentence(advice.size.reason),
        "closeness": advice.similarity.cell.capitalize() + (" to ImageNet" if near else " from ImageNet"),
        "similarity_reason": _sentence(advice.similarity.reason),
        "rule": _sentence(rule.text),
        "evidence": _sentence(rule.evidence),
        "agrees": rule.agrees,
        "command": advice.recommended.command,
        "hindsight": run.hindsight or "",
        "judged": judged_rows(run, advice),
        "judged_headings": JUDGED_HEADINGS,
        "layer_chart": chart(run, "layers", layer_alt, 3.8, charts.layer_profile, advice.layers),
        "curve_chart": chart(run, "data-efficiency", curve_alt, 3.2, charts.data_efficiency, curve),
        "curve_caption": f"{curve.outlook.capitalize()}: a last doubling of the images gave "
        f"{100 * curve.slope_per_doubling:+.1f} points; "
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
    if candidate.strategy in NEURAL:
        return f"{candidate.image_size} px" + (f", from {candidate.layer}" if candidate.strategy == "finetune" else "")
    return f"{candidate.image_size} px, {candidate.layer}, {candidate.pooling}, {candidate.transform}"


def _layer_row(layer: Any) -> list[str]:
    shares = [f"{100 * value:.1f}" for value in (layer.auto_accuracy, layer.average_accuracy, layer.random_accuracy)]
    scores = [f"{100 * layer.gain:+.1f}", f"{layer.log_me:.3f}", f"{layer.h_score:.2f}", f"{layer.num_rows:,}"]
    return [layer.layer, shares[0], layer.auto_pooling, *shares[1:], *scores]


def _configuration_rows(advice: Advice) -> list[list[Any]]:
    ordered = sorted(advice.configurations, key=lambda tried: (tried.round, -tried.accuracy))
    return [
        [
            *plain_cells(tried.layer, tried.pooling, tried.transform, tried.image_size, tried.strategy, tried.round),
            (f"{tried.num_images:,}", tried.num_images), (f"{100 * tried.accuracy:.1f}", tried.accuracy),
            (f"{tried.seconds:.1f}", tried.seconds), *plain_cells("yes" if tried.kept else "no"),
        ]
        for tried in ordered
    ]  # fmt: skip


def _pilot_row(pilot: Any) -> list[str]:
    gain = f"{100 * pilot.gain:+.1f} {in_points(*pilot.gain_interval)}"
    expected = _expected(pilot.expected_accuracy, pilot.expected_interval)
    images = [f"{pilot.num_images:,}", f"{pilot.num_held_out:,}", str(pilot.epochs)]
    return [pilot.unfreeze_from, *images, f"{100 * pilot.start_accuracy:.1f}", gain, expected, f"{pilot.minutes:.1f}"]
