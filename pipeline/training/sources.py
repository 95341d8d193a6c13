"""What a network trains on: cached activations from HDF5, or the images themselves, and whether they fit the memory."""

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from thaw.features.backbones.registry import get_backbone
from thaw.features.datasets.dataset import Dataset
from thaw.features.datasets.stream import ImageStream
from thaw.features.errors import InputError
from thaw.features.foreign.extractors import get_extractor
from thaw.features.pooling import resolve_pooling
from thaw.features.store import FeatureFile
from thaw.models.neural.batches import CachedActivations, Source
from thaw.models.neural.training import Samples, balanced
from thaw.pipeline.config import Common, Shared
from thaw.pipeline.extraction import extract
from thaw.pipeline.extraction.feature_files import activations_of
from thaw.pipeline.memory import memory_budget_mb
from thaw.pipeline.run.data.dataset import dataset_of
from thaw.pipeline.training.plan import Plan

log = logging.getLogger("thaw")

RUNTIME_MB = 700.0  # of TensorFlow, loaded and idle


@dataclass(frozen=True)
class Sources:
    """Where the samples of a plan come from.

    They are the images of `dataset`, or without one the activations of the network's input layer in `files`, one file
    for each view of the images.
    """

    plan: Plan
    files: Sequence[FeatureFile] = ()
    dataset: Dataset | None = None

    @property
    def description(self) -> str:
        """What the network is given."""
        architecture = self.plan.architecture
        if self.dataset is None:
            mirrored = ", of the images and their mirrors" if len(self.files) > 1 else ""
            return f"cached activations of {architecture.input_layer}{mirrored}"
        whole = architecture.unfreeze_from == get_backbone(architecture.backbone).trainable[0].name
        return f"images, through the {'whole network' if whole else 'frozen layers too'} in every epoch"

    def select(self, mask: np.ndarray, budget_mb: float, views: bool = True) -> Source:
        """Return the source of some images.

        Args:
            mask: (N,) bool, rows of the feature set.
            budget_mb: MB of activations that may be held in memory.
            views: whether each image comes in all the views that are cached, or as it is.
        """
        settings, architecture = self.plan.settings, self.plan.architecture
        if self.dataset is None:
            files, layer = self.files if views else self.files[:1], str(architecture.input_layer)
            return CachedActivations(files, layer, architecture.input_shape, mask, 1e6 * budget_mb)
        ids = [self.plan.features.ids[row] for row in np.flatnonzero(mask)]
        methods = (settings.resize, settings.aspect, settings.normalize)
        return ImageStream(self.dataset.subset(ids), range(len(ids)), settings.image_size, methods, settings.augment)

    def samples(self, mask: np.ndarray, budget_mb: float, views: bool = True) -> Samples:
        """Return the source of some images, see `select`, with their labels and the weights of the classes."""
        labels, num_classes = self.plan.features.labels[mask], len(self.plan.features.class_names)
        weights = balanced(labels, num_classes) if self.plan.settings.class_weight else None
        return Samples(self.select(mask, budget_mb, views), labels, num_classes, weights)


def open_sources(plan: Plan, shared: Shared, closing: ExitStack) -> Sources:
    """Return the samples of a plan; activations that are not cached yet are computed first.

    Nothing can be cached if images are changed at random or a network is trained from its first layer on. Then the
    images themselves come in.
    """
    settings, features, layer = plan.settings, plan.features, plan.architecture.input_layer
    if layer is None:
        dataset = dataset_of(settings)
        _check_same_images(dataset.digest(), settings.dataset, features)
        sources = Sources(plan, dataset=dataset)
        log.info("input: %s", sources.description)
        return sources
    engine = "keras" if settings.recipe == "article" else shared.engine
    paths = [_whole_activations(shared, features, layer, engine)]
    if settings.augment == "flip":
        paths.append(extract.extract(shared, activations_of(shared, layer, flip=True, engine=engine)))
    files = [closing.enter_context(FeatureFile(path)) for path in paths]
    for file in files:
        _check_same_images(str(file.attributes["dataset_sha256"]), str(file.path), features)
    return Sources(plan, files)


def _check_same_images(dataset_sha256: str, name: str, features: FeatureFile) -> None:
    if dataset_sha256 != features.attributes["dataset_sha256"]:
        raise InputError(
            f"{name} holds other images than {features.path} was made from; put them back, or remove {features.path} "
            "and type the command again"
        )


def _whole_activations(shared: Shared, features: FeatureFile, layer: str, engine: str) -> Path:
    """Return the file with every value of a layer by `engine`: that of the feature set, or one of their own."""
    same_engine = engine in ("auto", features.attributes["engine"])
    if same_engine and layer in features.layers and features.attributes["dtype"] == "float32":
        shape = get_extractor(shared.backbone, shared.weights).output_shape(layer, shared.image_size)
        if resolve_pooling(shared.pooling, shape) in ("flat", "none"):
            return features.path
    return extract.extract(shared, activations_of(shared, layer, engine=engine))


def activations_budget_mb(settings: Common, model: keras.Model, batch_size: int) -> float:
    """Return the MB that are left for activations beside the network in training.

    Raises InputError, with the MB that are needed, if the network alone does not fit.
    """
    trainable = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    total = sum(int(np.prod(weight.shape)) for weight in model.weights)
    outputs = sum(int(np.prod(layer.output.shape[1:])) for layer in model.layers)
    # Weights, best weights and their copy on writing; gradients and two moments; outputs and their gradients.
    needed = RUNTIME_MB + 4e-6 * (3 * total + 3 * trainable + 2 * batch_size * outputs)
    block = 4e-6 * 1024 * int(np.prod(model.input_shape[1:]))
    budget = memory_budget_mb(settings)
    if needed + block > budget:
        raise InputError(
            f"training this network needs about {needed + block:,.0f} MB and may use {budget:,.0f} MB; choose a "
            f"smaller --batch-size, or allow more by --memory {int(needed + block) + 1}"
        )
    return budget - needed
