"""The svm, logreg, knn, ridge and random stages: feature sets -> model, report.json, predictions.csv."""

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from thaw.features.backbones.registry import get_backbone
from thaw.features.errors import InputError
from thaw.features.foreign.extractors import is_foreign
from thaw.features.joined import JoinedFeatures, check_same_images
from thaw.features.pooling import split_layers
from thaw.features.store import FeatureFile, FeatureRows
from thaw.models.artifacts import save_model
from thaw.models.distributed.pool import ClusterBlocks, open_pool
from thaw.models.metrics import paired_standard_error
from thaw.models.selection.final_fit import Fit, final_fit
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
from thaw.models.solver.block_functions import ModelProbabilities
from thaw.models.solver.blocks import Blocks, Known, block_rows
from thaw.models.strategies import Strategy, find_strategy
from thaw.pipeline.cluster.client import connected
from thaw.pipeline.config import SVM, Linear
from thaw.pipeline.extraction import extract
from thaw.pipeline.extraction.feature_files import random_of
from thaw.pipeline.run.data.dataset import readable_dataset
from thaw.pipeline.run.feature_sets import sets_to_choose_among
from thaw.pipeline.run.report_json import Seconds
from thaw.pipeline.run.results import making, result_folder
from thaw.pipeline.run.run_json import existing_run, read_run
from thaw.pipeline.training.memory import check_memory, load_rows, spare_memory_mb
from thaw.pipeline.training.outcome import Origin, Outcome, write_chance, write_outcome

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


def main(settings: Linear, strategy_name: str) -> Path:
    """Train one strategy on a feature set of the run, which is extracted if missing; return the result's folder.

    With `--features auto` the set is chosen without the test split. `random` is logistic regression on the features of
    the seeded random network.
    """
    sets = sets_to_choose_among(settings)
    if strategy_name == "random":
        own, sets = sets[0], [random_of(sets[0])]
        begin_set(own)
    if len(sets) > 1 and settings.features != "auto":
        return _train_joined(settings, sets, strategy_name)
    sets = _with_layer(sets)
    _check_options(settings, strategy_name)
    with ExitStack() as closing:
        client = closing.enter_context(connected(settings))
        files = [closing.enter_context(FeatureFile(extract.ready_features(given))) for given in sets]
        folder = result_folder(sets[0], strategy_name, named=len(sets) == 1)
        closing.enter_context(making(folder))
        write_chance(sets[0], files[0])
        choice = choose(list(zip(sets, files, strict=True)), strategy_name, client)
        if len(sets) > 1 and settings.layer == "auto" and choice.strategy.batched and client is None:
            choice = _or_two_joined(choice, dict(zip([given.feature_set for given in sets], files, strict=True)))
        chosen = choice.rows.settings
        if len(sets) > 1:
            log.info("chosen: the feature set %s", chosen.feature_set)
            begun, folder = folder, result_folder(chosen, strategy_name, named=False)
            if folder != begun:
                closing.enter_context(making(folder))
        return write_outcome(chosen, folder, choice.rows.features, fit_chosen(choice, strategy_name))


def _train_joined(settings: Linear, sets: Sequence[Linear], strategy_name: str) -> Path:
    """Train a strategy on several feature sets side by side, as `--features a+b` names them, and return the folder."""
    _check_joined(settings, sets)
    _check_options(settings, strategy_name)
    with ExitStack() as closing:
        names = [given.feature_set for given in sets]
        files = [closing.enter_context(FeatureFile(extract.ready_features(given))) for given in sets]
        folder = result_folder(settings, strategy_name)
        closing.enter_context(making(folder))
        write_chance(sets[0], files[0])
        joined = JoinedFeatures(dict(zip(names, files, strict=True)))
        if settings.layer != "auto":
            choice = choose([(settings, joined)], strategy_name)
        else:
            choice = _choose_joined(choose(list(zip(sets, files, strict=True)), strategy_name), settings, joined)
        return write_outcome(choice.rows.settings, folder, joined, fit_chosen(choice, strategy_name))


