"""The head, finetune and scratch stages: cached activations or images -> network, report.json, predictions.csv."""

import hashlib
import json
import logging
import time
from contextlib import ExitStack
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np

from thaw.features.backbones.registry import get_backbone
from thaw.features.engines.backend import computing_on, resolve_device
from thaw.features.files.atomic import remove_leftovers
from thaw.features.store import FeatureFile
from thaw.models.neural import network
from thaw.models.neural.batches import CachedActivations, Source
from thaw.models.neural.checkpoints import Checkpoint, Epoch, State
from thaw.models.neural.lr_finder import find_rate
from thaw.models.neural.training import Samples, Training, balanced
from thaw.pipeline.config import Finetune, Neural
from thaw.pipeline.extraction import extract
from thaw.pipeline.progress import counting
from thaw.pipeline.run.results import making, result_folder
from thaw.pipeline.run.run_json import shared_settings
from thaw.pipeline.training import learning_curve_csv
from thaw.pipeline.training.outcome import Origin, Outcome, write_chance, write_outcome
from thaw.pipeline.training.plan import Plan, check_options, find_cut, make_plan
from thaw.pipeline.training.sources import Sources, activations_budget_mb, open_sources
from thaw.pipeline.training.warm_start import warm_start
from thaw.pipeline.versions import versions

log = logging.getLogger("thaw")


def main(settings: Neural, strategy: str) -> Path:
    """Train a network, label the test split with it and return the result's folder.

    A call that was interrupted is gone on from after its last whole epoch.
    """
    name, folder = result_folder(settings, strategy)
    backbone = get_backbone(settings.backbone)
    backbone.check_image_size(settings.image_size)
    check_options(settings)
    cut = find_cut(backbone, strategy, settings)
    shared = shared_settings(settings)
    features_path = extract.ready_features(shared)
    with ExitStack() as closing:
        closing.enter_context(making(folder))
        folder.mkdir(exist_ok=True)
        remove_leftovers(folder)
        features = closing.enter_context(FeatureFile(features_path))
        write_chance(settings, features)
        device = resolve_device(settings.device)
        closing.enter_context(computing_on(device))
        plan = make_plan(settings, strategy, cut, features, device)
        activations_budget_mb(settings, plan.build(settings.seed), plan.recipe.batch_size)
        sources = open_sources(settings, shared, cut, features, closing)
        if isinstance(settings, Finetune) and settings.recipe == "tuned":
            plan = plan.starting_from(warm_start(settings, features, cut.input_layer, folder))
        outcome, state = train(settings, plan, sources, folder)
        write_outcome(shared, folder, name, strategy, features, outcome)
        if not state.out_of_time:
            for leftover in ("checkpoint.npz", "probe.npz"):
                (folder / leftover).unlink(missing_ok=True)
    return folder


def train(settings: Neural, plan: Plan, sources: Sources, folder: Path) -> tuple[Outcome, State]:
    """Train by the plan, write the learning curve, and label the test split."""
    features, seed = sources.features, settings.seed
    keras.utils.set_random_seed(seed)
    model = plan.build(seed)
    for line in network.describe(model):
        log.info("%s", line)
    budget = activations_budget_mb(settings, model, plan.recipe.batch_size)
    source = sources.select(plan.training_rows, budget)
    if isinstance(source, CachedActivations):
        budget -= source.bytes / 1e6 if source.in_memory else budget / 2
        if not source.in_memory:
            log.info("%.0f MB of activations are read from the disk in every epoch", source.bytes / 1e6)
    training = _samples(settings, features, plan.training_rows, source)
    watched = _samples(settings, features, plan.watched_rows, sources.select(plan.watched_rows, budget, views=False))
    if settings.find_lr:
        _find_rate(plan, training, seed, folder)
    checkpoint = Checkpoint(folder / "checkpoint.npz", _settings_digest(settings, plan, sources, source))
    run = Training(model, plan.recipe, training, watched, seed, checkpoint)
    state = _run(settings, plan, run, folder)
    temperature, power = _calibrate(model, plan, watched) if plan.watched == "validation" else (None, 1.0)
    architecture = replace(plan.architecture, power=power)
    began = time.perf_counter()
    test = sources.select(features.split == 2, 0.0)
    probabilities = _averaged(model, test, plan.recipe.batch_size)
    outcome = Outcome(
        _origin(plan, sources),
        probabilities,
        {**_hyperparameters(settings, plan, sources, state), "temperature": temperature, "margin_power": power},
        state.seconds + _probe_seconds(plan),
        time.perf_counter() - began,
        save=lambda path, record: network.save(path, model, architecture, record),
        model_file="model.json",
    )
    return outcome, state


def _calibrate(model: keras.Model, plan: Plan, watched: Samples) -> tuple[float, float]:
    """Calibrate on the validation images, which chose the epoch but trained nothing; return temperature and power."""
    probabilities = network.predict(model, watched.source.in_order(plan.recipe.batch_size))
    found = network.calibrate(model, probabilities, watched.labels)
    log.info("calibrated by the %s images: temperature %.3f, power %.3f", plan.watched, *found)
    return found


def _probe_seconds(plan: Plan) -> float:
    return plan.start.seconds if plan.start else 0.0


def _origin(plan: Plan, sources: Sources) -> Origin:
    """Return where the inputs come from; what the probe's own features cost is added where they lie in another file."""
    seconds, features = sources.origin.feature_seconds, sources.features
    if plan.start and features.path not in [file.path for file in sources.files]:
        seconds = (seconds or 0.0) + float(features.attributes["seconds"])
    layer = plan.architecture.unfreeze_from or get_backbone(plan.architecture.backbone).layers[-1].name
    made_by: dict[str, Any] = {"weights_sha256": plan.weights.sha256, "device": plan.device}
    return replace(sources.origin, **made_by, layer=layer, feature_seconds=seconds)


