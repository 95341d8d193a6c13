"""`predictions.csv`, and `out_of_fold.csv` in the same form: writing them, and reading them back checked."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from thaw.features.errors import InputError
from thaw.features.files.atomic import write_whole
from thaw.models.metrics import check_predictions
from thaw.pipeline.run.report_json import remedy

OUT_OF_FOLD = "out_of_fold.csv"
"""What a linear strategy says of the images that are not test, each by the fold of the training that left it out."""


class Predictions(NamedTuple):
    """The N images that a strategy labelled: `ids`, `labels` (N,) int64 and `probabilities` (N, K) float64."""

    ids: list[str]
    labels: np.ndarray
    probabilities: np.ndarray


def write_predictions(
    path: Path, ids: Sequence[str], labels: np.ndarray, probabilities: np.ndarray, class_names: Sequence[str]
) -> Path:
    """Write `predictions.csv`: id,label,predicted,p_<class>..., a row for each image.

    Args:
        path: the file; its folder is made if it is missing.
        ids: N different ids.
        labels: (N,) int64 indices of `class_names`.
        probabilities: (N, K) float64; they read back bit for bit.
        class_names: the K classes.

    Returns:
        The path.

    Raises:
        ValueError: if the ids are not N different ones, or `thaw.models.metrics.check_predictions` refuses the rest.
    """
    labels, probabilities = check_predictions(labels, probabilities, len(class_names))
    if len(ids) != len(labels) or len(set(ids)) != len(ids):
        raise ValueError(f"got {len(ids)} ids, {len(set(ids))} different; expected {len(labels)} different")
    # The csv module quotes a carriage return only if its lines end with one.
    returns = any("\r" in text for text in (*ids, *class_names))
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_whole(path) as file:
        writer = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL if returns else csv.QUOTE_MINIMAL)
        writer.writerow(["id", "label", "predicted", *(f"p_{name}" for name in class_names)])
        for image, label, row in zip(ids, labels, probabilities, strict=True):
            writer.writerow([image, class_names[label], class_names[row.argmax()], *map(repr, row.tolist())])
    return path


def read_predictions(path: Path, class_names: Sequence[str]) -> Predictions:
    """Read and check a `predictions.csv` whose classes are `class_names`.

    Raises InputError if the file cannot be read, or has other columns, an unknown class, an image twice, numbers that
    are not probabilities, or a `predicted` that is not the class of the largest probability. The message names the
    file, the line and the command that makes the file again.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return _parse(csv.reader(file, strict=True), class_names)
    except PermissionError:  # the command line says what to do
        raise
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); type: {remedy(path)}") from error
    except (ValueError, csv.Error) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path} is not valid: {reason}; type: {remedy(path)}") from error


def _parse(reader: Any, class_names: Sequence[str]) -> Predictions:
    expected = ["id", "label", "predicted", *(f"p_{name}" for name in class_names)]
    header: list[str] = next(reader, [])
    if header != expected:
        raise ValueError(f"its columns are {_short(header)}; expected {_short(expected)}")
    number = {name: k for k, name in enumerate(class_names)}
    labels: dict[str, int] = {}
    rows = []
    for line in reader:
        if len(line) != len(expected):
            raise ValueError(f"line {reader.line_num} has {len(line)} columns; expected {len(expected)}")
        image, label, predicted = line[:3]
        row = [float(value) for value in line[3:]]
        if label not in number or predicted not in number:
            raise ValueError(f"line {reader.line_num} has a class that is not in class_names")
        if image in labels:
            raise ValueError(f"line {reader.line_num} has the id {image!r} for the second time")
        if row.index(max(row)) != number[predicted]:
            raise ValueError(f"line {reader.line_num}: predicted is not the class of the largest probability")
        labels[image] = number[label]
        rows.append(row)
    probabilities = np.array(rows, dtype=np.float64).reshape(len(rows), len(class_names))
    truth = np.array(list(labels.values()), dtype=np.int64)
    return Predictions(list(labels), *check_predictions(truth, probabilities, len(class_names)))


def _short(columns: Sequence[str]) -> str:
    text = ",".join(columns)
    return text if len(text) <= 80 else f"{text[:77]}..."
