"""The head, finetune and scratch stages: cached activations or images -> network, report.json, predictions.csv."""

import hashlib
import json
import logging
import time
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from thaw.features.backbones.registry import get_backbone
from thaw.features.engines.backend import computing_on, resolve_device
from thaw.features.files.atomic import remove_leftovers
from thaw.features.foreign.extractors import get_extractor
from thaw.features.store import FeatureFile
from thaw.models.neural import network, saved_network
from thaw.models.neural.batches import CachedActivations, Source
from thaw.models.neural.checkpoints import Checkpoint, Epoch, State
from thaw.models.neural.lr_finder import find_rate
from thaw.models.neural.prediction import calibrate, predict
from thaw.models.neural.training import Samples, Training
from thaw.pipeline.config import Finetune, Neural
from thaw.pipeline.extraction import extract
from thaw.pipeline.progress import counting
from thaw.pipeline.run.report_json import Seconds
from thaw.pipeline.run.results import making, result_folder
from thaw.pipeline.run.run_json import shared_settings
from thaw.pipeline.training import learning_curve_csv
from thaw.pipeline.training.outcome import Origin, Outcome, write_chance, write_outcome
from thaw.pipeline.training.plan import Plan, check_options, make_plan
from thaw.pipeline.training.sources import Sources, activations_budget_mb, open_sources
from thaw.pipeline.training.warm_start import warm_start
from thaw.pipeline.versions import versions

log = logging.getLogger("thaw")


def main(settings: Neural, strategy: str) -> Path:
    """Train a network, label the test split with it and return the result's folder.

    The same command continues an interrupted training after its last whole epoch.
    """
    folder = result_folder(settings, strategy)
    check_options(settings, strategy)
    get_extractor(settings.backbone, settings.weights).check_image_size(settings.image_size)
    shared = shared_settings(settings)
    features_path = extract.ready_features(shared)
    with ExitStack() as closing:
        closing.enter_context(making(folder))
        folder.mkdir(exist_ok=True)
        remove_leftovers(folder)
        features = closing.enter_context(FeatureFile(features_path))
        write_chance(shared, features)
        device = resolve_device(settings.device)
        closing.enter_context(computing_on(device))
        plan = make_plan(settings, strategy, features, device)
        activations_budget_mb(settings, plan.build(), plan.recipe.batch_size)
        if isinstance(settings, Finetune) and settings.recipe == "tuned":
            plan = plan.starting_from(warm_start(settings, features, plan.architecture.input_layer, folder))
        outcome, state = train(plan, open_sources(plan, shared, closing), folder)
        write_outcome(shared, folder, features, outcome)
        if not state.out_of_time:
            for leftover in ("checkpoint.npz", "probe.npz"):
                (folder / leftover).unlink(missing_ok=True)
    return folder


def train(plan: Plan, sources: Sources, folder: Path) -> tuple[Outcome, State]:
    """Train by the plan, write the learning curve, and label the test split."""
    settings = plan.settings
    keras.utils.set_random_seed(settings.seed)
    model = plan.build()
    for line in network.describe(model):
        log.info("%s", line)
    training, watched = _load_samples(plan, sources, model)
    if settings.find_lr:
        _find_rate(plan, training, folder)
    checkpoint = Checkpoint(folder / "checkpoint.npz", _settings_digest(plan, training.source))
    state = _fit(plan, Training(model, plan.recipe, training, watched, settings.seed, checkpoint), folder)
    temperature, power = _calibrate(model, plan, watched) if plan.watched == "validation" else (None, 1.0)
    architecture = replace(plan.architecture, power=power)
    began = time.perf_counter()
    probabilities = _predict_views(model, sources.select(plan.features.split == 2, 0.0), plan.recipe.batch_size)
    seconds = Seconds(
        features=_feature_seconds(plan, sources),
        fit=state.seconds + plan.probe_seconds,
        predict=time.perf_counter() - began,
    )
    outcome = Outcome(
        plan.strategy,
        _origin(plan, sources),
        seconds,
        probabilities,
        {**_hyperparameters(plan, sources, state), "temperature": temperature, "margin_power": power},
        save=lambda path, record: saved_network.save(path, model, architecture, record),
        model_file="model.json",
    )
    return outcome, state


def _load_samples(plan: Plan, sources: Sources, model: keras.Model) -> tuple[Samples, Samples]:
    """Return the samples to train on and those to watch, which share the memory that the network leaves."""
    budget = activations_budget_mb(plan.settings, model, plan.recipe.batch_size)
    training = sources.samples(plan.training_rows, budget)
    source = training.source
    if isinstance(source, CachedActivations):
        budget -= source.bytes / 1e6 if source.in_memory else budget / 2
        if not source.in_memory:
            log.info("%.0f MB of activations are read from the disk in every epoch", source.bytes / 1e6)
    return training, sources.samples(plan.watched_rows, budget, views=False)


def _calibrate(model: keras.Model, plan: Plan, watched: Samples) -> tuple[float, float]:
    """Calibrate on the validation images, which chose the epoch but trained nothing; return temperature and power."""
    probabilities = predict(model, watched.source.in_order(plan.recipe.batch_size))
    temperature, power = calibrate(model, probabilities, watched.labels)
    log.info("calibrated by the %s images: temperature %.3f, power %.3f", plan.watched, temperature, power)
    return temperature, power


