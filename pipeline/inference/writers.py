"""What a model says of new images, and how it is written: a table, CSV, or JSON lines."""

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TextIO

import numpy as np

from thaw.features.images.decode import shown

UNSURE = "unsure"


@dataclass(frozen=True)
class Answer:
    """What is said of one image: `status` is `ok`, `unsure` or `error`, the last with a `fault` in place of the rest.

    `probabilities` (K,) float64 are of the classes in their order.
    """

    path: Path
    status: str
    probabilities: np.ndarray | None = None
    fault: str | None = None

    @classmethod
    def of(cls, path: Path, probabilities: np.ndarray, reject: float | None) -> Self:
        """Return the answer for probabilities (K,): `unsure` where the highest lies below `reject`."""
        unsure = reject is not None and probabilities.max() < reject
        return cls(path, UNSURE if unsure else "ok", probabilities)

    @classmethod
    def of_fault(cls, path: Path, fault: str) -> Self:
        """Return the answer for an image that cannot be read."""
        return cls(path, "error", fault=fault)

    def best(self, top: int) -> list[tuple[int, float]]:
        """Return (class, probability) of the `top` most probable classes, the first the label's own."""
        if self.probabilities is None:
            return []
        order = np.argsort(-self.probabilities, kind="stable")[:top]
        return [(int(number), float(self.probabilities[number])) for number in order]


class Writer:
    """Writes answers to `out`, one after the other; the `top` most probable classes of each."""

    def __init__(self, out: TextIO, class_names: Sequence[str], top: int):
        self.out, self.class_names, self.top = out, class_names, min(top, len(class_names))
        self.begin()

    def begin(self) -> None:
        """Write what comes before all answers."""

    def write(self, answer: Answer) -> None:
        """Write one answer."""
        raise NotImplementedError

    def flush(self) -> None:
        """Have what was written seen."""
        self.out.flush()


class _Table(Writer):
    """Aligned lines for people; names come last, since they may be long."""

    def begin(self) -> None:
        self.width = max(len(shown(name)) for name in (*self.class_names, UNSURE, "error"))
        others = f"  {'then':<{(self.top - 1) * (self.width + 9) - 2}}" if self.top > 1 else ""
        self.out.write(f"{'label':<{self.width}}  prob. %{others}  image\n")

    def write(self, answer: Answer) -> None:
        if answer.fault:
            self.out.write(f"{'error':<{self.width}}  {'-':>7}  {answer.fault}\n")
            return
        (first, highest), *others = answer.best(self.top)
        label = UNSURE if answer.status == UNSURE else shown(self.class_names[first])
        then = "".join(f"  {shown(self.class_names[k]):<{self.width}} {100 * p:>6.1f}" for k, p in others)
        self.out.write(f"{label:<{self.width}}  {100 * highest:>7.1f}{then}  {shown(answer.path)}\n")


class _CSV(Writer):
    """Columns image, status, label, probability, then label_2, probability_2 and on by `top`, and error."""

    def begin(self) -> None:
        self.writer = csv.writer(self.out, lineterminator="\n")
        more = [f"{what}_{rank}" for rank in range(2, self.top + 1) for what in ("label", "probability")]
        self.writer.writerow(["image", "status", "label", "probability", *more, "error"])

    def write(self, answer: Answer) -> None:
        best = [cell for k, p in answer.best(self.top) for cell in (self.class_names[k], repr(p))]
        cells = best or [""] * (2 * self.top)
        if answer.status == UNSURE:
            cells[0] = UNSURE
        self.writer.writerow([str(answer.path), answer.status, *cells, answer.fault or ""])


class _JSONLines(Writer):
    """An object a line: image, status, label (null where unsure), top (a list of label and probability), error."""

    def write(self, answer: Answer) -> None:
        best = [{"label": self.class_names[k], "probability": p} for k, p in answer.best(self.top)]
        label = best[0]["label"] if answer.status == "ok" else None
        line = {"image": str(answer.path), "status": answer.status, "label": label, "top": best, "error": answer.fault}
        self.out.write(json.dumps(line, ensure_ascii=False) + "\n")


FORMATS: dict[str, type[Writer]] = {"table": _Table, "csv": _CSV, "jsonl": _JSONLines}
