"""The page's figures on the strategies: verdict, table, pairs, cost, classes, confusions, learning curves."""

import csv
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from features.errors import InputError
from pipeline import charts
from pipeline.comparison import SIGNIFICANCE, Comparison
from pipeline.drawing import draw
from pipeline.figures import (
    accuracy,
    conclusion,
    cost,
    duration,
    facts,
    memory,
    not_worse,
    notes,
    p_value,
    percent,
    plain,
    points,
    size,
    too_few,
    total,
    total_seconds,
)
from pipeline.html import Part, Run, attempt
from pipeline.schema import BASELINES, NEURAL, ClassFigures, Report, remedy

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FOLD_PAIRS, MOST_PAIRS = 15, 300
MOST_BARS = 30
MOST_CELLS = 25
MOST_DETAILED = 6  # strategies whose classes are shown
FOLD_CLASSES = 30
NUM_CONFUSIONS = 10
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
CLASS_HEADINGS = (
    ("Class", "text"), ("Recall %", "number"), ("Precision %", "number"), ("F1", "number"), ("Test images", "number"),
)  # fmt: skip
CONFUSION_HEADINGS = (
    ("True class", "text"), ("Called", "text"), ("Images", "number"), ("Of the class, %", "number"),
)  # fmt: skip


def context(run: Run) -> dict[str, Any]:
    """Return what the templates comparison.html and classes.html show."""
    reports, comparisons = [entry.report for entry in run.entries], run.comparisons
    best, folder = reports[0], run.folder
    low, high, strategies = strategy_rows(reports, comparisons)
    detailed = [r for r in reports if r.strategy != "chance" or r is best][:MOST_DETAILED]
    left_out = [r.name for r in reports if r not in detailed and r.strategy != "chance"]
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
        "commands": {name: remedy(folder / name / "report.json") for name in ("finetune", "svm")}
        | {"another": remedy(folder / ("logreg" if best.strategy == "svm" else "svm") / "report.json")},
        "cost_chart": chart(run, "cost", _cost_alt(reports), 3.6, charts.accuracy_against_cost, reports),
        "frontier_headings": FRONTIER_HEADINGS,
        "frontier": [[report.name, accuracy(report), total(report)] for report in charts.frontier(reports)],
        "classes": [_classes(run, report, rank) for rank, report in enumerate(detailed)],
        "class_headings": CLASS_HEADINGS,
        "confusion_headings": CONFUSION_HEADINGS,
        "fold_after": FOLD_CLASSES,
        "not_detailed": f"Classes of {', '.join(left_out)} are not shown; their report.json holds them."
        if left_out
        else "",
        "curves": [curve for report in reports if report.strategy in NEURAL for curve in _curves(run, report)],
    }


def chart(run: Run, name: str, alt: str, height: float, paint: Callable[..., None], *arguments: Any) -> Part[Markup]:
    """Return a chart for the page, written to the run's plots too; `paint(figure, *arguments)` fills it."""

    def make() -> Markup:
        def fill(figure: "Figure") -> None:
            paint(figure, *arguments)

        return Markup(draw(run.plots, name, alt, height, fill))  # noqa: S704 (escaped by the writer of its XML)

    return attempt(f"The chart {name}", make)


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


def worst_classes(report: Report, limit: int) -> list[ClassFigures]:
    """Return at most `limit` classes that have test images, the least recall first, then the least F1."""
    return sorted((row for row in report.per_class if row.support), key=lambda row: (row.recall, row.f1))[:limit]


def top_confusions(report: Report, limit: int) -> list[list[Any]]:
    """Return rows of true class, what it is called, how often, and the share of the class in percent."""
    matrix = np.array(report.confusion_matrix)
    totals = matrix.sum(axis=1)
    np.fill_diagonal(matrix, 0)
    cells = np.argsort(-matrix, axis=None, kind="stable")[:limit]
    rows = []
    for true, said in zip(*np.unravel_index(cells, matrix.shape), strict=True):
        if count := int(matrix[true, said]):
            share = f"{100 * count / totals[true]:.1f}"
            rows.append([report.class_names[true], report.class_names[said], f"{count:,}", share])
    return rows


