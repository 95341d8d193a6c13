"""A run takes the rows that a run beside it has made of the same images, and only those."""

import logging
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from thaw.features.engines.network import Network
from thaw.features.store import FeatureFile
from thaw.pipeline.cli import run
from thaw.pipeline.run.report_json import read_report

from tests.builders.features import features_of

# The seed of the run is that of random weights too, so that two seeds with the same weights need a weights file.
FAST = ("--image-size", "32", "--layers", "block2_pool,block3_pool", "--pooling", "avg", "--engine", "keras")


def features(run_folder: Path, images: Path, *options: str) -> int:
    return run(["features", "--run", str(run_folder), "--dataset", f"folder:{images}", *FAST, *options])


@pytest.fixture
def pictures(image_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(image_folder, tmp_path / "pictures"))


@pytest.fixture
def first(pictures: Path, tmp_path: Path) -> Path:
    """A run on the pictures with the ImageNet weights."""
    assert features(tmp_path / "runs" / "first", pictures) == 0
    return tmp_path / "runs" / "first"


@pytest.fixture
def nothing_runs(first: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on no network can be started."""

    def start(*_: object, **__: object) -> None:
        raise AssertionError("a network was started")

    monkeypatch.setattr(Network, "start", start)


@pytest.mark.usefixtures("nothing_runs")
def test_another_seed_has_the_same_values_in_another_split(
    first: Path, pictures: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    second = tmp_path / "runs" / "second"
    with caplog.at_level(logging.INFO, "thaw"):
        assert features(second, pictures, "--seed", "1") == 0
    assert f"took all 72 rows of {features_of(first)}: the same images, network and settings" in caplog.messages
    with FeatureFile(features_of(first)) as one, FeatureFile(features_of(second)) as two:
        two.check_digests()
        assert one.ids == two.ids
        assert not np.array_equal(one.split, two.split)
        everyone = np.ones(72, bool)
        for layer in one.layers:
            np.testing.assert_array_equal(one.read([layer], everyone), two.read([layer], everyone))
        differing = {name for name in one.attributes if one.attributes[name] != two.attributes[name]}
        assert differing == {"split_sha256", "values_sha256", "record_sha256"}
    assert run(["logreg", "--run", str(second), "--values", "0.01"]) == 0
    assert run(["verify", str(second)]) == 0
    assert read_report(second / "logreg" / "report.json").num_test == 15


@pytest.mark.parametrize("differs", ["image", "label", "setting", "value"])
@pytest.mark.usefixtures("nothing_runs")
def test_what_differs_is_extracted(first: Path, pictures: Path, tmp_path: Path, differs: str) -> None:
    options: list[str] = []
    if differs == "image":
        Image.new("RGB", (9, 9)).save(pictures / "grass" / "03.png")
    elif differs == "label":
        (pictures / "grass" / "03.png").rename(pictures / "sunset" / "03b.png")
    elif differs == "setting":
        options = ["--resize", "area"]
    else:
        with h5py.File(features_of(first), "r+") as file:
            file["features/block2_pool"][0, 0] += 1
    with pytest.raises(AssertionError, match="a network was started"):
        features(tmp_path / "runs" / "second", pictures, *options)


@pytest.mark.usefixtures("nothing_runs")
def test_a_run_elsewhere_is_not_looked_for(first: Path, pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="a network was started"):
        features(tmp_path / "elsewhere" / "second", pictures, "--seed", "1")
