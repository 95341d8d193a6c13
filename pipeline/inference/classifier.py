"""A trained strategy as one object: images in, class probabilities out, by the very steps that it was trained with."""

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from thaw.features.backbones.registry import get_backbone
from thaw.features.backbones.weights import TensorsLater, Weights
from thaw.features.engines.network import Network
from thaw.features.extraction import choice
from thaw.features.extraction.spec import Engine
from thaw.features.images.decode import least_side
from thaw.features.images.preprocess import normalize, resize
from thaw.features.pooling import pool
from thaw.models.artifacts import load_record
from thaw.pipeline.inference.trained import _check_record, _check_there, frozen_weights, read_trained
from thaw.pipeline.run.report_json import NEURAL, Report, read_report

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
