"""Feature files of the same images, read side by side."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from thaw.features.errors import InputError
from thaw.features.joined import JoinedFeatures
from thaw.features.schema import create_feature_file
from thaw.features.store import FeatureFile, FeatureRows

from tests.builders.features import COLUMNS

ATTRIBUTES = {"weights_sha256": "w", "values_sha256": "v", "engine": "mnn", "device": "cpu", "split_sha256": "s"}


def written(
    path: Path, layers: dict[str, np.ndarray], columns: dict[str, Any] = COLUMNS, **changed: Any
) -> FeatureFile:
    shapes = {name: values.shape for name, values in layers.items()}
    attributes = {**ATTRIBUTES, "backbone": path.stem, "image_size": 48, "seconds": 1.5, **changed}
    with create_feature_file(path, shapes, "float32", columns, attributes) as file:
        for name, values in layers.items():
            file[f"features/{name}"][...] = values
    return FeatureFile(path)


@pytest.fixture
def layers() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    return {"x": generator.random((4, 3), np.float32), "y": generator.random((4, 2, 2, 5), np.float32)}


def test_layers_of_all_files_lie_side_by_side(tmp_path: Path, layers: dict[str, np.ndarray]) -> None:
    first, last = (
        written(tmp_path / "a+b-48.h5", layers),
        written(tmp_path / "c.h5", {"x": -layers["x"]}, image_size=96),
    )
    with first, last:
        joined = JoinedFeatures({"a+b-48": first, "c": last})
        assert joined.layers == {"a+b-48/x": (4, 3), "a+b-48/y": (4, 2, 2, 5), "c/x": (4, 3)}
        rows = FeatureRows(joined, ["c/x", "a+b-48/y"], np.array([0, 2, 3]))
        assert rows.shape == (3, 23)
        expected = np.hstack([-layers["x"], layers["y"].reshape(4, 20)])[[0, 2, 3]]
        np.testing.assert_array_equal(rows.read(slice(0, 3)), expected)
        np.testing.assert_array_equal(rows.read(slice(1, 2)), expected[1:2])
        assert (joined.ids, joined.class_names) == (first.ids, first.class_names)


def test_attributes_are_joined_in_the_order_of_the_files(tmp_path: Path, layers: dict[str, np.ndarray]) -> None:
    with (
        written(tmp_path / "a.h5", layers, values_sha256="1") as first,
        written(tmp_path / "b.h5", layers, image_size=96, values_sha256="2", seconds=2.0) as last,
    ):
        given = JoinedFeatures({"a": first, "b": last}).attributes
    assert (given["backbone"], given["image_size"], given["values_sha256"]) == ("a+b", "48+96", "1+2")
    assert (given["seconds"], given["split_sha256"]) == (3.5, "s")


def test_the_layers_of_each_set(tmp_path: Path, layers: dict[str, np.ndarray]) -> None:
    with written(tmp_path / "a.h5", layers) as first, written(tmp_path / "b.h5", layers) as last:
        joined = JoinedFeatures({"a": first, "x+b": last})
        assert joined.parts("a/x+x+b/x+x+b/y") == {"a": "x", "x+b": "x+y"}


@pytest.mark.parametrize("changed", [{"ids": ["a/1.png", "b/2.png", "b/3.png", "z"]}, {"split": np.zeros(4, np.uint8)}])
def test_files_of_other_images_are_refused(
    tmp_path: Path, layers: dict[str, np.ndarray], changed: dict[str, Any]
) -> None:
    with written(tmp_path / "a.h5", layers) as first, written(tmp_path / "b.h5", layers, COLUMNS | changed) as last:
        message = (
            f"{first.path} and {last.path} hold different images, since some were skipped; choose one by --features"
        )
        with pytest.raises(InputError, match=message):
            JoinedFeatures({"a": first, "b": last})
