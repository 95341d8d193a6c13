"""What somebody who knows the tools gets by hand: ONNX Runtime, then scikit-learn's GridSearchCV, on a run's own split.

`python -m benchmarks.expert runs/flowers` prints one JSON object: accuracy on the test images, minutes, what was taken.
Nothing of the product computes here: it lends the list of images, the split, and the network as an ONNX file.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from thaw.features.backbones.registry import get_backbone
from thaw.features.backbones.weights import load_weights
from thaw.features.images.preprocess import normalize
from thaw.features.onnx.network import network_graph
from thaw.pipeline.config import Common
from thaw.pipeline.run.data.dataset import dataset_of
from thaw.pipeline.run.run_json import read_run
from thaw.pipeline.run.split_csv import read_split

PHOTOGRAPHS, SMALL = ("efficientnet_lite2", 260), ("vgg16", 64)  # what the experience of others says
SMALL_SIDE = 100  # pixels; smaller images are no photographs
BATCH = 32
VALUES = (1e-4, 1e-3, 1e-2, 1e-1)  # of C


def main(run: Path) -> dict[str, Any]:
    """Return what came of it."""
    began = time.perf_counter()
    stored = read_run(run)
    if stored is None:
        raise SystemExit(f"there is no run in {run}")
    dataset = dataset_of(Common.model_validate({**stored.settings, "run": run}))
    split = read_split(run / "split.csv", dataset)
    sides = [min(dataset.read(row).shape[:2]) for row in range(0, len(dataset.ids), max(1, len(dataset.ids) // 50))]
    name, size = SMALL if np.median(sides) < SMALL_SIDE else PHOTOGRAPHS
    features = np.concatenate(list(_features(dataset, name, size)))
    known, test = split != 2, split == 2
    search = GridSearchCV(
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=300)),
        {"logisticregression__C": VALUES},
        n_jobs=-1,
    )
    search.fit(features[known], dataset.labels[known])
    accuracy = float((search.predict(features[test]) == dataset.labels[test]).mean())
    return {
        "network": name,
        "image_size": size,
        "accuracy": accuracy,
        "minutes": round((time.perf_counter() - began) / 60, 2),
        **search.best_params_,
    }


def _features(dataset: Any, name: str, size: int) -> Any:
    """Yield features (n, D) of a batch: averages of the upper two stages, of VGG16 the map of block4_pool."""
    backbone = get_backbone(name)
    layers = tuple(layer.name for layer in backbone.probed[-2:])
    graph = network_graph(backbone, load_weights("imagenet", backbone), layers, size, BATCH)
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    inputs = session.get_inputs()[0].name
    for start in range(0, len(dataset.ids), BATCH):
        rows = range(start, min(start + BATCH, len(dataset.ids)))
        images = [Image.fromarray(dataset.read(row)).resize((size, size), Image.Resampling.BILINEAR) for row in rows]
        batch = np.stack([normalize(np.asarray(image, np.float32), backbone.normalization) for image in images])
        batch = np.ascontiguousarray(batch.transpose(0, 3, 1, 2))
        padded = np.concatenate([batch, np.zeros((BATCH - len(batch), *batch.shape[1:]), np.float32)])
        maps = session.run(None, {inputs: padded})
        yield np.concatenate([_pooled(part[: len(batch)], name) for part in (maps[:1] if name == "vgg16" else maps)], 1)


def _pooled(activations: np.ndarray, name: str) -> np.ndarray:
    return activations.reshape(len(activations), -1) if name == "vgg16" else activations.mean(axis=(2, 3))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.expert", description=__doc__)
    parser.add_argument("run", type=Path, help="folder of a run, whose images and split are taken")
    print(json.dumps(main(parser.parse_args().run)))
