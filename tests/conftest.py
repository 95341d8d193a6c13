"""Fixtures that several test files share."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
settings.register_profile("untimed", deadline=None)  # a busy machine fails no property
settings.load_profile("untimed")


@pytest.fixture(scope="session", autouse=True)
def _cache_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The user's own cache folder is neither read nor written."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def cifar10_zip() -> Path:
    """CIFAR-10 as a zipped image folder: named by THAW_CIFAR10, or in a `data` folder beside or in the checkout."""
    named = os.environ.get("THAW_CIFAR10")
    found = (
        [Path(named)]
        if named
        else [*ROOT.glob("data/cifar10-images.zip"), *ROOT.parent.glob("*/data/cifar10-images.zip")]
    )
    if not found or not found[0].is_file():
        pytest.skip("cifar10-images.zip is not at hand; name it by THAW_CIFAR10")
    return found[0]


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of 24 small random pictures, each class in a colour of its own."""
    folder = tmp_path_factory.mktemp("pictures")
    generator = np.random.default_rng(0)
    for channel, name in enumerate(("blue sky", "grass", "sunset")):
        (folder / name).mkdir()
        for number in range(24):
            pixels = generator.integers(0, 140, (40, 50, 3))
            pixels[..., 2 - channel] += generator.integers(0, 115)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{number:02d}.png")
    return folder


@pytest.fixture(scope="session")
def pictures_run(image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on these pictures with `svm`, a `logreg` that is never sure, and a `head` that was hardly trained."""
    from thaw.pipeline.cli import run

    folder = tmp_path_factory.mktemp("run") / "pictures"
    fast = ["--image-size", "32", "--weights", "random", "--layers", "block2_pool", "--pooling", "avg"]
    for arguments in (
        ["features", "--dataset", f"folder:{image_folder}", "--engine", "keras", *fast],
        ["svm"],
        ["logreg", "--values", "0.00001"],
        ["head", "--epochs", "1"],
    ):
        assert run([*arguments, "--run", str(folder)]) == 0
    return folder
