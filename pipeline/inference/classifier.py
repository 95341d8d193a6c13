"""A trained strategy as one object: images in, class probabilities out, by the very steps that it was trained with."""

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from thaw.features.backbones.registry import get_backbone
from thaw.features.backbones.weights import TensorsLater, Weights, load_weights
from thaw.features.engines.keras_engine import Network
from thaw.features.errors import InputError
from thaw.features.extraction import choice
from thaw.features.extraction.extraction import Engine
from thaw.features.images.decode import DECODING, least_side, resize
from thaw.features.images.preprocess import normalize, pool
from thaw.models.artifacts import MODEL_VERSION, load_model, load_record
from thaw.models.metrics import wilson_interval
from thaw.pipeline.run.model_record import NEEDED, fault_of
from thaw.pipeline.run.report_json import BASELINES, NEURAL, Report, read_report, remedy

log = logging.getLogger("thaw")


@dataclass(frozen=True)
class How:
    """What may differ from the training without changing what an image is called: where and how fast it runs."""

    engine: str = "auto"
    device: str = "auto"
    weights: str | None = None


@dataclass(frozen=True)
class Classifier:
    """One strategy's model with the frozen network below it.

    `record` is what the model carries of its making. `layers` are those that it is given, empty where the model itself
    begins at the image. The engine runs as it did for the training, with all the layers that it gave then, since its
    numbers differ a little with them.
    """

    folder: Path
    report: Report
    record: dict[str, Any]
    model: Any
    layers: tuple[str, ...]
    engine: Engine | None = field(repr=False)

    @property
    def class_names(self) -> list[str]:
        """The K classes, in the order of the probabilities."""
        return list(self.record["class_names"])

    @property
    def batch_size(self) -> int:
        """How many images are labelled at once; the numbers of an engine differ a little with it."""
        return int(self.record["batch_size"])

    @property
    def least_side(self) -> int | None:
        """How small a JPEG may be decoded, see `thaw.features.images.decode.decode`."""
        return least_side(self.record["image_size"], self.record["resize"])

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """Return network input, float32 (S, S, 3), from one decoded image, uint8 (H, W, 3)."""
        return normalize(resize(image, self.record["image_size"], self.record["resize"]), self.record["normalize"])

    def activations(self, inputs: np.ndarray) -> np.ndarray:
        """Return what the model is given for network input (n, S, S, 3), n at most `batch_size`.

        That is features (n, D) for a linear strategy, activations (n, H, W, C) for a network, float32; or the inputs
        themselves where the whole network was trained.
        """
        if self.engine is None:
            return inputs
        given = self.engine(inputs)
        if self.report.strategy in NEURAL:
            return given[self.layers[0]]
        pooled = [pool(given[name], self.record["pooling"]).reshape(len(inputs), -1) for name in self.layers]
        return np.hstack(pooled).astype(self.record["dtype"]).astype(np.float32)

    def views(self, inputs: np.ndarray) -> list[np.ndarray]:
        """Return what the model is given for each view of the images, whose probabilities are averaged: one, or two.

        The second view is the image's mirror, where the network was trained on images and their mirrors.
        """
        mirrors = [inputs[:, :, ::-1]] if self.record["views"] == 2 else []
        return [self.activations(view) for view in (inputs, *mirrors)]

    def label(self, activations: np.ndarray) -> np.ndarray:
        """Return class probabilities (n, K) float64 of what `activations` gave; each row's sum is 1."""
        if self.report.strategy in NEURAL:
            from thaw.models.neural.network import predict

            return predict(self.model, iter([activations]))
        found = np.zeros((len(activations), len(self.class_names)))
        found[:, self.model.classes_] = self.model.predict_proba(activations)
        return found / found.sum(axis=1, keepdims=True)

    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        """Return class probabilities (n, K) float64 for network input (n, S, S, 3) float32, n at most `batch_size`."""
        return self.average(self.views(inputs))

    def average(self, views: list[np.ndarray]) -> np.ndarray:
        """Return class probabilities (n, K) float64, the mean over what `views` gave."""
        return np.mean([self.label(view) for view in views], axis=0)


def find_result(run_folder: Path, strategy: str) -> Path:
    """Return the folder of a result by its name; `best` is the one of the highest accuracy without the test images.

    Some were judged by all other images, by cross-validation, some by the few of the validation split: it is the lower
    end of each accuracy's 95 % interval that counts.

    Raises InputError where the run has no such model.
    """
    reports = [read_report(path) for path in sorted(run_folder.glob("*/report.json"))]
    usable = {report.name: report for report in reports if report.model_bytes}
    if not usable:
        raise InputError(f"{run_folder} has no trained model; type make svm RUN={run_folder}, or another strategy")
    if strategy != "best":
        if strategy not in usable:
            report, there = run_folder / strategy / "report.json", ", ".join(usable)
            if report.parent.is_dir() and not report.exists():
                raise InputError(f"{report} is gone or was never written; train it again, or choose best or {there}")
            raise InputError(f"{run_folder} has no model {strategy!r}; expected best or one of {there}")
        return run_folder / strategy
    candidates = [report for report in usable.values() if report.strategy not in BASELINES] or list(usable.values())
    best = max(candidates, key=_held_out_at_least)
    log.info(
        "model: %s, the best of %s on held-out images that are not test (STRATEGY=NAME takes another)",
        *(best.name, ", ".join(report.name for report in candidates)),
    )
    return run_folder / best.name


