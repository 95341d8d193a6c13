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

Key = tuple[Any, ...]
Outputs = Mapping[Key, Sequence[Mapping[str, np.ndarray]]]
"""The activations (n, H, W, C) of each network for each view of the images, by the name of the layer."""


def key_of(record: Mapping[str, Any]) -> Key:
    """Return what two records have alike if their features come from the same network on the same input."""
    return tuple(record[name] for name in OF_NETWORK)


def preprocessing_of(record: Mapping[str, Any]) -> Preprocessing:
    """Return how an image becomes the input of a record's network."""
    own = {name: record[name] for name in PREPARED_BY}
    return Preprocessing(**own, views=record.get("feature_views", "one"))


def layers_of(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the layers of the network, each with its pooling, whose features a record's model takes."""
    return [layer_and_pooling(name, record["pooling"]) for name in split_layers(str(record["layer"]))]


def features_of(record: Mapping[str, Any], outputs: Outputs) -> np.ndarray:
    """Return features (n, D) float32 of a record's layers side by side.

    They are averaged over the record's views, and rounded as its feature file has them.
    """
    views = outputs[key_of(record)][: num_views(record)]
    features = mean_over_views([_side_by_side(view, layers_of(record)) for view in views])
    return features.astype(record["dtype"]).astype(np.float32)


def num_views(record: Mapping[str, Any]) -> int:
    """Return how many views of an image a record's features are the mean of: itself, and its mirror."""
    return 2 if preprocessing_of(record).views == "flip" else 1


def _side_by_side(given: Mapping[str, np.ndarray], layers: Sequence[tuple[str, str]]) -> np.ndarray:
    pooled = [pool(given[layer], pooling) for layer, pooling in layers]
    return np.hstack([part.reshape(len(part), -1) for part in pooled])


@dataclass(frozen=True)
class FrozenNetworks:
    """The different networks that some feature sets come from, and their engines once these are started.

    The network input of an image is what its only network takes, float32 (S, S, 3); of several networks it is the
    inputs of all, each flattened, one after the other: float32 (V,).

    Attributes:
        records: of each network, by `key_of`: the record of a set, with the `engine_layers` of all its sets, and with
            the views `flip` if one of them has these.
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
            views = max(one, known, key=lambda record: record.get("feature_views") == "flip").get(
                "feature_views", "one"
            )
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

        A network also runs on the mirrors if one of its sets has the views `flip`.
        """
        if not self.engines:
            raise RuntimeError("the classifier was loaded for its model alone")
        prepared = self.preprocessings
        return {
            key: [self.engines[key](view) for view in prepared[key].views_of(part)]
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
