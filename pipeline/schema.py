"""`report.json` and `predictions.csv`: what they hold, writing and reading them, one or all those of a run."""

import csv
import hashlib
import logging
import math
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self, get_args

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from features.errors import InputError
from features.store import write_whole
from models.metrics import check_predictions, confusion_matrix

log = logging.getLogger("thaw")

Strategy = Literal["svm", "logreg", "knn", "ridge", "head", "finetune", "scratch", "random", "chance"]
STRATEGIES: tuple[str, ...] = get_args(Strategy)
Fraction = Annotated[float, Field(ge=0, le=1)]
Amount = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=0)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, Field(min_length=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class ClassFigures(_Strict):
    """One class: fractions, and how many test images it has."""

    class_name: str = Field(alias="class")
    precision: Fraction
    recall: Fraction
    f1: Fraction
    support: Count


class Seconds(_Strict):
    """What a strategy took, in seconds of wall-clock time; None where a step does not apply."""

    features: Amount | None
    fit: Amount | None
    predict: Amount | None


class Report(_Strict):
    """The whole of `report.json`; a field that does not apply is None. Figures are of the test split."""

    name: Name
    strategy: Strategy
    dataset: Name
    backbone: str | None
    layer: str | None
    class_names: list[str] = Field(min_length=1)
    accuracy: Fraction
    accuracy_ci95: list[Fraction] = Field(min_length=2, max_length=2)
    balanced_accuracy: Fraction
    macro_f1: Fraction
    log_loss: Amount
    ece: Fraction
    roc_auc: Fraction | None
    per_class: list[ClassFigures]
    confusion_matrix: list[list[Count]]
    num_train: Count
    num_validation: Count
    num_test: Annotated[int, Field(ge=1)]
    hyperparameters: dict[str, JsonValue]
    seconds: Seconds
    peak_memory_mb: Amount | None
    model_bytes: Count | None
    split_sha256: Digest
    features_sha256: Digest | None
    weights_sha256: Digest | None
    seed: int
    device: str | None
    versions: dict[str, str]
    command: str

    @model_validator(mode="after")
    def _figures_agree(self) -> Self:
        num_classes, matrix = len(self.class_names), self.confusion_matrix
        num_images = sum(map(sum, matrix))
        if len(set(self.class_names)) != num_classes:
            raise ValueError("class_names has a name twice")
        if [row.class_name for row in self.per_class] != self.class_names:
            raise ValueError("per_class does not list the classes of class_names in their order")
        if len(matrix) != num_classes or any(len(row) != num_classes for row in matrix):
            raise ValueError(f"confusion_matrix is not {num_classes} x {num_classes}, as class_names asks")
        if num_images != self.num_test:
            raise ValueError(f"confusion_matrix counts {num_images} images and num_test {self.num_test}")
        hits = sum(matrix[k][k] for k in range(num_classes))
        if not math.isclose(hits / self.num_test, self.accuracy, abs_tol=1e-9):
            raise ValueError(f"accuracy {self.accuracy} is not confusion_matrix's, {hits}/{self.num_test}")
        return self


class Predictions(NamedTuple):
    """A strategy's test split: N `ids`, `labels` (N,) int64, `probabilities` (N, K) float64."""

    ids: list[str]
    labels: np.ndarray
    probabilities: np.ndarray


def remedy(path: Path, strategy: str | None = None) -> str:
    """Return the command that makes the strategy of `path`, RUN/<name>/<file>, again."""
    name, run = path.parent.name, path.parent.parent
    strategy = strategy or (name if name in STRATEGIES else "STRATEGY")
    if strategy == "chance":  # no target of its own: a linear strategy writes it where it is missing
        return f"rm -r {shlex.quote(str(path.parent))}; make svm RUN={shlex.quote(str(run))}"
    named = "" if name == strategy else " ARGS=" + shlex.quote(f"--name {shlex.quote(name)}")
    return f"make {strategy} RUN={shlex.quote(str(run))}{named}"


def read_report(path: Path) -> Report:
    """Read and check a `report.json`.

    Raises InputError, which names the file, the field and the command that makes it again, where the file
    cannot be read, is not JSON, or lacks a field, has another one, or holds a value that cannot be.
    """
    try:
        return Report.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); type: {remedy(path)}") from error
    except ValidationError as error:
        problems = error.errors(include_url=False)
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        where = ".".join(map(str, problems[0]["loc"]))
        what = " ".join(problems[0]["msg"].removeprefix("Value error, ").split())
        problem = f"field {where}: {what}{more}" if where else what
        raise InputError(f"{path} is not a valid report: {problem}; type: {remedy(path)}") from error


