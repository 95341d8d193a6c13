"""Which features a model's nearest training images are searched in, and what is said where there are none."""

import logging
from pathlib import Path

import h5py
import numpy as np
import pytest

from thaw.features.images.decode import decode
from thaw.pipeline.cli import run
from thaw.pipeline.inference.classifier import Classifier
from thaw.pipeline.inference.loading import load_classifier
from thaw.pipeline.inference.similar_images import open_nearest
from thaw.pipeline.run.run_json import features_path

from tests.builders.features import copy_run, features_of


@pytest.fixture(scope="module")
def linear(pictures_run: Path) -> Classifier:
    return load_classifier(pictures_run / "svm")


@pytest.fixture
def copied(pictures_run: Path, tmp_path: Path) -> Path:
    """The run without its models, to be changed."""
    return copy_run(pictures_run, tmp_path, "run.json", "features")


def activations(classifier: Classifier, path: Path) -> np.ndarray:
    inputs = classifier.preprocessing.prepare(decode(path, path.name))[np.newaxis]
    return classifier.activations(inputs).reshape(1, -1)


def test_a_training_image_is_nearest_to_itself(linear: Classifier, pictures_run: Path, image_folder: Path) -> None:
    nearest = open_nearest(pictures_run, linear)
    assert nearest is not None
    with h5py.File(features_of(pictures_run)) as file:
        name = file["ids"][...][file["split"][...] == 0][0].decode()
    found = nearest.find(activations(linear, image_folder / name), 3)
    assert [len(row) for row in found] == [3]
    first = found[0][0]
    assert (first.id, first.label) == (name, name.partition("/")[0])
    assert first.similarity == pytest.approx(1, abs=1e-5)


def test_a_network_has_nearest_images_if_its_layer_is_stored_whole(image_folder: Path, tmp_path: Path) -> None:
    where = ["--run", str(tmp_path)]
    whole = ["--image-size", "32", "--weights", "random", "--layers", "block5_pool", "--engine", "keras"]
    assert run(["features", "--dataset", f"folder:{image_folder}", *whole, *where]) == 0
    assert run(["head", "--epochs", "1", *where]) == 0
    classifier = load_classifier(tmp_path / "head")
    nearest = open_nearest(tmp_path, classifier)
    assert nearest is not None
    found = nearest.find(activations(classifier, image_folder / "grass" / "01.png"), 100)
    assert len(found[0]) == 57  # all that are not test


def test_a_network_has_no_nearest_images_if_its_layer_is_not_stored(
    pictures_run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "thaw")
    assert open_nearest(pictures_run, load_classifier(pictures_run / "head")) is None
    assert "does not have what the model sees (block5_pool)" in caplog.text


@pytest.mark.parametrize(
    ("attribute", "value"),
    [("image_size", 48), ("resize", "area"), ("aspect", "pad"), ("pooling", "max"), ("decoding", 1)],
)
def test_features_made_otherwise_are_not_searched(
    linear: Classifier, copied: Path, caplog: pytest.LogCaptureFixture, attribute: str, value: object
) -> None:
    with h5py.File(features_of(copied), "a") as file:
        file.attrs[attribute] = value
    caplog.set_level(logging.INFO, "thaw")
    assert open_nearest(copied, linear) is None
    assert f"was made otherwise than the model ({attribute})" in caplog.text


def test_a_run_without_features_has_none(linear: Classifier, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "thaw")
    assert open_nearest(tmp_path, linear) is None
    path = features_path(tmp_path, str(linear.report.features))
    assert f"no nearest training images: it needs {path}, which is gone; type: make features" in caplog.text


def test_images_that_are_gone_are_named_without_a_thumbnail(
    linear: Classifier, copied: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (copied / "run.json").unlink()
    caplog.set_level(logging.INFO, "thaw")
    nearest = open_nearest(copied, linear)
    assert nearest is not None
    assert "no pictures of the nearest training images: run.json" in caplog.text
    likeness = nearest.find(np.ones((1, 128), np.float32), 1)[0][0]
    assert nearest.thumbnail(likeness.id) is None
