"""A probe of a few images under the run's preprocessing and under the network's own: which features are better."""

import logging

import numpy as np

from thaw.features.backbones.registry import get_backbone
from thaw.features.backbones.weights import load_weights
from thaw.features.datasets.dataset import Dataset
from thaw.features.engines.network import Engine, Network
from thaw.features.extraction.spec import Preprocessing
from thaw.features.pooling import layer_and_pooling
from thaw.features.store import FeatureFile
from thaw.models.audit.label_errors import few_of_each, judging_folds, out_of_fold
from thaw.models.metrics import compare
from thaw.pipeline.config import Shared
from thaw.pipeline.run.advice_json import PreprocessingCheck
from thaw.pipeline.run.run_json import another_run

log = logging.getLogger("thaw")

NUM_IMAGES = 500
FEWEST_PER_CLASS = 10


def compare_preprocessing(settings: Shared, features: FeatureFile, dataset: Dataset) -> PreprocessingCheck | None:
    """Cross-validate a probe under the run's preprocessing and under the standard one; warn if the run's is worse.

    At most 500 images that are not test go through the network again. Worse is by more than chance. What becomes of
    images that are not square is not compared: it is the run's in both.

    Args:
        settings: The run.
        features: Its feature set.
        dataset: The images.

    Returns:
        The comparison; None if the run's preprocessing is the standard one, or if there are too few images to tell.
    """
    standard = standard_preprocessing(settings)
    if (settings.resize, settings.normalize) == standard:
        return None
    most_classes = max(2, NUM_IMAGES // FEWEST_PER_CLASS)
    rows = few_of_each(features.labels, features.split != 2, NUM_IMAGES, settings.seed, most_classes)
    labels = features.labels[rows]
    folds = judging_folds(labels, features.groups_of(rows), settings.seed)
    if not folds:
        return None
    images, engine = dataset.subset([features.ids[row] for row in rows]), _start(settings, features)
    correct = []
    for methods in ((settings.resize, settings.normalize), standard):
        resize, normalize = methods
        values = _extract(engine, Preprocessing(settings.image_size, resize, settings.aspect, normalize), images)
        predicted = out_of_fold(values, labels, folds, len(features.class_names)).argmax(axis=1)
        correct.append(predicted == labels)
    low, high = compare(*correct)["ci95"]
    result = PreprocessingCheck(
        resize=settings.resize,
        normalize=settings.normalize,
        num_images=len(rows),
        accuracy=float(correct[0].mean()),
        standard_accuracy=float(correct[1].mean()),
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


def _extract(engine: Engine, preprocessing: Preprocessing, images: Dataset) -> np.ndarray:
    """Return the layers of n images, each averaged over its map, side by side: float32 (n, D)."""
    parts = []
    for start in range(0, len(images.ids), engine.batch_size):
        rows = range(start, min(start + engine.batch_size, len(images.ids)))
        inputs = np.stack([preprocessing.load(images, row) for row in rows])
        parts.append(np.hstack([values.mean(axis=(1, 2)) for values in engine(inputs).values()]))
    return np.concatenate(parts).astype(np.float32, copy=False)


def _warning(settings: Shared, check: PreprocessingCheck) -> str:
    given = f"--resize {check.resize} --normalize {check.normalize}"
    standard = "--resize {} --normalize {}".format(*standard_preprocessing(settings))
    standard += "" if settings.aspect == "squash" else f" --aspect {settings.aspect}"
    return (
        f"a probe of {check.num_images} images is correct on {check.accuracy:.1%} with {given} and on "
        f"{check.standard_accuracy:.1%} with the network's own preprocessing; start another run: "
        f"{another_run(settings.run_folder)} {standard}"
    )
