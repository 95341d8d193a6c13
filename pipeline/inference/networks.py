"""The frozen networks below a model: each is run once on an image, whoever takes its layers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from thaw.features.engines.network import Engine
from thaw.features.errors import InputError
from thaw.features.extraction.spec import Preprocessing
from thaw.features.images.decode import decode
from thaw.features.pooling import layer_and_pooling, mean_over_views, pool, split_layers
from thaw.pipeline.config import Trained
from thaw.pipeline.inference.frozen_network import start_engine

PREPARED_BY = ("image_size", "resize", "aspect", "normalize")
OF_NETWORK = ("backbone", "weights", "weights_sha256", "seed", *PREPARED_BY, "engine", "engine_precision")
"""The fields of a model's record that make a network what it is; two sets with equal ones share it."""
BOTH_VIEWS = "flip"  # the features are the mean over an image and its mirror

Key = tuple[Any, ...]
Outputs = Mapping[Key, Sequence[Mapping[str, np.ndarray]]]
"""Of each network the activations (n, H, W, C) by the name of the layer: of the images, and if a set takes the mean of
both views also of their mirrors."""


def key_of(record: Mapping[str, Any]) -> Key:
    """Return what two records have alike if their features come from the same network on the same input."""
    return tuple(record[name] for name in OF_NETWORK)


def feature_views(record: Mapping[str, Any]) -> str:
    """Return the views, one or flip, whose mean a record's features are; one if it is of a version without the field.

    A record of joined sets has them for each set.
    """
    return str(record.get("feature_views", "one"))


def preprocessing_of(record: Mapping[str, Any]) -> Preprocessing:
    """Return how an image becomes the input of a record's network."""
    return Preprocessing(**{name: record[name] for name in PREPARED_BY}, views=feature_views(record))


def layers_of(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the layers of the network, each with its pooling, whose features a record's model takes."""
    return [layer_and_pooling(name, record["pooling"]) for name in split_layers(str(record["layer"]))]


def features_of(record: Mapping[str, Any], outputs: Outputs) -> np.ndarray:
    """Return features (n, D) float32 of a record's layers side by side, as its feature file has them.

    They are the mean over the record's views, rounded to its number type; of several views and one that is taken, the
    first is the images'.
    """
    images, *mirrors = outputs[key_of(record)]
    views = [images, *mirrors] if feature_views(record) == BOTH_VIEWS else [images]
    rows = mean_over_views([_pooled(record, view) for view in views])
    return rows.astype(record["dtype"]).astype(np.float32)


def _pooled(record: Mapping[str, Any], activations: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the features (n, D) of a record's layers side by side, of one view."""
    pooled = [pool(activations[layer], pooling) for layer, pooling in layers_of(record)]
    return np.hstack([part.reshape(len(part), -1) for part in pooled])


@dataclass(frozen=True)
class FrozenNetworks:
    """The different networks that some feature sets come from, and their engines once these are started.

    The network input of an image is what its only network takes, float32 (S, S, 3); of several networks it is the
    inputs of all, each flattened, one after the other: float32 (V,).

    Attributes:
        records: of each network, by `key_of`: the record of a set, with the `engine_layers` of all its sets, and with
            the `feature_views` flip if one of its sets has them.
        engines: by the same keys; none if the model is loaded for itself alone.
    """

    records: Mapping[Key, Mapping[str, Any]]
    engines: Mapping[Key, Engine]

    @classmethod
    def of(cls, sets: Sequence[Mapping[str, Any]]) -> Self:
        """Return the networks of the records of feature sets, without engines."""
        records: dict[Key, Mapping[str, Any]] = {}
        for one in sets:
            known = records.get(key_of(one), {"engine_layers": []})
            layers = list(dict.fromkeys([*known["engine_layers"], *one["engine_layers"]]))
            views = BOTH_VIEWS if BOTH_VIEWS in (feature_views(known), feature_views(one)) else "one"
            records[key_of(one)] = {**one, "engine_layers": layers, "feature_views": views}
        return cls(records, {})

    def start(self, folder: Path, options: Trained) -> Self:
        """Return the networks with their engines; raises InputError if one cannot be had.

        Args:
            folder: of the result, for messages.
            options: of the stage.
        """
        self.check_source(folder, options.weights)
        engines = {key: start_engine(folder, dict(record), options) for key, record in self.records.items()}
        return replace(self, engines=engines)

    def check_source(self, folder: Path, source: str | None) -> None:
        """Raise InputError if a file of weights is given, and the model in `folder` has several networks."""
        if source and len(self.records) > 1:
            names = ", ".join(str(record["backbone"]) for record in self.records.values())
            raise InputError(
                f"--weights {source} is the file of one network, and the model in {folder} has several ({names}); put "
                "the files back, and leave --weights out"
            )

    @property
    def preprocessings(self) -> dict[Key, Preprocessing]:
        """How an image becomes the input of each network."""
        return {key: preprocessing_of(record) for key, record in self.records.items()}

    def read(self, source: Path | bytes, name: str, max_pixels: int) -> np.ndarray:
        """Return the network input of an image.

        Args:
            source: its path, or the bytes of its file.
            name: what errors call it.
            max_pixels: the most pixels that are accepted.

        Raises:
            InputError: it cannot be read.
        """
        white = next(iter(self.records.values())).get("white")  # of the run: all its sets have the same
        sizes = {each.least_side: each for each in self.preprocessings.values()}
        images = {least: decode(source, name, max_pixels, least, white) for least in sizes}
        inputs = [each.prepare(images[each.least_side]) for each in self.preprocessings.values()]
        return inputs[0] if len(inputs) == 1 else np.concatenate([one.reshape(-1) for one in inputs])

    def __call__(self, inputs: np.ndarray) -> Outputs:
        """Return the activations of some images by their network input, (n, S, S, 3), or (n, V) of several networks.

        A network runs once on the images, and once on their mirrors if a set takes the mean over both.
        """
        if not self.engines:
            raise RuntimeError("the classifier was loaded for its model alone")
        ways = self.preprocessings
        return {
            key: [self.engines[key](view) for view in ways[key].views_of(part)]
            for key, part in self._divided(inputs).items()
        }

    def _divided(self, inputs: np.ndarray) -> dict[Key, np.ndarray]:
        if len(self.records) == 1:
            return dict.fromkeys(self.records, inputs)
        parts, start = {}, 0
        for key, record in self.records.items():
            side = record["image_size"]
            parts[key] = inputs[:, start : start + side * side * 3].reshape(-1, side, side, 3)
            start += side * side * 3
        return parts
