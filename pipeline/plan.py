"""What a neural stage is to train, worked out and checked before anything expensive is done."""

from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from features.backbones import Backbone, get_backbone
from features.errors import InputError
from features.store import FeatureFile
from features.weights import Weights, load_weights
from models import network
from models.network import Architecture
from models.recipes import Recipe, find_recipe
from models.training import compile_model
from pipeline.config import Finetune, Neural
from pipeline.warm_start import WarmStart, warm_start


@dataclass(frozen=True)
class Cut:
    """The layer whose activations come in (None: images) and the first that is trained (None: the head alone)."""

    input_layer: str | None
    unfreeze_from: str | None


@dataclass(frozen=True)
class Plan:
    """What is trained, from which weights, how, and on which rows of features.h5.

    `watched` names the rows of the learning curve: validation, or test under the article's recipe, where they choose
    nothing.
    """

    strategy: str
    architecture: Architecture
    weights: Weights
    recipe: Recipe
    training_rows: np.ndarray
    watched_rows: np.ndarray
    watched: str
    device: str
    start: WarmStart | None = None

    def build(self, seed: int) -> keras.Model:
        """Return the compiled network with the weights that training begins from."""
        probe = self.start.probe if self.start else None
        model = network.build(self.architecture, self.weights, seed, probe)
        backbone = get_backbone(self.architecture.backbone)
        top = backbone.convolutions[-1].stride
        depths = {layer.name: (top // layer.stride).bit_length() - 1 for layer in backbone.convolutions}
        compile_model(model, self.recipe, depths, on_gpu=self.device == "gpu")
        return model


def find_cut(backbone: Backbone, strategy: str, settings: Neural) -> Cut:
    """Return the strategy's cut.

    Raises InputError where the layer to unfreeze from is not there or no layer from there on has weights.
    """
    on_line = settings.augment == "standard"
    if strategy == "head":
        return Cut(None if on_line else backbone.layers[-1].name, None)
    if strategy == "scratch":
        return Cut(None, backbone.convolutions[0].name)
    unfreeze_from = settings.unfreeze_from if isinstance(settings, Finetune) else ""
    names = [layer.name for layer in backbone.layers]
    first = names.index(backbone.layer(unfreeze_from).name)
    above = [layer.name for layer in backbone.layers[first:] if layer.kind == "conv"]
    if not above:
        last = backbone.convolutions[-1].name
        raise InputError(
            f"--unfreeze-from {unfreeze_from}: no layer from there on has weights to train; expected {last} or "
            "an earlier layer, for example --unfreeze-from block5_conv1 (the head alone: make head)"
        )
    return Cut(None if on_line else backbone.input_of(above[0]), above[0])


def make_plan(
    settings: Neural,
    strategy: str,
    cut: Cut,
    features: FeatureFile,
    device: str,
    folder: Path,
) -> Plan:
    """Return the plan; raises InputError where the rows do not allow it."""
    article = settings.recipe == "article"
    _check_recipe_options(settings)
    training_rows = features.split != 2 if article else features.split == 0
    watched_rows = features.split == 2 if article else features.split == 1
    _check_rows(settings, features, training_rows, watched_rows)
    options = ("epochs", "learning_rate", "batch_size", "label_smoothing", "weight_decay", "patience")
    given = {name: getattr(settings, name) for name in options}
    recipe = find_recipe(settings.recipe, strategy, int(training_rows.sum()), **given)
    source = "random" if strategy == "scratch" else settings.weights
    weights = load_weights(source, get_backbone(settings.backbone), settings.seed)
    start = None
    if isinstance(settings, Finetune) and not article:
        start = warm_start(settings, features, cut.input_layer, folder)
    architecture = Architecture(
        settings.backbone,
        settings.image_size,
        len(features.class_names),
        cut.input_layer,
        cut.unfreeze_from,
        probe=start.shape if start else None,
        precision=_precision(settings, device),
    )
    watched = "test" if article else "validation"
    return Plan(strategy, architecture, weights, recipe, training_rows, watched_rows, watched, device, start)


def _check_recipe_options(settings: Neural) -> None:
    if settings.recipe == "article" and settings.patience is not None:
        raise InputError("--patience chooses by validation images and --recipe article has none; leave one of them out")


def _check_rows(settings: Neural, features: FeatureFile, training: np.ndarray, watched: np.ndarray) -> None:
    present = np.unique(features.labels[training])
    if len(present) < 2:
        raise InputError(
            f"only one class, {features.class_names[present[0]]!r}, has training images; expected two or more: add "
            "images of another class"
        )
    if not watched.any():
        raise InputError(
            "there are no validation images to stop by; add images, or type --recipe article, which chooses nothing"
        )
    num_training = int(training.sum())
    if settings.batch_size and settings.batch_size > num_training:
        raise InputError(
            f"--batch-size {settings.batch_size} is larger than the {num_training} training images; expected "
            f"{num_training} or less, for example --batch-size {max(1, min(256, num_training // 10))}"
        )


def _precision(settings: Neural, device: str) -> str:
    if settings.precision == "float32" or (
        settings.precision == "auto" and (device, settings.recipe) != ("gpu", "tuned")
    ):
        return "float32"
    return "mixed_float16" if device == "gpu" else "mixed_bfloat16"
