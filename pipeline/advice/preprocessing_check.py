"""A small probe under the run's preprocessing and under the network's own: which gives the better features."""

import logging
from collections.abc import Sequence

import numpy as np

from thaw.features.backbones.registry import get_backbone
from thaw.features.backbones.weights import load_weights
from thaw.features.datasets.dataset import Dataset
from thaw.features.engines.network import Network
from thaw.features.extraction.spec import Engine, Recipe
from thaw.features.pooling import layer_and_pooling
from thaw.features.store import FeatureFile
from thaw.models.audit.label_errors import few_of_each, judging_folds, out_of_fold
from thaw.models.metrics import compare
from thaw.pipeline.config import Shared
from thaw.pipeline.run.advice_json import Canary
from thaw.pipeline.run.run_json import another_run

log = logging.getLogger("thaw")

NUM_IMAGES = 500
LEAST_A_CLASS = 10


def compare_preprocessing(settings: Shared, features: FeatureFile, dataset: Dataset) -> Canary | None:
    """Return how a cross-validated probe does under the run's preprocessing and under the standard one.

    It is of at most 500 images that are not test, which go through the network anew, and warns where the run's is worse
    by more than chance. None where the run's is the standard one, or where there are too few images to tell.
    """
    standard = standard_preprocessing(settings)
    if (settings.resize, settings.normalize) == standard:
        return None
    most = max(2, NUM_IMAGES // LEAST_A_CLASS)
    rows = few_of_each(features.labels, features.split != 2, NUM_IMAGES, settings.seed, most)
    labels = features.labels[rows]
    folds = judging_folds(labels, features.groups_of(rows), settings.seed)
    if not folds:
        return None
    places = {name: place for place, name in enumerate(dataset.ids)}
    images, engine = [places[features.ids[row]] for row in rows], _start(settings, features)
    right = []
    for methods in ((settings.resize, settings.normalize), standard):
        values = _extract(engine, Recipe(settings.image_size, *methods, "avg", "float32", {}, {}), dataset, images)
        predicted = out_of_fold(values, labels, folds, len(features.class_names)).argmax(axis=1)
        right.append(predicted == labels)
    low, high = compare(*right)["ci95"]
    result = Canary(
        resize=settings.resize,
        normalize=settings.normalize,
        num_images=len(rows),
        accuracy=float(right[0].mean()),
        standard_accuracy=float(right[1].mean()),
        difference_interval=[low, high],
        worse=high < 0,
    )
    if result.worse:
        log.warning("%s", _warning(settings, result))
    return result


def standard_preprocessing(settings: Shared) -> tuple[str, str]:
    """Return the interpolation and the normalisation that the network was trained with."""
    return ("bilinear", get_backbone(settings.backbone).normalization)


def _start(settings: Shared, features: FeatureFile) -> Engine:
    """Return the engine that made the features, for the layers that it made."""
    backbone = get_backbone(settings.backbone)
    layers = tuple(dict.fromkeys(layer_and_pooling(name, settings.pooling)[0] for name in features.layers))
    weights = load_weights(settings.weights, backbone, settings.seed)
    network = Network(backbone, weights, layers, settings.image_size, settings.engine_precision)
    made_by, device = str(features.attributes["engine"]), str(features.attributes["device"])
    return network.start(made_by, min(settings.batch_size, NUM_IMAGES), device)


def _extract(engine: Engine, recipe: Recipe, dataset: Dataset, images: Sequence[int]) -> np.ndarray:
    """Return the layers of the images at those places, each averaged over its map, side by side: float32 (n, D)."""
    parts = []
    for start in range(0, len(images), engine.batch_size):
        inputs = np.stack([recipe.load(dataset, place) for place in images[start : start + engine.batch_size]])
        parts.append(np.hstack([values.mean(axis=(1, 2)) for values in engine(inputs).values()]))
    return np.concatenate(parts).astype(np.float32, copy=False)


def _warning(settings: Shared, canary: Canary) -> str:
    given = f"--resize {canary.resize} --normalize {canary.normalize}"
    standard = "--resize {} --normalize {}".format(*standard_preprocessing(settings))
    return (
        f"a probe of {canary.num_images} images is right on {canary.accuracy:.1%} with {given} and on "
        f"{canary.standard_accuracy:.1%} with the network's own preprocessing; start another run: "
        f"{another_run(settings.run_folder)} {standard}"
    )