def _or_two_joined(single: Choice, files: Mapping[str, FeatureFile]) -> Choice:
    """Return the choice on the two best sets side by side if that is better than one of them alone, else `single`.

    Better means more accurate by more than the standard error of the paired difference: two networks cost more than
    one.

    Args:
        single: what was tried on each set alone.
        files: of all sets, by their names.
    """
    accuracy = {name: _best_record(single.tried, name)["accuracy"] for name in files}
    best = sorted(accuracy, key=accuracy.__getitem__, reverse=True)[:2]
    names = [name for name in files if name in best]
    last = single.rows.settings.model_copy(update=existing_run(single.rows.settings.run_folder).feature_sets[names[-1]])
    settings = last.model_copy(update={"features": "+".join(names)})
    joined = _choose_joined(single, settings, JoinedFeatures({name: files[name] for name in names}))
    if _is_better(joined.best, single.best):
        return joined
    log.info("joined sets are not better by more than the standard error: %s alone", single.rows.settings.feature_set)
    return replace(joined, rows=single.rows, best=single.best)


def _is_better(one: Trial, other: Trial) -> bool:
    """Return whether a trial is more accurate by more than the standard error of the paired difference."""
    if one.held_out is None or other.held_out is None:
        raise RuntimeError("a trial of this search does not say which rows it labels correctly")
    correct, others = one.held_out.correct, other.held_out.correct
    error = paired_standard_error(int((correct & ~others).sum()), int((others & ~correct).sum()), len(correct))
    return one.accuracy - other.accuracy > error


def _choose_joined(single: Choice, settings: Linear, joined: JoinedFeatures) -> Choice:
    """Return the choice on the best layers of each set side by side, after the choice among the sets.

    The transforms are those that were best for one of the sets.

    Args:
        single: what was tried on each set alone.
        settings: of the stage.
        joined: the files of the sets.
    """
    best = {name: _best_record(single.tried, name) for name in joined.files}
    layer = "+".join(f"{name}/{part}" for name, one in best.items() for part in one["layer"].split("+"))
    transforms = {one["transform"] for one in best.values()}
    transform = transforms.pop() if len(transforms) == 1 else "auto"
    log.info("joined: %s", layer)
    given = settings.model_copy(update={"layer": layer, "transform": transform})
    choice = choose([(given, joined)], single.name)
    return replace(choice, tried=[*single.tried, *choice.tried], seconds=single.seconds + choice.seconds)


def _best_record(tried: Sequence[dict[str, Any]], name: str) -> dict[str, Any]:
    """Return the record of the highest accuracy on a feature set, of equal ones the first."""
    return max((one for one in tried if one["features"] == name), key=lambda one: one["accuracy"])


def _check_joined(settings: Linear, sets: Sequence[Linear]) -> None:
    """Raise InputError if the layers are not some of each joined set, or if the work is to be spread."""
    names = [given.feature_set for given in sets]
    if settings.workers or settings.cluster:
        raise InputError(
            f"--features {settings.features}: joined sets are read here; leave --workers and --cluster out"
        )
    known = {f"{given.feature_set}/{layer}" for given in sets for layer in given.layer_names}
    named = split_layers(settings.layer) if settings.layer != "auto" else sorted(known)
    if not set(named) <= known or {name.partition("/")[0] for name in named} != set(names):
        expected = "+".join(f"{given.feature_set}/{given.layer_names[-1]}" for given in sets)
        raise InputError(
            f"--layer {settings.layer}: expected layers of {' and '.join(names)}, each as set/layer, for example "
            f"--layer {expected}; the sets have {', '.join(sorted(known))}"
        )


def begin_set(settings: Linear) -> None:
    """Begin the feature set that `random` is the baseline of, if the run does not have it yet; nothing is extracted."""
    stored = read_run(settings.run_folder)
    if stored is None or settings.feature_set not in stored.feature_sets:
        extract.begin_run(settings, readable_dataset(settings))


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


