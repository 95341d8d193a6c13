"""What the advice may choose among: each network at hand at several image sizes, and what each would cost."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from thaw.features.backbones.image_size import SIZES, expected_seconds, fitting_image_size
from thaw.features.backbones.registry import BACKBONES, Backbone, get_backbone
from thaw.features.backbones.weights import at_hand
from thaw.features.pooling import resolve_pooling
from thaw.models.selection.probing import Probed, transformed
from thaw.pipeline.advice.sample import Sampled, has_layers
from thaw.pipeline.config import RUN_FIELDS, SET_FIELDS, Shared

log = logging.getLogger("thaw")

WORTHWHILE_GAIN = 0.005  # of accuracy: what is dearer or unusual has to be better by more
LARGER = 1.4  # times the network's own size: one size above it is tried
STEP = 32  # pixels; the larger size is a multiple of it
TOP_LAYERS, SMALL_SIZE = 3, 64  # pooling layers that are tried, from the top; above this size one fewer


class Setting(NamedTuple):
    """What is done to the activations of one image size; `layer` is one, or several joined by `+`."""

    layer: str
    pooling: str
    transform: str

    @property
    def names(self) -> list[str]:
        """Each layer with its pooling, as a sample is asked for it."""
        return [f"{layer}:{self.pooling}" for layer in self.layer.split("+")]


@dataclass(eq=False)
class Arm:
    """A network at an image size: its settings, and the features and probes of a sample of the images.

    Attributes:
        shared: the settings of its feature set.
        settings: what is tried of its activations.
        expected_seconds: what one image takes, estimated before it is tried.
        features: float32 (n, D) by name, of the images at `rows`.
        rows: indices (n,) of the images.
        reached: how many of the run's images, in their order, went into the sample; a few may be unreadable.
        seconds: what features and probes took together.
        extraction: what the features alone took, in seconds.
        probed: the probe of each setting.
        round: of the search, counted from 1.
    """

    shared: Shared
    settings: list[Setting]
    expected_seconds: float
    features: dict[str, np.ndarray] = field(default_factory=dict)
    rows: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    reached: int = 0
    seconds: float = 0.0
    extraction: float = 0.0
    probed: dict[Setting, Probed] = field(default_factory=dict)
    round: int = 0

    @property
    def name(self) -> str:
        """The name of its feature set."""
        return self.shared.feature_set

    @property
    def seconds_per_image(self) -> float:
        """What one image takes to extract: measured if there is a sample, else estimated."""
        return self.extraction / len(self.rows) if len(self.rows) else self.expected_seconds

    def values(self, setting: Setting) -> np.ndarray:
        """Return the features (n, D) of a setting, its layers side by side, transformed."""
        return transformed(np.concatenate([self.features[name] for name in setting.names], 1), setting.transform)

    @property
    def best(self) -> Setting:
        """The setting of the highest accuracy, the first of equals.

        One that the network's default feature set has is preferred to others that are better by half a point or less.
        """
        best = max(self.probed, key=lambda setting: self.probed[setting].accuracy)
        usual = [one for one in self.probed if has_layers(self.shared, one.layer, one.pooling)]
        own = max(usual, key=lambda setting: self.probed[setting].accuracy, default=best)
        return own if self.probed[own].accuracy >= self.probed[best].accuracy - WORTHWHILE_GAIN else best

    def best_settings(self, number: int) -> list[Setting]:
        """Return the settings of the highest accuracies, `best` among them."""
        ranked = sorted(self.probed, key=lambda setting: (setting != self.best, -self.probed[setting].accuracy))
        return ranked[:number]

    @property
    def accuracy(self) -> float:
        """The accuracy of the best setting."""
        return self.probed[self.best].accuracy

    @property
    def correct(self) -> np.ndarray:
        """Which held-out images (n,) bool the best setting labels correctly."""
        return self.probed[self.best].correct


def arms_of(images: Sampled) -> list[Arm]:
    """Return the arms to try, those of the run's own network first; the user's options are not searched over."""
    return [
        Arm(shared, settings_of(images, shared), _expected(shared))
        for name in _networks(images)
        for shared in _at_sizes(images, name)
    ]


def not_at_hand(images: Sampled) -> list[str]:
    """Return the networks that might be tried too if their weights were at hand."""
    if "backbone" in images.given or "weights" in images.given:
        return []
    return [name for name, backbone in BACKBONES.items() if not at_hand(backbone)]


def _networks(images: Sampled) -> list[str]:
    own = images.settings.backbone
    if images.given & {"backbone", "weights", "normalize", "layers"}:
        return [own]
    return [own, *(name for name, backbone in BACKBONES.items() if name != own and at_hand(backbone))]


def _at_sizes(images: Sampled, name: str) -> list[Shared]:
    own, backbone = images.settings, get_backbone(name)
    if "image_size" in images.given:
        sizes = [max(own.image_size, backbone.min_image_size)]
    elif own.resize == "article":  # whose resizing is for its own size
        sizes = [own.image_size]
    else:
        sizes = sizes_of(backbone, images.median_side or backbone.own_image_size, len(images.dataset.ids))
    if name == own.backbone:
        return [own.model_copy(update={"image_size": size, "features": "auto"}) for size in sizes]
    kept = {*RUN_FIELDS, "skip_bad", "max_pixels", "memory", "workers", "cluster", "engine", "device", "run"}
    kept |= images.given & set(SET_FIELDS)
    given = own.model_dump(include=kept, exclude_none=True)
    return [Shared.model_validate({**given, "backbone": name, "image_size": size}) for size in sizes]


def sizes_of(backbone: Backbone, side: float, num_images: int) -> list[int]:
    """Return the sizes at which a network is tried: what suits the images, its own, one above, and those beside.

    Args:
        backbone: The network.
        side: The median of the images' shorter sides, in pixels.
        num_images: The number of images.

    >>> sizes_of(get_backbone("vgg16"), 32, 10_000)
    [48, 64, 96, 224, 320]
    >>> sizes_of(get_backbone("efficientnet_lite0"), 240, 2000)
    [160, 224, 320]
    """
    own = backbone.own_image_size
    fitting = fitting_image_size(backbone, side, num_images)
    larger = STEP * round(LARGER * own / STEP)
    ladder = [size for size in SIZES if size >= max(fitting_image_size(backbone, 1, 1), backbone.min_image_size)]
    above = [size for size in ladder if fitting < size < own][:2]
    below = [size for size in ladder if size < own / LARGER**0.5][-1:] if fitting == own else []
    return sorted({fitting, own, larger, *above, *below})


def _expected(shared: Shared) -> float:
    backbone = get_backbone(shared.backbone)
    return shared.num_views * expected_seconds(backbone, shared.image_size, 100) / 100


def settings_of(images: Sampled, shared: Shared) -> list[Setting]:
    """Return what to try of a network at a size: layers alone and joined; for maps averages and square roots too."""
    backbone, size = get_backbone(shared.backbone), shared.image_size
    pools = [layer.name for layer in backbone.probed]
    top = TOP_LAYERS if size <= SMALL_SIZE and not backbone.averaged else TOP_LAYERS - 1
    layers: Sequence[str] = shared.layer_names if "layers" in images.given else pools[-top:]
    poolings = [shared.pooling] if "pooling" in images.given else list(dict.fromkeys([backbone.pooling("auto"), "avg"]))
    found = []
    for pooling in poolings:
        for layer in layers:
            found += _with_transforms(layer, pooling, resolve_pooling(pooling, backbone.output_shape(layer, size)))
        if len(layers) > 1:
            found += _with_transforms("+".join(layers), pooling, pooling)
    if len(layers) > 2 and poolings[0] == "auto":  # what the network's default layers have
        found += _with_transforms("+".join(layers[-2:]), "auto", "auto")
    return list(dict.fromkeys(found))


def _with_transforms(layer: str, pooling: str, resolved: str) -> list[Setting]:
    """Return a layer's settings; the square root is for maps, whose values are sparse, not for averages."""
    transforms = ("none",) if resolved in ("avg", "max") else ("none", "sqrt")
    return [Setting(layer, pooling, transform) for transform in transforms]


def set_of(arm: Arm) -> Shared:
    """Return the settings of the feature set that has the arm's best setting: the network's default if that has it."""
    layer, pooling, _ = arm.best
    if has_layers(arm.shared, layer, pooling):
        return arm.shared
    changed = {"layers": layer.replace("+", ","), "pooling": pooling}
    return arm.shared.model_copy(update=changed)