def _origin(plan: Plan, sources: Sources) -> Origin:
    """Return what the network is trained on."""
    architecture, name = plan.architecture, plan.architecture.backbone
    layer = architecture.unfreeze_from or (architecture.input_layer if architecture.input_sides else None)
    layer = layer or get_backbone(name).layers[-1].name
    images = Origin(name, layer, engine="keras")
    origin = Origin.of(sources.files[0], layer) if sources.files else images
    return replace(origin, weights_sha256=plan.weights.sha256, device=plan.device)


def _feature_seconds(plan: Plan, sources: Sources) -> float | None:
    """Return what the features of the network and of its probe took; None if there are none."""
    files = [*sources.files, *([plan.features] if plan.start else [])]
    seconds = {file.path: float(file.attributes["seconds"]) for file in files}
    return sum(seconds.values()) if seconds else None


def _fit(plan: Plan, run: Training, folder: Path) -> State:
    """Train to the end, write the learning curve after every epoch, and return the state at the end."""
    done, epochs = len(run.state.history), plan.recipe.epochs
    if done > 1:
        log.info("continuing after epoch %d of %d", done - 1, epochs)
    elif run.checkpoint and run.checkpoint.path.exists():
        log.info("an unfinished training with other settings is left behind; this one starts from the beginning")
    tensorboard = plan.settings.tensorboard and learning_curve_csv.tensorboard(folder / "tensorboard", run.model)
    total = (epochs - max(0, done - 1)) * run.training.source.num_samples
    with counting("training", total) as advance:

        def on_epoch(row: Epoch) -> None:
            learning_curve_csv.write_csv(folder / "learning_curve.csv", run.state.history, plan.watched)
            _log_epoch(plan, row)
            if tensorboard:
                tensorboard(row)

        minutes = plan.settings.max_minutes and max(0.0, plan.settings.max_minutes - plan.probe_seconds / 60)
        state = run.run(minutes, advance, on_epoch)
    learning_curve_csv.write_csv(folder / "learning_curve.csv", state.history, plan.watched)
    learning_curve_csv.draw(folder / "learning_curve.png", state.history, plan.watched, state.best_epoch)
    _log_end(plan, state)
    return state


def _log_epoch(plan: Plan, row: Epoch) -> None:
    if row.loss is None:
        log.info("before training: %.2f %% of the %s images correct", 100 * row.val_accuracy, plan.watched)
        return
    log.info(
        "epoch %d of %d: training loss %.4f, accuracy %.2f %%; %s loss %.4f, accuracy %.2f %%; %.0f s",
        *(row.epoch, plan.recipe.epochs, row.loss, 100 * float(row.accuracy or 0)),
        *(plan.watched, row.val_loss, 100 * row.val_accuracy, row.seconds),
    )


def _log_end(plan: Plan, state: State) -> None:
    """Log which epoch was kept and why the training ended."""
    kept = state.history[state.best_epoch]
    log.info("kept: epoch %d, with %.2f %% of the %s images correct", kept.epoch, 100 * kept.val_accuracy, plan.watched)
    if plan.start and kept.epoch == 0:
        log.warning(
            "no epoch was better than the start: the result is the logistic regression's, on %s", plan.start.shape.layer
        )
    if state.stopped:
        more = "; the same command with a higher --max-minutes continues from here" if state.out_of_time else ""
        log.info("stopped: %s%s", state.stopped, more)
    if state.collapsed:
        log.warning(
            "the training collapsed: %s; the weights of epoch %d are kept. Try --learning-rate %.0e",
            *(state.stopped, state.best_epoch, plan.recipe.learning_rate / 10),
        )


def _find_rate(plan: Plan, training: Samples, folder: Path) -> None:
    """Measure the rates on a network of its own, so that the training that follows is as it would be without."""
    test = find_rate(plan.build(), training, plan.recipe.batch_size, plan.settings.seed)
    path = folder / "learning_rates.png"
    learning_curve_csv.draw_rates(path, test)
    log.info(
        "learning rates: the loss is lowest near %.1e and a tenth of that is a good rate: --learning-rate %.1e "
        "(this training uses %.1e); curve in %s",
        *(10 * test.suggested, test.suggested, plan.recipe.learning_rate, path),
    )


def _settings_digest(plan: Plan, source: Source) -> str:
    """Return the SHA-256 over all that the weights after an epoch depend on."""
    made_of = {
        **plan.settings.model_dump(include={"recipe", "augment", "class_weight", "seed"}),
        "architecture": asdict(plan.architecture),
        "training": asdict(plan.recipe),
        "order": source.order,
        "weights": plan.weights.sha256,
        "features": plan.features.attributes["values_sha256"],
        "probe": plan.start.setting if plan.start else None,
        "versions": versions(),
    }
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()


def _predict_views(model: keras.Model, source: Source, batch_size: int) -> np.ndarray:
    """Return the class probabilities (N, K) float64, the mean over the views of each image."""
    views = [predict(model, source.in_order(batch_size, view)) for view in range(source.num_views)]
    return np.mean(views, axis=0)


def _hyperparameters(plan: Plan, sources: Sources, state: State) -> dict[str, Any]:
    settings, chosen = plan.settings, plan.watched == "validation"
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
        "inputs": sources.description,
        "views_averaged": max(1, len(sources.files)),
        "class_weight": settings.class_weight,
        "precision": plan.architecture.precision,
        "seconds_per_epoch": state.seconds / max(1, len(state.history) - 1),
    }
