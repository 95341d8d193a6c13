"""Small feature files with made-up values."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from thaw.features.schema import create_feature_file
from thaw.pipeline.run.run_json import features_path, read_run

from tests.builders.results import IDS, LABELS

SET = "vgg16-48"  # of the made-up runs and reports


def features_of(run: Path) -> Path:
    """Return the path of the file of a run's first feature set, whether it is there or not."""
    record = read_run(run)
    return features_path(run, record.first if record else SET)


def copy_run(run: Path, other: Path, *names: str) -> Path:
    """Copy some files and folders of a run into a folder, which is made, and return it."""
    other.mkdir(exist_ok=True)
    for name in names:
        (shutil.copytree if (run / name).is_dir() else shutil.copy)(run / name, other / name)
    return other


OTHERS = [f"train/{name}/{number}.png" for name in ("cat", "dog", "eel") for number in range(4)]


ROWS = np.array([0, 4, 9])


def feature_file(run: Path, **changed: Any) -> dict[str, np.ndarray]:
    """Write the feature set of the made-up runs and return its layers; in block5_pool images lie on a line."""
    ids = [*IDS, *OTHERS]
    generator = np.random.default_rng(0)
    layers = {
        "block4_pool": generator.gamma(1.0, size=(72, 6)).astype(np.float32),
        "block5_pool": np.vstack([np.cos(angles := np.arange(72) / 20), np.sin(angles)]).T.astype(np.float32),
    }
    split = np.array([2] * 60 + [0] * 8 + [1] * 4, np.uint8)
    columns = {"labels": [*LABELS, *np.repeat([0, 1, 2], 4)], "ids": ids, "split": split}
    columns["class_names"] = ["cat", "dog", "eel"]
    attributes = {"split_sha256": "a" * 64, "values_sha256": "b" * 64, "backbone": "vgg16", **changed}
    shapes = {name: values.shape for name, values in layers.items()}
    path = features_path(run, SET)
    path.parent.mkdir(parents=True, exist_ok=True)
    with create_feature_file(path, shapes, "float32", columns, attributes) as file:
        for name, values in layers.items():
            file[f"features/{name}"][...] = values
    return layers


COLUMNS = {
    "labels": np.array([0, 1, 1, 0], np.int64),
    "ids": ["a/1.png", "b/ü.png", "b/3.png", "a/\u65e5\u672c.png"],
    "split": np.array([0, 1, 2, 0], np.uint8),
    "class_names": ["a", "bé"],
}


def make_file(path: Path) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    layers = {"x": generator.random((4, 3), np.float32), "y": generator.random((4, 2, 2, 5), np.float32)}
    with create_feature_file(
        path, {name: v.shape for name, v in layers.items()}, "float32", COLUMNS, {"backbone": "vgg16", "image_size": 48}
    ) as file:
        for name, values in layers.items():
            file[f"features/{name}"][...] = values
    return layers


def flip_byte(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)
