"""The svm, logreg, knn, ridge and random stages: feature sets -> model, report.json, predictions.csv."""

import logging
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from thaw.features.backbones.registry import get_backbone
from thaw.features.errors import InputError
from thaw.features.foreign.extractors import is_foreign
from thaw.features.joined import JoinedFeatures
from thaw.features.pooling import split_layers
from thaw.features.store import FeatureFile, FeatureRows
from thaw.models.artifacts import save_model
from thaw.models.distributed.pool import ClusterBlocks, open_pool
from thaw.models.selection.final_fit import Fit, final_fit
from thaw.models.solver.block_functions import ModelProbabilities
from thaw.models.solver.blocks import Known, block_rows
from thaw.pipeline.cluster.client import connected
from thaw.pipeline.config import Linear
from thaw.pipeline.extraction import extract
from thaw.pipeline.extraction.feature_files import random_of
from thaw.pipeline.run.data.dataset import readable_dataset
from thaw.pipeline.run.feature_sets import sets_to_choose_among
from thaw.pipeline.run.report_json import Seconds
from thaw.pipeline.run.results import making, result_folder
from thaw.pipeline.run.run_json import read_run
from thaw.pipeline.training.joined_sets import check_joined, choose_joined, or_two_joined
from thaw.pipeline.training.linear_choice import Choice, check_options, choose, kernel_of
from thaw.pipeline.training.outcome import Origin, Outcome, write_chance, write_outcome

if TYPE_CHECKING:
    from distributed import Client

log = logging.getLogger("thaw")


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
    check_options(settings, strategy_name)
    with ExitStack() as closing:
        client = closing.enter_context(connected(settings))
        files = [closing.enter_context(FeatureFile(extract.ready_features(given))) for given in sets]
        folder = result_folder(sets[0], strategy_name, named=len(sets) == 1)
        closing.enter_context(making(folder))
        write_chance(sets[0], files[0])
        choice = choose(list(zip(sets, files, strict=True)), strategy_name, client)
        if len(sets) > 1 and settings.layer == "auto" and choice.strategy.batched and client is None:
            choice = or_two_joined(choice, dict(zip([given.feature_set for given in sets], files, strict=True)))
        chosen = choice.rows.settings
        if len(sets) > 1:
            log.info("chosen: the feature set %s", chosen.feature_set)
            begun, folder = folder, result_folder(chosen, strategy_name, named=False)
            if folder != begun:
                closing.enter_context(making(folder))
        return write_outcome(chosen, folder, choice.rows.features, fit_chosen(choice, strategy_name))


def _train_joined(settings: Linear, sets: Sequence[Linear], strategy_name: str) -> Path:
    """Train a strategy on several feature sets side by side, as `--features a+b` names them, and return the folder."""
    check_joined(settings, sets)
    check_options(settings, strategy_name)
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
            choice = choose_joined(choose(list(zip(sets, files, strict=True)), strategy_name), settings, joined)
        return write_outcome(choice.rows.settings, folder, joined, fit_chosen(choice, strategy_name))


def begin_set(settings: Linear) -> None:
    """Begin the feature set that `random` is the baseline of, if the run does not have it yet; nothing is extracted."""
    stored = read_run(settings.run_folder)
    if stored is None or settings.feature_set not in stored.feature_sets:
        extract.begin_run(settings, readable_dataset(settings))


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


def _predict(model: Any, rows: FeatureRows, client: "Client | None") -> np.ndarray:
    """Return the probabilities (N, K) of rows, computed by the workers if there is a client."""
    if client is None:
        return np.concatenate([model.predict_proba(rows.read(part)) for part in block_rows(rows)])
    with open_pool(ClusterBlocks(rows, client)) as pool:
        return np.concatenate(list(pool.each(ModelProbabilities(model), Known(np.zeros(rows.shape[0], np.int8)))))


def all_classes(probabilities: np.ndarray, classes: np.ndarray, num_classes: int) -> np.ndarray:
    """Return float64 (N, K) over all classes from (N, len(classes)); classes without training images get 0."""
    result = np.zeros((len(probabilities), num_classes))
    result[:, classes] = probabilities
    return result / result.sum(axis=1, keepdims=True)


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
