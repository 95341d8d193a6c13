"""The request for a feature file outside of any run, for the benchmarks of the extraction."""

from pathlib import Path

import numpy as np

from thaw.features.datasets.dataset import Dataset
from thaw.features.engines.network import Network
from thaw.features.extraction.extraction import parts_folder
from thaw.features.extraction.spec import FeatureRequest, Preprocessing, StoredLayers


def request_for(path: Path, dataset: Dataset, network: Network, batch_size: int) -> FeatureRequest:
    """Return the request for the layers of a network, with its own preprocessing, pooled by `auto`."""
    return FeatureRequest(
        run=path.parent,
        path=path,
        dataset=dataset,
        split=np.zeros(len(dataset.ids), np.uint8),
        layers=StoredLayers.of(network, network.layers, "auto", "float32"),
        network=network,
        preprocessing=Preprocessing(network.image_size, "bilinear", "squash", network.backbone.normalization),
        record={"dataset": dataset.name},
        folder=parts_folder(path, None),
        batch_size=batch_size,
    )
