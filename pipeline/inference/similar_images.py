"""The training images most like a new one by the features that its model sees, with thumbnails of them."""

import functools
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from thaw.features.errors import InputError
from thaw.features.joined import JoinedFeatures
from thaw.features.store import SPLITS, FeatureFile, FeatureRows
from thaw.models.audit.similarity_search import Likeness, Neighbours
from thaw.pipeline.config import FORMER
from thaw.pipeline.extraction.feature_files import open_features
from thaw.pipeline.inference.classifier import Classifier, LinearClassifier, NeuralClassifier
from thaw.pipeline.inference.ensemble import EnsembleClassifier
from thaw.pipeline.inference.networks import preprocessing_of
from thaw.pipeline.run.run_json import read_run
from thaw.pipeline.thumbnails import Pictures, open_pictures

log = logging.getLogger("thaw")

MOST_NEIGHBOURS = 12
SETTINGS_COMPARED = (
    *("backbone", "weights_sha256", "image_size", "resize", "aspect", "normalize", "engine_precision", "decoding"),
)
KEPT_THUMBNAILS = 2048  # of a few kB each


class Nearest:
    """Finds the training and validation images of a run that are most like others, and their thumbnails."""

    def __init__(self, neighbours: Neighbours, class_names: Sequence[str], pictures: Pictures | None):
        self._neighbours, self._class_names, self._pictures = neighbours, class_names, pictures
        self.thumbnail = functools.lru_cache(KEPT_THUMBNAILS)(self._thumbnail)

    def find(self, features: np.ndarray, num: int) -> list[list[Likeness]]:
        """Return for each row of `features` (n, D) float32 the `num` training images most like it, the nearest first.

        A similarity is the cosine of `thaw.models.audit.similarity_search`; fewer come if the run has fewer.
        """
        known = self._neighbours
        rows, similarities = known.find(features[:, : known.num_features], num)  # those of an ensemble's first member
        return [
            [Likeness(known.ids[k], self._class_names[known.labels[k]], float(s)) for k, s in zip(*pair, strict=True)]
            for pair in zip(rows.tolist(), similarities.tolist(), strict=True)
        ]

    def _thumbnail(self, name: str) -> str | None:
        """Return image `name` as a data URL of at most 96 pixels a side, None if it cannot be had."""
        return self._pictures.thumbnail(name)[0] if self._pictures else None


def open_nearest(run_folder: Path, classifier: Classifier) -> Nearest | None:
    """Return the run's images to search in; None with a line in the log if their features are not those of the model.

    A network takes whole activations, which a feature set has only if the layer was not pooled. Images are alike to an
    ensemble if they are to its first member.
    """
    searched = classifier.members[0] if isinstance(classifier, EnsembleClassifier) else classifier
    try:
        with open_features(run_folder, searched.report.sets) as features:
            _check(features, searched)
            is_known = features.split != SPLITS.index("test")
            ids = [features.ids[row] for row in np.flatnonzero(is_known)]
            rows = FeatureRows(features, searched.layers, is_known)
            neighbours = Neighbours(rows, ids, features.labels[is_known])
    except InputError as error:
        log.info("no nearest training images: %s", error)
        return None
    return Nearest(neighbours, classifier.class_names, _pictures(run_folder))


def _check(features: FeatureFile, classifier: Classifier) -> None:
    """Raise InputError if the file's rows are not what the model takes of an image."""
    missing = [name for name in classifier.layers if name not in features.layers]
    if missing or not classifier.layers:
        raise InputError(f"{features.path} does not have what the model sees ({', '.join(missing) or 'images'})")
    compared: tuple[str, ...] = SETTINGS_COMPARED
    records = [classifier.record]
    if isinstance(classifier, LinearClassifier):
        compared, records = (*SETTINGS_COMPARED, "pooling"), list(classifier.sets)
    files = list(features.files.values()) if isinstance(features, JoinedFeatures) else [features]
    given = [{**FORMER, **one.attributes} for one in files]
    pairs = list(zip(given, records, strict=True))
    differing = [name for name in compared if any(one.get(name) != record[name] for one, record in pairs)]
    differing += ["views"] if any(one["views"] != preprocessing_of(record).views for one, record in pairs) else []
    if differing or features.class_names != tuple(classifier.class_names):
        raise InputError(f"{features.path} was made otherwise than the model ({', '.join(differing) or 'classes'})")
    if isinstance(classifier, NeuralClassifier):
        [layer] = classifier.layers
        if np.prod(classifier.architecture.input_shape) != np.prod(features.layers[layer][1:]):
            raise InputError(f"{features.path} has {layer} pooled, and the model sees the whole of it")


def _pictures(run_folder: Path) -> Pictures | None:
    try:
        record = read_run(run_folder)
        return open_pictures(record.settings if record else None)
    except InputError as error:
        log.info("no pictures of the nearest training images: %s", error)
        return None
