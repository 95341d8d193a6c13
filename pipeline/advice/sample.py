"""What the measurements of `advise` share: the run's images in an order, and features of samples of them."""

import shutil
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from thaw.features.backbones.registry import get_backbone
from thaw.features.datasets.dataset import Dataset
from thaw.features.pooling import resolve_pooling
from thaw.features.store import FeatureFile
from thaw.models.selection.probing import HELD_OUT_ROWS, nested_order, probe_folds
from thaw.models.selection.search import Folds
from thaw.pipeline.cluster.client import connected
from thaw.pipeline.config import Shared
from thaw.pipeline.extraction.extract import make_features
from thaw.pipeline.extraction.feature_files import FeatureSet
from thaw.pipeline.run.data.image_size import median_side

FOLDER = "advice"


@dataclass(frozen=True)
class Sampled:
    """The N images of a run.

    Attributes:
        settings: of the run.
        dataset: the images.
        split: of each image, uint8 (N,).
        given: the names of the options that the user typed.
        groups: of each image, int64 (N,), which no fold divides; None without groups.
    """

    settings: Shared
    dataset: Dataset
    split: np.ndarray
    given: frozenset[str] = field(default_factory=frozenset)
    groups: np.ndarray | None = None

    @property
    def labels(self) -> np.ndarray:
        """The label of each image, int64 (N,)."""
        return self.dataset.labels

    @cached_property
    def median_side(self) -> float | None:
        """The median of the images' shorter sides, see median_side."""
        return median_side(self.dataset)

    @cached_property
    def order(self) -> np.ndarray:
        """The indices of the images that are not test, every beginning of them stratified by class."""
        rows = np.flatnonzero(self.split != 2)
        return rows[nested_order(self.labels[rows], self.settings.seed)]

    @property
    def folder(self) -> Path:
        """Where the samples' features lie until the advice is written."""
        return self.settings.run_folder / FOLDER

    def folds(self, rows: np.ndarray, num_held_out: int = HELD_OUT_ROWS) -> Folds:
        """Return the folds that probes of the images at `rows` (n,) are judged by, see probe_folds."""
        groups = None if self.groups is None else self.groups[rows]
        return probe_folds(self.labels[rows], groups, self.settings.seed, num_held_out)

    def sample(
        self,
        name: str,
        rows: np.ndarray,
        layers: Sequence[str],
        split: np.ndarray | None = None,
        of: Shared | None = None,
        **changed: object,
    ) -> Path:
        """Return the path of a feature file of some images, made unless it is there.

        Args:
            name: The file's name without its ending.
            rows: Indices (n,) of the images; the file's rows ascend.
            layers: Layers, or `layer:pooling`.
            split: The sample's own split, (n,) uint8.
            of: The settings of the feature set, the run's own unless given.
            changed: Settings in which it differs (weights, pooling).
        """
        own = of or self.settings
        update = {**changed, "layers": ",".join(layers), "dtype": "float32"}
        wanted = FeatureSet(own.model_copy(update=update), f"{FOLDER}/{name}.h5", is_sample=True)
        order = np.argsort(rows)
        images = self.dataset.take(rows[order].tolist())
        split = np.zeros(len(rows), np.uint8) if split is None else split[order]
        with nullcontext() if wanted.path.exists() else connected(wanted.settings) as client:
            return make_features(wanted.request(images, split), client)

    def clear(self) -> None:
        """Remove the samples' features."""
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass(frozen=True)
class Survey(Sampled):
    """The images that a whole feature set of the run holds, in the order of its rows, and the set's file."""

    features: FeatureFile = field(kw_only=True)

    @classmethod
    def of(cls, images: Sampled, settings: Shared, features: FeatureFile) -> "Survey":
        """Return the survey of a feature set of the run, given all its images, the set's settings and its file."""
        rows = [images.dataset.row_of[name] for name in features.ids]
        groups = None if images.groups is None else images.groups[rows]
        return cls(settings, images.dataset.take(rows), features.split, images.given, groups, features=features)

    @property
    def labels(self) -> np.ndarray:
        """The label of each image, as the feature set has it, int64 (N,)."""
        return self.features.labels

    @property
    def pools(self) -> tuple[str, ...]:
        """The names of the layers that are probed (poolings, ends of stages), from the image upwards."""
        return tuple(layer.name for layer in get_backbone(self.settings.backbone).probed)

    @cached_property
    def images_per_second(self) -> float:
        """The speed at which the network ran on one view of the images as the feature set was made."""
        seconds = float(self.features.attributes["seconds"]) / self.settings.num_views
        return len(self.features.ids) / max(0.1, seconds)

    def mask_of(self, rows: np.ndarray) -> np.ndarray:
        """Return (N,) bool that holds at the `rows` (n,) of the feature set, as its readers take them."""
        mask = np.zeros(len(self.features.ids), bool)
        mask[rows] = True
        return mask

    def has(self, layer: str, pooling: str) -> bool:
        """Return whether the feature set has a layer, or all that `+` joins, so pooled."""
        return has_layers(self.settings, layer, pooling)


def has_layers(settings: Shared, layer: str, pooling: str) -> bool:
    """Return whether the feature set of the settings has a layer, or all that `+` joins, pooled in that way."""
    layers = layer.split("+")
    if not set(layers) <= set(settings.layer_names):
        return False
    shapes = [get_backbone(settings.backbone).output_shape(name, settings.image_size) for name in layers]
    held = settings.pooling.replace("none", "flat")
    return all(resolve_pooling(pooling, shape) == resolve_pooling(held, shape) for shape in shapes)
