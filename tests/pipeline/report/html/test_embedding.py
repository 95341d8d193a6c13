"""The map of the features: which images, which colours, and that similar images lie together."""

from pathlib import Path

import numpy as np
import pytest

from thaw.features.schema import create_feature_file
from thaw.pipeline.report.html.embedding import MOST_IMAGES, coloured, flatten, of_run, sample
from thaw.pipeline.run.report_json import Report

from tests.builders.advice import report
from tests.builders.features import features_of
from tests.builders.results import refusal

LABELS = np.arange(120) % 3


def features(run: Path, num_test: int = 60) -> np.ndarray:
    """Write the feature set with three far groups; return the values of the layer."""
    generator = np.random.default_rng(0)
    values = np.abs(generator.normal(size=(120, 40)) + 30 * np.eye(3, 40)[LABELS]).astype(np.float32)
    columns = {
        "labels": LABELS, "ids": [f"{k:03d}" for k in range(120)], "class_names": ["a", "b", "c"],
        "split": np.where(np.arange(120) < num_test, 2, 0).astype(np.uint8),
    }  # fmt: skip
    shapes = {"block4_pool": values.shape, "block5_pool": (120, 2)}
    features_of(run).parent.mkdir(exist_ok=True)
    with create_feature_file(features_of(run), shapes, "float32", columns, {"values_sha256": "b" * 64}) as file:
        file["features/block4_pool"][...] = values
        file["features/block5_pool"][...] = 0
    return values


def linear(**changed: object) -> Report:
    return report("logreg", [1], **{"strategy": "logreg", "layer": "block4_pool", "hyperparameters": {}} | changed)


def test_the_map_is_of_the_test_images_and_groups_lie_apart(tmp_path: Path) -> None:
    features(tmp_path)
    found = of_run(tmp_path, linear(), 0)
    assert found.layer == "block4_pool"
    assert found.names == ["a", "b", "c"]
    assert found.groups.tolist() == LABELS[:60].tolist()
    gaps = np.linalg.norm(found.positions[:, np.newaxis] - found.positions, axis=2) + np.diag(np.full(60, np.inf))
    assert np.array_equal(found.groups[gaps.argmin(axis=1)], found.groups)


def test_the_map_is_the_same_each_time(tmp_path: Path) -> None:
    values = features(tmp_path)[:60]
    assert np.array_equal(flatten(values, 3), flatten(values, 3))


def test_the_transform_of_the_strategy_is_applied(tmp_path: Path) -> None:
    values = features(tmp_path)[:60]
    rooted = of_run(tmp_path, linear(hyperparameters={"transform": "sqrt"}), 0)
    assert np.array_equal(rooted.positions, flatten(np.sqrt(values), 0))


def test_layers_side_by_side_have_a_map_too(tmp_path: Path) -> None:
    features(tmp_path)
    assert of_run(tmp_path, linear(layer="block4_pool+block5_pool"), 0).positions.shape == (60, 2)


def test_features_that_are_gone_others_or_too_few_make_no_map(tmp_path: Path) -> None:
    path = features_of(tmp_path)
    assert refusal(of_run, tmp_path, linear(), 0) == (
        f"it needs {path}, which is gone; type: make features RUN={tmp_path} ARGS='--features vgg16-48'"
    )
    features(tmp_path)
    other = linear(features_sha256="d" * 64)
    assert (
        refusal(of_run, tmp_path, other, 0)
        == f"{path} is not what logreg was made from; type: make logreg RUN={tmp_path}"
    )
    path.unlink()
    features(tmp_path, 19)
    assert refusal(of_run, tmp_path, linear(), 0) == "a map needs 20 test images or more; the run has 19"


def test_of_many_test_images_a_seeded_sample_is_taken() -> None:
    test = np.arange(9000) % 3 == 0
    mask = sample(test, 1)
    assert mask.sum() == MOST_IMAGES
    assert not (mask & ~test).any()
    assert np.array_equal(mask, sample(test, 1))
    assert not np.array_equal(mask, sample(test, 2))


@pytest.mark.parametrize("num_classes", [3, 30])
def test_the_most_frequent_classes_get_a_colour(num_classes: int) -> None:
    labels = np.repeat(np.arange(num_classes), np.arange(num_classes) + 1)
    groups, names = coloured(labels, [f"c{k}" for k in range(num_classes)])
    kept = range(max(0, num_classes - 20), num_classes)
    assert names == [f"c{k}" for k in kept]
    assert [names[group] if group >= 0 else None for group in groups] == [
        f"c{k}" if k in kept else None for k in labels
    ]
