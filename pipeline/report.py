"""The report stage: all strategies of a run side by side, on the terminal, in report.md or as JSON."""

import json
import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from features.store import write_whole
from models.metrics import compare, holm
from pipeline.schema import Entry, Report, load_run

log = logging.getLogger("thaw")

SIGNIFICANCE = 0.05
BASELINES = ("random", "chance")
MAX_MATRIX_CLASSES = 20
PIPE_WIDTH = 10_000


class Comparison(NamedTuple):
    """Strategy `a` against `b`, in fractions; `holm_p` is `mcnemar_p` adjusted for the number of pairs."""

    a: str
    b: str
    difference: float
    ci95: list[float]
    mcnemar_p: float
    holm_p: float

    @property
    def verdict(self) -> str:
        """Say in words which of the two is better, at 5 % for all pairs together."""
        if self.holm_p >= SIGNIFICANCE:
            return f"no significant difference between {self.a} and {self.b}"
        return f"{self.a} beats {self.b}" if self.difference > 0 else f"{self.b} beats {self.a}"

    @property
    def brief_verdict(self) -> str:
        """Say the same of an `a` that is named elsewhere and is at least as accurate as `b`."""
        return f"no significant difference from {self.b}" if self.holm_p >= SIGNIFICANCE else f"beats {self.b}"


def main(run: Path, as_json: bool = False, console: Console | None = None) -> Path:
    """Compare all `run`/<name>/report.json, write `run`/report.md and return its path.

    The comparison goes to standard output: tables for a reader (on `console` if given), or with `as_json` one
    JSON object. Raises InputError where there is no report, where a report or its predictions are missing or
    damaged, or where two of them were not made on the same split.
    """
    entries = load_run(run)
    reports = [entry.report for entry in entries]
    comparisons = compare_all(entries)
    path = run / "report.md"
    with write_whole(path) as file:
        file.write("\n".join(_markdown(reports, comparisons)) + "\n")
    if as_json:
        print(json.dumps(_as_json(reports, comparisons), indent=2))
    else:
        _print(console or _console(), reports, comparisons)
    log.info("compared %d strategies; wrote %s", len(reports), path)
    return path


def compare_all(entries: Sequence[Entry]) -> list[Comparison]:
    """Compare each pair of strategies, in their order, on the images that both labelled."""
    pairs = list(combinations(entries, 2))
    results = [compare(a.correct, b.correct) for a, b in pairs]
    adjusted = holm([result["mcnemar_p"] for result in results])
    return [
        Comparison(a.report.name, b.report.name, **result, holm_p=p)
        for (a, b), result, p in zip(pairs, results, adjusted, strict=True)
    ]


def _as_json(reports: Sequence[Report], comparisons: Sequence[Comparison]) -> dict[str, object]:
    pairs = [comparison._asdict() for comparison in comparisons]
    for pair in pairs:
        del pair["holm_p"]
    return {"strategies": [r.model_dump(mode="json", by_alias=True) for r in reports], "comparisons": pairs}


# How figures are written, the same on the terminal and in report.md.


def _percent(value: float, report: Report) -> str:
    return f"{100 * value:.{2 if report.num_test >= 1000 else 1}f}"


def _accuracy(report: Report) -> str:
    low, high = (_percent(value, report) for value in report.accuracy_ci95)
    return f"{_percent(report.accuracy, report)} [{low}, {high}]"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    if 0 < seconds < 0.005:
        return "<0.01 s"
    if seconds < 60:
        return f"{seconds:.{2 if seconds < 1 else 1}f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"


def _total(report: Report) -> str:
    known = [value for value in report.seconds.model_dump().values() if value is not None]
    return _duration(sum(known) if known else None)


def _size(num_bytes: float | None) -> str:
    if num_bytes is None:
        return "-"
    units = ["B", "kB", "MB", "GB", "TB"]
    while num_bytes >= 999.5 and len(units) > 1:
        num_bytes, units = num_bytes / 1000, units[1:]
    digits = 0 if num_bytes >= 99.95 or units[0] == "B" else 1
    return f"{num_bytes:.{digits}f} {units[0]}"


def _memory(report: Report) -> str:
    return _size(None if report.peak_memory_mb is None else report.peak_memory_mb * 1e6)


def _p_value(value: float) -> str:
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def _points(comparison: Comparison) -> tuple[str, str]:
    low, high = comparison.ci95
    return f"{100 * comparison.difference:+.2f}", f"[{100 * low:+.2f}, {100 * high:+.2f}]"


