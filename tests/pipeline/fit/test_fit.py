"""`fit` as a whole, on a small folder of images and a random network: what it leaves, says and goes on from."""

import json
from pathlib import Path

import pytest

from thaw.pipeline.cli import run
from thaw.pipeline.inference.trained import find_result
from thaw.pipeline.run.advice_json import read_advice
from thaw.pipeline.run.report_json import read_report

FAST = ["--image-size", "32", "--weights", "random", "--layers", "block4_pool,block5_pool"]


def fit(image_folder: Path, folder: Path, *options: str) -> int:
    return run(["fit", "--dataset", f"folder:{image_folder}", "--run", str(folder), *FAST, *options])


@pytest.fixture(scope="module")
def fitted(image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "images"
    assert fit(image_folder, folder, "--minutes", "4") == 0
    return folder


def test_it_leaves_classifiers_their_comparison_and_the_advice(fitted: Path) -> None:
    names = {path.parent.name for path in fitted.glob("*/report.json")}
    assert {"chance", "logreg", "svm"} <= names
    assert (fitted / "report.md").exists()
    assert (fitted / "report.html").exists()
    assert not (fitted / "advice").exists()


def test_what_is_recommended_is_the_best_which_predict_takes(fitted: Path) -> None:
    advice = read_advice(fitted)
    assert advice is not None
    best = read_report(find_result(fitted, "best") / "report.json")
    recommended = advice.recommended
    assert (recommended.strategy, recommended.features) == (best.strategy, best.features)
    assert recommended.accuracy == best.hyperparameters["selection_accuracy"]
    assert recommended.accuracy_interval[0] < recommended.accuracy <= recommended.accuracy_interval[1]


def test_a_second_call_takes_what_is_there(
    image_folder: Path, fitted: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "thaw")
    before = {path: path.stat().st_mtime_ns for path in fitted.glob("*/model.skops")}
    assert fit(image_folder, fitted, "--minutes", "4") == 0
    assert "the advice of an earlier call is taken" in caplog.text
    assert "logreg is there already" in caplog.text
    printed = capfd.readouterr().out
    assert "To label new images:" in printed
    assert " predict --run " in printed
    assert {path: path.stat().st_mtime_ns for path in fitted.glob("*/model.skops")} == before


def test_however_few_the_minutes_it_ends_with_a_classifier_and_says_what_is_missing(
    image_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "thaw")
    assert fit(image_folder, tmp_path / "few", "--minutes", "0.01") == 0
    assert (tmp_path / "few" / "logreg" / "model.skops").exists()
    assert not (tmp_path / "few" / "svm").exists()
    assert "more minutes (--minutes) would have tried: svm on " in caplog.text


def test_a_dry_run_says_the_plan_and_writes_nothing(
    image_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert fit(image_folder, tmp_path / "dry", "--dry-run") == 0
    printed = capfd.readouterr().out
    assert "Plan: " in printed
    assert "vgg16 at 32 pixels" in printed
    assert "MB of disk" in printed
    assert not (tmp_path / "dry").exists()


def test_the_dry_run_of_an_extraction_writes_nothing(
    image_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["features", "--dataset", f"folder:{image_folder}", "--run", str(tmp_path / "dry"), *FAST, "--dry-run"]
    assert run(words) == 0
    assert "images through vgg16 at 32 pixels into the feature set vgg16-32-" in capfd.readouterr().out
    assert not (tmp_path / "dry").exists()


def test_the_minutes_are_positive(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["fit", "--minutes", "0"]) == 2
    assert "--minutes received" in capsys.readouterr().err


def test_the_advice_holds_what_each_network_gave(fitted: Path) -> None:
    networks = json.loads((fitted / "advice.json").read_text())["networks"]
    assert [(one["backbone"], one["image_size"]) for one in networks] == [("vgg16", 32)]
    assert networks[0]["minutes"] > 0
