"""A map of the test images: features -> 50 principal components -> two coordinates that keep neighbours together."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from thaw.features.errors import InputError
from thaw.features.pooling import split_layers
from thaw.models.solver.blocks import signed_roots
from thaw.pipeline.extraction.feature_files import open_features
from thaw.pipeline.run.report_json import Report

MOST_IMAGES = 2000
MOST_COLOURS = 20
NUM_COMPONENTS = 50
LEAST_IMAGES = 20
NUM_STEPS = 500  # half of scikit-learn's default, which gives no other picture


class FeatureMap(NamedTuple):
    """The `positions` (N, 2) of test images, and their `groups` (N,): indices into `names`, -1 without a colour."""

    layer: str
    positions: np.ndarray
    groups: np.ndarray
    names: list[str]


def of_run(run: Path, report: Report, seed: int) -> FeatureMap:
    """Return the map of at most 2,000 test images by the features of a linear strategy.

    Args:
        run: The folder of the run.
        report: The report of the strategy.
        seed: The seed of the sample and of the map.

    Raises:
        InputError: If the feature set is gone, is not what the strategy was trained on, or has too few test images.
    """
    with open_features(run, report.sets) as features:
        if features.attributes.get("values_sha256") != report.features_sha256 or report.layer is None:
            again = f"make {report.strategy} RUN={run}"
            raise InputError(f"{features.path} is not what {report.name} was made from; type: {again}")
        mask = sample(features.split == 2, seed)
        if mask.sum() < LEAST_IMAGES:
            raise InputError(f"a map needs {LEAST_IMAGES} test images or more; the run has {int(mask.sum())}")
        values = features.read(split_layers(report.layer), mask)
        labels, class_names = features.labels[mask], features.class_names
    if report.hyperparameters.get("transform") == "sqrt":
        signed_roots(values, out=values)
    return FeatureMap(report.layer, flatten(values, seed), *coloured(labels, class_names))


def sample(test: np.ndarray, seed: int) -> np.ndarray:
    """Return a mask of at most 2,000 of the rows in the mask `test`, both bool (N,), drawn at random."""
    rows = np.flatnonzero(test)
    if len(rows) > MOST_IMAGES:
        rows = np.random.default_rng(seed).choice(rows, MOST_IMAGES, replace=False)
    return np.isin(np.arange(len(test)), rows)


def flatten(values: np.ndarray, seed: int) -> np.ndarray:
    """Return (N, 2) from (N, D): principal components, then t-SNE (van der Maaten and Hinton, JMLR 9, 2008)."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    num_components = min(NUM_COMPONENTS, *values.shape)
    reduced = PCA(num_components, svd_solver="randomized", random_state=seed).fit_transform(values)
    perplexity = min(30.0, (len(values) - 1) / 3)
    tsne = TSNE(perplexity=perplexity, init="pca", random_state=seed, max_iter=NUM_STEPS, n_jobs=1)
    # Its steps are short: threads that wait for each other make them slower, many times on a busy machine.
    with threadpool_limits(1):
        return np.asarray(tsne.fit_transform(reduced))


def coloured(labels: np.ndarray, class_names: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """Return the groups (N,) of the labels (N,), and the names of the 20 most frequent classes, in class order."""
    counts = np.bincount(labels, minlength=len(class_names))
    frequent = np.sort(np.argsort(-counts, kind="stable")[:MOST_COLOURS])
    frequent = frequent[counts[frequent] > 0]
    group = np.full(len(class_names), -1)
    group[frequent] = np.arange(len(frequent))
    return group[labels], [class_names[k] for k in frequent]
