"""`advice.json`: its content; writing it, and reading it back checked."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from thaw.models.selection.probing import Z
from thaw.pipeline.run.schema import Amount, Count, Digest, Fraction, Name, Strict, read_json, write_json

Size = Literal["small", "large"]
Closeness = Literal["similar", "different"]
Cell = Literal["small-similar", "small-different", "large-similar", "large-different"]
Interval = Annotated[list[Fraction], Field(min_length=2, max_length=2)]
Shift = Annotated[float, Field(ge=-1, le=1)]
ShiftInterval = Annotated[list[Shift], Field(min_length=2, max_length=2)]


class PerClass(Strict):
    """How many images of a class are not test: for the smallest, the median and the largest class."""

    fewest: Count
    median: Amount
    most: Count


class DataSize(Strict):
    """How large the dataset is; `reason` is one sentence that justifies `cell`."""

    num_train: Count
    num_validation: Count
    num_test: Count
    num_classes: Count
    images_per_class: PerClass
    cell: Size
    reason: Name


class Similarity(Strict):
    """How close the dataset is to ImageNet, by the averaged layers; `depth` counts pooling layers from 1."""

    best_layer: Name
    depth: Count
    num_layers: Count
    accuracy: Fraction
    random_accuracy: Fraction
    gain: Shift
    cell: Closeness
    reason: Name


class LayerProfile(Strict):
    """A pooling layer's linear probes: the accuracy of the averaged layer and of the layer pooled by the `auto` rule.

    `random_accuracy` and `gain` compare the averaged layer with the averaged layer of the seeded random network.
    `log_me` is a score of the averaged layer that needs no probe.
    """

    layer: Name
    depth: Count
    num_rows: Count
    average_accuracy: Fraction
    auto_accuracy: Fraction
    auto_pooling: Name
    random_accuracy: Fraction
    gain: Shift
    log_me: float


class CurvePoint(Strict):
    """The accuracy of a probe that is fitted to a share of the training images."""

    share: Fraction
    num_images: Count
    accuracy: Fraction
    standard_error: Amount


class LearningCurve(Strict):
    """A linear probe on 1 % to 100 % of the images that are not test; the slope is the gain of the last doubling."""

    layer: Name
    points: list[CurvePoint]
    slope_per_doubling: float
    accuracy_at_double: Fraction
    interval_at_double: Interval
    more_labels_help: bool

    @property
    def outlook(self) -> str:
        """What more labels would do; it is certain only if the interval lies above the accuracy of today."""
        if not self.more_labels_help:
            return "more labels would hardly help"
        sure = self.interval_at_double[0] > self.points[-1].accuracy
        return "more labels would help" if sure else "more labels may help"


class Configuration(Strict):
    """A frozen configuration that was tried in a round of the search, on how many images, and what it cost."""

    backbone: Name
    image_size: Count
    layer: Name
    pooling: Name
    transform: Name
    strategy: Name
    round: Count
    num_images: Count
    accuracy: Fraction
    seconds: Amount
    images_per_second: Amount
    kept: bool


class NetworkTried(Strict):
    """A network at an image size: its best linear probe on a sample, and what its feature set of all images takes.

    `kept` is whether it was in the last round of the search, whose networks were judged by the same images.
    """

    backbone: Name
    image_size: Count
    features: Name
    layer: Name
    pooling: Name
    num_images: Count
    accuracy: Fraction
    seconds_per_image: Amount
    minutes: Amount
    kept: bool


class FineTuningForecast(Strict):
    """A short fine-tuning on a subset, and what a whole one would give; `gain` is over the probe at its start."""

    unfreeze_from: Name
    num_images: Count
    num_held_out: Count
    epochs: Count
    start_accuracy: Fraction
    accuracy: Fraction
    gain: Shift
    gain_interval: ShiftInterval
    expected_accuracy: Fraction
    expected_interval: Interval
    minutes: Amount
    seconds: Amount

    @property
    def gain_error(self) -> float:
        """The standard error of the gain."""
        low, high = self.gain_interval
        return (high - low) / 2 / Z


class Candidate(Strict):
    """A strategy with its settings, its expected test accuracy with a 95 % interval, and its cost.

    `features` is the feature set, which the run may not have yet. `minutes` is the time of the command on this
    machine, with the features that it has yet to extract. An `ensemble`, which `fit` alone recommends, has the
    networks, sizes and layers of its members joined by +. `value` is the C of a linear classifier's probe.
    """

    strategy: Literal["svm", "logreg", "head", "finetune", "ensemble"]
    features: Name
    backbone: Name
    image_size: Count | Name
    layer: Name
    pooling: Name
    transform: Name
    command: Name
    accuracy: Fraction
    accuracy_interval: Interval
    minutes: Amount
    value: Amount | None = None


class RuleOfThumb(Strict):
    """What the rule of thumb recommends for the cell, and whether the measurements agree with it."""

    cell: Cell
    strategy: Literal["svm", "logreg", "head", "finetune"]
    text: Name
    agrees: bool
    evidence: Name


class DuplicateImage(Strict):
    """A test image that is, exactly or nearly, an image of another split too.

    `similarity` is the cosine of their features, 1 for equal contents. If the pixels showed it, as for a mirrored
    image, it is the correlation of the pixels.
    """

    id: Name
    twin: Name
    twin_split: Literal["train", "validation", "test"]
    exact: bool
    similarity: float
    same_label: bool


class ProbableLabelError(Strict):
    """An image whose label is wrong for a model that has not seen it; `suggested` is likelier by `margin`."""

    id: Name
    split: Literal["train", "validation"]
    label: Name
    suggested: Name
    probability: Fraction
    margin: Fraction


class ClassCount(Strict):
    """A class and how many of its images are in each split."""

    class_name: str = Field(alias="class")
    train: Count
    validation: Count
    test: Count


class PreprocessingCheck(Strict):
    """A small probe with the run's preprocessing and with the network's own; `worse` means by more than chance."""

    resize: Name
    normalize: Name
    num_images: Count
    accuracy: Fraction
    standard_accuracy: Fraction
    difference_interval: ShiftInterval
    worse: bool


class Audit(Strict):
    """What is suspicious in the data; nothing is removed.

    The counts are of all images, and so is `duplicate_test_ids`; the other lists hold the worst. Images are near
    duplicates if the cosine of their features is at least `near_threshold`.
    """

    num_exact_duplicates: Count
    num_near_duplicates: Count
    duplicates: list[DuplicateImage]
    duplicate_test_ids: list[str]
    near_threshold: float
    num_label_errors: Count
    label_errors: list[ProbableLabelError]
    class_counts: list[ClassCount]
    imbalance: Amount
    imbalance_warning: str | None
    canary: PreprocessingCheck | None


class Advice(Strict):
    """The whole of advice.json. Accuracies are fractions; times say their unit."""

    schema_version: Literal[1]
    dataset: Name
    backbone: Name
    image_size: Count
    seed: Count
    split_sha256: Digest
    features_sha256: Digest
    size: DataSize
    similarity: Similarity
    networks: list[NetworkTried]
    not_at_hand: list[Name] = Field(default_factory=list)
    untried: list[Name] = Field(default_factory=list)
    layers: list[LayerProfile]
    learning_curve: LearningCurve
    configurations: list[Configuration]
    pilots: list[FineTuningForecast]
    candidates: list[Candidate]
    recommended: Candidate
    rule_of_thumb: RuleOfThumb
    audit: Audit
    budget_minutes: Amount
    seconds: Amount
    versions: dict[str, str]
    command: Name

    @property
    def first(self) -> NetworkTried:
        """The network and size that was chosen on the samples, whose features of all images were measured."""
        return next(tried for tried in self.networks if tried.features == self.candidates[0].features)


def write_advice(run: Path, advice: Advice) -> Path:
    """Write `run`/advice.json whole and return its path."""
    return write_json(run / "advice.json", advice)


def read_advice(run: Path) -> Advice | None:
    """Return the checked content of `run`/advice.json, None if there is none; raises InputError if it is damaged."""
    return read_json(run / "advice.json", Advice, f"type: make advise RUN={run}")
