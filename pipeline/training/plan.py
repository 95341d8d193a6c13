"""What a neural stage is to train, worked out and checked before activations are computed or anything is trained."""

from dataclasses import dataclass, replace

import keras
import numpy as np

from thaw.features.backbones.registry import Backbone
from thaw.features.backbones.weights import Weights
from thaw.features.errors import InputError
from thaw.features.foreign.extractors import get_extractor, is_foreign, trainable_backbone, weights_of
from thaw.features.store import FeatureFile
from thaw.models.neural import network
from thaw.models.neural.network import Architecture
from thaw.models.neural.optimizers import compile_model
from thaw.models.neural.recipes import Recipe, find_recipe
from thaw.pipeline.config import Finetune, Neural
from thaw.pipeline.training.linear_choice import check_two_classes
from thaw.pipeline.training.warm_start import WarmStart


@dataclass(frozen=True)
class Plan:
    """What is trained, from which weights, how, and on which images.

    Attributes:
        settings: those of the stage.
        strategy: head, finetune or scratch.
        features: the run's feature file, for labels, ids and splits.
        architecture: of the network.
        weights: of the backbone.
        recipe: how it is trained.
        training_rows: mask (N,) of the images that it is trained on.
        watched_rows: mask (N,) of the images that the learning curve is of.
        device: cpu or gpu.
        start: the probe to begin from, if any.
    """

    settings: Neural
    strategy: str
    features: FeatureFile
    architecture: Architecture
    weights: Weights
    recipe: Recipe
    training_rows: np.ndarray
    watched_rows: np.ndarray
    device: str
    start: WarmStart | None = None

    @property
    def watched(self) -> str:
        """The split that the learning curve is of: test under the article's recipe, in which it chooses nothing."""
        return "test" if self.settings.recipe == "article" else "validation"

    @property
    def probe_seconds(self) -> float:
        """What the fit of the probe took."""
        return self.start.seconds if self.start else 0.0

    def starting_from(self, start: WarmStart | None) -> "Plan":
        """Return the plan with a probe to begin from."""
        architecture = replace(self.architecture, probe=start.shape if start else None)
        return replace(self, architecture=architecture, start=start)

    def build(self) -> keras.Model:
        """Return the compiled network with the weights that training begins from."""
        probe = self.start.probe if self.start else None
        from_scratch = self.strategy == "scratch"
        model = network.build(self.architecture, self.weights, self.settings.seed, probe, from_scratch)
        compile_model(model, self.recipe, network.depths(model, self.architecture), on_gpu=self.device == "gpu")
        return model


def find_cut(settings: Neural, strategy: str) -> tuple[str | None, str | None]:
    """Return where a strategy cuts the network.

    Returns:
        The layer whose activations come in (None: images) and the first layer that is trained (None: the head alone).

    Raises:
        InputError: if the layer to unfreeze from does not exist, no layer from there on has weights, or the network
            has none that training can begin from.
    """
    if is_foreign(settings.backbone) and strategy == "head" and settings.augment != "standard":
        return settings.layer_names[-1].partition(":")[0], None
    backbone = trainable_backbone(settings.backbone, strategy if strategy != "head" else "head --augment standard")
    if isinstance(settings, Finetune):
        _check_cuts(backbone)
    if strategy == "scratch":
        return None, backbone.trainable[0].name
    if isinstance(settings, Finetune):
        first_trained = _first_with_weights(backbone, settings.unfreeze_from)
        input_layer = backbone.input_of(first_trained)
    else:
        first_trained, input_layer = None, backbone.layers[-1].name
    return None if settings.augment == "standard" else input_layer, first_trained


def _check_cuts(backbone: Backbone) -> None:
    if not backbone.is_fine_tuned:
        raise InputError(
            f"{backbone.name} is not fine-tuned: no layer in its upper part has all above it depend on it alone, since "
            "each block takes the outputs of the two before it; type make head or make logreg, or take another network"
        )


