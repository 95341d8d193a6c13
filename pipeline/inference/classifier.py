"""A result of a run as one object: images in, class probabilities out, by the same steps as in its training."""

from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from thaw.features.backbones.registry import get_backbone
from thaw.features.backbones.weights import Weights, taken_from
from thaw.features.extraction.spec import Preprocessing
from thaw.features.pooling import split_layers
from thaw.models.artifacts import load_model, load_record
from thaw.pipeline.config import Trained
from thaw.pipeline.inference.frozen_network import frozen_weights
from thaw.pipeline.inference.networks import FrozenNetworks, Outputs, features_of, layers_of, preprocessing_of
from thaw.pipeline.inference.trained import check_record
from thaw.pipeline.run.model_record import JoinedRecord, ModelRecord
from thaw.pipeline.run.report_json import Report

if TYPE_CHECKING:
    import keras
    from sklearn.pipeline import Pipeline

    from thaw.models.calibration import TemperatureScaled
    from thaw.models.neural.network import Architecture


@dataclass(frozen=True)
class Classifier(ABC):
    """A result that labels images: a model, and below it frozen networks unless the model itself takes images.

    Attributes:
        folder: The result's folder, RUN/<name>.
        report: The content of its report.json.
        record: The settings of the training, which the model's file holds.
        networks: Run with all the layers of the training: the numbers differ a little with them. Their engines are
            missing without a frozen network, or if the classifier was loaded for its model alone.
    """

    FILE: ClassVar[str]
    folder: Path
    report: Report
    record: dict[str, Any]
    networks: FrozenNetworks = field(repr=False)

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
        """Return what the model takes, float32, for network input that `read` returned, n <= `batch_size` of it."""

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
        return min(int(record["batch_size"]) for record in self.networks.records.values())

    @property
    def preprocessing(self) -> Preprocessing:
        """How an image becomes the input of the model's only network."""
        return preprocessing_of(self.record)

    def read(self, source: Path | bytes, name: str, max_pixels: int) -> np.ndarray:
        """Return the network input of one image, as `FrozenNetworks.read` does."""
        return self.networks.read(source, name, max_pixels)

    def views(self, inputs: np.ndarray) -> list[np.ndarray]:
        """Return what the model takes for each view of the images: themselves, and their mirrors if it learned both."""
        mirrors = [inputs[:, :, ::-1]] if self.record.get("views") == 2 else []  # joined sets have one view
        return [self.activations(view) for view in (inputs, *mirrors)]

    def average(self, views: list[np.ndarray]) -> np.ndarray:
        """Return class probabilities (n, K) float64, the mean over the views."""
        return np.mean([self.label(view) for view in views], axis=0)


@dataclass(frozen=True)
class LinearClassifier(Classifier):
    """A scikit-learn model on the pooled layers of the frozen network, side by side."""

    FILE: ClassVar[str] = "model.skops"
    model: "TemperatureScaled | Pipeline"

    @classmethod
    def load(cls, path: Path, report: Report, options: Trained | None) -> Self:
        """Return the classifier; the model is read while the engine starts, since both take seconds."""
        record = load_record(path)
        check_record(path, report, record, JoinedRecord if "sets" in record else ModelRecord)
        networks = FrozenNetworks.of(record.get("sets", [record]))
        with ThreadPoolExecutor(1) as starting:
            engines = starting.submit(networks.start, path.parent, options) if options else None
            model, _ = load_model(path)
            return cls(path.parent, report, record, engines.result() if engines else networks, model)

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers whose features the model takes, of several sets as `set/layer`."""
        return tuple(split_layers(str(self.record["layer"])))

    @property
    def head_inputs(self) -> list[tuple[str, str]]:
        """The layers of the networks, each with its pooling, whose features the model takes."""
        return [pair for one in self.sets for pair in layers_of(one)]

    @property
    def sets(self) -> tuple[dict[str, Any], ...]:
        """The record of each feature set whose layers the model takes side by side."""
        return tuple(self.record.get("sets", (self.record,)))

    @property
    def num_features(self) -> int:
        """The number D of features that the model takes."""
        return int(self.steps["scale"].n_features_in_)

    @property
    def steps(self) -> dict[str, Any]:
        """The fitted steps by their names, without the calibration."""
        fitted: Any = getattr(self.model, "estimator", self.model)
        return dict(fitted.steps)

    def activations(self, inputs: np.ndarray) -> np.ndarray:
        """Return features (n, D) float32, rounded as the run's feature file has them."""
        return self.features(self.networks(inputs))

    def features(self, outputs: Outputs) -> np.ndarray:
        """Return features (n, D) float32 of the networks' activations."""
        return np.hstack([features_of(one, outputs) for one in self.sets])

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
        networks = FrozenNetworks.of([record])
        if options and architecture.input_layer:
            networks = networks.start(path.parent, options)
        return cls(path.parent, report, record, networks, model, architecture)

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
        if not self.layers:
            return inputs
        [[outputs]] = self.networks(inputs).values()
        return outputs[self.layers[0]]

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
