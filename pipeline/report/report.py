"""The report stage: all strategies of a run side by side, on the terminal, in report.md, report.html or as JSON."""

import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from thaw.features.files.atomic import write_whole
from thaw.features.files.locks import held
from thaw.pipeline.commands import as_typed
from thaw.pipeline.comparison.comparison import SIGNIFICANCE, Comparison
from thaw.pipeline.comparison.summary import (
    COLUMNS,
    LEFT_OUT_FIRST,
    TEXT_COLUMNS,
    conclusion,
    facts,
    notes,
    p_value,
    points,
)
from thaw.pipeline.formatting import plain
from thaw.pipeline.report.html.page import write_html
from thaw.pipeline.report.inputs import ReportInputs, read_inputs
from thaw.pipeline.report.markdown import markdown
from thaw.pipeline.run.report_json import BASELINES, Report
from thaw.pipeline.terminal import console_for, empty_table, first_fitting, say

log = logging.getLogger("thaw")

PAIR_FIELDS = ("a", "b", "difference", "ci95", "mcnemar_p")  # in the JSON


def main(run: Path, as_json: bool = False, console: Console | None = None) -> Path:
    """Compare all results of a run and write report.md and report.html.

    Args:
        run: The folder of the run.
        as_json: Print one JSON object instead of tables, and write no report.html, whose pictures take longer.
        console: Where the tables are printed; standard output if it is None.

    Returns:
        The path of report.md.

    Raises:
        InputError: If there is no report, if a report or its predictions are missing or damaged, or if two of them
            were made on different splits.
    """
    inputs = read_inputs(run)
    path = run / "report.md"
    with write_whole(path) as file:
        file.writelines(f"{line}\n" for line in markdown(inputs))
    if as_json:
        print(json.dumps(_as_json(inputs), indent=2))
        log.info("compared %d strategies; wrote %s", len(inputs.entries), path)
        return path
    _print(console or console_for(), inputs)
    with held(run / "report.html", wait=True):  # the charts in plots/ too
        page = write_html(inputs)
    log.info("compared %d strategies; wrote %s and %s", len(inputs.entries), path, page)
    return path


def _as_json(inputs: ReportInputs) -> dict[str, object]:
    strategies = [report.model_dump(mode="json", by_alias=True) for report in inputs.reports]
    pairs = [pair._asdict() for pair in inputs.comparisons]
    return {"strategies": strategies, "comparisons": [{name: pair[name] for name in PAIR_FIELDS} for pair in pairs]}


# The terminal.


def _print(console: Console, inputs: ReportInputs) -> None:
    reports = inputs.reports
    table = first_fitting(console, _strategy_tables(console, reports))
    shown = [column.header for column in table.columns]
    hidden = [" ".join(heading.split()) for heading in COLUMNS if heading not in shown]
    remarks = ["* a baseline."] if any(report.strategy in BASELINES for report in reports) else []
    if hidden:
        remarks.append(f"Left out at this width: {', '.join(hidden)}; report.md has them.")
    say(console, facts(reports), "bold")
    console.print(table)
    if remarks:
        say(console, " ".join(remarks), "dim")
    console.print()
    if inputs.comparisons:
        say(console, f"{reports[0].name} against each other strategy, in points of accuracy", "bold")
        pairs = [pair for pair in inputs.comparisons if pair.a == reports[0].name]
        console.print(first_fitting(console, (_pair_table(console, pairs, brief) for brief in (False, True))))
        say(console, notes(len(inputs.comparisons)), "dim")
        console.print()
    say(console, conclusion(reports, inputs.comparisons), "bold green")
    if inputs.unseen:
        say(console, inputs.unseen, "bold red")
    if inputs.hindsight:
        say(console, as_typed(inputs.hindsight))


def _strategy_tables(console: Console, reports: Sequence[Report]) -> Iterator[Table]:
    """Yield the table of strategies, each narrower than the last: with joined layers in lines, then fewer columns."""
    for num_hidden in range(len(LEFT_OUT_FIRST) + 1):
        shown = [heading for heading in COLUMNS if heading not in LEFT_OUT_FIRST[:num_hidden]]
        for layer_end in ("+", "+\n"):
            yield _strategy_table(console, reports, shown, layer_end)


def _strategy_table(console: Console, reports: Sequence[Report], shown: Sequence[str], layer_end: str) -> Table:
    table = empty_table(console)
    for heading in shown:
        is_text, is_name = heading in TEXT_COLUMNS, heading == "Name"
        table.add_column(heading, justify="left" if is_text else "right", no_wrap=not is_name, overflow="fold")
    for rank, report in enumerate(reports):
        cells = [plain(COLUMNS[heading](report)) for heading in shown]
        if "Layer" in shown:
            column = shown.index("Layer")
            cells[column] = cells[column].replace("+", layer_end)
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
