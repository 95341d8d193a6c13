"""The audit of a run's images: those on both sides of the split, doubtful labels, unequal classes, preprocessing."""

import hashlib
from dataclasses import dataclass

import numpy as np

from thaw.features.backbones.registry import get_backbone
from thaw.features.datasets.dataset import Dataset, load_dataset
from thaw.features.errors import InputError
from thaw.features.images.decode import least_side
from thaw.features.images.preprocess import resize
from thaw.features.pooling import layer_and_pooling
from thaw.features.store import SPLITS, FeatureFile, FeatureRows
from thaw.models.audit import duplicates
from thaw.models.audit.label_errors import (
    Doubts,
    few_of_each,
    imbalance,
    judging_folds,
    out_of_fold,
    probable_label_errors,
)
from thaw.models.solver.blocks import block_rows
from thaw.pipeline.advice.preprocessing_check import compare_preprocessing
from thaw.pipeline.config import Shared
from thaw.pipeline.run.advice_json import Audit, ClassCount, DuplicateImage, ProbableLabelError

MAX_LISTED = 100  # of duplicates and of doubtful labels
MAX_ROWS = 10_000  # that labels are doubted among
MAX_PICTURES = 5000  # pairs whose pixels are looked at
THUMBNAIL = 16  # pixels a side


@dataclass(frozen=True)
class OutOfFold:
    """Class probabilities (n, K) of the places `rows` (n,) in features.h5, none test, from models that were not fitted
    to them."""

    rows: np.ndarray
    probabilities: np.ndarray


def audit(settings: Shared, features: FeatureFile, known: OutOfFold | None = None) -> Audit:
    """Return what is suspicious in the run's images, which are left as they are.

    Labels are doubted by the `known` probabilities; without them by a logistic regression on the stored layer that does
    best, averaged, among at most 10,000 rows. Raises InputError where an image of features.h5 is gone.
    """
    dataset = load_dataset(settings.dataset, settings.data, settings.target, settings.max_pixels)
    counts = [
        np.bincount(features.labels[features.split == side], minlength=len(features.class_names))
        for side in range(len(SPLITS))
    ]
    ratio, warning = imbalance((counts[0] + counts[1]).tolist(), features.class_names)
    twins = find_twins(settings, features, dataset)
    known = known or probe_labels(settings, features)
    doubts = probable_label_errors(features.labels[known.rows], known.probabilities)
    return Audit(
        num_exact_duplicates=sum(twin.exact for twin in twins),
        num_near_duplicates=sum(not twin.exact for twin in twins),
        duplicates=twins[:MAX_LISTED],
        duplicate_test_ids=sorted(twin.id for twin in twins),
        near_threshold=duplicates.NEAR,
        num_label_errors=len(doubts.rows),
        label_errors=_label_errors(features, known.rows, doubts),
        class_counts=[
            ClassCount.model_validate({"class": name, **dict(zip(SPLITS, map(int, numbers), strict=True))})
            for name, *numbers in zip(features.class_names, *counts, strict=True)
        ],
        imbalance=ratio,
        imbalance_warning=warning,
        canary=compare_preprocessing(settings, features, dataset),
    )


class _Images:
    """The images of a feature file, by their places in it."""

    def __init__(self, features: FeatureFile, dataset: Dataset):
        places = {name: place for place, name in enumerate(dataset.ids)}
        gone = next((name for name in features.ids if name not in places), None)
        if gone is not None:
            raise InputError(
                f"{dataset.word} has no image {gone}, which {features.path} was made from; put it back, or remove "
                f"{features.path} and type the command again"
            )
        self._rows, self._dataset = [places[name] for name in features.ids], dataset

    def digests(self, rows: np.ndarray) -> list[bytes]:
        """Return a SHA-256 of each image's content."""
        return [hashlib.sha256(self._dataset.content(self._rows[row])).digest() for row in rows]

    def thumbnails(self, rows: np.ndarray) -> np.ndarray:
        """Return the images as small grey pictures (n, 16, 16)."""
        pictures, least = np.empty((len(rows), THUMBNAIL, THUMBNAIL)), least_side(THUMBNAIL, "area")
        for picture, row in zip(pictures, rows, strict=True):
            image = self._dataset.read(self._rows[row], least)
            picture[...] = resize(image, THUMBNAIL, "area").mean(axis=2)
        return pictures


