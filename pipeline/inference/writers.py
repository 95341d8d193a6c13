"""The labels of new images, and how they are written: as a table, CSV, or JSON lines."""

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np

from thaw.features.errors import shown

UNSURE = "unsure"


@dataclass(frozen=True)
class Answer:
    """The result for one image: probabilities (K,) float64 of the classes, or an `error` and no probabilities.

    The image is unsure if its highest probability lies below `reject`.
    """

    path: Path
    probabilities: np.ndarray
    reject: float | None = None
    error: str | None = None

    @property
    def status(self) -> str:
        """One of `ok`, `unsure` and `error`."""
        if self.error:
            return "error"
        return UNSURE if self.reject is not None and self.probabilities.max() < self.reject else "ok"

    def best(self, class_names: Sequence[str], top: int) -> list[tuple[str, float]]:
        """Return class and probability of the `top` most probable classes, the image's label first."""
        order = np.argsort(-self.probabilities, kind="stable")[:top]
        return [(class_names[k], float(self.probabilities[k])) for k in order]


Write = Callable[[Answer], None]


def write_table(out: TextIO, class_names: Sequence[str], top: int) -> Write:
    """Begin a table of aligned lines for people; names come last, since they may be long."""
    width = max(len(shown(name)) for name in (*class_names, UNSURE, "error"))
    others = f"  {'then':<{(top - 1) * (width + 9) - 2}}" if top > 1 else ""
    out.write(f"{'label':<{width}}  prob. %{others}  image\n")

    def write(answer: Answer) -> None:
        if answer.error:
            out.write(f"{'error':<{width}}  {'-':>7}  {answer.error}\n")
            return
        (first, highest), *others = answer.best(class_names, top)
        label = UNSURE if answer.status == UNSURE else shown(first)
        then = "".join(f"  {shown(name):<{width}} {100 * p:>6.1f}" for name, p in others)
        out.write(f"{label:<{width}}  {100 * highest:>7.1f}{then}  {shown(answer.path)}\n")

    return write


def write_csv(out: TextIO, class_names: Sequence[str], top: int) -> Write:
    """Begin CSV: image, status, label, probability, then label_2, probability_2 and so on up to `top`, and error."""
    table = csv.writer(out, lineterminator="\n")
    more = [f"{column}_{rank}" for rank in range(2, top + 1) for column in ("label", "probability")]
    table.writerow(["image", "status", "label", "probability", *more, "error"])

    def write(answer: Answer) -> None:
        cells = [cell for name, p in answer.best(class_names, top) for cell in (name, repr(p))] or [""] * (2 * top)
        if answer.status == UNSURE:
            cells[0] = UNSURE
        table.writerow([str(answer.path), answer.status, *cells, answer.error or ""])

    return write


def write_json_lines(out: TextIO, class_names: Sequence[str], top: int) -> Write:
    """Begin an object a line: image, status, label (null if unsure), top (a list of label and probability), error."""

    def write(answer: Answer) -> None:
        best = [{"label": name, "probability": p} for name, p in answer.best(class_names, top)]
        label = best[0]["label"] if answer.status == "ok" else None
        line = {"image": str(answer.path), "status": answer.status, "label": label, "top": best, "error": answer.error}
        out.write(json.dumps(line, ensure_ascii=False) + "\n")

    return write


FORMATS: dict[str, Callable[[TextIO, Sequence[str], int], Write]] = {
    "table": write_table,
    "csv": write_csv,
    "jsonl": write_json_lines,
}
"""The formats: each begins its output for the `top` most probable classes and returns the function for an answer."""
