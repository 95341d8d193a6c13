"""Image folders and zips, and what a data set is refused with."""

import io
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from thaw.features.datasets.dataset import load_dataset
from thaw.features.errors import InputError


def png(value: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (3, 2), (value, value, value)).save(stream, "PNG")
    return stream.getvalue()


def folder(root: Path, *names: str) -> Path:
    """Write a picture at each name, grey value 0, 1, 2...; a name that ends with "/" is an empty folder."""
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


PLAIN = ("cats/a.png", "cats/b.png", "dogs/a.png", "dogs/more/b.png")


SPLIT = ("train/cats/a.png", "train/dogs/a.png", "val/cats/a.png", "validation/dogs/a.png", "test/emus/a.png")