def fit_chosen(choice: Choice, strategy_name: str) -> Outcome:
    """Fit what was chosen to all rows that are not test, and label the test split."""
    strategy, rows, best = choice.strategy, choice.rows, choice.best
    settings, features = rows.settings, rows.features
    began = time.perf_counter()
    log.info("chosen: %s, transform %s, %s %g", best.layer, best.transform, strategy.parameter, best.value)
    if not settings.values and best.value in (strategy.values[0], strategy.values[-1]):
        log.info("this %s is at the end of those tried; the best may lie beyond (--values)", strategy.parameter)
    blocks = rows.load(best.layer, best.transform)
    # Neighbours need no folds but for out-of-fold probabilities, which cost much if the rows are many.
    folds = rows.scaling if strategy.calibration or rows.select == "cv" else []
    fit = final_fit(strategy, best, blocks, rows.labels, folds, rows.options)
    if not fit.converged:
        log.warning("the final fit did not converge: its accuracy may not be the strategy's best")
    fitted = time.perf_counter()
    del blocks
    test = FeatureRows(features, split_layers(best.layer), features.split == 2)
    predicted = _predict(fit.model, test, rows.client if strategy.batched else None)
    classes, num_classes = fit.model.classes_, len(features.class_names)
    predict_seconds = time.perf_counter() - fitted
    return Outcome(
        strategy_name,
        Origin.of(features, best.layer),
        Seconds(features=features.attributes["seconds"], fit=choice.seconds + fitted - began, predict=predict_seconds),
        all_classes(predicted, classes, num_classes),
        _hyperparameters(choice, fit),
        save=lambda path, record: save_model(path, fit.model, record),
        out_of_fold=None if fit.out_of_fold is None else all_classes(fit.out_of_fold, classes, num_classes),
    )


def _find_strategy(settings: Linear, name: str, num_rows: int) -> Strategy:
    """Return the strategy of that name for so many rows; `random` is logistic regression."""
    return find_strategy("logreg" if name == "random" else name, kernel_of(settings) or "linear", num_rows)


def kernel_of(settings: Linear) -> str | None:
    """Return the kernel of the support vector machine, None for the other strategies."""
    return settings.kernel if isinstance(settings, SVM) else None


def _predict(model: Any, rows: FeatureRows, client: "Client | None") -> np.ndarray:
    """Return the probabilities (N, K) of rows, computed by the workers if there is a client."""
    if client is None:
        return np.concatenate([model.predict_proba(rows.read(part)) for part in block_rows(rows)])
    with open_pool(ClusterBlocks(rows, client)) as pool:
        return np.concatenate(list(pool.each(ModelProbabilities(model), Known(np.zeros(rows.shape[0], np.int8)))))


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


def all_classes(probabilities: np.ndarray, classes: np.ndarray, num_classes: int) -> np.ndarray:
    """Return float64 (N, K) over all classes from (N, len(classes)); classes without training images get 0."""
    result = np.zeros((len(probabilities), num_classes))
    result[:, classes] = probabilities
    return result / result.sum(axis=1, keepdims=True)


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


def _check_options(settings: Linear, strategy_name: str) -> None:
    """Raise InputError for impossible options, before anything expensive is done."""
    strategy = _find_strategy(settings, strategy_name, 0)
    try:
        strategy.classifier(strategy.values[0], settings.seed, settings.class_weight)
    except ValueError as error:
        raise InputError(f"{settings.name or strategy_name}: {error}; leave --class-weight out") from None


def _with_layer(sets: Sequence[Linear]) -> list[Linear]:
    """Return the settings of the feature sets that have the layers of `--layer`; raises InputError if none has."""
    layer = sets[0].layer
    names = layer.split("+") if layer != "auto" else []
    usable = [given for given in sets if set(names) <= set(given.layer_names)]
    if usable:
        return usable
    for name in names if not is_foreign(sets[0].backbone) else ():
        get_backbone(sets[0].backbone).layer(name)
    known = "; ".join(f"{given.feature_set} has {', '.join(given.layer_names)}" for given in sets)
    layers = ",".join(names)
    raise InputError(
        f"--layer {layer}: no feature set of the run has it ({known}); choose among them, or type --layers {layers} "
        f"beside it, which makes another feature set"
    )


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


def _hyperparameters(choice: Choice, fit: Fit) -> dict[str, Any]:
    rows, best = choice.rows, choice.best
    return {
        choice.strategy.parameter: best.value,
        "transform": best.transform,
        "kernel": kernel_of(rows.settings),
        "class_weight": rows.settings.class_weight,
        "select": rows.select,
        "folds": rows.settings.folds,
        "selection_accuracy": best.accuracy,
        "converged": fit.converged,
        "n_iter": fit.num_iterations,
        "temperature": fit.temperature,
        "tried": choice.tried,
    }