def _held_out_at_least(report: Report) -> float:
    """Return the lower end of the accuracy's interval that a strategy's settings were chosen by; none comes last."""
    accuracy = report.hyperparameters.get("selection_accuracy")
    crossed = report.hyperparameters.get("select") == "cv"
    num_images = report.num_validation + (report.num_train if crossed else 0)
    if not isinstance(accuracy, int | float) or num_images == 0:
        return -1.0
    return wilson_interval(round(accuracy * num_images), num_images)[0]


@dataclass(frozen=True)
class Trained:
    """What a strategy left behind: its report, what its model carries of its making, and the model.

    `architecture` is that of a trained network, `thaw.models.neural.network.Architecture`; None for a linear model.
    """

    folder: Path
    report: Report
    record: dict[str, Any]
    model: Any
    architecture: Any = None

    @property
    def input_layer(self) -> str | None:
        """The layer whose activations a network is given; None where that is the image, and for other models."""
        return self.architecture.input_layer if self.architecture else None

    @property
    def frozen_layers(self) -> tuple[str, ...]:
        """The layers that the frozen network has to give, none where the model itself begins at the image."""
        if self.architecture:
            return (self.input_layer,) if self.input_layer else ()
        return tuple(str(self.record["layer"]).split("+"))


def read_trained(folder: Path) -> Trained:
    """Return what is in a result's folder, RUN/<name>; raises InputError as `load_classifier` does."""
    report = read_report(folder / "report.json")
    model, record, architecture = _read_model(folder, report)
    _check_record(folder, report, record)
    return Trained(folder, report, record, model, architecture)


def load_classifier(folder: Path, how: How | None = None) -> Classifier:
    """Return the classifier of a result's folder, RUN/<name>, ready to run.

    Raises InputError where its model is missing, damaged, of another version of this program, or where the weights of
    the network below it cannot be had.
    """
    how, report = how or How(), read_report(folder / "report.json")
    with ThreadPoolExecutor(1) as starting:  # of the engine, for seconds, while the model is read
        ahead = None
        if report.strategy not in NEURAL:
            _check_there(folder / "model.skops", report)
            record = load_record(folder / "model.skops")
            _check_record(folder, report, record)
            ahead = starting.submit(_start_engine, folder, record, how)
        trained = read_trained(folder)
        layers = trained.frozen_layers
        engine = ahead.result() if ahead else _start_engine(folder, trained.record, how) if layers else None
    return Classifier(folder, trained.report, trained.record, trained.model, layers, engine)


def _read_model(folder: Path, report: Report) -> tuple[Any, dict[str, Any], Any]:
    """Return the model, its record, and a network's architecture."""
    if report.strategy not in NEURAL:
        path = folder / "model.skops"
        _check_there(path, report)
        return *load_model(path), None
    path = folder / "model.json"
    _check_there(path, report)
    from thaw.models.neural.network import load

    model, architecture, record = load(path)
    return model, record, architecture


def _check_there(path: Path, report: Report) -> None:
    if not path.exists():
        raise InputError(f"there is no model {path}; type: {remedy(path, report.strategy)}")


def _check_record(folder: Path, report: Report, record: dict[str, Any]) -> None:
    version = record.get("model_version")
    again = remedy(folder / "report.json", report.strategy)
    if version != MODEL_VERSION or any(name not in record for name in NEEDED):
        raise InputError(
            f"the model in {folder} is of version {version or 'unknown'} and this program reads version "
            f"{MODEL_VERSION}; train it again: {again}"
        )
    if fault := fault_of(record):
        raise InputError(f"the model in {folder} has a record that cannot be ({fault}); train it again: {again}")
    if record["decoding"] != DECODING:
        raise InputError(f"the model in {folder} was trained on pixels decoded by other rules; train it again: {again}")
    if record["class_names"] != report.class_names or record["strategy"] != report.strategy:
        raise InputError(f"the model in {folder} is not the one that its report.json tells of; train it again: {again}")


def frozen_weights(folder: Path, record: dict[str, Any], source: str | None = None) -> Weights:
    """Return the weights of the frozen network, from `source` where the training's own has moved.

    Raises InputError where they cannot be had or are others than those of the training.
    """
    weights = load_weights(source or record["weights"], get_backbone(record["backbone"]), record["seed"])
    if weights.sha256 != record["weights_sha256"]:
        raise InputError(
            f"the model in {folder} was trained on a network with the weights {record['weights_sha256'][:12]}..., and "
            f"those from {weights.source} are {weights.sha256[:12]}...; give the same file: --weights PATH"
        )
    return weights


def _start_engine(folder: Path, record: dict[str, Any], how: How) -> Engine:
    """Return the engine that the features were made by, or another that gives the same where that is not there."""
    # A network that was converted before, for these very weights, is run without reading them again.
    tensors = TensorsLater(lambda: frozen_weights(folder, record, how.weights).tensors)
    weights = Weights(tensors, str(how.weights or record["weights"]), record["weights_sha256"])
    layers, size = tuple(record["engine_layers"]), int(record["image_size"])
    network = Network(get_backbone(record["backbone"]), weights, layers, size, record["engine_precision"], keep=True)
    batch_size = int(record["batch_size"])
    requested = _engine_of(record, how)
    engine, device = choice.settle(
        requested, how.device, network, batch_size, lambda: np.empty((0, size, size, 3), np.float32)
    )
    if engine != record["engine"]:
        log.info("the features were made by %s; %s gives the same to about 1e-4", record["engine"], engine)
    return network.start(engine, batch_size, device)


def _engine_of(record: dict[str, Any], how: How) -> str:
    """Return the engine to ask for: the given one, else that of the training, or a GPU's in place of mnn."""
    return how.engine if how.engine != "auto" or record["engine"] == "mnn" else str(record["engine"])
