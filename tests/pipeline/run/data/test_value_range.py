"""Images of more than 8 bits are scaled by the range of their set, which run.json keeps."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from thaw.pipeline.config import Shared
from thaw.pipeline.extraction.extract import begin_run
from thaw.pipeline.run.data.dataset import dataset_of
from thaw.pipeline.run.data.value_range import white_of_images
from thaw.pipeline.run.feature_sets import with_feature_set


def saved(root: Path, values: np.ndarray, suffix: str) -> Shared:
    """Write twelve images of a type in two classes."""
    for number in range(12):
        path = root / "data" / "ab"[number % 2] / f"{number}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values).save(path)
    return Shared(run=root / "run", dataset=f"folder:{root}/data")


@pytest.mark.parametrize(
    ("values", "suffix", "white", "expected"),
    [
        (np.array([[0, 2048, 4000]], np.uint16), ".png", 4095, [0, 128, 249]),
        (np.array([[0, 100, 255]], np.uint16), ".png", 255, [0, 100, 255]),
        (np.array([[0, 400, 800]], np.int32), ".tif", 1023, [0, 100, 199]),
        (np.array([[0, 1, 1]], np.int32), ".tif", 1, [0, 255, 255]),
        (np.array([[0, 257, 65535]], np.uint16), ".png", None, [0, 1, 255]),
        (np.array([[0, 100.4, 255]], np.float32), ".tif", 255, [0, 100, 255]),
        (np.array([[0, 0.5, 1]], np.float32), ".tif", None, [0, 128, 255]),
    ],
)
def test_the_set_s_own_range_is_white(tmp_path, caplog, values, suffix, white, expected):
    settings = saved(tmp_path, np.repeat(values, 3, axis=0), suffix)
    with caplog.at_level(logging.INFO, "thaw"):
        complete = with_feature_set(settings)
    assert complete.white == white
    said = [line for line in caplog.messages if "more than 8 bits" in line]
    assert [f"{white} becomes white" in line for line in said] == ([True] if white else [])
    dataset = dataset_of(complete)
    assert dataset.read(0)[0, :, 0].tolist() == expected
    begin_run(complete, dataset)
    assert json.loads((tmp_path / "run/run.json").read_text())["white"] == white
    assert with_feature_set(settings).white == white


def test_a_white_that_is_given_is_taken(tmp_path):
    settings = saved(tmp_path, np.array([[0, 60, 100]] * 3, np.uint16), ".png")
    complete = with_feature_set(settings.model_copy(update={"white": 100.0}))
    assert complete.white == 100
    assert dataset_of(complete).read(0)[0, :, 0].tolist() == [0, 153, 255]


def test_images_without_shades_are_warned_of(tmp_path, caplog):
    settings = saved(tmp_path, np.array([[0, 1, 1]] * 3, np.uint8), ".png")
    assert white_of_images(dataset_of(settings)) is None
    assert caplog.messages == [
        "12 of 12 images looked at have fewer than 8 different values, so hardly any shades: masks, drawings, or "
        "photographs that lost them on the way; look at some"
    ]
