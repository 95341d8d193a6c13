"""The comparison as Markdown: every table, every pair, each class, and how each strategy was made."""

import json
import re
from collections.abc import Iterator, Sequence

from thaw.pipeline.comparison.summary import COLUMNS, TEXT_COLUMNS, conclusion, facts, notes, points
from thaw.pipeline.formatting import p_value, percent, plain
from thaw.pipeline.run.export_json import EXPORT_HEADINGS, EXPORT_NOTE
from thaw.pipeline.run.report_json import Report
from thaw.pipeline.run.results import Comparison

MAX_MATRIX_CLASSES = 20


def markdown(
    reports: Sequence[Report],
    comparisons: Sequence[Comparison],
    hindsight: str | None = None,
    exports: Sequence[Sequence[str]] = (),
) -> Iterator[str]:
    """Yield the lines of report.md, best strategy first.

    `hindsight` says how good the advice was; `exports` are rows of `exported.EXPORT_HEADINGS`.
    """
    yield f"# {escape(reports[0].dataset)}: {len(reports)} strategies compared\n"
    yield f"{escape(conclusion(reports, comparisons))}\n"
    if hindsight:
        yield f"{escape(hindsight)}\n"
    yield f"{escape(facts(reports))} (split.csv's sha256: `{reports[0].split_sha256}`).\n"
    headings = [" ".join(heading.split()) for heading in COLUMNS]
    yield from _table(headings, [[column(r) for column in COLUMNS.values()] for r in reports], len(TEXT_COLUMNS))
    yield "A star marks a baseline. Total time is that of features, fit and predictions together.\n"
    if comparisons:
        yield "## Pairs\n"
        yield f"{notes(len(comparisons))}\n"
        yield from _table(
            ["Verdict", "Difference, points", "95 % interval", "McNemar p", "Holm p"],
            [[c.verdict, *points(c), p_value(c.mcnemar_p), p_value(c.holm_p)] for c in comparisons],
        )
    if exports:
        yield "## Exported files\n"
        yield from _table(EXPORT_HEADINGS, exports, 2)
        yield f"{EXPORT_NOTE}\n"
    yield from _classes(reports[0])
    for report in reports:
        if len(report.class_names) <= MAX_MATRIX_CLASSES:
            yield from _matrix(report)
    yield "## How each was made\n"
    for report in reports:
        chosen = {name: value for name, value in report.hyperparameters.items() if name != "tried"}
        parameters = json.dumps(chosen, ensure_ascii=False)
        made = f"{report.num_train:,} training images, seed {report.seed}, on {report.device or 'no device'}"
        yield f"- {escape(report.name)}: {made}; {escape(parameters)}  "
        yield f"  <code>{escape(report.command)}</code>"


def _classes(report: Report) -> Iterator[str]:
    yield f"## Classes, as {escape(report.name)} tells them apart\n"
    headings = ["Class", "Precision %", "Recall %", "F1", "Test images"]
    rows = []
    for row in report.per_class:
        recall = percent(row.recall, report) if row.support else "-"
        figures = [percent(row.precision, report), recall, f"{row.f1:.3f}", f"{row.support:,}"]
        rows.append([row.class_name, *figures])
    yield from _table(headings, rows)


def _matrix(report: Report) -> Iterator[str]:
    yield f"## Confusions of {escape(report.name)}\n"
    yield "Rows are true classes, columns predicted ones.\n"
    rows = zip(report.class_names, report.confusion_matrix, strict=True)
    yield from _table(["", *report.class_names], [[name, *map(str, row)] for name, row in rows])


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]], num_text: int = 1) -> Iterator[str]:
    yield f"| {' | '.join(map(escape, headings))} |"
    yield f"| {' | '.join([':--'] * num_text + ['--:'] * (len(headings) - num_text))} |"
    for row in rows:
        yield f"| {' | '.join(map(escape, row))} |"
    yield ""


def escape(text: str) -> str:
    """Return `text` so that GitHub's Markdown shows it as it is, inside a table too."""
    text = plain(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\\", "&#92;")
    # An underscore inside a word, as in block5_pool, is one already.
    return re.sub(r"([|`*~\[\]$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))", r"\\\1", text)
