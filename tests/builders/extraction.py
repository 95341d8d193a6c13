"""An engine that gives mean colours, and requests for a feature file of them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from thaw.features.datasets.dataset import Dataset
from thaw.features.extraction.extraction import parts_folder
from thaw.features.extraction.spec import FeatureRequest, Preprocessing, StoredLayers


class MeanColour:
    """A stand-in for the network that counts its batches: one 2x2 map of the image's quadrants."""

    batch_size = 10

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        self.sizes.append(len(images))
        quadrants = images.reshape(len(images), 2, 16, 2, 16, 3).mean(axis=(2, 4))
        return {"colour": quadrants, "ends": images[:, ::31, ::31]}


def request(path: Path, dataset: Dataset, parts: str | None = None, **changes: Any) -> FeatureRequest:
    """Return a request for the mean colours of a dataset's images, with `changes` of it and its parts."""
    layers = StoredLayers({"colour": (12,), "ends": (12,)}, "auto")
    preprocessing = Preprocessing(32, "bilinear", "squash", "caffe")

    def changed(given: Any) -> Any:
        return replace(given, **{name: value for name, value in changes.items() if hasattr(given, name)})

    base = FeatureRequest(
        run=path.parent,
        path=path,
        dataset=dataset,
        split=split_of(dataset),
        layers=changed(layers),
        network=None,  # type: ignore[arg-type]
        preprocessing=changed(preprocessing),
        record={"weights_sha256": "w"},
        folder=parts_folder(path, parts),
        batch_size=MeanColour.batch_size,
    )
    return changed(base)


def split_of(dataset: Dataset) -> np.ndarray:
    """Return the split of each image in these requests, uint8 (N,)."""
    return (np.arange(len(dataset.ids)) % 3).astype(np.uint8)
