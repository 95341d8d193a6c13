"""What is asked of an extraction: which images, through which network, prepared how, which layers, and where to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from thaw.features.datasets.dataset import Dataset
from thaw.features.datasets.remote import RemotePath
from thaw.features.engines.network import Network
from thaw.features.images.aspect import fit
from thaw.features.images.decode import LeastSide, least_side
from thaw.features.images.preprocess import neutral_colour, normalize
from thaw.features.pooling import layer_and_pooling, mean_over_views, pool, pooled_shape

PART_ROWS = 512
PART_BYTES = 2**26


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes network input, float32 (S, S, 3); `flip` if its mirror does.

    The border of `pad` becomes zero, which is also what the network's convolutions see beyond the edge of an image.
    Features are those of one view, or with the views `flip` the mean over the image and its mirror.
    """

    image_size: int
    resize: str
    aspect: str
    normalize: str
    flip: bool = False
    views: str = "one"

    @property
    def least_side(self) -> LeastSide | None:
        """The shorter side in pixels that a JPEG may be decoded at, None for its full size."""
        return least_side(self.image_size, self.resize, self.aspect)

    def load(self, dataset: Dataset, row: int) -> np.ndarray:
        """Return the network input of one image of a dataset, decoded now; raises InputError."""
        return self.prepare(dataset.read(row, self.least_side))

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """Return the network input of one decoded image, uint8 (H, W, 3)."""
        square = fit(image, self.image_size, self.resize, self.aspect, neutral_colour(self.normalize))
        inputs = normalize(square, self.normalize)
        return inputs[:, ::-1] if self.flip else inputs

    def views_of(self, inputs: np.ndarray) -> list[np.ndarray]:
        """Return the views, each (n, S, S, 3), whose features are averaged, of network input (n, S, S, 3)."""
        return [inputs, inputs[:, :, ::-1]] if self.views == "flip" else [inputs]


@dataclass(frozen=True)
class StoredLayers:
    """The layers of a feature file: `shapes` maps their names to the shape of one image's features, (D,) or (H, W, C).

    A name is that of a layer, pooled by `pooling`, or `layer:pooling`. `dtype` is the number type in the file.
    """

    shapes: Mapping[str, tuple[int, ...]]
    pooling: str
    dtype: str = "float32"

    @classmethod
    def of(cls, network: Network, names: tuple[str, ...], pooling: str, dtype: str) -> "StoredLayers":
        """Return the layers `names` of a network's activations, with their shapes."""
        shapes = {}
        for name in names:
            layer, own = layer_and_pooling(name, pooling)
            shapes[name] = pooled_shape(own, network.backbone.output_shape(layer, network.image_size))
        return cls(shapes, pooling, dtype)

    @property
    def image_bytes(self) -> int:
        """The bytes that one image's features take."""
        return np.dtype(self.dtype).itemsize * sum(int(np.prod(shape)) for shape in self.shapes.values())

    def part_rows(self, batch_size: int) -> int:
        """Return the images in a part: 512, or as many as fit 64 MiB, in whole batches and at least one batch."""
        return max(1, min(PART_ROWS, PART_BYTES // self.image_bytes) // batch_size) * batch_size

    def features_of(self, views: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """Return the features (n, ...) by name, the mean over the views, of activations (n, H, W, C) by layer."""
        pairs = {name: layer_and_pooling(name, self.pooling) for name in self.shapes}
        return {
            name: mean_over_views([pool(view[layer], own) for view in views]).astype(self.dtype)
            for name, (layer, own) in pairs.items()
        }


@dataclass(frozen=True, eq=False)
class FeatureRequest:
    """One feature file that is wanted.

    Attributes:
        run: The folder of the run that it belongs to.
        path: Where the file goes; its parts lie in `folder` until it is whole.
        dataset: The N images, in the order of the rows.
        split: uint8 (N,), the split of each image as an index into SPLITS.
        layers: What is stored of the network's activations.
        network: The frozen network that gives these.
        preprocessing: How an image becomes the network's input.
        record: Everything that determines the values (settings, digests); kept in the file.
        engine, device: What runs the network, `auto` too.
        batch_size: Images in one forward pass.
        skip_bad: If images that cannot be read are left out instead of ending the extraction.
        is_sample: If the images are some of a run's, whose engine was compared with Keras already; nothing is logged.
    """

    run: Path
    path: Path
    dataset: Dataset
    split: np.ndarray
    layers: StoredLayers
    network: Network
    preprocessing: Preprocessing
    record: Mapping[str, Any]
    folder: Path | RemotePath
    engine: str = "auto"
    device: str = "auto"
    batch_size: int = 64
    skip_bad: bool = False
    is_sample: bool = field(default=False, kw_only=True)

    def of_rows(self, rows: range) -> "FeatureRequest":
        """Return the request for some of the images; it can be sent to another machine without the others."""
        return replace(self, dataset=self.dataset.take(rows), split=self.split[rows.start : rows.stop])
