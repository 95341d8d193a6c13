"""`features` after images changed: the new ones alone are extracted, and what was made before is called stale."""

import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from thaw.features.engines.network import Network
from thaw.features.store import FeatureFile
from thaw.pipeline.cli import run
from thaw.pipeline.comparison.comparison import load_run
from thaw.pipeline.run import split_csv

from tests.builders.features import features_of

FAST = ("--image-size", "32", "--weights", "random", "--layers", "block2_pool", "--pooling", "avg", "--engine", "keras")


@pytest.fixture
def pictures(image_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(image_folder, tmp_path / "pictures"))


def features(run_folder: Path, pictures: Path) -> dict[str, np.ndarray]:
    """Run the stage and return the features of each image by its id."""
    assert run(["features", "--run", str(run_folder), "--dataset", f"folder:{pictures}", *FAST]) == 0
    with FeatureFile(features_of(run_folder)) as made:
        made.check_digests()
        return dict(zip(made.ids, made.read(["block2_pool"], np.ones(len(made.ids), bool)), strict=True))


def change(pictures: Path) -> None:
    """Add an image, remove one, move one to another class, and draw one anew."""
    grey = np.random.default_rng(5).integers(0, 255, (40, 40, 3), np.uint8)
    Image.fromarray(grey).save(pictures / "grass" / "new.png")
    (pictures / "grass" / "00.png").unlink()
    (pictures / "grass" / "01.png").rename(pictures / "sunset" / "moved.png")
    Image.fromarray(grey[::-1]).save(pictures / "grass" / "02.png")


def test_new_images_alone_are_extracted(pictures: Path, tmp_path: Path, monkeypatch, caplog) -> None:
    before = features(tmp_path / "runs/r", pictures)
    split = {row[0]: row[2] for row in split_csv.read_table(tmp_path / "runs/r/split.csv")}
    assert run(["logreg", "--run", str(tmp_path / "runs/r"), "--values", "0.01"]) == 0
    change(pictures)
    with caplog.at_level(logging.INFO, "thaw"):
        after = features(tmp_path / "runs/r", pictures)
    path = features_of(tmp_path / "runs/r")
    assert f"{path}: 3 of 72 images are new and are extracted" in caplog.messages
    assert not [found for found in path.parent.iterdir() if "-new" in found.name]
    expected = features(tmp_path / "other/r", pictures)
    assert list(after) == list(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(after[name], values, rtol=1e-4, atol=1e-5)
    same = [name for name in after if name in before and name != "grass/02.png"]
    assert all(np.array_equal(after[name], before[name]) for name in same)
    with FeatureFile(path) as made:
        labels = dict(zip(made.ids, (made.class_names[label] for label in made.labels), strict=True))
    assert labels["sunset/moved.png"] == "sunset"
    now = {row[0]: row[2] for row in split_csv.read_table(tmp_path / "runs/r/split.csv")}
    assert now["grass/new.png"] == now["sunset/moved.png"] == "train"
    assert all(now[name] == split[name] for name in now if name in split)
    caplog.clear()
    with pytest.raises(Exception, match="all results of .* are stale"):
        load_run(tmp_path / "runs/r")
    assert run(["logreg", "--run", str(tmp_path / "runs/r"), "--values", "0.01"]) == 0
    assert not [line for line in caplog.messages if "changed since" in line]
    assert {entry.report.name for entry in load_run(tmp_path / "runs/r")} == {"chance", "logreg"}
    assert run(["verify", str(tmp_path / "runs/r")]) == 0

    def start(*_: object, **__: object) -> None:
        raise AssertionError("a network was started")

    monkeypatch.setattr(Network, "start", start)
    (pictures / "grass" / "03.png").unlink()
    assert len(features(tmp_path / "runs/r", pictures)) == 71
    pictures.rename(tmp_path / "elsewhere")
    assert len(features(tmp_path / "runs/r", tmp_path / "elsewhere")) == 71
    assert run(["verify", str(tmp_path / "runs/r")]) == 1  # its results are of the former split
