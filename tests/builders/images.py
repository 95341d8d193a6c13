"""Image folders and zips, datasets with a reader of the test's own, and the message of a refused dataset."""

import dataclasses
import io
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from thaw.features.datasets.dataset import Dataset, load_dataset
from thaw.features.datasets.listing import Images
from thaw.features.errors import InputError


def png(value: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (3, 2), (value, value, value)).save(stream, "PNG")
    return stream.getvalue()


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    """Return an image as the bytes of a file of that kind."""
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Return random pixels, uint8 (height, width, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def folder(root: Path, *names: str) -> Path:
    """Write an image at each name, grey value 0, 1, 2...; a name that ends with "/" is an empty folder."""
    for value, name in enumerate(names):
        path = root / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.write_bytes(png(value))
    return root


def zipped(path: Path, *names: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for value, name in enumerate(names):
            archive.writestr(name, b"" if name.endswith("/") else png(value))
    return path


def refusal(*args, **options) -> str:
    with pytest.raises(InputError) as error:
        load_dataset(*args, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def classes(dataset) -> list[str]:
    return [dataset.class_names[label] for label in dataset.labels]


class OwnReader:
    """The images of a dataset, read by a function of the test."""

    def __init__(self, images: Images, read: Callable[..., np.ndarray]):
        self.images, self.read = images, read

    def content(self, i: int) -> bytes:
        return self.images.content(i)

    def take(self, rows: Sequence[int]) -> "OwnReader":
        return OwnReader(self.images.take(rows), lambda i, least_side=None: self.read(rows[i], least_side))


def read_by(dataset: Dataset, read: Callable[..., np.ndarray]) -> Dataset:
    """Return the dataset with images that `read(i, least_side)` returns."""
    return dataclasses.replace(dataset, images=OwnReader(dataset.images, read))


PLAIN = ("cats/a.png", "cats/b.png", "dogs/a.png", "dogs/more/b.png")
SPLIT = ("train/cats/a.png", "train/dogs/a.png", "val/cats/a.png", "validation/dogs/a.png", "test/emus/a.png")
