"""What `make bench` writes: one JSON, checked when it is made, and one table from it."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, model_validator
from rich.console import Console
from rich.table import Table

from benchmarks.runner import Result


class Row(BaseModel):
    """One contender at one task. `value` is a median in `unit`; `ours_is` how many times as good the product's is.

    `of_limit` is the fraction of what the machine's matrix product (or disk) allows; `difference` the largest
    difference of the output from the reference's, checked before timing; a row that `failed` has no value.
    """

    model_config = ConfigDict(extra="forbid")

    section: str
    task: str
    contender: str
    unit: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    repeats: int = 0
    ours_is: float | None = None
    of_limit: float | None = None
    difference: float | None = None
    note: str = ""
    failed: str | None = None

    @model_validator(mode="after")
    def _value_or_reason(self) -> "Row":
        if (self.value is None) == (self.failed is None):
            raise ValueError(f"{self.contender}: expected a value, or why there is none")
        return self


class Target(BaseModel):
    """What a figure must reach: `measured` against `required`, at least or at most."""

    model_config = ConfigDict(extra="forbid")

    section: str
    what: str
    required: float
    sense: Literal["at least", "at most"] = "at least"
    measured: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether it was reached; None where it could not be measured."""
        if self.measured is None:
            return None
        return self.measured >= self.required if self.sense == "at least" else self.measured <= self.required


Figures = tuple[list[Row], list[Target]]  # what one task yields


class Results(BaseModel):
    """A whole run of the benchmark."""

    model_config = ConfigDict(extra="forbid")

    schema_version: Literal[1] = 1
    command: str
    machine: dict[str, Any]
    limits: dict[str, float]
    seconds: dict[str, float]
    rows: list[Row]
    targets: list[Target]


def rows_of(
    section: str,
    task: str,
    results: Mapping[str, Result],
    ours: str,
    amount: float | Mapping[str, float] | None = None,
    unit: str = "s",
) -> list[Row]:
    """Return a row per contender: seconds, or with `amount` (of images, say) that many `unit` a second.

    `ours` is the contender that the others are set against.
    """

    def figure(name: str, seconds: float) -> float:
        done = amount[name] if isinstance(amount, Mapping) else amount
        return seconds if done is None else done / seconds

    rows, own = [], results.get(ours)
    for name, result in results.items():
        row: dict[str, Any] = {"section": section, "task": task, "contender": name, "unit": unit}
        row["difference"] = result.difference
        if result.failed is not None:
            rows.append(Row(**row, failed=result.failed))
            continue
        value, values = figure(name, result.median), [figure(name, seconds) for seconds in result.seconds]
        if own and own.failed is None:
            ratio = figure(ours, own.median) / value
            row["ours_is"] = 1 / ratio if amount is None else ratio
        rows.append(Row(**row, value=value, low=min(values), high=max(values), repeats=len(values)))
    return rows


HEADINGS = ("task", "contender", "median", "range", "ours is", "of the limit", "difference", "note")


def cells(row: Row) -> tuple[str, ...]:
    """Return a row of the table as text."""
    if row.value is None:
        return (row.task, row.contender, "failed", "", "", "", _figure(row.difference), row.failed or "")
    spread = f"{_figure(row.low)}-{_figure(row.high)}" if row.repeats > 1 else ""
    ratio = f"{row.ours_is:.2f} x" if row.ours_is is not None else ""
    limit = f"{row.of_limit:.2f}" if row.of_limit is not None else ""
    value = f"{_figure(row.value)} {row.unit}".strip()
    return (row.task, row.contender, value, spread, ratio, limit, _figure(row.difference), row.note)


def _figure(value: float | None) -> str:
    if value is None:
        return ""
    if value and abs(value) < 1e-3:
        return f"{value:.0e}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def show(results: Results, console: Console) -> None:
    """Print one table for each section, then the targets."""
    for section in dict.fromkeys(row.section for row in results.rows):
        table = Table(*HEADINGS, title=section, title_justify="left")
        for row in _of(results.rows, section):
            table.add_row(*cells(row))
        console.print(table)
    table = Table("target", "required", "measured", "met", title="targets", title_justify="left")
    for target in results.targets:
        table.add_row(*_target_cells(target))
    console.print(table)


def _target_cells(target: Target) -> tuple[str, ...]:
    met = {True: "yes", False: "no", None: "not measured"}[target.met]
    return target.what, f"{target.sense} {target.required:g}", _figure(target.measured), met


def _of(rows: Iterable[Row], section: str) -> list[Row]:
    return [row for row in rows if row.section == section]


def markdown(results: Results) -> str:
    """Return the same tables in Markdown."""
    parts = [
        f"### {section}\n\n" + _grid(HEADINGS, [cells(row) for row in _of(results.rows, section)])
        for section in dict.fromkeys(row.section for row in results.rows)
    ]
    headings = ("target", "required", "measured", "met")
    parts.append("### Targets\n\n" + _grid(headings, [_target_cells(target) for target in results.targets]))
    return "\n\n".join(parts) + "\n"


def _grid(headings: Iterable[str], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [f"| {' | '.join(headings)} |", f"|{' --- |' * len(tuple(headings))}"]
    return "\n".join([*lines, *(f"| {' | '.join(text.replace('|', '/') for text in row)} |" for row in rows)])


def read(path: Path) -> Results | None:
    """Return the results in the file at `path`, None where there is none."""
    return Results.model_validate_json(path.read_text(encoding="utf-8")) if path.exists() else None


def merge(old: Results | None, results: Results) -> Results:
    """Return `results` with what else `old` holds: a task can be run anew by itself."""
    if old is None:
        return results
    tasks, whats = {(row.section, row.task) for row in results.rows}, {target.what for target in results.targets}
    rows = [row for row in old.rows if (row.section, row.task) not in tasks] + results.rows
    targets = [target for target in old.targets if target.what not in whats] + results.targets
    return results.model_copy(update={"rows": rows, "targets": targets, "seconds": old.seconds | results.seconds})