def _samples(settings: Neural, features: FeatureFile, rows: np.ndarray, source: Source) -> Samples:
    labels, num_classes = features.labels[rows], len(features.class_names)
    return Samples(source, labels, num_classes, balanced(labels, num_classes) if settings.class_weight else None)


def _run(settings: Neural, plan: Plan, run: Training, folder: Path) -> State:
    log_epoch: list[Any] = [partial(_say, plan)]
    if settings.tensorboard:
        log_epoch.append(learning_curve_csv.tensorboard(folder / "tensorboard", run.model))
    done, epochs = len(run.state.history), plan.recipe.epochs
    if done > 1:
        log.info("going on after epoch %d of %d", done - 1, epochs)
    elif run.checkpoint and run.checkpoint.path.exists():
        log.info("an unfinished training of other settings is left behind; this one begins anew")
    total = (epochs - max(0, done - 1)) * run.training.source.num_samples
    with counting("training", total) as advance:

        def on_epoch(row: Epoch) -> None:
            learning_curve_csv.write_csv(folder / "learning_curve.csv", run.state.history, plan.watched)
            for write in log_epoch:
                write(row)

        minutes = settings.max_minutes and max(0.0, settings.max_minutes - _probe_seconds(plan) / 60)
        state = run.run(minutes, advance, on_epoch)
    learning_curve_csv.write_csv(folder / "learning_curve.csv", state.history, plan.watched)
    learning_curve_csv.draw(folder / "learning_curve.png", state.history, plan.watched, state.best_epoch)
    kept = state.history[state.best_epoch]
    log.info("kept: epoch %d, with %.2f %% of the %s images right", kept.epoch, 100 * kept.val_accuracy, plan.watched)
    if plan.start and kept.epoch == 0:
        log.warning(
            "no epoch was better than the start: the result is the logistic regression's, on %s", plan.start.shape.layer
        )
    if state.stopped:
        more = "; the same command with a higher --max-minutes goes on from here" if state.out_of_time else ""
        log.info("stopped: %s%s", state.stopped, more)
    if state.collapsed:
        log.warning(
            "the training collapsed: %s; the weights of epoch %d are kept. Try --learning-rate %.0e",
            *(state.stopped, state.best_epoch, plan.recipe.learning_rate / 10),
        )
    return state


def _say(plan: Plan, row: Epoch) -> None:
    if row.loss is None:
        log.info("before training: %.2f %% of the %s images right", 100 * row.val_accuracy, plan.watched)
        return
    log.info(
        "epoch %d of %d: training loss %.4f, accuracy %.2f %%; %s loss %.4f, accuracy %.2f %%; %.0f s",
        *(row.epoch, plan.recipe.epochs, row.loss, 100 * float(row.accuracy or 0)),
        *(plan.watched, row.val_loss, 100 * row.val_accuracy, row.seconds),
    )


def _find_rate(plan: Plan, training: Samples, seed: int, folder: Path) -> None:
    """Measure the rates on a network of its own, so that the training that follows is as it would be without."""
    test = find_rate(plan.build(seed), training, plan.recipe.batch_size, seed)
    learning_curve_csv.draw_rates(folder / "learning_rates.png", test)
    log.info(
        "learning rates: the loss is lowest near %.1e and a tenth of that is a good rate: --learning-rate %.1e "
        "(this training uses %.1e); curve in %s",
        *(10 * test.suggested, test.suggested, plan.recipe.learning_rate, folder / "learning_rates.png"),
    )


def _settings_digest(settings: Neural, plan: Plan, sources: Sources, source: Source) -> str:
    """Return the SHA-256 over all that the weights after an epoch depend on."""
    made_of = {
        "architecture": asdict(plan.architecture),
        "recipe": asdict(plan.recipe),
        "recipe_name": settings.recipe,
        "augment": settings.augment,
        "class_weight": settings.class_weight,
        "seed": settings.seed,
        "order": source.order,
        "weights": plan.weights.sha256,
        "features": sources.features.attributes["values_sha256"],
        "probe": plan.start.fitted if plan.start else None,
        "versions": versions(),
    }
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()


def _averaged(model: keras.Model, source: Source, batch_size: int) -> np.ndarray:
    """Return (N, K) probabilities, the mean over the source's views of each image."""
    views = [network.predict(model, source.in_order(batch_size, view)) for view in range(source.num_views)]
    return np.mean(views, axis=0)


def _hyperparameters(settings: Neural, plan: Plan, sources: Sources, state: State) -> dict[str, Any]:
    chosen = plan.watched == "validation"
    return {
        "recipe": settings.recipe,
        "unfreeze_from": plan.architecture.unfreeze_from,
        "optimizer": "Adam" if plan.recipe.weight_decay is None else "AdamW",
        **asdict(plan.recipe),
        "epochs_trained": len(state.history) - 1,
        "kept_epoch": state.best_epoch,
        "stopped": state.stopped,
        "selection_accuracy": state.history[state.best_epoch].val_accuracy if chosen else None,
        "start_accuracy": state.history[0].val_accuracy if chosen else None,
        "probe": plan.start.record if plan.start else None,
        "augment": settings.augment,
        "inputs": sources.how,
        "views_averaged": 2 if settings.augment == "flip" and sources.files else 1,
        "class_weight": settings.class_weight,
        "precision": plan.architecture.precision,
        "seconds_per_epoch": state.seconds / max(1, len(state.history) - 1),
    }
