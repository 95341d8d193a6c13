"""The classes, the confusions and the learning curves of each strategy on the page."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from thaw.models.metrics import top_confusions, worst_classes
from thaw.pipeline.formatting import percent
from thaw.pipeline.plots import charts
from thaw.pipeline.report.html.parts import attempt, chart
from thaw.pipeline.report.inputs import ReportInputs
from thaw.pipeline.run.report_json import NEURAL, ClassFigures, Report, remedy
from thaw.pipeline.training.learning_curve_csv import read_curve

MOST_BARS = 30
MOST_CELLS = 25
MOST_DETAILED = 6  # strategies whose classes are shown
FOLD_CLASSES = 30
NUM_CONFUSIONS = 10


def context(inputs: ReportInputs) -> dict[str, Any]:
    """Return what the template classes.html shows."""
    reports = inputs.reports
    detailed = [r for r in reports if r.strategy != "chance" or r is reports[0]][:MOST_DETAILED]
    left_out = ", ".join(r.name for r in reports if r not in detailed and r.strategy != "chance")
    return {
        "classes": [_classes(inputs.folder, report, rank) for rank, report in enumerate(detailed)],
        "fold_after": FOLD_CLASSES,
        "not_detailed": f"Classes of {left_out} are not shown; their report.json holds them." if left_out else "",
        "curves": [_curve(inputs.folder, report) for report in reports if report.strategy in NEURAL],
        "finetune_command": remedy(inputs.folder / "finetune" / "report.json"),
    }


def shown_confusions(matrix: np.ndarray, limit: int) -> np.ndarray:
    """Return the indices of all classes, or of the `limit` classes with the most mistakes, in order.

    `matrix` (K, K) counts images, rows are true classes.
    """
    wrong = matrix.sum(axis=0) + matrix.sum(axis=1) - 2 * np.diag(matrix)
    return np.sort(np.argsort(-wrong, kind="stable")[:limit])


def _classes(run: Path, report: Report, rank: int) -> dict[str, Any]:
    """Return the classes of a strategy: a table of all for the best strategy, of the worst for the others."""
    matrix, count = np.array(report.confusion_matrix), len(report.class_names)
    worst = [report.per_class[k] for k in worst_classes(matrix, MOST_BARS)]
    few = count <= MOST_BARS
    rows = report.per_class if rank == 0 else worst
    recalls = "; ".join(f"{row.class_name} {100 * row.recall:.0f} %" for row in worst)
    alt, height = f"Recall of {report.name}, worst first: {recalls}", charts.bars_height(len(worst))
    return {
        "name": report.name,
        "note": "" if few else f"Shown are the {len(worst)} classes of {count:,} with the lowest recall.",
        "bars": chart(run, f"classes-{report.name}", alt, height, charts.class_bars, worst),
        **_confusions(run, report, matrix),
        "table": [_class_row(row, report.num_test) for row in rows],
        "table_caption": f"{'All' if rank == 0 or few else 'The worst'} {len(rows):,} classes by {report.name}",
    }


def _confusions(run: Path, report: Report, matrix: np.ndarray) -> dict[str, Any]:
    count, shown = len(matrix), shown_confusions(matrix, MOST_CELLS)
    cells, names = matrix[np.ix_(shown, shown)], [report.class_names[k] for k in shown]
    some = "" if len(shown) == count else f" The {len(shown)} of {count:,} classes with the most mistakes."
    alt = f"Confusion matrix of {report.name}; the table of the most frequent confusions has its figures"
    height = 1.3 + max(2.2, 0.26 * len(shown))
    return {
        "confusions": chart(run, f"confusions-{report.name}", alt, height, charts.confusions, cells, names),
        "confusions_note": f"Rows are true classes, columns predicted ones; blue is correct, orange wrong.{some}",
        "top": [
            [true, predicted, f"{number:,}", percent(share)]
            for true, predicted, number, share in top_confusions(matrix, report.class_names, NUM_CONFUSIONS)
        ],
    }


def _class_row(row: ClassFigures, num_test: int) -> list[Any]:
    recall = (percent(row.recall, num_test), row.recall) if row.support else ("-", None)
    return [
        (row.class_name, row.class_name),
        recall,
        (percent(row.precision, num_test), row.precision),
        (f"{row.f1:.3f}", row.f1),
        (f"{row.support:,}", row.support),
    ]


def _curve(run: Path, report: Report) -> dict[str, Any]:
    path = run / report.name / "learning_curve.csv"
    part = attempt(f"Learning curve of {report.name}", partial(read_curve, path))
    if part.value is None:
        return {"chart": part, "caption": ""}
    rows, watched = part.value
    chosen = report.hyperparameters.get("selection_accuracy") is not None
    kept = report.hyperparameters.get("kept_epoch") if chosen else None
    last = percent(rows[-1].get(f"{watched}_accuracy") or 0)
    alt = f"Learning curve of {report.name} over {len(rows) - 1} epochs, ending at {last} % on {watched} images"
    drawn = chart(run, f"learning-{report.name}", alt, 3.8, charts.learning, rows, watched, kept)
    return {"chart": drawn, "caption": f"{report.name}. Epoch 0 is the network before training."}