def shown_confusions(report: Report, limit: int) -> tuple[np.ndarray, list[str]]:
    """Return counts (K, K) and names of all classes, or of the `limit` with the most mistakes, in their order."""
    matrix = np.array(report.confusion_matrix)
    wrong = matrix.sum(axis=0) + matrix.sum(axis=1) - 2 * np.diag(matrix)
    chosen = np.sort(np.argsort(-wrong, kind="stable")[:limit])
    return matrix[np.ix_(chosen, chosen)], [report.class_names[k] for k in chosen]


def _classes(run: Run, report: Report, rank: int) -> dict[str, Any]:
    """Return what is shown of a strategy's classes: for the best a table of all, for the others of the worst."""
    worst, count = worst_classes(report, MOST_BARS), len(report.class_names)
    matrix, names = shown_confusions(report, MOST_CELLS)
    few = count <= MOST_BARS
    alt = f"Recall of {report.name}, worst first: " + "; ".join(f"{r.class_name} {100 * r.recall:.0f} %" for r in worst)
    some = "" if len(names) == count else f" The {len(names)} of {count:,} classes with the most mistakes."
    confusion_alt = f"Confusion matrix of {report.name}; the table of the most frequent confusions has its figures"
    rows = report.per_class if rank == 0 else worst
    return {
        "name": report.name,
        "note": "" if few else f"Shown are the {len(worst)} classes of {count:,} that are found least.",
        "bars": chart(run, f"classes-{report.name}", alt, charts.bars_height(len(worst)), charts.class_bars, worst),
        "confusions": chart(
            run, f"confusions-{report.name}", confusion_alt, 1.3 + max(2.2, 0.26 * len(names)), charts.confusions,
            matrix, names,
        ),
        "confusions_note": f"Rows are true classes, columns predicted ones; blue is right, orange wrong.{some}",
        "top": top_confusions(report, NUM_CONFUSIONS),
        "table": [_class_row(row, report) for row in rows],
        "table_caption": f"{'All' if rank == 0 or few else 'The worst'} {len(rows):,} classes by {report.name}",
    }  # fmt: skip


def _class_row(row: ClassFigures, report: Report) -> list[Any]:
    recall = percent(row.recall, report) if row.support else "-"
    return [
        (row.class_name, row.class_name),
        (recall, row.recall if row.support else None),
        (percent(row.precision, report), row.precision),
        (f"{row.f1:.3f}", row.f1),
        (f"{row.support:,}", row.support),
    ]


def read_curve(path: Path) -> tuple[list[dict[str, float | None]], str]:
    """Return the rows of a learning_curve.csv and which images were watched: validation or test.

    Raises InputError where it is missing or is none.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [
                {key: float(value) if value else None for key, value in row.items()} for row in csv.DictReader(file)
            ]
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{path} cannot be read ({error})") from None
    watched = [
        match[1] for name in (rows[0] if rows else ()) if (match := re.fullmatch(r"(\w+)_balanced_accuracy", name))
    ]
    if not watched or not {"epoch", f"{watched[0]}_accuracy", f"{watched[0]}_loss"} <= set(rows[0]):
        raise InputError(
            f"{path} is not a learning curve; expected epoch, accuracy, loss and those of the watched images"
        )
    return rows, watched[0]


def _curves(run: Run, report: Report) -> list[dict[str, Any]]:
    part = attempt(
        f"Learning curve of {report.name}", partial(read_curve, run.folder / report.name / "learning_curve.csv")
    )
    if part.value is None:
        return [{"chart": part, "caption": ""}]
    rows, watched = part.value
    kept = report.hyperparameters.get("kept_epoch")
    chosen = kept if isinstance(kept, int) and report.hyperparameters.get("selection_accuracy") is not None else None
    last = rows[-1].get(f"{watched}_accuracy") or 0
    alt = (
        f"Learning curve of {report.name} over {len(rows) - 1} epochs, ending at {100 * last:.1f} % on {watched} images"
    )
    drawn = chart(run, f"learning-{report.name}", alt, 3.8, charts.learning, rows, watched, chosen)
    return [{"chart": drawn, "caption": f"{report.name}. Epoch 0 is the network before training."}]
