"""The verdict on the page, the table of strategies, their pairs, and accuracy against cost."""

from collections.abc import Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any

from markupsafe import Markup

from thaw.pipeline.comparison.comparison import SIGNIFICANCE, Comparison
from thaw.pipeline.comparison.summary import (
    COLUMNS,
    accuracy,
    conclusion,
    cost,
    facts,
    not_worse,
    notes,
    p_value,
    points,
)
from thaw.pipeline.formatting import duration, percent, plain
from thaw.pipeline.plots import charts
from thaw.pipeline.report.html.parts import chart
from thaw.pipeline.report.inputs import ReportInputs
from thaw.pipeline.run.report_json import BASELINES, Report, remedy

FOLD_PAIRS, MOST_PAIRS = 15, 300
FIGURES = {  # a heading of COLUMNS -> the field of the report that its column sorts by
    "Macro\nF1": "macro_f1", "Log\nloss": "log_loss", "ECE": "ece", "Balanced\nacc. %": "balanced_accuracy",
    "Fit\ntime": "seconds.fit", "Total\ntime": "total_seconds", "Peak\nmemory": "peak_memory_mb",
    "Model\nsize": "model_bytes",
}  # fmt: skip


def context(inputs: ReportInputs) -> dict[str, Any]:
    """Return what the template comparison.html shows."""
    reports, comparisons = inputs.reports, inputs.comparisons
    best = reports[0]
    low, high, strategies = strategy_rows(reports, comparisons)
    another = inputs.folder / ("logreg" if best.strategy == "svm" else "svm") / "report.json"
    return {
        "dataset": Path(best.dataset.partition(":")[2]).name or best.dataset,
        "num_strategies": f"{len(reports)} {'strategy' if len(reports) == 1 else 'strategies'}",
        "facts": facts(reports),
        "conclusion": conclusion(reports, comparisons),
        "cost": cost(reports, comparisons),
        "hindsight": inputs.hindsight,
        "unseen": inputs.unseen,
        "tiles": _tiles(reports, comparisons),
        "strategies": strategies,
        "strip_note": f"Intervals are drawn from {low:.0f} to {high:.0f} %.",
        "pairs": [_pair_row(pair) for pair in comparisons[:MOST_PAIRS]],
        "num_pairs": len(comparisons),
        "pairs_folded": len(comparisons) > FOLD_PAIRS,
        "pair_notes": notes(len(comparisons)),
        "another_command": remedy(another),
        "cost_chart": chart(inputs.folder, "cost", _cost_alt(reports), 3.6, charts.accuracy_against_cost, reports),
        "frontier": [[r.name, accuracy(r), duration(r.total_seconds)] for r in charts.frontier(reports)],
    }


def _tiles(reports: Sequence[Report], comparisons: Sequence[Comparison]) -> list[tuple[str, str, str]]:
    best = reports[0]
    low, high = (percent(end, best.num_test) for end in best.accuracy_ci95)
    tiles = [
        ("Best strategy", best.name, f"on {best.layer} of {best.features}" if best.layer else ""),
        ("Accuracy", f"{percent(best.accuracy, best.num_test)} %", f"95 % interval {low} to {high}"),
        ("Time in all", duration(best.total_seconds), f"fit {duration(best.seconds.fit)}"),
        ("Test images", f"{best.num_test:,}", f"{len(best.class_names):,} classes"),
    ]
    equals = [r.name for r in not_worse(reports, comparisons) if r.strategy not in BASELINES]
    if equals and not best.has_too_few_images:
        tiles.append(("Not significantly worse", str(len(equals)), ", ".join(equals)))
    return tiles


def strategy_rows(
    reports: Sequence[Report], comparisons: Sequence[Comparison]
) -> tuple[float, float, list[dict[str, Any]]]:
    """Return the scale of the drawn intervals, low and high in percent, and a row for each strategy."""
    scaled = [r for r in reports if r.strategy != "chance"] or reports
    low = 100 * min(r.accuracy_ci95[0] for r in scaled) // 5 * 5
    high = min(100.0, -(-100 * max(r.accuracy_ci95[1] for r in scaled) // 5) * 5)
    against = {pair.b: pair for pair in comparisons if pair.a == reports[0].name}
    return low, high, [_strategy_row(r, against.get(r.name), (low, high), r is reports[0]) for r in reports]


def _strategy_row(report: Report, pair: Comparison | None, scale: tuple[float, float], best: bool) -> dict[str, Any]:
    low, high = (100 * end for end in report.accuracy_ci95)
    span = scale[1] - scale[0] or 1
    strip = [round(100 * part / span, 1) for part in (low - scale[0], high - low, 100 * report.accuracy - scale[0])]
    verdict, difference = "the best" if best else "", ""
    if pair:
        verdict = "not significantly worse" if pair.holm_p >= SIGNIFICANCE else "worse"
        difference = f"{0 - 100 * pair.difference:+.2f} (p {p_value(pair.holm_p)})"
    return {
        "name": report.name,
        "kind": "best" if best else "baseline" if report.strategy in BASELINES else "",
        "backbone": report.backbone or "-",
        "image_size": report.image_size,
        "layer": report.layer or "-",
        "accuracy": accuracy(report),
        "value": report.accuracy,
        "interval": " to ".join(percent(end, report.num_test) for end in report.accuracy_ci95),
        "strip": strip if strip[0] >= 0 else None,
        "verdict": verdict,
        "difference": difference,
        "points": 0 - pair.difference if pair else 0,
        "figures": [(COLUMNS[heading](report), attrgetter(field)(report)) for heading, field in FIGURES.items()],
    }


def _pair_row(pair: Comparison) -> list[Any]:
    difference, interval = points(pair)
    return [
        (Markup.escape(plain(pair.verdict)), pair.verdict),  # a name would be shortened, a sentence is not
        (difference, pair.difference),
        (interval, pair.ci95[0]),
        (p_value(pair.mcnemar_p), pair.mcnemar_p),
        (p_value(pair.holm_p), pair.holm_p),
    ]


def _cost_alt(reports: Sequence[Report]) -> str:
    parts = [
        f"{r.name} {percent(r.accuracy, r.num_test)} % in {duration(r.total_seconds)}"
        for r in reports[:20]
        if r.strategy != "chance"
    ]
    return f"Accuracy against total time: {'; '.join(parts)}"
