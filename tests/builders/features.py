"""Small feature files with made-up values."""

from pathlib import Path
from typing import Any

import numpy as np

from thaw.features.schema import create_feature_file

from tests.builders.results import IDS, LABELS

OTHERS = [f"train/{name}/{number}.png" for name in ("cat", "dog", "eel") for number in range(4)]


ROWS = np.array([0, 4, 9])


def feature_file(run: Path, **changed: Any) -> dict[str, np.ndarray]:
    """Write features.h5 for the made-up runs, and return its layers: in block5_pool images lie on a line by number."""
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
    with create_feature_file(run / "features.h5", shapes, "float32", columns, attributes) as file:
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
