"""A result of a run as one object: images in, class probabilities out, by the same steps as in its training."""

from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from thaw.features.backbones.registry import get_backbone
from thaw.features.backbones.weights import Weights, taken_from
from thaw.features.engines.network import Engine
from thaw.features.errors import InputError
from thaw.features.extraction.spec import Preprocessing
from thaw.features.pooling import layer_and_pooling, pool
from thaw.models.artifacts import load_model, load_record
from thaw.pipeline.config import Trained
from thaw.pipeline.inference.frozen_network import AS_TRAINED, frozen_weights, start_engine
from thaw.pipeline.inference.trained import check_record
from thaw.pipeline.run.report_json import NEURAL, Report, read_report, remedy

if TYPE_CHECKING:
    import keras
    from sklearn.pipeline import Pipeline

    from thaw.models.calibration import TemperatureScaled
    from thaw.models.neural.network import Architecture


@dataclass(frozen=True)
class Classifier(ABC):
    """A result that labels images: a model, and below it a frozen network unless the model itself takes images.

    Attributes:
        folder: The result's folder, RUN/<name>.
        report: The content of its report.json.
        record: The settings of the training, which the model's file holds.
        engine: Runs the frozen network, with all the layers of the training: the numbers differ a little with them.
            None without a frozen network, or if the classifier was loaded for its model alone.
    """

    FILE: ClassVar[str]
    folder: Path
    report: Report
    record: dict[str, Any]
    engine: Engine | None = field(repr=False)

    @property
    @abstractmethod
    def layers(self) -> tuple[str, ...]:
        """The layers of the frozen network that the model takes; none if it takes images."""

    @property
    @abstractmethod
    def head_inputs(self) -> list[tuple[str, str]]:
        """The layers of the whole network, each with its pooling, whose features the last steps of the model take."""

    @abstractmethod
    def activations(self, inputs: np.ndarray) -> np.ndarray:
        """Return what the model takes, float32, for network input (n, S, S, 3), n at most `batch_size`."""

    @abstractmethod
    def label(self, activations: np.ndarray) -> np.ndarray:
        """Return class probabilities (n, K) float64 for what `activations` returned; each row's sum is 1."""

    def whole_weights(self, source: str | None) -> Weights:
        """Return the weights of the whole network; the frozen ones are read from `source` if it is given."""
        return frozen_weights(self.folder, self.record, source)

    @property
    def class_names(self) -> list[str]:
        """The K classes, in the order of the probabilities."""
        return list(self.record["class_names"])

    @property
    def batch_size(self) -> int:
        """How many images are labelled at once; an engine's numbers differ a little with it."""
        return int(self.record["batch_size"])

    @cached_property
    def preprocessing(self) -> Preprocessing:
        """How an image becomes network input."""
        own = {name: self.record[name] for name in ("image_size", "resize", "aspect", "normalize")}
        return Preprocessing(**own, white=self.record.get("white"))

    def views(self, inputs: np.ndarray) -> list[np.ndarray]:
        """Return what the model takes for each view of the images: themselves, and their mirrors if it learned both."""
        mirrors = [inputs[:, :, ::-1]] if self.record["views"] == 2 else []
        return [self.activations(view) for view in (inputs, *mirrors)]

    def average(self, views: list[np.ndarray]) -> np.ndarray:
        """Return class probabilities (n, K) float64, the mean over the views."""
        return np.mean([self.label(view) for view in views], axis=0)

    def _frozen(self, inputs: np.ndarray) -> dict[str, np.ndarray]:
        if self.engine is None:
            raise RuntimeError("the classifier was loaded for its model alone")
        return self.engine(inputs)


