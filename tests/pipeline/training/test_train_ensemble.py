"""The ensemble of a run's classifiers: chosen by out-of-fold predictions, used like any other result."""

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from thaw.features.datasets.dataset import load_dataset
from thaw.models.ensemble import select_members
from thaw.pipeline.cli import run
from thaw.pipeline.inference.ensemble import EnsembleClassifier
from thaw.pipeline.inference.loading import load_classifier
from thaw.pipeline.inference.trained import find_result
from thaw.pipeline.run.predictions_csv import OUT_OF_FOLD, read_predictions
from thaw.pipeline.run.report_json import Report, layers_by_set, read_report
from thaw.pipeline.run.split_csv import read_table
from thaw.pipeline.training.train_ensemble import choose_ensemble, judgement, write_ensemble

VGG = ["--image-size", "32", "--weights", "random", "--layers", "block2_pool,block3_pool", "--pooling", "avg"]
LITE = ["--backbone", "efficientnet_lite0", "--image-size", "64", "--weights", "random", "--transform", "none"]
OTHER = "lite"


def thaw(*arguments: object) -> int:
    return run([str(argument) for argument in arguments])


def error_of(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    capsys.readouterr()
    assert thaw(*arguments) == 1
    return capsys.readouterr().err.splitlines()[-1]


@pytest.fixture(scope="module")
def finished(image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with linear strategies on two networks, and the ensemble of them."""
    folder = tmp_path_factory.mktemp("runs") / "pictures"
    weak = ("--values", "0.0001", "--layer", "block2_pool")
    assert thaw("svm", "--dataset", f"folder:{image_folder}", "--run", folder, "--engine", "keras", *VGG, *weak) == 0
    assert thaw("knn", "--run", folder, "--layer", "block3_pool") == 0
    assert thaw("random", "--run", folder) == 0
    assert thaw("logreg", "--run", folder, *LITE, "--engine", "keras", "--values", "0.001", "--name", OTHER) == 0
    assert thaw("ensemble", "--run", folder, "--members", f"svm,knn,{OTHER}") == 0
    return folder


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    return shutil.copytree(finished, tmp_path / "run")


@pytest.mark.parametrize("name", ["svm", "knn", OTHER])
def test_a_linear_result_keeps_what_it_says_of_images_that_it_was_not_fitted_to(finished: Path, name: str) -> None:
    report = read_report(finished / name / "report.json")
    known = read_predictions(finished / name / OUT_OF_FOLD, report.class_names)
    expected = [row for row in read_table(finished / "split.csv") if row[2] != "test"]
    assert known.ids == [row[0] for row in expected]
    assert [report.class_names[label] for label in known.labels] == [row[1] for row in expected]
    assert OUT_OF_FOLD in (finished / name / "SHA256SUMS").read_text()
    accuracy = float((known.probabilities.argmax(axis=1) == known.labels).mean())
    assert accuracy == pytest.approx(report.hyperparameters["selection_accuracy"], abs=0.05)


def test_the_ensemble_is_the_mean_of_its_members(finished: Path) -> None:
    report = read_report(finished / "ensemble/report.json")
    names = ["svm", "knn", OTHER]
    for file in ("predictions.csv", OUT_OF_FOLD):
        own = read_predictions(finished / "ensemble" / file, report.class_names)
        parts = [read_predictions(finished / name / file, report.class_names) for name in names]
        assert own.ids == parts[0].ids
        np.testing.assert_allclose(own.probabilities, np.mean([one.probabilities for one in parts], axis=0), atol=1e-15)
    known = read_predictions(finished / "ensemble" / OUT_OF_FOLD, report.class_names)
    assert report.hyperparameters["members"] == names
    assert report.hyperparameters["select"] == "cv"
    assert report.hyperparameters["selection_accuracy"] == np.mean(known.probabilities.argmax(axis=1) == known.labels)


def test_the_report_joins_what_the_sets_have(finished: Path) -> None:
    report, first, last = (read_report(finished / name / "report.json") for name in ("ensemble", "svm", OTHER))
    assert report.features == f"{first.features}+{last.features}"
    assert (report.backbone, report.image_size) == ("vgg16+efficientnet_lite0", "32+64")
    assert report.weights_sha256 == f"{first.weights_sha256}+{last.weights_sha256}"
    assert report.features_sha256 == f"{first.features_sha256}+{last.features_sha256}"
    assert report.sets == (first.features, last.features)
    assert layers_by_set(str(report.features), str(report.layer)) == [
        (first.features, "block2_pool"),
        (first.features, "block3_pool"),
        (last.features, last.layer),
    ]
    sizes = [(finished / name / "model.skops").stat().st_size for name in ("svm", "knn", OTHER)]
    assert report.model_bytes == sum(sizes) + (finished / "ensemble/model.json").stat().st_size
    assert Report.model_validate_json(report.model_dump_json(by_alias=True)) == report


def test_test_images_get_the_probabilities_of_predictions_csv(
    finished: Path, image_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (finished / "ensemble/predictions.csv").open(newline="") as file:
        expected = {str(image_folder / row["id"]): row for row in csv.DictReader(file)}
    capsys.readouterr()
    arguments = ["--run", finished, "--strategy", "ensemble", "--top", 3, "--format", "csv", "--", *expected]
    assert thaw("predict", *arguments) == 0
    for row in csv.DictReader(io.StringIO(capsys.readouterr().out)):
        own = expected[row["image"]]
        assert row["label"] == own["predicted"]
        for rank in ("", "_2", "_3"):
            assert float(row[f"probability{rank}"]) == pytest.approx(float(own[f"p_{row[f'label{rank}']}"]), abs=1e-5)


def test_a_network_that_two_members_share_runs_once(finished: Path) -> None:
    classifier = load_classifier(finished / "ensemble", None)
    assert isinstance(classifier, EnsembleClassifier)
    assert len(classifier.members) == 3
    records = list(classifier.networks.records.values())
    assert [record["backbone"] for record in records] == ["vgg16", "efficientnet_lite0"]
    assert records[0]["engine_layers"] == ["block2_pool", "block3_pool"]


def test_a_network_runs_once_for_sets_of_one_view_and_of_both(
    image_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, given = tmp_path / "run", ("--dataset", f"folder:{image_folder}", "--engine", "keras", *VGG, "--run")
    for name, *options in (("one",), ("both", "--views", "flip")):
        options += ["--features", name, "--values", "0.001", "--transform", "none", "--name", name]
        assert thaw("logreg", *given, folder, *options) == 0
    assert thaw("ensemble", "--run", folder, "--members", "one,both") == 0
    classifier = load_classifier(folder / "ensemble", None)
    [record] = classifier.networks.records.values()
    assert record["feature_views"] == "flip"
    dataset, own = (
        load_dataset(f"folder:{image_folder}"),
        read_predictions(folder / "ensemble/predictions.csv", classifier.class_names),
    )
    capsys.readouterr()
    paths = [image_folder / name for name in own.ids]
    assert thaw("predict", "--run", folder, "--strategy", "ensemble", "--format", "csv", "--", *paths) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [float(row["probability"]) for row in rows] == pytest.approx(own.probabilities.max(axis=1), abs=1e-5)
    onnxruntime = pytest.importorskip("onnxruntime")
    assert thaw("export", folder, "--name", "ensemble") == 0
    session = onnxruntime.InferenceSession(str(folder / "ensemble/model.onnx"), providers=["CPUExecutionProvider"])
    images = np.stack([dataset.read(dataset.row_of[name]) for name in own.ids])
    np.testing.assert_allclose(session.run(None, {"images": images})[0], own.probabilities, atol=1e-4)


def test_onnx_gives_the_probabilities_of_predictions_csv(
    finished: Path, image_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    path = tmp_path / "ensemble.onnx"
    assert thaw("export", finished, "--name", "ensemble", "--out", path) == 0
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    dataset = load_dataset(f"folder:{image_folder}")
    report = read_report(finished / "ensemble/report.json")
    own = read_predictions(finished / "ensemble/predictions.csv", report.class_names)
    images = np.stack([dataset.read(dataset.ids.index(name)) for name in own.ids])
    [received] = session.run(None, {"images": images})
    np.testing.assert_allclose(received, own.probabilities, atol=1e-4)
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["class_names"]) == report.class_names
    assert metadata["backbone"] == "vgg16+efficientnet_lite0"
    assert thaw("export", finished, "--name", "ensemble", "--format", "bundle", "--out", tmp_path / "b.zip") == 0
    message = error_of(
        capsys, "export", finished, "--name", "ensemble", "--format", "keras", "--out", tmp_path / "a.keras"
    )
    assert message.endswith("exported as one ONNX file alone: --format onnx")


def test_every_other_stage_takes_it(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert thaw("verify", finished) == 0
    assert "ensemble: whole" in capsys.readouterr().out
    assert thaw("report", "--run", finished, "--json") == 0
    strategies = json.loads(capsys.readouterr().out)["strategies"]
    assert "32+64" in [one["image_size"] for one in strategies]
    assert thaw("report", "--run", finished) == 0
    assert "efficientnet_lite0 and vgg16 backbone" in capsys.readouterr().out
    page = (finished / "report.html").read_text(encoding="utf-8")
    assert "Training images like these are missing" not in page
    card = (finished / "ensemble/model_card.md").read_text(encoding="utf-8")
    assert "the mean of the probabilities of several classifiers" in card
    assert "svm on block2\\_pool" in card or "svm on block2_pool" in card


def test_the_best_result_may_be_an_ensemble(copied: Path) -> None:
    for name in ("svm", "knn", OTHER):
        path = copied / name / "report.json"
        content = json.loads(path.read_text())
        content["hyperparameters"]["selection_accuracy"] = 0.2
        path.write_text(json.dumps(content))
    assert find_result(copied, "best") == copied / "ensemble"


def test_members_are_chosen_without_the_test_split(copied: Path) -> None:
    """Wrong test labels and predictions choose the same members."""
    names = ["svm", "knn", OTHER]
    class_names = read_report(copied / "svm/report.json").class_names
    known = {name: read_predictions(copied / name / OUT_OF_FOLD, class_names) for name in sorted(names)}
    expected = select_members({name: one.probabilities for name, one in known.items()}, known["svm"].labels)
    for random in ("random", "chance"):
        shutil.rmtree(copied / random)
    chosen = choose_ensemble(copied)
    assert [one.folder.name for one in chosen.members] == list(expected.members)
    assert chosen.selection == expected
    assert ("do not favour it" in judgement(chosen.selection)) is not chosen.selection.gain.favoured
    assert write_ensemble(chosen) == copied / "ensemble"
    assert read_report(copied / "ensemble/report.json").hyperparameters["tried"] == expected.tried


def test_a_member_that_is_gone_or_changed_gives_one_line(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    again = f"make the ensemble of what is there: .*thaw ensemble --run {copied}"
    path = copied / "svm/model.skops"
    path.write_bytes(path.read_bytes() + b"x")
    for stage in (
        ("predict", "--run", copied, "--strategy", "ensemble", "x.png"),
        ("export", copied, "--name", "ensemble"),
    ):
        (copied / "x.png").touch()
        message = error_of(capsys, *[copied / "x.png" if word == "x.png" else word for word in stage])
        assert "its member svm was trained again since, or its model.skops changed; put it back" in message
    shutil.rmtree(copied / "svm")
    message = error_of(capsys, "export", copied, "--name", "ensemble")
    assert f"its member svm is gone ({copied / 'svm/model.skops'})" in message
    assert pytest.importorskip("re").search(again, message)
    capsys.readouterr()
    assert thaw("verify", copied) == 1
    assert "its member svm is gone" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"members": []}, "has an invalid record (members: List should have at least 2 items"),
        ({"strategy": "svm"}, "is not the model of its report.json"),
        ({"model_version": 1}, "is of version 1 and this program reads version"),
    ],
)
def test_a_damaged_model_json_is_refused(
    copied: Path, capsys: pytest.CaptureFixture[str], change: dict[str, object], message: str
) -> None:
    path = copied / "ensemble/model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert message in error_of(capsys, "export", copied, "--name", "ensemble")
    path.write_text("{")
    assert "model.json cannot be read" in error_of(capsys, "export", copied, "--name", "ensemble")


def test_names_that_cannot_be_averaged(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"--members elm: {copied} has no result of that name; it has chance, ensemble, knn" in error_of(
        capsys, "ensemble", "--run", copied, "--members", "svm,elm"
    )
    assert "random is no linear classifier; expected results of svm, logreg, knn, ridge" in error_of(
        capsys, "ensemble", "--run", copied, "--members", "svm,random"
    )
    (copied / "svm" / OUT_OF_FOLD).unlink()
    message = error_of(capsys, "ensemble", "--run", copied, "--members", "svm,knn")
    assert f"svm has no {OUT_OF_FOLD}, which a former version did not write; type: " in message
    assert thaw("ensemble", "--run", copied, "--members", "svm,svm") == 2
    assert "expected two or more different results joined by commas" in capsys.readouterr().err


def test_one_classifier_is_no_ensemble(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("svm", OTHER):
        shutil.rmtree(copied / name)
    message = error_of(capsys, "ensemble", "--run", copied)
    assert "has 1 result(s) that an ensemble can average (knn); expected two or more of svm, logreg, knn" in message
    assert "there is no run in" in error_of(capsys, "ensemble", "--run", copied / "none")


def test_results_on_other_images_are_left_out(
    copied: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    path = copied / OTHER / OUT_OF_FOLD
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-1]))
    assert thaw("ensemble", "--run", copied) == 0
    assert f"left out: {OTHER} labels other images than the others" in caplog.text
    assert read_report(copied / "ensemble/report.json").sets == read_report(copied / "svm/report.json").sets
