"""What a neural stage is to train, worked out and checked before activations are computed or anything is trained."""

from dataclasses import dataclass, replace

import keras
import numpy as np

from thaw.features.backbones.registry import Backbone, get_backbone
from thaw.features.backbones.weights import Weights, load_weights
from thaw.features.errors import InputError
from thaw.features.store import FeatureFile
from thaw.models.neural import network
from thaw.models.neural.network import Architecture
from thaw.models.neural.recipes import Recipe, find_recipe
from thaw.models.neural.training import compile_model
from thaw.pipeline.config import Finetune, Neural
from thaw.pipeline.training.warm_start import WarmStart


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

    architecture: Architecture
    weights: Weights
    recipe: Recipe
    training_rows: np.ndarray
    watched_rows: np.ndarray
    watched: str
    device: str
    start: WarmStart | None = None
    from_scratch: bool = False

    def starting_from(self, start: WarmStart | None) -> "Plan":
        """Return the plan with a probe to begin from."""
        architecture = replace(self.architecture, probe=start.shape if start else None)
        return replace(self, architecture=architecture, start=start)

    def build(self, seed: int) -> keras.Model:
        """Return the compiled network with the weights that training begins from."""
        probe = self.start.probe if self.start else None
        model = network.build(self.architecture, self.weights, seed, probe, self.from_scratch)
        compile_model(model, self.recipe, network.depths(model, self.architecture), on_gpu=self.device == "gpu")
        return model


def find_cut(backbone: Backbone, strategy: str, settings: Neural) -> Cut:
    """Return the strategy's cut.

    Raises InputError where the layer to unfreeze from is not there or no layer from there on has weights.
    """
    on_line = settings.augment == "standard"
    if strategy == "head":
        return Cut(None if on_line else backbone.layers[-1].name, None)
    if strategy == "scratch":
        return Cut(None, backbone.trainable[0].name)
    unfreeze_from = settings.unfreeze_from if isinstance(settings, Finetune) else ""
    names = [layer.name for layer in backbone.layers]
    first = names.index(backbone.layer(unfreeze_from).name)
    above = [layer.name for layer in backbone.layers[first:] if layer.trainable]
    if not above:
        last = backbone.trainable[-1].name
        raise InputError(
            f"--unfreeze-from {unfreeze_from}: no layer from there on has weights to train; expected {last} or "
            f"an earlier layer, for example --unfreeze-from {backbone.default_cut} (the head alone: make head)"
        )
    return Cut(None if on_line else backbone.input_of(above[0]), above[0])


def make_plan(settings: Neural, strategy: str, cut: Cut, features: FeatureFile, device: str) -> Plan:
    """Return the plan, without a probe yet; raises InputError where the rows or the weights do not allow it."""
    training_rows, watched_rows = find_rows(settings, features)
    options = ("epochs", "learning_rate", "batch_size", "label_smoothing", "weight_decay", "patience")
    given = {name: getattr(settings, name) for name in options}
    recipe = find_recipe(settings.recipe, strategy, int(training_rows.sum()), **given)
    source = "random" if strategy == "scratch" else settings.weights
    weights = load_weights(source, get_backbone(settings.backbone), settings.seed)
    if strategy != "scratch" and weights.sha256 != features.attributes["weights_sha256"]:
        raise InputError(
            f"{features.path} was made with other weights than --weights {settings.weights} are now; remove it and "
            "type the command again, or put the weights back"
        )
    architecture = Architecture(
        settings.backbone,
        settings.image_size,
        len(features.class_names),
        cut.input_layer,
        cut.unfreeze_from,
        precision=_precision(settings, device),
    )
    watched = "test" if settings.recipe == "article" else "validation"
    scratch = strategy == "scratch"
    return Plan(architecture, weights, recipe, training_rows, watched_rows, watched, device, from_scratch=scratch)


def check_options(settings: Neural) -> None:
    """Raise InputError for options that exclude each other."""
    if settings.recipe != "article":
        return
    if settings.patience is not None:
        raise InputError("--patience chooses by validation images and --recipe article has none; leave one of them out")
    if isinstance(settings, Finetune) and settings.probe_layer not in ("auto", "none"):
        raise InputError("--recipe article begins with a random head, without --probe-layer; leave one of them out")


def find_rows(settings: Neural, features: FeatureFile) -> tuple[np.ndarray, np.ndarray]:
    """Return the masks (N,) of the training rows and of those that the learning curve is of.

    Raises InputError where there are too few of either.
    """
    article = settings.recipe == "article"
    training = features.split != 2 if article else features.split == 0
    watched = features.split == 2 if article else features.split == 1
    present = np.unique(features.labels[training])
    if len(present) < 2:
        found = f"only one class, {features.class_names[present[0]]!r}, has" if len(present) else "no class has"
        raise InputError(f"{found} training images; expected two or more: add images of another class")
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
    return training, watched


def _precision(settings: Neural, device: str) -> str:
    if settings.precision == "float32" or (
        settings.precision == "auto" and (device, settings.recipe) != ("gpu", "tuned")
    ):
        return "float32"
    if settings.precision in ("bfloat16", "float16"):
        return f"mixed_{settings.precision}"
    return "mixed_float16" if device == "gpu" else "mixed_bfloat16"
