"""The page's classes, confusions and learning curves of each strategy."""

import csv
import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from thaw.features.errors import InputError
from thaw.pipeline.formatting import percent
from thaw.pipeline.plots import charts
from thaw.pipeline.report.html.parts import Run, attempt, chart
from thaw.pipeline.run.report_json import NEURAL, ClassFigures, Report, remedy

MOST_BARS = 30
MOST_CELLS = 25
MOST_DETAILED = 6  # strategies whose classes are shown
FOLD_CLASSES = 30
NUM_CONFUSIONS = 10
CLASS_HEADINGS = (
    ("Class", "text"), ("Recall %", "number"), ("Precision %", "number"), ("F1", "number"), ("Test images", "number"),
)  # fmt: skip
CONFUSION_HEADINGS = (
    ("True class", "text"), ("Called", "text"), ("Images", "number"), ("Of the class, %", "number"),
)  # fmt: skip


def context(run: Run) -> dict[str, Any]:
    """Return what the template classes.html shows."""
    reports = [entry.report for entry in run.entries]
    detailed = [r for r in reports if r.strategy != "chance" or r is reports[0]][:MOST_DETAILED]
    left_out = [r.name for r in reports if r not in detailed and r.strategy != "chance"]
    names = ", ".join(left_out)
    return {
        "classes": [_classes(run, report, rank) for rank, report in enumerate(detailed)],
        "class_headings": CLASS_HEADINGS,
        "confusion_headings": CONFUSION_HEADINGS,
        "fold_after": FOLD_CLASSES,
        "not_detailed": f"Classes of {names} are not shown; their report.json holds them." if left_out else "",
        "curves": [curve for report in reports if report.strategy in NEURAL for curve in _curves(run, report)],
        "finetune_command": remedy(run.folder / "finetune" / "report.json"),
    }


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
