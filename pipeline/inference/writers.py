"""The labels of new images, and how they are written: as a table, CSV, or JSON lines."""

import csv
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
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


class Writer(ABC):
    """Writes answers to `out`, one after the other, with the `top` most probable classes of each."""

    def __init__(self, out: TextIO, class_names: Sequence[str], top: int):
        self.out, self.class_names, self.top = out, class_names, min(top, len(class_names))
        self.begin()

    @abstractmethod
    def begin(self) -> None:
        """Write what comes before all answers."""

    @abstractmethod
    def write(self, answer: Answer) -> None:
        """Write one answer."""


class _Table(Writer):
    """Aligned lines for people; names come last, since they may be long."""

    def begin(self) -> None:
        self.width = max(len(shown(name)) for name in (*self.class_names, UNSURE, "error"))
        others = f"  {'then':<{(self.top - 1) * (self.width + 9) - 2}}" if self.top > 1 else ""
        self.out.write(f"{'label':<{self.width}}  prob. %{others}  image\n")

    def write(self, answer: Answer) -> None:
        if answer.error:
            self.out.write(f"{'error':<{self.width}}  {'-':>7}  {answer.error}\n")
            return
        (first, highest), *others = answer.best(self.class_names, self.top)
        label = UNSURE if answer.status == UNSURE else shown(first)
        then = "".join(f"  {shown(name):<{self.width}} {100 * p:>6.1f}" for name, p in others)
        self.out.write(f"{label:<{self.width}}  {100 * highest:>7.1f}{then}  {shown(answer.path)}\n")


class _CSV(Writer):
    """Columns image, status, label, probability, then label_2, probability_2 and so on up to `top`, and error."""

    def begin(self) -> None:
        self.writer = csv.writer(self.out, lineterminator="\n")
        more = [f"{what}_{rank}" for rank in range(2, self.top + 1) for what in ("label", "probability")]
        self.writer.writerow(["image", "status", "label", "probability", *more, "error"])

    def write(self, answer: Answer) -> None:
        best = answer.best(self.class_names, self.top)
        cells = [cell for name, p in best for cell in (name, repr(p))] or [""] * (2 * self.top)
        if answer.status == UNSURE:
            cells[0] = UNSURE
        self.writer.writerow([str(answer.path), answer.status, *cells, answer.error or ""])


class _JSONLines(Writer):
    """An object a line: image, status, label (null if unsure), top (a list of label and probability), error."""

    def begin(self) -> None:
        pass

    def write(self, answer: Answer) -> None:
        best = [{"label": name, "probability": p} for name, p in answer.best(self.class_names, self.top)]
        label = best[0]["label"] if answer.status == "ok" else None
        line = {"image": str(answer.path), "status": answer.status, "label": label, "top": best, "error": answer.error}
        self.out.write(json.dumps(line, ensure_ascii=False) + "\n")


FORMATS: dict[str, type[Writer]] = {"table": _Table, "csv": _CSV, "jsonl": _JSONLines}
