"""The report stage: all strategies of a run side by side, on the terminal, in report.md, report.html or as JSON."""

import json
import logging
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from thaw.features.errors import InputError
from thaw.features.files.atomic import write_whole
from thaw.features.files.locks import held
from thaw.pipeline.comparison.advice_outcome import all_made, judge, sentence
from thaw.pipeline.comparison.comparison import compare_all, load_run
from thaw.pipeline.comparison.summary import COLUMNS, GIVE_WAY, TEXT_COLUMNS, conclusion, facts, notes, points
from thaw.pipeline.formatting import p_value, plain
from thaw.pipeline.report.html.page import write_html
from thaw.pipeline.report.html.parts import Run
from thaw.pipeline.report.markdown import markdown
from thaw.pipeline.run.advice_json import Advice, read_advice
from thaw.pipeline.run.export_json import export_rows
from thaw.pipeline.run.report_json import BASELINES, Report
from thaw.pipeline.run.results import SIGNIFICANCE, Comparison
from thaw.pipeline.run.run_json import read_run_settings
from thaw.pipeline.terminal import console_for, empty_table, first_fitting, say

log = logging.getLogger("thaw")


def main(run: Path, as_json: bool = False, console: Console | None = None) -> Path:
    """Compare all `run`/<name>/report.json, write `run`/report.md and report.html, and return the former's path.

    The comparison goes to standard output: tables for a reader (on `console` if given), or with `as_json` one
    JSON object, and then no report.html, whose pictures take longer. Raises InputError where there is no report,
    where a report or its predictions are missing or damaged, or where two of them were not made on the same split.
    """
    entries = load_run(run)
    reports = [entry.report for entry in entries]
    comparisons = compare_all(entries)
    advice, missing = _advice(run, reports[0])
    hindsight = _hindsight(run, reports, advice) if advice else None
    exports = export_rows(run, [report.name for report in reports])
    path = run / "report.md"
    with write_whole(path) as file:
        file.write("\n".join(markdown(reports, comparisons, hindsight, exports)) + "\n")
    if as_json:
        print(json.dumps(_as_json(reports, comparisons), indent=2))
        log.info("compared %d strategies; wrote %s", len(reports), path)
        return path
    _print(console or console_for(), reports, comparisons, hindsight)
    with held(run / "report.html", wait=True):  # and the plots
        page = write_html(Run(run, entries, comparisons, advice, missing, hindsight, _settings(run)))
    log.info("compared %d strategies; wrote %s and %s", len(reports), path, page)
    return path


def _settings(run: Path) -> dict[str, Any] | None:
    """Return run.json's settings, None where it is missing or damaged: the tables need it not."""
    try:
        return read_run_settings(run)
    except InputError as error:
        log.warning("%s", error)
        return None


def _advice(run: Path, best: Report) -> tuple[Advice | None, str]:
    """Return the run's advice, or None and why there is none: it is missing, damaged, or of another split."""
    again = f"make advise RUN={shlex.quote(str(run))}"
    try:
        advice = read_advice(run)
    except InputError as error:
        log.warning("%s", error)
        return None, f"{error}."
    if advice is None:
        return None, f"Not measured yet; type: {again}"
    if advice.split_sha256 != best.split_sha256:
        return None, f"advice.json was made on another split than the strategies; type: {again}"
    return advice, ""


def _hindsight(run: Path, reports: Sequence[Report], advice: Advice) -> str:
    return sentence(judge(advice.recommended, all_made(run, reports, advice), reports[0]), reports[0])


def _as_json(reports: Sequence[Report], comparisons: Sequence[Comparison]) -> dict[str, object]:
    pairs = [comparison._asdict() for comparison in comparisons]
    for pair in pairs:
        del pair["holm_p"]
    return {"strategies": [r.model_dump(mode="json", by_alias=True) for r in reports], "comparisons": pairs}


# The terminal.


def _print(
    console: Console, reports: Sequence[Report], comparisons: Sequence[Comparison], hindsight: str | None
) -> None:
    table = first_fitting(console, _strategy_tables(console, reports))
    shown = [column.header for column in table.columns]
    hidden = [" ".join(heading.split()) for heading in COLUMNS if heading not in shown]
    remarks = ["* a baseline."] if any(r.strategy in BASELINES for r in reports) else []
    if hidden:
        remarks.append(f"Left out at this width: {', '.join(hidden)}; report.md has them.")
    say(console, facts(reports), "bold")
    console.print(table)
    if remarks:
        say(console, " ".join(remarks), "dim")
    console.print()
    if comparisons:
        say(console, f"{reports[0].name} against each other strategy, in points of accuracy", "bold")
        pairs = [pair for pair in comparisons if pair.a == reports[0].name]
        console.print(first_fitting(console, (_pair_table(console, pairs, brief) for brief in (False, True))))
        say(console, notes(len(comparisons)), "dim")
        console.print()
    say(console, conclusion(reports, comparisons), "bold green")
    if hindsight:
        say(console, hindsight, "")


def _strategy_tables(console: Console, reports: Sequence[Report]) -> Iterator[Table]:
    """Yield the table of strategies ever narrower: joined layers one below the other, then fewer columns."""
    for num_hidden in range(len(GIVE_WAY) + 1):
        shown = [heading for heading in COLUMNS if heading not in GIVE_WAY[:num_hidden]]
        for layer_end in ("+", "+\n"):
            yield _strategy_table(console, reports, shown, layer_end)


def _strategy_table(console: Console, reports: Sequence[Report], shown: Sequence[str], layer_end: str) -> Table:
    table = empty_table(console)
    for heading in shown:
        text = heading in TEXT_COLUMNS
        fold = heading == "Name"
        table.add_column(heading, justify="left" if text else "right", no_wrap=not fold, overflow="fold")
    for rank, report in enumerate(reports):
        cells = [plain(COLUMNS[heading](report)) for heading in shown]
        if "Layer" in shown:
            place = shown.index("Layer")
            cells[place] = cells[place].replace("+", layer_end)
        style = "dim italic" if report.strategy in BASELINES else "bold green" if rank == 0 else ""
        table.add_row(*map(Text, cells), style=style)
    return table


def _pair_table(console: Console, pairs: Sequence[Comparison], brief: bool) -> Table:
    table = empty_table(console)
    table.add_column("Verdict", overflow="fold")
    for heading in ("Difference", "95 % interval", "McNemar p", "Holm p"):
        table.add_column(heading, justify="right", no_wrap=True)
    for pair in pairs:
        verdict = plain(pair.brief_verdict if brief else pair.verdict)
        cells = [verdict, *points(pair), p_value(pair.mcnemar_p), p_value(pair.holm_p)]
        table.add_row(*map(Text, cells), style="dim" if pair.holm_p >= SIGNIFICANCE else "")
    return table