COLUMNS: dict[str, Callable[[Report], str]] = {
    "Name": lambda r: r.name + (" *" if r.strategy in BASELINES else ""),
    "Strategy": lambda r: r.strategy,
    "Layer": lambda r: r.layer or "-",
    "Accuracy %\n[95 % interval]": _accuracy,
    "Balanced\nacc. %": lambda r: _percent(r.balanced_accuracy, r),
    "Macro\nF1": lambda r: f"{r.macro_f1:.3f}",
    "Log\nloss": lambda r: f"{r.log_loss:.3f}",
    "ECE": lambda r: f"{r.ece:.3f}",
    "Fit\ntime": lambda r: _duration(r.seconds.fit),
    "Total\ntime": _total,
    "Peak\nmemory": _memory,
    "Model\nsize": lambda r: _size(r.model_bytes),
}
TEXT_COLUMNS = ("Name", "Strategy", "Layer")
# The order in which columns give way to a narrow terminal; the name and the accuracy never do.
GIVE_WAY = (
    "Strategy", "Peak\nmemory", "Balanced\nacc. %", "Model\nsize", "Fit\ntime",
    "ECE", "Log\nloss", "Macro\nF1", "Layer", "Total\ntime",
)  # fmt: skip


def _facts(reports: Sequence[Report]) -> str:
    best = reports[0]
    backbones = " and ".join(sorted({r.backbone for r in reports if r.backbone})) or "no"
    return (
        f"{best.dataset}: {len(best.class_names)} classes; {best.num_train:,} training, {best.num_validation:,} "
        f"validation and {best.num_test:,} test images; {backbones} backbone"
    )


def _conclusion(reports: Sequence[Report], comparisons: Sequence[Comparison]) -> str:
    best = reports[0]
    text = f"Best: {best.name}, with {_percent(best.accuracy, best)} % of {best.num_test:,} test images right."
    equals = [pair.b for pair in comparisons if pair.a == best.name and pair.holm_p >= SIGNIFICANCE]
    return f"{text} Not significantly worse: {', '.join(equals)}." if equals else text


def _notes(num_pairs: int) -> str:
    picked = "The best was picked by these test images, which flatters it a little."
    if num_pairs == 1:
        return f"The verdict holds at the 5 % level (exact McNemar test). {picked}"
    return (
        f"Verdicts hold at the 5 % level for all {num_pairs} pairs together (exact McNemar test, Holm's adjustment). "
        f"Each interval is for its own pair alone. {picked}"
    )


# The terminal.


def _console() -> Console:
    """Return a console on standard output; a pipe gets every column, without colours or lines."""
    piped = not Console().is_terminal and "COLUMNS" not in os.environ
    return Console(width=PIPE_WIDTH if piped else None, highlight=False)


def _print(console: Console, reports: Sequence[Report], comparisons: Sequence[Comparison]) -> None:
    table = _first_fitting(console, _strategy_tables(console, reports))
    shown = [column.header for column in table.columns]
    hidden = [" ".join(heading.split()) for heading in COLUMNS if heading not in shown]
    notes = ["* a baseline."] if any(r.strategy in BASELINES for r in reports) else []
    if hidden:
        notes.append(f"Left out at this width: {', '.join(hidden)}; report.md has them.")
    _say(console, _facts(reports), "bold")
    console.print(table)
    if notes:
        _say(console, " ".join(notes), "dim")
    console.print()
    if comparisons:
        _say(console, f"{reports[0].name} against each other strategy, in points of accuracy", "bold")
        pairs = [pair for pair in comparisons if pair.a == reports[0].name]
        console.print(_first_fitting(console, (_pair_table(console, pairs, brief) for brief in (False, True))))
        _say(console, _notes(len(comparisons)), "dim")
        console.print()
    _say(console, _conclusion(reports, comparisons), "bold green")


def _say(console: Console, text: str, style: str) -> None:
    console.print(Text(_plain(text), style=style))


def _plain(text: str) -> str:
    """Replace what could steer a terminal or break a line."""
    return "".join(c if c.isprintable() else " " for c in text)


def _empty_table(console: Console) -> Table:
    if console.is_terminal:
        return Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold", padding=(0, 1, 0, 0))
    return Table(box=None, pad_edge=False, header_style="", padding=(0, 2, 0, 0))


def _first_fitting(console: Console, tables: Iterable[Table]) -> Table:
    """Return the first table that is no wider than the console, or the last of all."""
    wide = console.options.update_width(PIPE_WIDTH)
    for table in tables:
        if Measurement.get(console, wide, table).maximum <= console.width:
            break
    return table


def _strategy_tables(console: Console, reports: Sequence[Report]) -> Iterator[Table]:
    """Yield the table of strategies ever narrower: joined layers one below the other, then fewer columns."""
    for num_hidden in range(len(GIVE_WAY) + 1):
        shown = [heading for heading in COLUMNS if heading not in GIVE_WAY[:num_hidden]]
        for layer_end in ("+", "+\n"):
            yield _strategy_table(console, reports, shown, layer_end)