def write_report(folder: Path, report: Report) -> Path:
    """Write `report` to `folder`/report.json, whole or not at all, making the folder, and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "report.json"
    with write_whole(path) as file:
        file.write(report.model_dump_json(indent=2, by_alias=True) + "\n")
    return path


def write_predictions(
    path: Path, ids: Sequence[str], labels: np.ndarray, probabilities: np.ndarray, class_names: Sequence[str]
) -> Path:
    """Write `predictions.csv`: id,label,predicted,p_<class>..., a row for each test image, and return `path`.

    `labels` is (N,) int64, `probabilities` (N, K) float64, written so that they read back bit for bit. Raises
    ValueError where they are not as `models.metrics.check_predictions` asks, or `ids` not N different ones.
    """
    labels, probabilities = check_predictions(labels, probabilities, len(class_names))
    if len(ids) != len(labels) or len(set(ids)) != len(ids):
        raise ValueError(f"got {len(ids)} ids, {len(set(ids))} different; expected {len(labels)} different")
    # The csv module quotes a carriage return only where it ends lines with one.
    returns = any("\r" in text for text in (*ids, *class_names))
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_whole(path) as file:
        writer = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL if returns else csv.QUOTE_MINIMAL)
        writer.writerow(["id", "label", "predicted", *(f"p_{name}" for name in class_names)])
        predicted = probabilities.argmax(axis=1)
        for image, label, guess, row in zip(ids, labels, predicted, probabilities.tolist(), strict=True):
            writer.writerow([image, class_names[label], class_names[guess], *map(repr, row)])
    return path


def read_predictions(path: Path, class_names: Sequence[str]) -> Predictions:
    """Read and check a `predictions.csv` whose classes are `class_names`.

    Raises InputError, which names the file, the line and the command that makes it again, where the file
    cannot be read, has other columns, an unknown class, an image twice, or probabilities that are none or
    whose largest is not that of `predicted`.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return _parse(csv.reader(file, strict=True), class_names)
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
    for image, label, predicted, *values in _lines(reader, len(expected)):
        row = [float(value) for value in values]
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


def _lines(reader: Any, num_columns: int) -> Iterator[list[str]]:
    for row in reader:
        if len(row) != num_columns:
            raise ValueError(f"line {reader.line_num} has {len(row)} columns; expected {num_columns}")
        yield row


def _short(columns: Sequence[str]) -> str:
    text = ",".join(columns)
    return text if len(text) <= 80 else f"{text[:77]}..."


class Entry(NamedTuple):
    """A strategy's `report`; of its N test images, by `ids` in order: true class, (N,) bool rightly labelled."""

    report: Report
    path: Path
    ids: list[str]
    classes: list[str]
    correct: np.ndarray


def load_run(run: Path) -> list[Entry]:
    """Read, check and order (best first: accuracy, then log loss, then name) all reports of a run."""
    paths = sorted(path for path in run.glob("*/report.json") if not path.parent.name.startswith("."))
    if not paths:
        expected = f"expected at least one {run}/<name>/report.json"
        raise InputError(f"no report in {run}; {expected}; type: {remedy(run / 'svm' / 'report.json')}")
    reports = [(path, read_report(path)) for path in paths]
    _check_splits(run, reports)
    entries = [_entry(path, report) for path, report in reports]
    for entry in entries[1:]:
        _check_same_images(entries[0], entry)
    return sorted(entries, key=lambda e: (-e.report.accuracy, e.report.log_loss, e.report.name))


def _check_splits(run: Path, reports: Sequence[tuple[Path, Report]]) -> None:
    """Refuse a report that was made on another split than split.csv's, or failing that than most others'."""
    counts = Counter(report.split_sha256 for _, report in reports)
    file = run / "split.csv"
    digest = hashlib.sha256(file.read_bytes()).hexdigest() if file.exists() else ""
    expected = digest if digest in counts else counts.most_common(1)[0][0]
    same = next(path for path, report in reports if report.split_sha256 == expected)
    for path, report in reports:
        if report.split_sha256 != expected:
            digests = f"split_sha256 {report.split_sha256[:12]} and {expected[:12]}"
            again = f"expected one split for all; type: {remedy(path, report.strategy)}"
            raise InputError(f"{path} and {same} were made on different splits ({digests}); {again}")


def _entry(path: Path, report: Report) -> Entry:
    name, csv_path = path.parent.name, path.with_name("predictions.csv")
    ids, labels, probabilities = read_predictions(csv_path, report.class_names)
    predicted = probabilities.argmax(axis=1)
    if confusion_matrix(labels, predicted, len(report.class_names)).tolist() != report.confusion_matrix:
        received = f"{np.mean(predicted == labels):.6g} on {len(ids)} images"
        expected = f"expected {report.accuracy:.6g} on {report.num_test}, confusion_matrix included, as in"
        again = f"type: {remedy(path, report.strategy)}"
        raise InputError(f"{csv_path} has the accuracy {received}; {expected} {path}; {again}")
    if report.name != name:
        log.warning("%s calls itself %s; its folder's name is used", path, report.name)
        report = report.model_copy(update={"name": name})
    order = sorted(range(len(ids)), key=ids.__getitem__)
    classes = [report.class_names[labels[row]] for row in order]
    return Entry(report, path, [ids[row] for row in order], classes, (predicted == labels)[order])


def _check_same_images(first: Entry, other: Entry) -> None:
    images, others = (set(zip(e.ids, e.classes, strict=True)) for e in (first, other))
    if images != others:
        image, label = min(images ^ others)
        where = f"{image!r} as {label!r} is in one only"
        paths = [str(entry.path.with_name("predictions.csv")) for entry in (other, first)]
        again = f"expected the same test images; type: {remedy(other.path, other.report.strategy)}"
        raise InputError(f"{paths[0]} and {paths[1]} differ in their images ({where}); {again}")
