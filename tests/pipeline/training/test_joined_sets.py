"""Linear strategies on the layers of several feature sets side by side."""

import csv
import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler

from thaw.features.datasets.dataset import load_dataset
from thaw.features.store import FeatureFile
from thaw.models.artifacts import load_model
from thaw.models.selection.path import HeldOut
from thaw.models.selection.search import Trial
from thaw.pipeline.cli import run
from thaw.pipeline.inference.loading import load_classifier
from thaw.pipeline.inference.similar_images import open_nearest
from thaw.pipeline.run.feature_sets import joined_names
from thaw.pipeline.run.predictions_csv import read_predictions
from thaw.pipeline.run.report_json import read_report
from thaw.pipeline.run.run_json import RunRecord, features_path
from thaw.pipeline.training import joined_sets

VGG = ["--image-size", "32", "--weights", "random", "--layers", "block2_pool,block3_pool", "--pooling", "avg"]
LITE = ["--backbone", "efficientnet_lite0", "--image-size", "64", "--weights", "random"]
A, B = "small-random", "lite-random"
"""Names that end in -random, as those of all sets with random weights do."""


def thaw(*arguments: object) -> int:
    return run([str(argument) for argument in arguments])


def error_of(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    capsys.readouterr()
    assert thaw(*arguments) == 1
    return capsys.readouterr().err.splitlines()[-1]


@pytest.fixture(scope="module")
def finished(image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with two feature sets, and results on both."""
    folder, keras = tmp_path_factory.mktemp("runs") / "pictures", ("--engine", "keras")
    data = ("--dataset", f"folder:{image_folder}", "--run", folder)
    assert thaw("features", *data, *VGG, *keras, "--features", "small") == 0
    assert thaw("features", "--run", folder, *LITE, *keras, "--features", "lite", "--dtype", "float16") == 0
    both = ("--run", folder, "--features", f"{A}+{B}")
    assert thaw("logreg", *both, "--values", "0.001,0.1", "--transform", "none") == 0
    named = ("--layer", f"{A}/block2_pool+{A}/block3_pool+{B}/top_activation", "--transform", "sqrt")
    assert thaw("svm", *both, *named, "--name", "three") == 0
    return folder


def test_the_report_joins_what_the_sets_have(finished: Path) -> None:
    report = read_report(finished / f"logreg-{A}+{B}/report.json")
    assert (report.features, report.sets) == (f"{A}+{B}", (A, B))
    assert (report.backbone, report.image_size) == ("vgg16+efficientnet_lite0", "32+64")
    tried = report.hyperparameters["tried"]
    best = {
        name: max((one for one in tried if one["features"] == name), key=lambda one: one["accuracy"])["layer"]
        for name in (A, B)
    }
    expected = "+".join(f"{name}/{layer}" for name, layers in best.items() for layer in layers.split("+"))
    assert report.layer == expected
    assert {one["layer"] for one in tried if one["features"] == f"{A}+{B}"} == {expected}
    with FeatureFile(features_path(finished, A)) as first, FeatureFile(features_path(finished, B)) as last:
        digests = [one.attributes["values_sha256"] for one in (first, last)]
    assert report.features_sha256 == "+".join(digests)


def test_the_model_is_fitted_to_the_rows_side_by_side(finished: Path) -> None:
    model, record = load_model(finished / "three/model.skops")
    with FeatureFile(features_path(finished, A)) as first, FeatureFile(features_path(finished, B)) as last:
        rows = first.split != 2
        values = np.hstack([first.read(["block2_pool", "block3_pool"], rows), last.read(["top_activation"], rows)])
    scaler = StandardScaler().fit(np.sign(values) * np.sqrt(np.abs(values)))
    np.testing.assert_allclose(model.estimator.named_steps["scale"].mean_, scaler.mean_, rtol=1e-4, atol=1e-6)
    assert [(one["features"], one["layer"]) for one in record["sets"]] == [
        (A, "block2_pool+block3_pool"),
        (B, "top_activation"),
    ]


@pytest.mark.parametrize("name", [f"logreg-{A}+{B}", "three"])
def test_test_images_get_the_probabilities_of_predictions_csv(
    finished: Path, image_folder: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with (finished / name / "predictions.csv").open(newline="") as file:
        expected = {str(image_folder / row["id"]): row for row in csv.DictReader(file)}
    capsys.readouterr()
    assert thaw("predict", "--run", finished, "--strategy", name, "--format", "csv", "--", *expected) == 0
    for row in csv.DictReader(io.StringIO(capsys.readouterr().out)):
        own = expected[row["image"]]
        assert row["label"] == own["predicted"]
        assert float(row["probability"]) == pytest.approx(float(own[f"p_{row['label']}"]), abs=1e-4)


@pytest.mark.parametrize("name", [f"logreg-{A}+{B}", "three"])
def test_onnx_gives_the_probabilities_of_predictions_csv(
    finished: Path, image_folder: Path, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    path = tmp_path / "joined.onnx"
    assert thaw("export", finished, "--name", name, "--out", path) == 0
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    dataset = load_dataset(f"folder:{image_folder}")
    own = read_predictions(
        finished / name / "predictions.csv", read_report(finished / name / "report.json").class_names
    )
    images = np.stack([dataset.read(dataset.ids.index(one)) for one in own.ids])
    np.testing.assert_allclose(session.run(None, {"images": images})[0], own.probabilities, atol=2e-3)
    message = error_of(capsys, "export", finished, "--name", name, "--format", "keras", "--out", tmp_path / "a.keras")
    assert "exported as one ONNX file alone: --format onnx" in message


def test_every_other_stage_takes_it(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert thaw("verify", finished) == 0
    assert thaw("report", "--run", finished) == 0
    page = (finished / "report.html").read_text(encoding="utf-8")
    assert "which is gone" not in page
    assert thaw("ensemble", "--run", finished, "--members", f"three,logreg-{A}+{B}") == 0
    assert read_report(finished / "ensemble/report.json").sets == (A, B)
    assert thaw("verify", finished) == 0
    features_path(finished, B).rename(finished / "away.h5")
    capsys.readouterr()
    assert thaw("verify", finished) == 1
    assert f"features/{B}.h5: it is gone, and these were made on it: ensemble, logreg-{A}+{B}, three" in (
        capsys.readouterr().out
    )
    (finished / "away.h5").rename(features_path(finished, B))


@pytest.mark.parametrize("better", [True, False])
def test_auto_tries_the_two_best_sets_side_by_side(
    finished: Path, monkeypatch: pytest.MonkeyPatch, better: bool
) -> None:
    """What they have to be better by is tested below; here the verdict is given."""
    monkeypatch.setattr(joined_sets, "_is_better", lambda one, other: better)
    name = f"auto-{better}"
    assert thaw("logreg", "--run", finished, "--values", "0.001,0.1", "--transform", "none", "--name", name) == 0
    report = read_report(finished / name / "report.json")
    tried = report.hyperparameters["tried"]
    assert {one["features"] for one in tried} == {A, B, f"{A}+{B}"}
    assert report.sets == ((A, B) if better else (report.features,))
    assert (finished / name / "model.skops").exists()
    shutil.rmtree(finished / name)


def test_layers_by_name_and_neighbours_are_not_joined_by_themselves(finished: Path) -> None:
    for stage, *options in (("logreg", "--layer", "block3_pool", "--values", "0.1"), ("knn", "--values", "3")):
        assert thaw(stage, "--run", finished, *options, "--name", "alone") == 0
        report = read_report(finished / "alone/report.json")
        assert f"{A}+{B}" not in {one["features"] for one in report.hyperparameters["tried"]}
        shutil.rmtree(finished / "alone")


@pytest.mark.parametrize(("only_joined", "only_single", "better"), [(20, 5, True), (7, 5, False), (5, 20, False)])
def test_better_means_by_more_than_the_standard_error(only_joined: int, only_single: int, better: bool) -> None:
    correct = np.ones((2, 200), bool)
    correct[1, :only_joined] = False
    correct[0, 100 : 100 + only_single] = False
    joined, single = (Trial("x", "none", 1.0, float(row.mean()), HeldOut(row)) for row in correct)
    assert joined_sets._is_better(joined, single) is better


def test_training_images_are_nearest_to_themselves(finished: Path, image_folder: Path) -> None:
    classifier = load_classifier(finished / "three")
    nearest = open_nearest(finished, classifier)
    assert nearest is not None
    with FeatureFile(features_path(finished, A)) as features:
        name = features.ids[int(np.flatnonzero(features.split == 0)[0])]
    inputs = classifier.read(image_folder / name, name, 10**8)[np.newaxis]
    assert nearest.find(classifier.activations(inputs), 1)[0][0].id == name


def test_layers_and_options_that_cannot_be(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    both = ("--run", finished, "--features", f"{A}+{B}")
    message = error_of(capsys, "svm", *both, "--layer", "block2_pool")
    assert f"--layer block2_pool: expected layers of {A} and {B}, each as set/layer, for example" in message
    assert f"--layer {A}/block2_pool: expected layers of" in error_of(
        capsys, "svm", *both, "--layer", f"{A}/block2_pool"
    )
    message = error_of(capsys, "svm", *both, "--image-size", 32)
    assert message == f"error: --features {A}+{B} names sets that the run has; leave --image-size out"
    assert "joined sets are read here; leave --workers and --cluster out" in error_of(
        capsys, "svm", *both, "--workers", 2
    )
    assert f"has no feature set {A}+{B}; it has {A}, {B}" in error_of(capsys, "head", *both)


@pytest.mark.parametrize(
    ("features", "names"),
    [
        ("a+b", ["a", "b"]),
        ("b+a", ["b", "a"]),
        ("x+y+a", ["x+y", "a"]),
        ("a+x+y+b", ["a", "x+y", "b"]),
        ("x+y", []),
        ("a", []),
        ("a+a", []),
        ("a+none", []),
    ],
)
def test_names_are_taken_apart_by_the_sets_of_the_run(features: str, names: list[str]) -> None:
    assert joined_names(RunRecord({}, {name: {} for name in ("a", "b", "x+y")}), features) == names
