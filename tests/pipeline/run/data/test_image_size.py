"""A new feature set takes the image size that suits its images; a set that is there keeps its own."""

import json
import logging
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from thaw.pipeline.cli import run
from thaw.pipeline.config import Shared
from thaw.pipeline.run.feature_sets import with_feature_set

FAST = ("--weights", "random", "--layers", "block2_pool", "--pooling", "avg", "--engine", "keras")


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Eight images of 70 x 90 pixels and one of 8 x 300, in two classes."""
    generator = np.random.default_rng(0)
    for number in range(9):
        shape = (300, 8, 3) if number == 8 else (70, 90, 3)
        path = tmp_path / "images" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 255, shape, np.uint8)).save(path)
    return tmp_path / "images"


def size_of(settings: Shared) -> int:
    return with_feature_set(settings).image_size


def test_the_median_of_the_shorter_sides_decides(photographs: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "thaw"):
        assert size_of(Shared(dataset=f"folder:{photographs}")) == 96
    [said] = caplog.messages
    assert re.fullmatch(
        r"96 pixels: the images' shorter sides have a median of 70; 9 images take about [\d.]+ s here without a GPU "
        r"\(--image-size takes another size\)",
        said,
    )


def test_digits_stay_at_48(tmp_path: Path) -> None:
    assert size_of(Shared(run=tmp_path)) == 48


def test_what_the_user_names_is_taken(photographs: Path) -> None:
    assert size_of(Shared(dataset=f"folder:{photographs}", image_size=32)) == 32
    assert size_of(Shared(dataset=f"folder:{photographs}", image_size="auto")) == 96  # type: ignore[arg-type]
    assert size_of(Shared(dataset=f"folder:{photographs}", resize="article", normalize="article")) == 48


def test_images_that_cannot_be_read_do_not_count(photographs: Path) -> None:
    (photographs / "a" / "torn.png").write_bytes(b"no image")
    assert size_of(Shared(dataset=f"folder:{photographs}")) == 96
    for path in photographs.glob("*/*.png"):
        path.write_bytes(b"no image")
    assert size_of(Shared(dataset=f"folder:{photographs}")) == 48


def test_a_run_keeps_the_size_that_it_chose_for_a_network(photographs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert run(["features", "--dataset", f"folder:{photographs}", "--run", str(folder), *FAST]) == 0
    [name] = json.loads((folder / "run.json").read_text(encoding="utf-8"))["feature_sets"]
    assert name == "vgg16-96-block2_pool-avg-keras-random"
    assert size_of(Shared(run=folder)) == 96
    assert run(["features", "--run", str(folder), "--image-size", "auto"]) == 0
    assert [path.stem for path in folder.glob("features/*.h5")] == [name]