def _strategy_table(console: Console, reports: Sequence[Report], shown: Sequence[str], layer_end: str) -> Table:
    table = _empty_table(console)
    for heading in shown:
        text = heading in TEXT_COLUMNS
        fold = heading == "Name"
        table.add_column(heading, justify="left" if text else "right", no_wrap=not fold, overflow="fold")
    for rank, report in enumerate(reports):
        cells = [_plain(COLUMNS[heading](report)) for heading in shown]
        if "Layer" in shown:
            place = shown.index("Layer")
            cells[place] = cells[place].replace("+", layer_end)
        style = "dim italic" if report.strategy in BASELINES else "bold green" if rank == 0 else ""
        table.add_row(*map(Text, cells), style=style)
    return table


def _pair_table(console: Console, pairs: Sequence[Comparison], brief: bool) -> Table:
    table = _empty_table(console)
    table.add_column("Verdict", overflow="fold")
    for heading in ("Difference", "95 % interval", "McNemar p", "Holm p"):
        table.add_column(heading, justify="right", no_wrap=True)
    for pair in pairs:
        verdict = _plain(pair.brief_verdict if brief else pair.verdict)
        cells = [verdict, *_points(pair), _p_value(pair.mcnemar_p), _p_value(pair.holm_p)]
        table.add_row(*map(Text, cells), style="dim" if pair.holm_p >= SIGNIFICANCE else "")
    return table


# report.md


def _markdown(reports: Sequence[Report], comparisons: Sequence[Comparison]) -> Iterator[str]:
    yield f"# {_escape(reports[0].dataset)}: {len(reports)} strategies compared\n"
    yield f"{_escape(_conclusion(reports, comparisons))}\n"
    yield f"{_escape(_facts(reports))} (split.csv's sha256: `{reports[0].split_sha256}`).\n"
    headings = [" ".join(heading.split()) for heading in COLUMNS]
    yield from _table(headings, [[column(r) for column in COLUMNS.values()] for r in reports], len(TEXT_COLUMNS))
    yield "A star marks a baseline. Total time is that of features, fit and predictions together.\n"
    if comparisons:
        yield "## Pairs\n"
        yield f"{_notes(len(comparisons))}\n"
        yield from _table(
            ["Verdict", "Difference, points", "95 % interval", "McNemar p", "Holm p"],
            [[c.verdict, *_points(c), _p_value(c.mcnemar_p), _p_value(c.holm_p)] for c in comparisons],
        )
    yield from _classes(reports[0])
    for report in reports:
        if len(report.class_names) <= MAX_MATRIX_CLASSES:
            yield from _matrix(report)
    yield "## How each was made\n"
    for report in reports:
        parameters = json.dumps(report.hyperparameters, ensure_ascii=False)
        made = f"{report.num_train:,} training images, seed {report.seed}, on {report.device or 'no device'}"
        yield f"- {_escape(report.name)}: {made}; {_escape(parameters)}  "
        yield f"  <code>{_escape(report.command)}</code>"


def _classes(report: Report) -> Iterator[str]:
    yield f"## Classes, as {_escape(report.name)} tells them apart\n"
    headings = ["Class", "Precision %", "Recall %", "F1", "Test images"]
    rows = []
    for row in report.per_class:
        recall = _percent(row.recall, report) if row.support else "-"
        figures = [_percent(row.precision, report), recall, f"{row.f1:.3f}", f"{row.support:,}"]
        rows.append([row.class_name, *figures])
    yield from _table(headings, rows)


def _matrix(report: Report) -> Iterator[str]:
    yield f"## Confusions of {_escape(report.name)}\n"
    yield "Rows are true classes, columns predicted ones.\n"
    rows = zip(report.class_names, report.confusion_matrix, strict=True)
    yield from _table(["", *report.class_names], [[name, *map(str, row)] for name, row in rows])


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]], num_text: int = 1) -> Iterator[str]:
    yield f"| {' | '.join(map(_escape, headings))} |"
    yield f"| {' | '.join([':--'] * num_text + ['--:'] * (len(headings) - num_text))} |"
    for row in rows:
        yield f"| {' | '.join(map(_escape, row))} |"
    yield ""


def _escape(text: str) -> str:
    """Write `text` so that GitHub's Markdown shows it as it is, inside a table too."""
    text = _plain(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\\", "&#92;")
    # An underscore inside a word, as in block5_pool, is one already.
    return re.sub(r"([|`*~\[\]$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))", r"\\\1", text)