def averaged(settings: Shared, features: FeatureFile, layer: str, mask: np.ndarray) -> duplicates.AveragedBlocks:
    """Return the rows of a stored layer where `mask` (N,) holds, averaged over the positions of its map."""
    name, _ = layer_and_pooling(layer, settings.pooling)
    channels = get_backbone(settings.backbone).layer(name).channels
    return duplicates.AveragedBlocks(FeatureRows(features, [layer], mask), channels)


def find_twins(settings: Shared, features: FeatureFile, dataset: Dataset) -> list[DuplicateImage]:
    """Return, most alike first, the test images that another side has too, each with the image most like it.

    They are equal in content; or stand out as near by the features of the deepest stored layer but one; or do not, but
    have the same pixels, as they are or mirrored.
    """
    tests, others = np.flatnonzero(features.split == 2), np.flatnonzero(features.split != 2)
    images, found = _Images(features, dataset), _nearest(settings, features)
    equal = duplicates.equal_contents(images.digests(tests), images.digests(others))
    exact = equal >= 0
    twins, alike = others[np.where(exact, equal, found.places)], np.where(exact, 1.0, found.similarities)
    near = exact | found.is_near
    unsure = np.flatnonzero(~near & (alike >= duplicates.CANDIDATE))
    unsure = unsure[np.argsort(-alike[unsure], kind="stable")][:MAX_PICTURES]
    pixels = duplicates.picture_likeness(images.thumbnails(tests[unsure]), images.thumbnails(twins[unsure]))
    same = pixels >= duplicates.SAME_PICTURE
    alike[unsure[same]], near[unsure[same]] = pixels[same], True
    order = np.lexsort((-alike, ~exact))
    return [
        DuplicateImage(
            id=features.ids[tests[i]],
            twin=features.ids[twins[i]],
            twin_split="validation" if features.split[twins[i]] else "train",
            exact=bool(exact[i]),
            similarity=float(alike[i]),
            same_label=bool(features.labels[tests[i]] == features.labels[twins[i]]),
        )
        for i in order[near[order]]
    ]


def _nearest(settings: Shared, features: FeatureFile) -> duplicates.Nearest:
    """Return the image most like each test image among those that are not."""
    names = [layer.name for layer in get_backbone(settings.backbone).layers]
    by_depth = sorted(features.layers, key=lambda layer: names.index(layer_and_pooling(layer, settings.pooling)[0]))
    sides = (features.split == 2, features.split != 2)
    return duplicates.nearest(*(averaged(settings, features, by_depth[-2:][0], side) for side in sides))


def probe_labels(settings: Shared, features: FeatureFile) -> OutOfFold:
    """Return out-of-fold probabilities of at most 10,000 rows by the stored layer, averaged, that does best.

    Rows of classes that have too few to be judged are left out.
    """
    best, rows = -1.0, few_of_each(features.labels, features.split != 2, MAX_ROWS, settings.seed)
    labels, num_classes = features.labels[rows], len(features.class_names)
    result = OutOfFold(rows[:0], np.empty((0, num_classes)))
    folds = judging_folds(labels, features.groups_of(rows), settings.seed)
    if folds is None:
        return result
    for layer in features.layers:
        blocks = averaged(settings, features, layer, np.isin(np.arange(len(features.ids)), rows))
        values = np.concatenate([blocks.read(part) for part in block_rows(blocks)])
        probabilities = out_of_fold(values, labels, folds, num_classes)
        accuracy = float((probabilities.argmax(axis=1) == labels).mean())
        if accuracy > best:
            best, result = accuracy, OutOfFold(rows, probabilities)
    return result


def _label_errors(features: FeatureFile, rows: np.ndarray, doubts: Doubts) -> list[ProbableLabelError]:
    listed = zip(doubts.rows, doubts.suggested, doubts.probabilities, doubts.margins, strict=True)
    return [
        ProbableLabelError(
            id=features.ids[rows[row]],
            split="validation" if features.split[rows[row]] else "train",
            label=features.class_names[features.labels[rows[row]]],
            suggested=features.class_names[suggested],
            probability=float(probability),
            margin=float(margin),
        )
        for row, suggested, probability, margin in list(listed)[:MAX_LISTED]
    ]
