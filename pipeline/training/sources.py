"""What a network trains on: cached activations from HDF5, or images on line, and whether they fit the memory."""

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import keras
import numpy as np

from thaw.features.backbones.registry import get_backbone
from thaw.features.datasets.dataset import Dataset, load_dataset
from thaw.features.datasets.stream import ImageStream
from thaw.features.errors import InputError
from thaw.features.pooling import resolve_pooling
from thaw.features.store import FeatureFile
from thaw.models.neural.batches import CachedActivations, Source
from thaw.pipeline.config import Neural, Shared
from thaw.pipeline.extraction import extract
from thaw.pipeline.extraction.feature_files import activations_of
from thaw.pipeline.training.memory import memory_budget_mb
from thaw.pipeline.training.outcome import Origin
from thaw.pipeline.training.plan import Cut

log = logging.getLogger("thaw")

RUNTIME_MB = 700.0  # of TensorFlow, loaded and idle


@dataclass(frozen=True)
class Sources:
    """The samples of the run, by the masks that they are asked for, and where they come from.

    They are the activations of `layer` in `files`, one per view of the images, or without one the images of `dataset`.
    """

    origin: Origin
    how: str
    features: FeatureFile
    settings: Neural
    layer: str | None = None
    files: Sequence[FeatureFile] = ()
    dataset: Dataset | None = None

    def select(self, mask: np.ndarray, budget_mb: float, views: bool = True) -> Source:
        """Return the source of the rows of features.h5 where `mask` holds; `budget_mb` bounds what it keeps.

        Without `views` each image comes as it is, else in all the views that are cached.
        """
        settings = self.settings
        if self.layer:
            shape = get_backbone(settings.backbone).output_shape(self.layer, settings.image_size)
            files = self.files if views else self.files[:1]
            return CachedActivations(files, self.layer, shape, mask, 1e6 * budget_mb)
        if self.dataset is None:
            raise RuntimeError("there are neither activations nor images to train on")
        places = {name: row for row, name in enumerate(self.dataset.ids)}
        rows = [places[self.features.ids[row]] for row in np.flatnonzero(mask)]
        methods = (settings.resize, settings.normalize)
        return ImageStream(self.dataset, rows, settings.image_size, methods, settings.augment)


def open_sources(settings: Neural, shared: Shared, cut: Cut, features: FeatureFile, closing: ExitStack) -> Sources:
    """Return the run's samples for the network; activations that are not cached yet are computed first.

    Random changes of the images leave nothing to cache, nor does a network that is trained from its first layer on:
    then the images themselves come in.
    """
    layer = cut.input_layer
    if layer is None:
        whole = cut.unfreeze_from == get_backbone(settings.backbone).trainable[0].name
        how = f"images, through the {'whole network' if whole else 'frozen layers too'} in every epoch"
        log.info("input: %s", how)
        device = str(features.attributes["device"])
        weights = str(features.attributes["weights_sha256"])
        origin = Origin(settings.backbone, weights_sha256=weights, engine="keras", device=device)
        dataset = load_dataset(settings.dataset, settings.data, settings.target, settings.max_pixels)
        _check_same_images(dataset.digest(), settings.dataset, features)
        return Sources(origin, how, features, settings, dataset=dataset)
    engine = "keras" if settings.recipe == "article" else shared.engine
    paths = [_whole_activations(shared, features, layer, engine)]
    if settings.augment == "flip":
        paths.append(extract.main(shared, activations_of(shared, layer, flip=True, engine=engine)))
    files = [closing.enter_context(FeatureFile(path)) for path in paths]
    for file in files:
        _check_same_images(str(file.attributes["dataset_sha256"]), str(file.path), features)
    origin = Origin.of(files[0], layer)
    seconds = sum(float(file.attributes["seconds"]) for file in files)
    how = f"cached activations of {layer}" + (", of the images and their mirrors" if len(files) > 1 else "")
    return Sources(replace(origin, feature_seconds=seconds), how, features, settings, layer, files)


def _check_same_images(dataset_sha256: str, where: str, features: FeatureFile) -> None:
    if dataset_sha256 != features.attributes["dataset_sha256"]:
        raise InputError(
            f"{where} holds other images than {features.path} was made from; put them back, or remove {features.path} "
            "and type the command again"
        )


def _whole_activations(shared: Shared, features: FeatureFile, layer: str, engine: str) -> Path:
    """Return the file with every value of a layer by `engine`: features.h5 where it has them, else one of their own."""
    same_engine = engine in ("auto", features.attributes["engine"])
    if same_engine and layer in features.layers and features.attributes["dtype"] == "float32":
        shape = get_backbone(shared.backbone).output_shape(layer, shared.image_size)
        if resolve_pooling(shared.pooling, shape) in ("flat", "none"):
            return features.path
    return extract.main(shared, activations_of(shared, layer, engine=engine))


def activations_budget_mb(settings: Neural, model: keras.Model, batch_size: int) -> float:
    """Return the MB that are left for activations beside the network in training.

    Raises InputError, which says how much is needed, where the network alone does not fit.
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
