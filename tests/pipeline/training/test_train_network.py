"""The neural stages through the command line, on a small folder of pictures, and on digits with the real weights."""

import csv
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest

from thaw.features.datasets.dataset import load_dataset
from thaw.features.store import FeatureFile
from thaw.models.neural import saved_network
from thaw.models.neural.prediction import predict
from thaw.pipeline.cli import run
from thaw.pipeline.comparison.comparison import load_run
from thaw.pipeline.report.html.explanations import explain
from thaw.pipeline.run.report_json import Report, read_report
from thaw.pipeline.thumbnails import Pictures

from tests.builders.features import copy_run, features_of

ROOT = Path(__file__).resolve().parents[3]
SET = "vgg16-32-random"
FAST = ["--image-size", "32", "--weights", "random", "--layers", "block4_pool,block5_pool"]


def thaw(*arguments: object) -> int:
    return run([str(argument) for argument in arguments])


def report_of(run_folder: Path, name: str) -> Report:
    return read_report(run_folder / name / "report.json")


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def predictions(run_folder: Path, name: str) -> str:
    return (run_folder / name / "predictions.csv").read_text()


@pytest.fixture(scope="module")
def started(image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with features, logistic regression and the three neural strategies."""
    folder = tmp_path_factory.mktemp("runs") / "pictures"
    assert thaw("features", "--dataset", f"folder:{image_folder}", "--run", folder, *FAST) == 0
    assert thaw("logreg", "--run", folder, "--transform", "none") == 0
    assert thaw("head", "--run", folder, "--epochs", 3) == 0
    assert thaw("finetune", "--run", folder, "--epochs", 2) == 0
    assert thaw("scratch", "--run", folder, "--epochs", 1) == 0
    return folder


def test_each_result_has_its_model_report_predictions_and_learning_curve(started: Path) -> None:
    for name in ("head", "finetune", "scratch"):
        assert {path.name for path in (started / name).iterdir() if not path.name.startswith(".")} == {
            *("model.json", "model.weights.h5", "report.json", "predictions.csv", "SHA256SUMS"),
            *("learning_curve.csv", "learning_curve.png", "model_card.md", "reliability.png", "reliability.svg"),
        }
        report = report_of(started, name)
        assert (report.strategy, report.num_test, report.num_train) == (name, 15, 51)
        assert report.model_bytes == sum(path.stat().st_size for path in (started / name).glob("model.*"))
        assert (started / name / "learning_curve.png").read_bytes().startswith(b"\x89PNG")


def test_the_neural_strategies_join_the_comparison(started: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert thaw("report", "--run", started, "--json") == 0
    content = json.loads(capsys.readouterr().out)
    assert {"head", "finetune", "scratch"} < {entry["name"] for entry in content["strategies"]}


def test_reports_say_what_was_trained_on_what(started: Path) -> None:
    head, finetune, scratch = (report_of(started, name) for name in ("head", "finetune", "scratch"))
    with FeatureFile(features_of(started)) as features:
        assert head.features_sha256 == finetune.features_sha256 == features.attributes["values_sha256"]
    assert (head.layer, finetune.layer, scratch.layer) == ("block5_pool", "block5_conv1", "block1_conv1")
    assert finetune.hyperparameters["inputs"] == "cached activations of block4_pool"
    assert scratch.hyperparameters["inputs"] == "images, through the whole network in every epoch"
    assert (scratch.features_sha256, scratch.seconds.features) == (None, None)
    assert scratch.weights_sha256 == head.weights_sha256  # both are the seeded random network here


def test_fine_tuning_takes_over_the_logistic_regression(started: Path) -> None:
    chosen = report_of(started, "logreg")
    probe: Any = report_of(started, "finetune").hyperparameters["probe"]
    assert probe["chosen_by"] == "logreg/report.json"
    assert (probe["layer"], probe["C"]) == (chosen.layer, chosen.hyperparameters["C"])


def test_the_saved_network_gives_the_predictions(started: Path) -> None:
    model, architecture, record = saved_network.load(started / "finetune" / "model.json")
    assert architecture.input_layer == "block4_pool"
    with FeatureFile(features_of(started)) as features:
        rows = features.read(["block4_pool"], features.split == 2).reshape(-1, *architecture.input_shape)
    received = predict(model, iter([rows]))
    expected = rows_of(started / "finetune" / "predictions.csv")
    names = record["class_names"]
    assert [names[i] for i in received.argmax(axis=1)] == [row["predicted"] for row in expected]
    np.testing.assert_allclose(received[:, 0], [float(row[f"p_{names[0]}"]) for row in expected], atol=1e-5)


def test_networks_show_where_they_find_a_class(
    started: Path, image_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    entries = {entry.report.name: entry for entry in load_run(started)}
    pictures = Pictures(load_dataset(f"folder:{image_folder}"))
    shown = [(entries[name], np.arange(15)) for name in ("head", "finetune", "scratch")]
    found = explain(started, pictures, shown)
    assert found.missing == []
    assert {name for name, _ in found.heat} == {"finetune", "scratch"}  # the head begins at one position
    for heat in found.heat.values():
        assert (heat.shape, heat.dtype, heat.max()) == ((2, 2), np.float32, 1)
        assert heat.min() >= 0
    old = tmp_path / "run"
    shutil.copytree(started, old)
    model = old / "finetune" / "model.json"
    content = json.loads(model.read_text())
    del content["record"]["model_version"]
    model.write_text(json.dumps(content))
    found = explain(old, pictures, shown[1:2])
    assert (found.heat, len(found.similar)) == ({}, 15)
    assert "the model in " in found.missing[0]
    assert "is of version unknown and this program reads version" in found.missing[0]
    assert caplog.messages.count(found.missing[0]) == 1


def test_the_learning_curve_is_of_the_validation_images(started: Path) -> None:
    rows = rows_of(started / "head" / "learning_curve.csv")
    assert list(rows[0]) == [
        *("epoch", "learning_rate", "loss", "accuracy"),
        *("validation_loss", "validation_accuracy", "validation_balanced_accuracy", "seconds"),
    ]
    assert [row["epoch"] for row in rows] == ["0", "1", "2", "3"]
    kept: Any = report_of(started, "head").hyperparameters["kept_epoch"]
    best = max(float(row["validation_accuracy"]) for row in rows)
    assert float(rows[kept]["validation_accuracy"]) == best


def test_the_articles_recipe_trains_on_all_that_is_not_test_and_chooses_nothing(started: Path) -> None:
    assert thaw("head", "--run", started, "--recipe", "article", "--name", "article") == 0
    chosen = report_of(started, "article").hyperparameters
    assert (chosen["optimizer"], chosen["learning_rate"], chosen["epochs"], chosen["batch_size"]) == (
        "Adam",
        1e-3,
        10,
        256,
    )
    assert (chosen["kept_epoch"], chosen["selection_accuracy"], chosen["patience"]) == (10, None, None)
    rows = rows_of(started / "article" / "learning_curve.csv")
    assert "test_accuracy" in rows[0]
    assert float(rows[10]["test_accuracy"]) == pytest.approx(report_of(started, "article").accuracy)


def test_one_command_and_seed_give_the_same_predictions(started: Path) -> None:
    assert thaw("finetune", "--run", started, "--epochs", 2, "--name", "again") == 0
    assert predictions(started, "again") == predictions(started, "finetune")


def test_finding_a_rate_changes_nothing_that_follows(started: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert thaw("head", "--run", started, "--epochs", 3, "--find-lr", "--tensorboard", "--name", "found") == 0
    assert predictions(started, "found") == predictions(started, "head")
    assert "is a good rate: --learning-rate" in caplog.text
    assert (started / "found" / "learning_rates.png").is_file()
    assert list((started / "found" / "tensorboard").rglob("events.out.*"))


def test_flipped_images_are_cached_as_a_second_view(started: Path) -> None:
    assert thaw("head", "--run", started, "--epochs", 2, "--augment", "flip", "--name", "flipped") == 0
    assert (started / "activations" / SET / "block5_pool-flip.h5").is_file()
    chosen = report_of(started, "flipped").hyperparameters
    assert chosen["inputs"] == "cached activations of block5_pool, of the images and their mirrors"
    assert chosen["views_averaged"] == 2
    with (
        FeatureFile(features_of(started)) as plain,
        FeatureFile(started / "activations" / SET / "block5_pool-flip.h5") as flipped,
    ):
        assert plain.ids == flipped.ids
        everything = np.ones(len(plain.ids), bool)
        first, second = (file.read(["block5_pool"], everything) for file in (plain, flipped))
    assert first.shape == second.shape
    assert not np.allclose(first, second)


def test_standard_augmentation_runs_on_line_and_says_so(started: Path) -> None:
    assert thaw("head", "--run", started, "--epochs", 1, "--augment", "standard", "--name", "standard") == 0
    report = report_of(started, "standard")
    assert report.hyperparameters["inputs"] == "images, through the frozen layers too in every epoch"
    assert report.features_sha256 is None


def test_activations_that_do_not_fit_are_read_from_the_disk(
    started: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("thaw.pipeline.training.train_network.activations_budget_mb", lambda *arguments: 0.01)
    assert thaw("head", "--run", started, "--epochs", 3, "--name", "streamed") == 0
    assert "MB of activations are read from the disk in every epoch" in caplog.text
    assert report_of(started, "streamed").num_test == 15


def test_mixed_precision(started: Path) -> None:
    assert thaw("head", "--run", started, "--epochs", 2, "--precision", "mixed", "--name", "mixed") == 0
    assert report_of(started, "mixed").hyperparameters["precision"] == "mixed_bfloat16"  # float16 on a GPU


def test_a_layer_that_the_run_lacks_is_cached_by_itself(started: Path) -> None:
    arguments = ("--epochs", 1, "--unfreeze-from", "block5_conv3", "--name", "late", "--class-weight", "balanced")
    assert thaw("finetune", "--run", started, *arguments) == 0
    with FeatureFile(started / "activations" / SET / "block5_conv2.h5") as file:
        assert file.layers == {"block5_conv2": (72, 2, 2, 512)}
    with FeatureFile(features_of(started)) as features:  # which the probe is fitted to
        seconds = [float(each.attributes["seconds"]) for each in (file, features)]
    assert report_of(started, "late").seconds.features == pytest.approx(sum(seconds))
    probe: Any = report_of(started, "late").hyperparameters["probe"]
    assert probe["chosen_by"] == "the validation split"  # `logreg` was not trained with class weights


@pytest.mark.parametrize("unfreeze_from", ["block1_conv1", "block5_pool", "block9_conv1"])
def test_cuts(started: Path, capsys: pytest.CaptureFixture[str], unfreeze_from: str) -> None:
    arguments = ("--epochs", 1, "--unfreeze-from", unfreeze_from, "--name", "cut", "--probe-layer", "none")
    code = thaw("finetune", "--run", started, *arguments)
    said = capsys.readouterr().err
    if unfreeze_from == "block1_conv1":
        assert code == 0
        assert report_of(started, "cut").hyperparameters["inputs"].endswith("through the whole network in every epoch")
    elif unfreeze_from == "block5_pool":
        assert (
            "error: --unfreeze-from block5_pool: no layer from there on has weights to train; expected block5_conv3"
            in said
        )
    else:
        assert "error: vgg16 has no layer 'block9_conv1'; expected one of block1_conv1, " in said
    assert code == (0 if unfreeze_from == "block1_conv1" else 1)


def fails(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    capsys.readouterr()
    assert thaw(*arguments) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    return lines[0]


def test_bad_input(started: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fails(capsys, "head", "--run", started, "--batch-size", 5000) == (
        "error: --batch-size 5000 is larger than the 51 training images; expected 51 or less, for example "
        "--batch-size 5"
    )
    assert fails(capsys, "head", "--run", started, "--recipe", "article", "--patience", 2) == (
        "error: --patience chooses by validation images and --recipe article has none; leave one of them out"
    )
    assert fails(capsys, "head", "--run", started, "--memory", 50).startswith(
        "error: training this network needs about "
    )
    assert "and may use 50 MB; choose a smaller --batch-size, or allow more by --memory" in fails(
        capsys, "finetune", "--run", started, "--memory", 50, "--probe-layer", "none"
    )
    assert fails(capsys, "finetune", "--run", started, "--probe-layer", "block3_pool") == (
        "error: --probe-layer block3_pool: expected one of block4_pool, block5_pool, the layers of the feature set "
        "from block4_pool on; or type --probe-layer none"
    )
    assert fails(capsys, "head", "--run", started, "--name", "svm") == (
        "error: --name svm is the strategy svm's own; choose another, for example head-2"
    )
    assert "activations is the run's own; choose another name" in fails(
        capsys, "head", "--run", started, "--name", "activations"
    )


def test_one_class_in_the_training_split(
    tmp_path: Path, image_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = ["path,label,split"]
    for number in range(12):
        rows.append(f"grass/{number:02d}.png,grass,{'train' if number < 8 else 'test'}")
        rows.append(f"sunset/{number:02d}.png,sunset,{'validation' if number < 8 else 'test'}")
    table = image_folder / "one-class.csv"
    table.write_text("\n".join(rows) + "\n")
    said = fails(capsys, "head", "--dataset", f"csv:{table}", "--run", tmp_path / "run", *FAST)
    table.unlink()
    assert said == (
        "error: only one class, 'grass', has training images; expected two or more: add images of another class"
    )


def test_images_that_are_not_those_of_the_features_any_more(
    tmp_path: Path, image_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures, folder = tmp_path / "pictures", tmp_path / "run"
    shutil.copytree(image_folder, pictures)
    options = (*FAST[:4], "--layers", "block5_pool")
    assert thaw("features", "--dataset", f"folder:{pictures}", "--run", folder, *options) == 0
    next((pictures / "grass").iterdir()).unlink()
    said = fails(capsys, "scratch", "--run", folder, "--epochs", 1)
    assert f"holds other images than {features_of(folder)} was made from; put them back, or remove" in said


def test_cached_activations_of_other_weights(started: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert thaw("finetune", "--run", started, "--epochs", 1, "--unfreeze-from", "block5_conv2", "--name", "mid") == 0
    path = started / "activations" / SET / "block5_conv1.h5"
    with h5py.File(path, "r+") as file:
        file.attrs["weights_sha256"] = "0" * 64
    said = fails(capsys, "finetune", "--run", started, "--unfreeze-from", "block5_conv2", "--name", "mid")
    assert f"{path} was made with another weights_sha256 ({'0' * 64}; now " in said
    assert "remove it to extract again" in said
    path.unlink()


def test_no_room_on_the_disk_for_the_cache_is_said_before_the_start(
    started: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def room(path: Path) -> SimpleNamespace:
        return SimpleNamespace(free=10**6 if Path(path).is_relative_to(started) else 10**12)

    monkeypatch.setattr("shutil.disk_usage", room)
    said = fails(capsys, "finetune", "--run", started, "--unfreeze-from", "block4_conv2", "--name", "full")
    assert "block4_conv1.h5 needs 6 MB and the disk has 1 MB left; make room" in said
    assert not list((started / "activations" / SET).glob("block4_conv1*/*"))


def test_test_labels_change_no_weight(started: Path, tmp_path: Path) -> None:
    """The same run with every test label turned to the next class: the network that comes out is the same."""
    copy = copy_run(started, tmp_path / "run", "run.json", "split.csv", "features")
    with h5py.File(features_of(copy), "r+") as file:
        labels, split = file["labels"][...], file["split"][...]
        file["labels"][...] = np.where(split == 2, (labels + 1) % 3, labels)
    arguments = ("--epochs", 2, "--name", "blind", "--probe-layer", "none", "--learning-rate", 1e-4)
    for folder in (started, copy):
        assert thaw("finetune", "--run", folder, *arguments) == 0
    first, second = (saved_network.load(folder / "blind" / "model.json")[0] for folder in (started, copy))
    for weight, other in zip(first.get_weights(), second.get_weights(), strict=True):
        assert np.array_equal(weight, other)
    kept: Any = report_of(started, "blind").hyperparameters["kept_epoch"]
    assert kept > 0
    assert report_of(started, "blind").accuracy != report_of(copy, "blind").accuracy


@pytest.mark.slow
def test_killed_in_mid_epoch_it_ends_with_the_weights_of_an_unbroken_run(started: Path) -> None:
    options = ("--epochs", "6", "--patience", "6", "--learning-rate", "1e-5")
    command = [sys.executable, "-m", "pipeline", "finetune", "--run", str(started), *options]
    subprocess.run([*command, "--name", "unbroken"], check=True, cwd=ROOT, capture_output=True)
    killed = [*command, "--name", "killed"]
    process = subprocess.Popen(killed, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    curve, until = started / "killed" / "learning_curve.csv", time.monotonic() + 120
    while not (curve.exists() and len(curve.read_text().splitlines()) > 2) and time.monotonic() < until:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (started / "killed" / "report.json").exists()
    done = subprocess.run(killed, check=True, cwd=ROOT, capture_output=True, text=True)
    assert "continuing after epoch " in done.stderr
    first, second = (saved_network.load(started / name / "model.json")[0] for name in ("unbroken", "killed"))
    for weight, other in zip(first.get_weights(), second.get_weights(), strict=True):
        assert np.array_equal(weight, other)
    assert predictions(started, "unbroken") == predictions(started, "killed")
    assert not (started / "killed" / "checkpoint.npz").exists()


@pytest.mark.weights
@pytest.mark.slow
def test_on_digits_fine_tuning_begins_at_the_probe_and_is_no_worse(tmp_path: Path) -> None:
    folder = tmp_path / "digits"
    arguments = ("--image-size", 32, "--layers", "block4_pool", "--epochs", 1)
    assert thaw("finetune", "--dataset", "digits", "--run", folder, *arguments) == 0
    chosen: Any = report_of(folder, "finetune").hyperparameters
    with FeatureFile(features_of(folder)) as features:
        train, validation = features.split == 0, features.split == 1
        layer, labels = chosen["probe"]["layer"], features.labels
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        from thaw.models.linear import PowerNormalizer

        steps = [PowerNormalizer()] if chosen["probe"]["transform"] == "sqrt" else []
        probe = make_pipeline(*steps, StandardScaler(), LogisticRegression(C=chosen["probe"]["C"], max_iter=1000))
        probe.fit(features.read([layer], train), labels[train])
        accuracy = probe.score(features.read([layer], validation), labels[validation])
    assert chosen["start_accuracy"] == pytest.approx(accuracy)
    assert chosen["selection_accuracy"] >= accuracy
    assert report_of(folder, "finetune").accuracy > 0.95
