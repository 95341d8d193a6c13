"""`report.md`: every table, every pair, each class, and how each strategy was made."""

import json
from collections.abc import Iterator, Sequence

from thaw.pipeline.comparison.summary import COLUMNS, TEXT_COLUMNS, conclusion, facts, notes, p_value, points
from thaw.pipeline.formatting import escape_markdown, percent
from thaw.pipeline.report.inputs import ReportInputs
from thaw.pipeline.run.export_json import EXPORT_HEADINGS, EXPORT_NOTE
from thaw.pipeline.run.report_json import Report

MAX_MATRIX_CLASSES = 20
PAIR_HEADINGS = ("Verdict", "Difference, points", "95 % interval", "McNemar p", "Holm p")


def markdown(inputs: ReportInputs) -> Iterator[str]:
    """Yield the lines of report.md, best strategy first."""
    reports, comparisons = inputs.reports, inputs.comparisons
    yield f"# {escape_markdown(reports[0].dataset)}: {len(reports)} strategies compared\n"
    yield f"{escape_markdown(conclusion(reports, comparisons))}\n"
    if inputs.unseen:
        yield f"{escape_markdown(inputs.unseen)}\n"
    if inputs.hindsight:
        yield f"{escape_markdown(inputs.hindsight)}\n"
    yield f"{escape_markdown(facts(reports))} (split.csv's sha256: `{reports[0].split_sha256}`).\n"
    headings = [" ".join(heading.split()) for heading in COLUMNS]
    yield from _table(headings, [[column(r) for column in COLUMNS.values()] for r in reports], len(TEXT_COLUMNS))
    yield "A star marks a baseline. Total time is the time of features, fit and predictions together.\n"
    if comparisons:
        yield "## Pairs\n"
        yield f"{notes(len(comparisons))}\n"
        pairs = [[c.verdict, *points(c), p_value(c.mcnemar_p), p_value(c.holm_p)] for c in comparisons]
        yield from _table(PAIR_HEADINGS, pairs)
    if inputs.exports:
        yield "## Exported files\n"
        yield from _table(EXPORT_HEADINGS, inputs.exports, 2)
        yield f"{EXPORT_NOTE}\n"
    yield from _classes(reports[0])
    for report in reports:
        if len(report.class_names) <= MAX_MATRIX_CLASSES:
            yield from _matrix(report)
    yield "## How each was made\n"
    for report in reports:
        yield from _record(report)


def _classes(report: Report) -> Iterator[str]:
    yield f"## Classes, as {escape_markdown(report.name)} tells them apart\n"
    rows = []
    for row in report.per_class:
        recall = percent(row.recall, report.num_test) if row.support else "-"
        precision = percent(row.precision, report.num_test)
        rows.append([row.class_name, precision, recall, f"{row.f1:.3f}", f"{row.support:,}"])
    yield from _table(["Class", "Precision %", "Recall %", "F1", "Test images"], rows)


def _matrix(report: Report) -> Iterator[str]:
    yield f"## Confusions of {escape_markdown(report.name)}\n"
    yield "Rows are true classes, columns predicted ones.\n"
    rows = zip(report.class_names, report.confusion_matrix, strict=True)
    yield from _table(["", *report.class_names], [[name, *map(str, row)] for name, row in rows])


def _record(report: Report) -> Iterator[str]:
    chosen = {name: value for name, value in report.hyperparameters.items() if name != "tried"}
    parameters = json.dumps(chosen, ensure_ascii=False)
    made = f"{report.num_train:,} training images, seed {report.seed}, on {report.device or 'no device'}"
    yield f"- {escape_markdown(report.name)}: {made}; {escape_markdown(parameters)}  "
    yield f"  <code>{escape_markdown(report.command)}</code>"


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]], num_text: int = 1) -> Iterator[str]:
    """Yield the lines of a table whose first `num_text` columns hold text and the others numbers."""
    yield f"| {' | '.join(map(escape_markdown, headings))} |"
    yield f"| {' | '.join([':--'] * num_text + ['--:'] * (len(headings) - num_text))} |"
    for row in rows:
        yield f"| {' | '.join(map(escape_markdown, row))} |"
    yield ""
