"""The figures of docs/article.md's table: from predictions.csv to intervals, one JSON, and the table in Markdown."""

import csv
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, model_validator

from benchmarks import machine
from benchmarks.article_rows import FULL, Row
from thaw.models.metrics import compare, wilson_interval

HEADINGS = (
    "experiment",
    "images",
    "corrected",
    "test accuracy % [95 %]",
    "to the article's own, points [95 %]",
    "command",
)


class Figures(BaseModel):
    """One row, in fractions of `num_test` images; None if it was not run.

    `difference` is the accuracy less that of the article's own row, of the same experiment and images; its `_ci95` is
    `paired` unless it is not known any more which images each got right.
    """

    model_config = ConfigDict(extra="forbid")

    experiment: str
    images: str
    corrected: str
    command: str
    num_test: int | None = None
    accuracy: float | None = None
    accuracy_ci95: list[float] | None = None
    difference: float | None = None
    difference_ci95: list[float] | None = None
    paired: bool | None = None
    note: str = ""

    @model_validator(mode="after")
    def _all_or_nothing(self) -> "Figures":
        given = {self.num_test is None, self.accuracy is None, self.accuracy_ci95 is None}
        if len(given) > 1:
            raise ValueError(f"{self.command}: expected num_test, accuracy and its interval, or none of them")
        return self


class Table(BaseModel):
    """All rows, in their order, and the machine that the last of them ran on."""

    model_config = ConfigDict(extra="forbid")

    machine: dict[str, Any]
    rows: list[Figures]


class Labelled(NamedTuple):
    """Of N test images, in the order of their ids: (N,) bool correctly labelled, and how many classes were given."""

    ids: list[str]
    correct: np.ndarray
    num_given: int


def collect(rows: Iterable[tuple[Row, str]], runs: Path, old: Table | None) -> Table:
    """Return the figures of the `rows`, each with its command; if a result is gone, the figures in `old`."""
    kept = {figures.command: figures for figures in old.rows} if old else {}
    references: dict[tuple[str, str], Figures] = {}
    labelled: dict[str, Labelled] = {}
    found = []
    for row, command in rows:
        path = runs / row.result / "predictions.csv"
        figures = Figures(experiment=row.experiment, images=row.images, corrected=row.changed, command=command)
        if path.exists():
            labelled[command] = read(path)
            figures = measured(figures, labelled[command])
        elif command in kept:
            figures = kept[command].model_copy(update=figures.model_dump(include={"corrected", "experiment"}))
        reference = references.setdefault((row.experiment, row.images), figures)
        found.append(compared(figures, reference, labelled))
    return Table(machine=machine.describe(), rows=found)


def read(path: Path) -> Labelled:
    """Read a predictions.csv."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = sorted((row["id"], row["label"], row["predicted"]) for row in csv.DictReader(file))
    correct = np.array([label == predicted for _, label, predicted in rows])
    return Labelled([image for image, _, _ in rows], correct, len({predicted for _, _, predicted in rows}))


def measured(figures: Figures, labelled: Labelled) -> Figures:
    """Return the figures with the accuracy and Wilson's score interval of it."""
    hits, total = int(labelled.correct.sum()), len(labelled.correct)
    given = {"num_test": total, "accuracy": hits / total, "accuracy_ci95": wilson_interval(hits, total)}
    note = "collapsed: every image gets the same label" if labelled.num_given == 1 else ""
    return figures.model_copy(update={**given, "note": note})


def compared(figures: Figures, reference: Figures, labelled: dict[str, Labelled]) -> Figures:
    """Return the figures with the difference from `reference`, paired if both results are at hand."""
    if figures is reference or figures.accuracy is None or reference.accuracy is None:
        return figures
    ours, theirs = labelled.get(figures.command), labelled.get(reference.command)
    difference = figures.accuracy - reference.accuracy
    if ours and theirs:
        if ours.ids != theirs.ids:
            raise ValueError(f"{figures.command}: its test images are others than those of {reference.command}")
        interval, paired = compare(ours.correct, theirs.correct)["ci95"], True
    elif figures.paired and figures.difference is not None and math.isclose(figures.difference, difference):
        return figures
    else:
        interval, paired = unpaired_interval(figures, reference), False
    return figures.model_copy(update={"difference": difference, "difference_ci95": interval, "paired": paired})


def unpaired_interval(ours: Figures, theirs: Figures) -> list[float]:
    """Return the 95 % interval of the difference of two accuracies as if they were of different images: it is wider.

    Source: Newcombe, "Interval estimation for the difference between independent proportions: comparison of eleven
    methods", Statistics in Medicine 17 (1998), 873-890, method 10: from the two score intervals.
    """
    (a, (a_low, a_high)), (b, (b_low, b_high)) = (
        (f.accuracy or 0.0, f.accuracy_ci95 or [0, 1]) for f in (ours, theirs)
    )
    return [a - b - math.hypot(a - a_low, b_high - b), a - b + math.hypot(a_high - a, b - b_low)]


def markdown(table: Table) -> str:
    """Return the table in Markdown."""
    lines = [f"| {' | '.join(HEADINGS)} |", f"|{' --- |' * len(HEADINGS)}"]
    return "\n".join([*lines, *(f"| {' | '.join(cells(row))} |" for row in table.rows)]) + "\n"


def cells(figures: Figures) -> tuple[str, ...]:
    """Return a row of the table as text."""
    accuracy = (
        "not run" if figures.accuracy is None else f"{100 * figures.accuracy:.2f}{_interval(figures.accuracy_ci95)}"
    )
    difference = "" if figures.difference is None else f"{100 * figures.difference:+.2f}"
    if difference:
        difference += _interval(figures.difference_ci95, "+") + ("" if figures.paired else ", not paired")
    if figures.note:
        accuracy += f"; {figures.note}"
    images = "all" if figures.images == FULL else figures.images
    command = figures.command.removeprefix("python -m ").removeprefix("pipeline ").replace("--run runs/", "--run ")
    return (figures.experiment, images, figures.corrected, accuracy, difference, f"`{command}`")


def _interval(limits: list[float] | None, sign: str = "") -> str:
    return f" [{100 * limits[0]:{sign}.2f}, {100 * limits[1]:{sign}.2f}]" if limits else ""
