"""The whole way with the ImageNet weights and real photographs: 1,200 of CIFAR-10's images."""

import zipfile
from pathlib import Path

import pytest

from thaw.pipeline.cli import run
from thaw.pipeline.run.report_json import read_report

pytestmark = pytest.mark.weights


@pytest.fixture(scope="module")
def photographs(cifar10_zip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every fiftieth image of each class and split, as a zip of its own."""
    path = tmp_path_factory.mktemp("cifar10") / "photographs.zip"
    with zipfile.ZipFile(cifar10_zip) as source, zipfile.ZipFile(path, "w") as target:
        for name in sorted(name for name in source.namelist() if not name.endswith("/"))[::50]:
            target.writestr(name, source.read(name))
    return path


def accuracy(photographs: Path, folder: Path, stage: str, *options: str) -> float:
    arguments = ["--dataset", f"folder:{photographs}", "--run", str(folder), "--layers", "block4_pool", *options]
    assert run(["features", *arguments]) == 0
    assert run([stage, "--run", str(folder), "--select", "validation", "--transform", "none", "--folds", "3"]) == 0
    return read_report(folder / stage / "report.json").accuracy


def test_imagenet_features_beat_random_ones_and_the_articles_preprocessing(photographs: Path, tmp_path: Path) -> None:
    proper = accuracy(photographs, tmp_path / "proper", "logreg")
    articles = accuracy(photographs, tmp_path / "article", "logreg", "--resize", "article", "--normalize", "article")
    assert run(["random", "--run", str(tmp_path / "proper"), "--select", "validation", "--folds", "3"]) == 0
    baseline = read_report(tmp_path / "proper" / "random" / "report.json").accuracy
    assert proper > 0.6
    assert proper > articles + 0.1
    assert proper > baseline + 0.15
    assert read_report(tmp_path / "proper" / "logreg" / "report.json").num_test == 200