def _first_with_weights(backbone: Backbone, unfreeze_from: str) -> str:
    """Return the name of the first layer from `unfreeze_from` on that can be trained."""
    first = backbone.layers.index(backbone.layer(unfreeze_from))
    above = [layer.name for layer in backbone.layers[first:] if layer.trainable]
    if not above:
        raise InputError(
            f"--unfreeze-from {unfreeze_from}: no layer from there on has weights to train; expected "
            f"{backbone.trainable[-1].name} or an earlier layer, for example --unfreeze-from {backbone.default_cut} "
            "(the head alone: make head)"
        )
    return above[0]


def make_plan(settings: Neural, strategy: str, features: FeatureFile, device: str) -> Plan:
    """Return the plan, without a probe yet; raises InputError if the rows or the weights do not allow it."""
    training_rows, watched_rows = find_rows(settings, features)
    options = ("epochs", "learning_rate", "label_smoothing", "weight_decay", "patience")
    given = {name: getattr(settings, name) for name in options} | {"batch_size": settings.training_batch_size}
    recipe = find_recipe(settings.recipe, strategy, int(training_rows.sum()), **given)
    source = "random" if strategy == "scratch" else settings.weights
    extractor = get_extractor(settings.backbone, source)
    weights = weights_of(extractor, source, settings.seed)
    if strategy != "scratch" and weights.sha256 != features.attributes["weights_sha256"]:
        raise InputError(
            f"{features.path} was made with other weights than --weights {settings.weights} are now; remove it and "
            "type the command again, or put the weights back"
        )
    input_layer, first_trained = find_cut(settings, strategy)
    has_sides = is_foreign(settings.backbone) and input_layer is not None
    architecture = Architecture(
        *(settings.backbone, settings.image_size, len(features.class_names), input_layer, first_trained),
        precision=_precision(settings, device),
        input_sides=extractor.output_shape(str(input_layer), settings.image_size) if has_sides else None,
    )
    return Plan(settings, strategy, features, architecture, weights, recipe, training_rows, watched_rows, device)


def check_options(settings: Neural, strategy: str) -> None:
    """Raise InputError for options that exclude each other or are not for networks, and for an impossible cut."""
    if settings.recipe == "article":
        if settings.patience is not None:
            raise InputError(
                "--patience chooses by validation images and --recipe article has none; leave one of them out"
            )
        if isinstance(settings, Finetune) and settings.probe_layer not in ("auto", "none"):
            raise InputError("--recipe article begins with a random head, without --probe-layer; leave one of them out")
    if settings.views == "flip":
        raise InputError(
            f"{settings.feature_set} holds the mean features of images and their mirrors (--views flip), and "
            f"{strategy} learns from images as they are; add --views one, and --augment flip to learn from mirrors too"
        )
    find_cut(settings, strategy)


def find_rows(settings: Neural, features: FeatureFile) -> tuple[np.ndarray, np.ndarray]:
    """Return the masks (N,) of the images to train on and of those for the learning curve.

    Raises InputError if there are too few of either.
    """
    split = features.split
    training, watched = (split != 2, split == 2) if settings.recipe == "article" else (split == 0, split == 1)
    check_two_classes(features.labels[training], features.class_names, "training images")
    if not watched.any():
        raise InputError(
            "there are no validation images to stop by; add images, or type --recipe article, which chooses nothing"
        )
    num_training, batch_size = int(training.sum()), settings.training_batch_size
    if batch_size and batch_size > num_training:
        raise InputError(
            f"--batch-size {batch_size} is larger than the {num_training} training images; expected "
            f"{num_training} or less, for example --batch-size {max(1, min(256, num_training // 10))}"
        )
    return training, watched


def _precision(settings: Neural, device: str) -> str:
    """Return the dtype policy of Keras for --precision."""
    if settings.precision in ("bfloat16", "float16"):
        return f"mixed_{settings.precision}"
    on_gpu = device == "gpu"
    if settings.precision == "mixed" or (settings.precision == "auto" and on_gpu and settings.recipe == "tuned"):
        return "mixed_float16" if on_gpu else "mixed_bfloat16"
    return "float32"
