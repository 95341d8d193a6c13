"""What the measurements of `advise` share: the run, its rows in an order, and features of samples of them."""

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
from thaw.pipeline.run.data.dataset import dataset_of

FOLDER = "advice"


@dataclass(frozen=True)
class Survey:
    """A run whose feature set is there, and the options that the user gave, which are not searched over."""

    settings: Shared
    features: FeatureFile
    given: frozenset[str] = field(default_factory=frozenset)

    @cached_property
    def order(self) -> np.ndarray:
        """The rows of the feature set that are not test, every beginning of them stratified by class."""
        rows = np.flatnonzero(self.features.split != 2)
        return rows[nested_order(self.features.labels[rows], self.settings.seed)]

    @cached_property
    def dataset(self) -> Dataset:
        """The run's data set, listed once for all samples."""
        return dataset_of(self.settings)

    @property
    def folder(self) -> Path:
        """Where the samples' features lie until the advice is written."""
        return self.settings.run_folder / FOLDER

    @property
    def pools(self) -> tuple[str, ...]:
        """The names of the layers that are probed (poolings, ends of stages), from the image upwards."""
        return tuple(layer.name for layer in get_backbone(self.settings.backbone).probed)

    @cached_property
    def images_per_second(self) -> float:
        """The speed at which the run's own features were made."""
        return len(self.features.ids) / max(0.1, float(self.features.attributes["seconds"]))

    def speed_at(self, image_size: int) -> float:
        """Return the images per second to be expected at another size: the cost is that of the pixels."""
        return self.images_per_second * (self.settings.image_size / image_size) ** 2

    def folds(self, rows: np.ndarray, num_held_out: int = HELD_OUT_ROWS) -> Folds:
        """Return the folds that probes of the images at `rows` (n,) are judged by, see probe_folds."""
        labels, groups = self.features.labels[rows], self.features.groups_of(rows)
        return probe_folds(labels, groups, self.settings.seed, num_held_out)

    def mask_of(self, rows: np.ndarray) -> np.ndarray:
        """Return (N,) bool that holds at the `rows` (n,) of the feature set, as its readers take them."""
        mask = np.zeros(len(self.features.ids), bool)
        mask[rows] = True
        return mask

    def has(self, image_size: int, layer: str, pooling: str) -> bool:
        """Return whether the feature set has a layer, or all that `+` joins, so pooled, of images of that size."""
        own, layers = self.settings, layer.split("+")
        if image_size != own.image_size or not set(layers) <= set(self.features.layers):
            return False
        shapes = [get_backbone(own.backbone).output_shape(name, image_size) for name in layers]
        held = own.pooling.replace("none", "flat")
        return all(resolve_pooling(pooling, shape) == resolve_pooling(held, shape) for shape in shapes)

    def sample(
        self,
        name: str,
        rows: np.ndarray,
        layers: Sequence[str],
        split: np.ndarray | None = None,
        **changed: object,
    ) -> Path:
        """Return the path of a feature file of the images at `rows` (n,) of the feature set, made unless it is there.

        `layers` are layers, or `layer:pooling`; `split` (n,) uint8 is the sample's own split; `changed` are settings in
        which it differs (image_size, weights, pooling). The file's rows are in the order of the feature set.
        """
        given = {"layers": ",".join(layers), "dtype": "float32", "engine": str(self.features.attributes["engine"])}
        wanted = FeatureSet(
            self.settings.model_copy(update={**changed, **given}), f"{FOLDER}/{name}.h5", is_sample=True
        )
        order = np.argsort(rows)
        images = self.dataset.subset([self.features.ids[row] for row in rows[order]])
        split = np.zeros(len(rows), np.uint8) if split is None else split[order]
        with nullcontext() if wanted.path.exists() else connected(wanted.settings) as client:
            return make_features(wanted.request(images, split), client)

    def clear(self) -> None:
        """Remove the samples' features."""
        shutil.rmtree(self.folder, ignore_errors=True)
