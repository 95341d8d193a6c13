"""The choice of a feature set, layer, transform and value for a linear strategy, without the test split."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from thaw.features.errors import InputError
from thaw.features.joined import check_same_images
from thaw.features.pooling import split_layers
from thaw.features.store import FeatureFile
from thaw.models.distributed.pool import ClusterBlocks
from thaw.models.selection.search import (
    FitOptions,
    Folds,
    Trial,
    as_records,
    best_trial,
    candidates,
    highest_trial,
    make_folds,
    try_candidate,
    without_scores,
)
from thaw.models.solver.blocks import Blocks
from thaw.models.strategies import Strategy, find_strategy
from thaw.pipeline.config import SVM, Linear
from thaw.pipeline.training.memory import check_memory, load_rows, spare_memory_mb

if TYPE_CHECKING:
    from distributed import Client

log = logging.getLogger("thaw")

MEMORY_SHARE = 1.05  # of the bytes of the features, for holding them
SOLVER_BYTES = 200  # for each coefficient of each fold: past steps, gradients, directions
VALIDATION_ROWS = 5000  # `--select auto` takes the validation split from this many rows on


@dataclass(frozen=True)
class Rows:
    """The n rows of a feature file that classifiers are fitted to.

    Attributes:
        settings: of the stage.
        features: the feature file.
        mask: (N,) bool, where the rows are in the file.
        choosing: folds of the rows, by which settings are chosen.
        scaling: folds of the rows, by which probabilities are calibrated.
        select: cv or validation, what `choosing` is.
        client: of the cluster whose workers hold or read the rows, if there is one.
    """

    settings: Linear
    features: FeatureFile
    mask: np.ndarray
    choosing: Folds
    scaling: Folds
    select: str
    client: "Client | None" = None

    @property
    def labels(self) -> np.ndarray:
        """The label of each row, (n,) int64."""
        return self.features.labels[self.mask]

    @property
    def options(self) -> FitOptions:
        """How every fit is made."""
        return FitOptions(self.settings.seed, self.settings.class_weight, self.settings.jobs)

    def load(self, layer: str, transform: str) -> Blocks:
        """Return the rows (n, D) float32 of a layer, or of several joined by +, transformed (none or sqrt).

        They are held in memory if they fit the stage's budget; otherwise each pass over them reads the file.
        """
        if self.client is not None:
            rows = load_rows(self.features, layer, transform, self.mask, in_memory=False)
            return ClusterBlocks(rows, self.client)
        num_features = self.features.row_bytes(split_layers(layer)) // 4
        solver = SOLVER_BYTES * (self.settings.folds + 1) * len(self.features.class_names) * num_features
        needed = (4 * MEMORY_SHARE * int(self.mask.sum()) * num_features + solver) / 1e6
        in_memory = needed <= spare_memory_mb(self.settings)
        if not in_memory:
            log.info("training on %s takes about %.0f MB: its features are read from the file in blocks", layer, needed)
        return load_rows(self.features, layer, transform, self.mask, in_memory)


@dataclass(frozen=True)
class Choice:
    """What was chosen without the test split: a feature set, by its rows, and the best of all trials on it.

    `name` is that of the command. `tried` are the records of all trials, of the other feature sets too.
    """

    name: str
    strategy: Strategy
    rows: Rows
    best: Trial
    tried: list[dict[str, Any]]
    seconds: float


def choose(sets: Sequence[tuple[Linear, FeatureFile]], strategy_name: str, client: "Client | None" = None) -> Choice:
    """Return the best feature set, layer, transform and value of the strategy's parameter.

    Args:
        sets: the settings of the stage for each feature set, and its file; all files hold the same images.
        strategy_name: a strategy on frozen features, or `random`.
        client: of the cluster whose workers do it, if there is one.

    Raises:
        InputError: the images, the memory or the options do not allow it.
    """
    began = time.perf_counter()
    found: list[tuple[Strategy, Rows, list[Trial]]] = []
    tried: list[dict[str, Any]] = []
    for settings, features in sets:
        check_same_images(sets[0][1], features)
        rows = choosing_rows(settings, features, client)
        strategy = _find_strategy(settings, strategy_name, len(rows.labels))
        strategy = _among_values(settings, strategy, min(len(fit) for fit, _ in [*rows.choosing, *rows.scaling]))
        if not strategy.batched:
            check_memory(settings, features, client)
        if len(sets) > 1:
            log.info("feature set %s:", settings.feature_set)
        layers = candidates(settings.layer, list(features.layers), settings.transform, joined=strategy.batched)
        trials = try_all(rows, strategy, layers)
        tried += [{"features": settings.feature_set, **one} for one in as_records(trials, strategy.parameter)]
        found.append((strategy, rows, trials))
    strategy, rows, trials = max(found, key=lambda one: highest_trial(one[2]).accuracy)
    return Choice(strategy_name, strategy, rows, best_trial(trials), tried, time.perf_counter() - began)


def choosing_rows(settings: Linear, features: FeatureFile, client: "Client | None" = None) -> Rows:
    """Return the rows that are not test; raises InputError if their classes or groups are too few."""
    mask = features.split != 2
    labels, has_validation = features.labels[mask], 1 in features.split
    groups = features.groups_of(mask)
    _check_classes(settings, labels, groups, features.class_names)
    folds = make_folds(labels, groups, settings.folds, settings.seed)
    select = settings.select
    if select == "auto":
        select = "validation" if len(labels) >= VALIDATION_ROWS and has_validation else "cv"
    if select == "validation" and not has_validation:
        raise InputError("--select validation: the run has no validation image; type --select cv")
    choosing = folds if select == "cv" else validation_fold(features.split[mask])
    return Rows(settings, features, mask, choosing, folds, select, client)


def validation_fold(split: np.ndarray) -> Folds:
    """Return one fold that holds out the validation images, from the split (n,) uint8 of each row."""
    return [(np.flatnonzero(split != 1), np.flatnonzero(split == 1))]


def _check_classes(settings: Linear, labels: np.ndarray, groups: np.ndarray | None, class_names: Sequence[str]) -> None:
    """Raise InputError if a class has fewer images, or groups, than there are folds."""
    present = check_two_classes(labels, class_names, "images outside the test split")
    what = "image" if groups is None else "group"
    units = np.arange(len(labels)) if groups is None else groups
    counts = [len(np.unique(units[labels == label])) for label in present]
    fewest = int(np.argmin(counts))
    if counts[fewest] < settings.folds:
        few = f"--folds {counts[fewest]}" if counts[fewest] >= 2 else f"--folds 2 with at least two {what}s"
        raise InputError(
            f"class {class_names[present[fewest]]!r} has {counts[fewest]} {what}(s) outside the test split, fewer than "
            f"the {settings.folds} folds; add {what}s, or type {few}"
        )


def check_two_classes(labels: np.ndarray, class_names: Sequence[str], images: str) -> np.ndarray:
    """Return the classes that occur in labels (n,), ascending; raises InputError if fewer than two have such images."""
    present = np.unique(labels)
    if len(present) < 2:
        found = f"only one class, {class_names[present[0]]!r}, has" if len(present) else "no class has"
        raise InputError(f"{found} {images}; expected two or more: add images of another class")
    return present


def check_options(settings: Linear, strategy_name: str) -> None:
    """Raise InputError for impossible options, before anything expensive is done."""
    strategy = _find_strategy(settings, strategy_name, 0)
    try:
        strategy.classifier(strategy.values[0], settings.seed, settings.class_weight)
    except ValueError as error:
        raise InputError(f"{settings.name or strategy_name}: {error}; leave --class-weight out") from None


def _find_strategy(settings: Linear, name: str, num_rows: int) -> Strategy:
    """Return the strategy of that name for so many rows; `random` is logistic regression."""
    return find_strategy("logreg" if name == "random" else name, kernel_of(settings) or "linear", num_rows)


def kernel_of(settings: Linear) -> str | None:
    """Return the kernel of the support vector machine, None for the other strategies."""
    return settings.kernel if isinstance(settings, SVM) else None


def _among_values(settings: Linear, strategy: Strategy, num_rows: int) -> Strategy:
    """Return the strategy with the values to choose among; raises InputError if none of the given ones is possible."""
    try:
        given = strategy.among([float(value) for value in settings.values.split(",")]) if settings.values else strategy
    except ValueError as error:
        raise InputError(f"--values {settings.values}: {error}; expected for example 1,5,20") from None
    possible = given.within(num_rows)
    if not possible.values:
        raise InputError(f"--values {settings.values}: there are only {num_rows} images to fit; give a smaller value")
    return possible


def try_all(rows: Rows, strategy: Strategy, choices: Mapping[str, Sequence[str]]) -> list[Trial]:
    """Return every setting that was tried, with its accuracy: the layers and transforms of `choices`, and the values.

    `choices` maps a layer to its transforms.
    """
    judged_by = "cross-validation" if rows.select == "cv" else "the validation split"
    trials: list[Trial] = []
    for layer, transforms in choices.items():
        for transform in transforms:
            blocks = rows.load(layer, transform)
            path = try_candidate(strategy, blocks, rows.labels, rows.choosing, rows.options)
            del blocks
            values = strategy.values[: len(path)]
            tried = [Trial(layer, transform, value, one.accuracy, one) for value, one in zip(values, path, strict=True)]
            best = best_trial(tried)
            trials += [one if one is best else without_scores(one) for one in tried]
            log.info(
                "%s, transform %s: %.4f by %s at %s %g",
                *(layer, transform, best.accuracy, judged_by, strategy.parameter, best.value),
            )
    return trials