@dataclass(frozen=True)
class LinearClassifier(Classifier):
    """A scikit-learn model on the pooled layers of the frozen network, side by side."""

    FILE: ClassVar[str] = "model.skops"
    model: "TemperatureScaled | Pipeline"

    @classmethod
    def load(cls, path: Path, report: Report, options: Trained | None) -> Self:
        """Return the classifier; the model is read while the engine starts, since both take seconds."""
        record = load_record(path)
        check_record(path, report, record)
        with ThreadPoolExecutor(1) as starting:
            engine = starting.submit(start_engine, path.parent, record, options) if options else None
            model, _ = load_model(path)
            return cls(path.parent, report, record, engine.result() if engine else None, model)

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers whose features the model takes."""
        return tuple(str(self.record["layer"]).split("+"))

    @property
    def head_inputs(self) -> list[tuple[str, str]]:
        """The layers of the network, each with its pooling, whose features the model takes."""
        return [layer_and_pooling(name, self.record["pooling"]) for name in self.layers]

    @property
    def steps(self) -> dict[str, Any]:
        """The fitted steps by their names, without the calibration."""
        fitted: Any = getattr(self.model, "estimator", self.model)
        return dict(fitted.steps)

    def activations(self, inputs: np.ndarray) -> np.ndarray:
        """Return features (n, D) float32, rounded as the run's feature file has them."""
        given = self._frozen(inputs)
        pooled = [pool(given[layer], pooling).reshape(len(inputs), -1) for layer, pooling in self.head_inputs]
        return np.hstack(pooled).astype(self.record["dtype"]).astype(np.float32)

    def label(self, activations: np.ndarray) -> np.ndarray:
        """Return class probabilities (n, K) float64 of features (n, D); 0 for a class without training images."""
        probabilities = np.zeros((len(activations), len(self.class_names)))
        probabilities[:, self.model.classes_] = self.model.predict_proba(activations)
        return probabilities / probabilities.sum(axis=1, keepdims=True)


@dataclass(frozen=True)
class NeuralClassifier(Classifier):
    """A trained Keras network on one layer of the frozen network, or on images."""

    FILE: ClassVar[str] = "model.json"
    model: "keras.Model"
    architecture: "Architecture"

    @classmethod
    def load(cls, path: Path, report: Report, options: Trained | None) -> Self:
        """Return the classifier, its network built anew and given its weights."""
        from thaw.models.neural.saved_network import load

        model, architecture, record = load(path)
        check_record(path, report, record)
        engine = start_engine(path.parent, record, options) if options and architecture.input_layer else None
        return cls(path.parent, report, record, engine, model, architecture)

    @property
    def layers(self) -> tuple[str, ...]:
        """The layer whose activations the network takes; none if it takes images."""
        return (self.architecture.input_layer,) if self.architecture.input_layer else ()

    @property
    def head_inputs(self) -> list[tuple[str, str]]:
        """The last layer, flattened, and the layer of the probe with its pooling if there is one."""
        if self.architecture.input_sides:
            return [(str(self.architecture.input_layer), "flat")]
        last, probe = get_backbone(self.record["backbone"]).layers[-1].name, self.architecture.probe
        return [(last, "flat"), *([(probe.layer, probe.pooling)] if probe else [])]

    def activations(self, inputs: np.ndarray) -> np.ndarray:
        """Return activations (n, H, W, C) float32, or the images as they are."""
        return self._frozen(inputs)[self.layers[0]] if self.layers else inputs

    def label(self, activations: np.ndarray) -> np.ndarray:
        """Return class probabilities (n, K) float64 of activations or images (n, H, W, C)."""
        from thaw.models.neural.prediction import predict

        return predict(self.model, iter([activations]))

    def whole_weights(self, source: str | None) -> Weights:
        """Return the trained layers' weights from the model, the others from the frozen network."""
        frozen = super().whole_weights(source) if self.layers else Weights({}, f"the model in {self.folder}", "")
        if self.architecture.input_sides:
            return frozen
        return taken_from(self.model, frozen, get_backbone(self.record["backbone"]))


def load_classifier(folder: Path, options: Trained | None = AS_TRAINED) -> Classifier:
    """Return the classifier of a result's folder, RUN/<name>; with `options` None only to use its model.

    Raises InputError if its model is missing, damaged or of another version of this program, or if the weights of the
    frozen network cannot be had.
    """
    report = read_report(folder / "report.json")
    kind = NeuralClassifier if report.strategy in NEURAL else LinearClassifier
    path = folder / kind.FILE
    if not path.exists():
        raise InputError(f"there is no model {path}; type: {remedy(path, report.strategy)}")
    return kind.load(path, report, options)
