"""Surveys of made-up images: labels and splits, but no image that could be read."""

from typing import Any

import numpy as np

from thaw.features.datasets.dataset import Dataset
from thaw.features.store import FeatureFile
from thaw.pipeline.advice.copies import groups_with_copies
from thaw.pipeline.advice.sample import Survey
from thaw.pipeline.config import Shared


class NoFile:
    """The part of a feature file that a survey reads."""

    layers = ("block4_pool", "block5_pool")
    attributes = {"seconds": 10.0}  # noqa: RUF012

    def __init__(self, ids: tuple[str, ...], labels: np.ndarray, split: np.ndarray):
        self.ids, self.labels, self.split = ids, labels, split


class NoImages:
    """Images whose shorter side has 32 pixels; the content of each is its id."""

    def __init__(self, ids: tuple[str, ...]):
        self.ids = ids

    def shorter_side(self, i: int) -> int:
        """Return 32."""
        return 32

    def content(self, i: int) -> bytes:
        """Return the id."""
        return self.ids[i].encode()

    def read(self, i: int, least_side: Any = None) -> np.ndarray:
        """Return noise."""
        return np.random.default_rng(i).integers(0, 256, (16, 16, 3), np.uint8)


def survey_of_file(settings: Shared, features: FeatureFile) -> Survey:
    """Return a survey of a feature file whose images are not there."""
    images: Any = NoImages(tuple(features.ids))
    ids, labels, names = tuple(features.ids), features.labels, tuple(features.class_names)
    dataset = Dataset("folder:made-up", ids, labels, names, ("",) * len(ids), None, images)
    return Survey(settings, dataset, features.split, features=features)


def survey_of(
    labels: np.ndarray,
    split: np.ndarray,
    given: frozenset[str] = frozenset(),
    groups: tuple[str, ...] | None = None,
    **settings: object,
) -> Survey:
    """Return a survey of images of these labels (N,) in these splits (N,) uint8."""
    ids = tuple(f"{row:05d}" for row in range(len(labels)))
    names = tuple(map(str, range(int(labels.max(initial=0)) + 1)))
    images: Any = NoImages(ids)
    dataset = Dataset("folder:made-up", ids, labels, names, ("",) * len(ids), groups, images)
    file: Any = NoFile(ids, labels, split)
    grouped = groups_with_copies(dataset, split)
    return Survey(Shared.model_validate(settings), dataset, split, given, grouped, features=file)
