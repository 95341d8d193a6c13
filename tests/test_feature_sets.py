"""One run with two feature sets, through every stage that reads or writes a run."""

import csv
import json
from pathlib import Path

import pytest

from thaw.pipeline.cli import run
from thaw.pipeline.run.report_json import read_report

FAST = ("--weights", "random", "--engine", "keras", "--pooling", "avg")
SMALL, LARGE = "small-random", "vgg16-40-block1_pool+block3_pool-avg-keras-random"


def thaw(*arguments: object) -> int:
    return run([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def both(image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a set of one layer at 32 pixels, named by hand, and a set of two layers at 40 pixels."""
    folder = tmp_path_factory.mktemp("runs") / "pictures"
    first = ("--image-size", 32, "--layers", "block2_pool", "--features", "small")
    assert thaw("features", "--dataset", f"folder:{image_folder}", "--run", folder, *FAST, *first) == 0
    second = ("--image-size", 40, "--layers", "block1_pool,block3_pool")
    assert thaw("features", "--run", folder, *FAST, *second) == 0
    return folder


def features_of_result(folder: Path, name: str) -> str | None:
    return read_report(folder / name / "report.json").features


def test_both_sets_lie_in_the_run_by_their_names(both: Path) -> None:
    assert sorted(path.stem for path in both.glob("features/*.h5")) == sorted([SMALL, LARGE])
    sets = json.loads((both / "run.json").read_text())["feature_sets"]
    assert [(name, given["image_size"]) for name, given in sets.items()] == [(SMALL, 32), (LARGE, 40)]


def test_a_linear_strategy_chooses_among_the_sets_and_their_joined_layers(both: Path) -> None:
    assert thaw("logreg", "--run", both, "--values", "0.01") == 0
    report = read_report(both / "logreg" / "report.json")
    tried = report.hyperparameters["tried"]
    assert isinstance(tried, list)
    places = {(one["features"], one["layer"]) for one in tried}  # type: ignore[call-overload, index]
    joined = {place for place in places if "/" in place[1]}  # the best of both sets, side by side
    assert places - joined == {
        *((SMALL, "block2_pool"), (LARGE, "block1_pool"), (LARGE, "block3_pool"), (LARGE, "block1_pool+block3_pool"))
    }
    assert [features for features, _ in joined] == [f"{SMALL}+{LARGE}"]
    of_one_set = [one for one in tried if "+" not in one["features"]]  # type: ignore[call-overload, index, operator]
    best = max(of_one_set, key=lambda one: one["accuracy"])  # type: ignore[call-overload, index]
    chosen = (report.features, report.layer, report.hyperparameters["transform"])
    assert chosen == (best["features"], best["layer"], best["transform"])  # type: ignore[call-overload, index]


def test_a_set_that_is_named_names_the_result(both: Path) -> None:
    assert thaw("svm", "--run", both, "--features", SMALL, "--values", "0.001") == 0
    assert thaw("svm", "--run", both, "--image-size", 40, "--weights", "random", "--values", "0.001") == 0
    assert features_of_result(both, "svm") == SMALL
    assert features_of_result(both, f"svm-{LARGE}") == LARGE


def test_a_layer_that_one_set_has_means_that_set(both: Path) -> None:
    assert thaw("knn", "--run", both, "--layer", "block3_pool", "--name", "upper") == 0
    assert features_of_result(both, "upper") == LARGE


def test_the_networks_take_the_first_set_or_the_one_that_is_named(both: Path) -> None:
    assert thaw("head", "--run", both, "--epochs", 1) == 0
    assert thaw("head", "--run", both, "--epochs", 1, "--features", LARGE) == 0
    for name, features, size in (("head", SMALL, 32), (f"head-{LARGE}", LARGE, 40)):
        report = read_report(both / name / "report.json")
        assert (report.features, report.image_size) == (features, size)
    assert {path.name for path in (both / "activations").iterdir() if path.is_dir()} == {SMALL, LARGE}


def test_one_comparison_holds_the_results_on_both(both: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert thaw("report", "--run", both, "--json") == 0
    content = json.loads(capsys.readouterr().out)
    assert {SMALL, LARGE} <= {entry["features"] for entry in content["strategies"]}
    assert {32, 40} <= {entry["image_size"] for entry in content["strategies"]}
    pairs = {(pair["a"], pair["b"]) for pair in content["comparisons"]}
    assert {("svm", f"svm-{LARGE}"), (f"svm-{LARGE}", "svm")} & pairs


def test_every_result_labels_its_own_test_images_and_is_whole(
    both: Path, image_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("svm", f"svm-{LARGE}", f"head-{LARGE}"):
        with (both / name / "predictions.csv").open(newline="") as file:
            expected = {row["id"]: row["predicted"] for row in csv.DictReader(file)}
        capsys.readouterr()
        images = [image_folder / image for image in expected]
        assert thaw("predict", "--run", both, "--strategy", name, "--format", "csv", *images) == 0
        labels = [row["label"] for row in csv.DictReader(capsys.readouterr().out.splitlines())]
        assert labels == list(expected.values())
    assert thaw("verify", both) == 0
