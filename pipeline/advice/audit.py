"""The audit of a run's images: copies across the split, doubtful labels, unequal classes, preprocessing."""

import hashlib

import numpy as np

from thaw.features.backbones.registry import get_backbone
from thaw.features.datasets.dataset import Dataset
from thaw.features.errors import InputError
from thaw.features.images.decode import least_side
from thaw.features.images.preprocess import resize
from thaw.features.pooling import layer_and_pooling
from thaw.features.store import SPLITS, FeatureFile, FeatureRows
from thaw.models.audit import duplicates
from thaw.models.audit.label_errors import (
    few_of_each,
    imbalance,
    judging_folds,
    out_of_fold,
    probable_label_errors,
)
from thaw.pipeline.advice.preprocessing_check import compare_preprocessing
from thaw.pipeline.config import Shared
from thaw.pipeline.run.advice_json import Audit, ClassCount, DuplicateImage, ProbableLabelError

MAX_LISTED = 100  # of duplicates and of doubtful labels
MAX_ROWS = 10_000  # that labels are doubted among
MAX_COMPARED_PAIRS = 5000  # of images whose pixels are compared
THUMBNAIL = 16  # pixels a side


def audit(settings: Shared, features: FeatureFile, dataset: Dataset) -> Audit:
    """Return what is suspicious in the run's images, which are left as they are.

    Args:
        settings: The run.
        features: Its feature set.
        dataset: The images.

    Raises:
        InputError: If the dataset lacks an image of the feature set.
    """
    images = _images_of(features, dataset)
    counts = np.zeros((len(features.class_names), len(SPLITS)), int)
    np.add.at(counts, (features.labels, features.split), 1)
    ratio, warning = imbalance(counts[:, :2].sum(axis=1).tolist(), features.class_names)
    copies = find_duplicates(settings, features, images)
    errors = find_label_errors(settings, features)
    return Audit(
        num_exact_duplicates=sum(copy.exact for copy in copies),
        num_near_duplicates=sum(not copy.exact for copy in copies),
        duplicates=copies[:MAX_LISTED],
        duplicate_test_ids=sorted(copy.id for copy in copies),
        near_threshold=duplicates.NEAR_COSINE,
        num_label_errors=len(errors),
        label_errors=errors[:MAX_LISTED],
        class_counts=[
            ClassCount.model_validate({"class": name, **dict(zip(SPLITS, numbers, strict=True))})
            for name, numbers in zip(features.class_names, counts.tolist(), strict=True)
        ],
        imbalance=ratio,
        imbalance_warning=warning,
        canary=compare_preprocessing(settings, features, images),
    )


def _images_of(features: FeatureFile, dataset: Dataset) -> Dataset:
    """Return the images of a feature file, in the order of its rows."""
    known = set(dataset.ids)
    gone = next((name for name in features.ids if name not in known), None)
    if gone is not None:
        raise InputError(
            f"{dataset.name} has no image {gone}, which {features.path} was made from; put it back, or remove "
            f"{features.path} and type the command again"
        )
    return dataset.subset(features.ids)


def find_duplicates(settings: Shared, features: FeatureFile, images: Dataset) -> list[DuplicateImage]:
    """Find the test images that another split has too, each with the image most like it, the most alike first.

    Images are duplicates if they are equal in content, or if the features of the deepest stored layer but one stand
    out as near, or else if the pixels agree, as they are or mirrored.

    Args:
        settings: The run.
        features: Its feature set.
        images: The images, in the order of its rows.
    """
    tests, others = np.flatnonzero(features.split == 2), np.flatnonzero(features.split != 2)
    found = _nearest(settings, features)
    equal = duplicates.equal_contents(_digests(images, tests), _digests(images, others))
    exact = equal >= 0
    twins, alike = others[np.where(exact, equal, found.indices)], np.where(exact, 1.0, found.similarities)
    near = exact | found.is_near
    unsure = np.flatnonzero(~near & (alike >= duplicates.CANDIDATE_COSINE))
    unsure = unsure[np.argsort(-alike[unsure], kind="stable")][:MAX_COMPARED_PAIRS]
    pixels = duplicates.pixel_correlation(*(_thumbnails(images, rows[unsure]) for rows in (tests, twins)))
    same = pixels >= duplicates.SAME_IMAGE_CORRELATION
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


def _digests(images: Dataset, rows: np.ndarray) -> list[bytes]:
    """Return a SHA-256 of each image's content."""
    return [hashlib.sha256(images.content(row)).digest() for row in rows]


def _thumbnails(images: Dataset, rows: np.ndarray) -> np.ndarray:
    """Return the images at `rows` (n,) as small grey images (n, 16, 16)."""
    result, least = np.empty((len(rows), THUMBNAIL, THUMBNAIL)), least_side(THUMBNAIL, "area")
    for thumbnail, row in zip(result, rows, strict=True):
        thumbnail[...] = resize(images.read(row, least), THUMBNAIL, "area").mean(axis=2)
    return result


def _nearest(settings: Shared, features: FeatureFile) -> duplicates.NearestRows:
    """Return the image most like each test image among the images that are not test."""
    names = [layer.name for layer in get_backbone(settings.backbone).layers]
    by_depth = sorted(features.layers, key=lambda layer: names.index(layer_and_pooling(layer, settings.pooling)[0]))
    masks = (features.split == 2, features.split != 2)
    return duplicates.nearest(*(_averaged(settings, features, by_depth[-2:][0], mask) for mask in masks))


def _averaged(settings: Shared, features: FeatureFile, layer: str, mask: np.ndarray) -> duplicates.AveragedBlocks:
    """Return the rows of a stored layer that a mask (N,) holds, averaged over the positions of the layer's map."""
    name, _ = layer_and_pooling(layer, settings.pooling)
    channels = get_backbone(settings.backbone).layer(name).channels
    return duplicates.AveragedBlocks(FeatureRows(features, [layer], mask), channels)


def find_label_errors(settings: Shared, features: FeatureFile) -> list[ProbableLabelError]:
    """Return the images whose label the probe of probe_labels thinks wrong, the surest first."""
    rows, probabilities = probe_labels(settings, features)
    doubts = probable_label_errors(features.labels[rows], probabilities)
    found = zip(rows[doubts.rows], doubts.suggested, doubts.probabilities, doubts.margins, strict=True)
    return [
        ProbableLabelError(
            id=features.ids[row],
            split="validation" if features.split[row] else "train",
            label=features.class_names[features.labels[row]],
            suggested=features.class_names[suggested],
            probability=float(probability),
            margin=float(margin),
        )
        for row, suggested, probability, margin in found
    ]


def probe_labels(settings: Shared, features: FeatureFile) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows (n,) that labels are doubted among, and their class probabilities (n, K) float64.

    The rows are at most 10,000, none of them test, none of a class that has too few to be judged. The probabilities are
    out of fold, by a logistic regression on the stored layer, averaged, that is best at the labels.
    """
    rows = few_of_each(features.labels, features.split != 2, MAX_ROWS, settings.seed)
    labels, num_classes = features.labels[rows], len(features.class_names)
    folds = judging_folds(labels, features.groups_of(rows), settings.seed)
    if folds is None:
        return rows[:0], np.empty((0, num_classes))
    mask = np.isin(np.arange(len(features.ids)), rows)

    def probe(layer: str) -> np.ndarray:
        values = _averaged(settings, features, layer, mask).read(slice(0, len(rows)))
        return out_of_fold(values, labels, folds, num_classes)

    return rows, max(map(probe, features.layers), key=lambda found: (found.argmax(axis=1) == labels).mean())
