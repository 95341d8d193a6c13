"""The page's verdict, its table of strategies, their pairs, and accuracy against cost."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from thaw.pipeline.comparison.summary import conclusion, cost, facts, not_worse, notes, points
from thaw.pipeline.formatting import (
    accuracy,
    duration,
    memory,
    p_value,
    percent,
    plain,
    size,
    too_few,
    total,
    total_seconds,
)
from thaw.pipeline.plots import charts
from thaw.pipeline.report.html.parts import Run, chart
from thaw.pipeline.run.report_json import BASELINES, Report, remedy
from thaw.pipeline.run.results import SIGNIFICANCE, Comparison

FOLD_PAIRS, MOST_PAIRS = 15, 300
STRATEGY_HEADINGS = (
    ("Name", "text"), ("Layer", "text"), ("Accuracy % [95 % interval]", "number"),
    ("Against the best, points", "number"), ("Macro F1", "number"), ("Log loss", "number"), ("ECE", "number"),
    ("Balanced %", "number"), ("Fit", "number"), ("Total", "number"), ("Memory", "number"), ("Model", "number"),
)  # fmt: skip
FRONTIER_HEADINGS = (("Strategy", "text"), ("Accuracy % [95 % interval]", "number"), ("Total", "number"))
PAIR_HEADINGS = (
    ("Verdict", "text"), ("Difference", "number"), ("95 % interval", "number"), ("McNemar p", "number"),
    ("Holm p", "number"),
)  # fmt: skip


def context(run: Run) -> dict[str, Any]:
    """Return what the template comparison.html shows."""
    reports, comparisons = [entry.report for entry in run.entries], run.comparisons
    best = reports[0]
    low, high, strategies = strategy_rows(reports, comparisons)
    return {
        "dataset": _word(best.dataset),
        "num_strategies": f"{len(reports)} {'strategy' if len(reports) == 1 else 'strategies'}",
        "facts": facts(reports),
        "conclusion": conclusion(reports, comparisons),
        "cost": cost(reports, comparisons),
        "hindsight": run.hindsight,
        "tiles": _tiles(reports, comparisons),
        "strategy_headings": STRATEGY_HEADINGS,
        "strategies": strategies,
        "strip_note": f"Intervals are drawn from {low:.0f} to {high:.0f} %.",
        "pairs": _pair_rows(comparisons)[:MOST_PAIRS],
        "num_pairs": len(comparisons),
        "pairs_folded": len(comparisons) > FOLD_PAIRS,
        "pair_notes": notes(len(comparisons)),
        "pair_headings": PAIR_HEADINGS,
        "another_command": remedy(run.folder / ("logreg" if best.strategy == "svm" else "svm") / "report.json"),
        "cost_chart": chart(run, "cost", _cost_alt(reports), 3.6, charts.accuracy_against_cost, reports),
        "frontier_headings": FRONTIER_HEADINGS,
        "frontier": [[report.name, accuracy(report), total(report)] for report in charts.frontier(reports)],
    }


def _word(dataset: str) -> str:
    kind, separator, path = dataset.partition(":")
    return Path(path).name or dataset if separator else kind


def _tiles(reports: Sequence[Report], comparisons: Sequence[Comparison]) -> list[tuple[str, str, str]]:
    best = reports[0]
    low, high = (percent(value, best) for value in best.accuracy_ci95)
    equals = [] if too_few(best) else [r.name for r in not_worse(reports, comparisons) if r.strategy not in BASELINES]
    tiles = [
        ("Best strategy", best.name, f"on {best.layer}" if best.layer else ""),
        ("Accuracy", f"{percent(best.accuracy, best)} %", f"95 % interval {low} to {high}"),
        ("Time in all", total(best), f"fit {duration(best.seconds.fit)}"),
        ("Test images", f"{best.num_test:,}", f"{len(best.class_names):,} classes"),
    ]
    return [*tiles, ("Not significantly worse", str(len(equals)), ", ".join(equals))] if equals else tiles


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
    low, high = (100 * value for value in report.accuracy_ci95)
    span = scale[1] - scale[0] or 1
    strip = [round(100 * part / span, 1) for part in (low - scale[0], high - low, 100 * report.accuracy - scale[0])]
    verdict, difference = "the best" if best else "", ""
    if pair:
        verdict = "not significantly worse" if pair.holm_p >= SIGNIFICANCE else "worse"
        difference = f"{0 - 100 * pair.difference:+.2f} (p {p_value(pair.holm_p)})"
    return {
        "name": report.name,
        "kind": "best" if best else "baseline" if report.strategy in BASELINES else "",
        "layer": report.layer or "-",
        "accuracy": accuracy(report),
        "value": report.accuracy,
        "low": percent(low / 100, report),
        "high": percent(high / 100, report),
        "strip": strip if strip[0] >= 0 else None,
        "verdict": verdict,
        "difference": difference,
        "points": 0 - pair.difference if pair else 0,
        "figures": [
            (f"{report.macro_f1:.3f}", report.macro_f1),
            (f"{report.log_loss:.3f}", report.log_loss),
            (f"{report.ece:.3f}", report.ece),
            (percent(report.balanced_accuracy, report), report.balanced_accuracy),
            (duration(report.seconds.fit), report.seconds.fit),
            (total(report), total_seconds(report)),
            (memory(report), report.peak_memory_mb),
            (size(report.model_bytes), report.model_bytes),
        ],
    }


def _pair_rows(comparisons: Sequence[Comparison]) -> list[list[Any]]:
    return [
        [
            (Markup.escape(plain(pair.verdict)), pair.verdict),  # a sentence is not shortened as a name is
            (points(pair)[0], pair.difference),
            (points(pair)[1], pair.ci95[0]),
            (p_value(pair.mcnemar_p), pair.mcnemar_p),
            (p_value(pair.holm_p), pair.holm_p),
        ]
        for pair in comparisons
    ]


def _cost_alt(reports: Sequence[Report]) -> str:
    parts = [f"{r.name} {percent(r.accuracy, r)} % in {total(r)}" for r in reports[:20] if r.strategy != "chance"]
    return f"Accuracy against total time: {'; '.join(parts)}"
