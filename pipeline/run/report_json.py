"""`report.json`: what it holds, writing it and reading it back checked."""

import math
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, JsonValue, ValidationError, model_validator

from thaw.features.errors import InputError
from thaw.features.pooling import split_layers
from thaw.models.strategies import STRATEGIES
from thaw.pipeline.config import SET_NAME
from thaw.pipeline.run.schema import Amount, Count, Digest, Fraction, Name, Strict, write_json

BASELINES = ("random", "chance")
NEURAL = ("head", "finetune", "scratch")
ENSEMBLE = "ensemble"
ALL_STRATEGIES = (*STRATEGIES, *NEURAL, ENSEMBLE, *BASELINES)
WIDEST_POINTS = 20  # of an accuracy's 95 % interval that still says which strategy is better


def _known(strategy: str) -> str:
    if strategy not in ALL_STRATEGIES:
        raise ValueError(f"received {strategy!r}; expected one of {', '.join(ALL_STRATEGIES)}")
    return strategy


StrategyName = Annotated[str, AfterValidator(_known)]
JoinedDigest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}(\+[0-9a-f]{64})*$")]
ImageSize = Annotated[int, Field(ge=1)] | Annotated[str, Field(pattern=r"^[1-9]\d*(\+[1-9]\d*)+$")]


class ClassFigures(Strict):
    """One class: fractions, and how many test images it has."""

    class_name: str = Field(alias="class")
    precision: Fraction
    recall: Fraction
    f1: Fraction
    support: Count


class Seconds(Strict):
    """What a strategy took, in seconds of wall-clock time; None if a step does not apply."""

    features: Amount | None
    fit: Amount | None
    predict: Amount | None


class Report(Strict):
    """The whole of `report.json`; a field is None if it does not apply. The figures are those of the test split.

    Of a result on several feature sets `features`, `backbone`, `image_size`, `features_sha256` and `weights_sha256`
    have those of each set, in one order, joined by `+`; `layer` is `set/layer+set/layer`.
    """

    name: Name
    strategy: StrategyName
    dataset: Name
    features: Annotated[str, Field(pattern=SET_NAME)] | None
    backbone: str | None
    image_size: ImageSize | None
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
    features_sha256: JoinedDigest | None
    weights_sha256: JoinedDigest | None
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

    @property
    def sets(self) -> tuple[str, ...]:
        """The names of the feature sets that the result is made on; none of a baseline without features."""
        if not self.features:
            return ()
        return tuple(dict.fromkeys(name for name, _ in layers_by_set(self.features, self.layer or "")))

    @property
    def total_seconds(self) -> float | None:
        """The seconds of features, fit and predictions together; None if none of them is known."""
        known = [value for value in self.seconds.model_dump().values() if value is not None]
        return sum(known) if known else None

    @property
    def interval_width(self) -> float:
        """The width of the accuracy's interval in points."""
        return 100 * (self.accuracy_ci95[1] - self.accuracy_ci95[0])

    @property
    def has_too_few_images(self) -> bool:
        """Whether the test images are too few to say which strategy is better."""
        return self.interval_width > WIDEST_POINTS


def layers_by_set(features: str, layer: str) -> list[tuple[str, str]]:
    """Return the feature set and the name of each layer.

    >>> layers_by_set("a-48", "block4_pool+block5_pool")
    [('a-48', 'block4_pool'), ('a-48', 'block5_pool')]
    >>> layers_by_set("a-48-x+y+b-224", "a-48-x+y/block4_pool+b-224/head")
    [('a-48-x+y', 'block4_pool'), ('b-224', 'head')]
    """
    names = split_layers(layer)
    return [(name.partition("/")[0], name.partition("/")[2]) if "/" in name else (features, name) for name in names]


def joined_layers(pairs: Sequence[tuple[str, str]]) -> str:
    """Return the field `layer` for layers of feature sets: without the sets' names if there is one set alone."""
    several = len({name for name, _ in pairs}) > 1
    return "+".join(dict.fromkeys(f"{name}/{layer}" if several else layer for name, layer in pairs))


def remedy(path: Path, strategy: str | None = None) -> str:
    """Return the command that trains the strategy of a file again; `path` is RUN/<name>/<file>."""
    name, run = path.parent.name, path.parent.parent
    strategy = strategy or (name if name in ALL_STRATEGIES else "STRATEGY")
    if strategy == "chance":  # it has no target; a linear strategy writes it if it is missing
        return f"rm -r {shlex.quote(str(path.parent))}; make svm RUN={shlex.quote(str(run))}"
    named = "" if name == strategy else " ARGS=" + shlex.quote(f"--name {shlex.quote(name)}")
    return f"make {strategy} RUN={shlex.quote(str(run))}{named}"


def read_report(path: Path) -> Report:
    """Read and check a `report.json`.

    Raises InputError if the file cannot be read, is not JSON, lacks a field, has an unknown one or holds an invalid
    value. The message names the file, the field and the command that makes the file again.
    """
    try:
        return Report.model_validate_json(path.read_bytes())
    except PermissionError:  # the command line says what to do
        raise
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); type: {remedy(path)}") from error
    except ValidationError as error:
        problems = error.errors(include_url=False)
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        field = ".".join(map(str, problems[0]["loc"]))
        what = " ".join(problems[0]["msg"].removeprefix("Value error, ").split())
        problem = f"field {field}: {what}{more}" if field else what
        raise InputError(f"{path} is not a valid report: {problem}; type: {remedy(path)}") from error


def write_report(folder: Path, report: Report) -> Path:
    """Write `folder`/report.json whole, make the folder if it is missing, and return the path."""
    folder.mkdir(parents=True, exist_ok=True)
    return write_json(folder / "report.json", report)
