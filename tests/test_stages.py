"""Whole stages through the command line, on a small folder of pictures and the seeded random network."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from thaw.features.store import FeatureFile
from thaw.models.artifacts import load_model
from thaw.pipeline.cli import run
from thaw.pipeline.commands import program
from thaw.pipeline.run.report_json import read_report
from thaw.pipeline.run.run_json import features_path, read_run

from tests.builders.features import copy_run, features_of

ROOT = Path(__file__).resolve().parents[1]
FAST = ["--image-size", "32", "--weights", "random", "--layers", "block2_pool,block3_pool", "--pooling", "avg"]
SET = "vgg16-32-block2_pool+block3_pool-avg-random"


def thaw(*arguments: object) -> int:
    return run([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def finished(image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with features, three strategies and both baselines."""
    folder = tmp_path_factory.mktemp("runs") / "pictures"
    assert thaw("features", "--dataset", f"folder:{image_folder}", "--run", folder, *FAST) == 0
    for stage in ("svm", "logreg", "random"):
        assert thaw(stage, "--run", folder) == 0
    return folder


def test_the_run_directory_is_the_contracts(finished: Path) -> None:
    assert {path.name for path in finished.iterdir() if not path.name.startswith(".")} == {
        *("run.json", "split.csv", "images.csv", "features", "svm", "logreg", "random", "chance")
    }
    assert {path.name for path in (finished / "svm").iterdir()} == {
        *("model.skops", "report.json", "predictions.csv", "out_of_fold.csv", "SHA256SUMS"),
        *("model_card.md", "reliability.png", "reliability.svg"),
    }
    assert {path.name for path in (finished / "chance").iterdir()} == {"report.json", "predictions.csv", "SHA256SUMS"}
    with h5py.File(features_of(finished)) as file:
        assert set(file["features"]) == {"block2_pool", "block3_pool"}
        needed = (
            *("schema_version", "backbone", "weights_sha256", "image_size", "resize", "aspect", "normalize", "pooling"),
            *("dataset_sha256", "split_sha256"),
        )
        assert set(needed) | {"engine", "version_keras"} <= set(file.attrs)


def test_reports_predictions_and_split_agree(finished: Path) -> None:
    with (finished / "split.csv").open(newline="") as file:
        split = {row["id"]: row for row in csv.DictReader(file)}
    for name in ("svm", "logreg", "random", "chance"):
        report = read_report(finished / name / "report.json")
        with (finished / name / "predictions.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert {row["id"] for row in rows} == {key for key, row in split.items() if row["split"] == "test"}
        assert all(row["label"] == split[row["id"]]["label"] for row in rows)
        assert report.accuracy == pytest.approx(np.mean([row["label"] == row["predicted"] for row in rows]))
        assert report.num_test == len(rows) == 15
        assert (report.num_train, report.num_validation) == (51, 6)


def test_the_classes_are_learned_and_the_baseline_is_the_most_frequent(finished: Path) -> None:
    assert read_report(finished / "svm/report.json").accuracy > 0.8
    assert read_report(finished / "chance/report.json").accuracy == pytest.approx(1 / 3, abs=0.01)


def test_the_saved_model_gives_the_predictions(finished: Path) -> None:
    model, record = load_model(finished / "svm" / "model.skops")
    with FeatureFile(features_of(finished)) as features:
        rows = features.read(record["layer"].split("+"), features.split == 2)
    with (finished / "svm" / "predictions.csv").open(newline="") as file:
        predicted = [row["predicted"] for row in csv.DictReader(file)]
    assert [record["class_names"][i] for i in model.predict_proba(rows).argmax(axis=1)] == predicted


def test_the_report_stage_prints_json(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert thaw("report", "--run", finished, "--json") == 0
    content = json.loads(capsys.readouterr().out)
    assert {entry["name"] for entry in content["strategies"]} == {"svm", "logreg", "random", "chance"}
    assert len(content["comparisons"]) == 6


def test_the_random_baseline_has_its_own_features(finished: Path) -> None:
    report = read_report(finished / "random/report.json")
    assert (report.strategy, report.features, report.image_size) == ("random", SET, 32)
    assert (finished / "features" / f"{SET}.h5").is_file()


def test_results_stand_side_by_side_by_name(finished: Path) -> None:
    assert (
        thaw("svm", "--run", finished, "--layer", "block2_pool+block3_pool", "--transform", "none", "--name", "both")
        == 0
    )
    report = read_report(finished / "both/report.json")
    assert (report.name, report.strategy, report.layer) == ("both", "svm", "block2_pool+block3_pool")
    shutil.rmtree(finished / "both")


@pytest.mark.parametrize("stage", ["knn", "ridge"])
def test_the_other_classifiers(finished: Path, stage: str) -> None:
    assert thaw(stage, "--run", finished, "--select", "validation", "--folds", "3") == 0
    assert read_report(finished / stage / "report.json").accuracy > 0.5
    shutil.rmtree(finished / stage)


def test_the_rbf_kernel_and_class_weights(finished: Path) -> None:
    options = ["--kernel", "rbf", "--class-weight", "balanced", "--name", "rbf"]
    assert thaw("svm", "--run", finished, *options) == 0
    report = read_report(finished / "rbf/report.json")
    assert report.hyperparameters["kernel"] == "rbf"
    assert report.hyperparameters["class_weight"] == "balanced"
    shutil.rmtree(finished / "rbf")


def test_test_labels_choose_nothing(finished: Path, tmp_path: Path) -> None:
    """With every test label wrong, the chosen settings and the model's numbers are the same."""
    other = tmp_path / "pictures"
    shutil.copytree(finished, other)
    with h5py.File(features_of(other), "r+") as file:
        test = file["split"][...] == 2
        labels = file["labels"][...]
        labels[test] = (labels[test] + 1) % 3
        file["labels"][...] = labels
    for stage in ("svm", "logreg"):
        assert thaw(stage, "--run", other, "--name", "again") == 0
        assert thaw(stage, "--run", finished, "--name", "again") == 0
        one, two = (read_report(folder / "again/report.json") for folder in (finished, other))
        assert one.hyperparameters == two.hyperparameters
        assert one.accuracy > two.accuracy
        with FeatureFile(features_of(finished)) as features:
            rows = features.read(one.layer.split("+"), features.split == 0)  # type: ignore[union-attr]
        models = [load_model(folder / "again/model.skops")[0] for folder in (finished, other)]
        np.testing.assert_array_equal(models[0].predict_proba(rows), models[1].predict_proba(rows))
    shutil.rmtree(finished / "again")


def test_two_runs_of_one_command_give_the_same_predictions(finished: Path) -> None:
    before = (finished / "logreg/predictions.csv").read_bytes()
    assert thaw("logreg", "--run", finished) == 0
    assert (finished / "logreg/predictions.csv").read_bytes() == before


def test_a_second_features_call_changes_nothing(finished: Path) -> None:
    before = features_of(finished).stat()
    assert thaw("features", "--run", finished) == 0
    assert features_of(finished).stat().st_mtime_ns == before.st_mtime_ns


def test_unpooled_layers_keep_their_map(image_folder: Path, tmp_path: Path) -> None:
    options = ["--image-size", "32", "--weights", "random", "--layers", "block5_pool,block4_conv1", "--pooling", "none"]
    assert thaw("features", "--dataset", f"folder:{image_folder}", "--run", tmp_path / "r", *options) == 0
    with FeatureFile(features_of(tmp_path / "r")) as features:
        assert features.layers == {"block4_conv1": (72, 4, 4, 512), "block5_pool": (72, 1, 1, 512)}


def test_killed_after_each_part_extraction_ends_as_if_unbroken(tmp_path: Path) -> None:
    """SIGKILL to the real process at a random moment after each new part; docs/results.md has a run of twenty."""
    options = ["--image-size", "32", "--weights", "random", "--layers", "block1_pool", "--pooling", "grid2"]
    options += ["--dataset", "digits"]
    assert thaw("features", "--run", tmp_path / "beside" / "unbroken", *options) == 0
    command = [sys.executable, "-m", "pipeline", "features", "--run", str(tmp_path / "r"), *options]
    parts, generator = tmp_path / "r/features/vgg16-32-block1_pool-grid2-random.h5.parts", np.random.default_rng(0)
    for finished_parts in (1, 2):
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            while len(list(parts.glob("part-*.h5"))) < finished_parts:
                assert process.poll() is None
                time.sleep(0.01)
            time.sleep(generator.uniform(0, 0.2))
            process.send_signal(signal.SIGKILL)
        assert not features_of(tmp_path / "r").exists()
    assert thaw("features", "--run", tmp_path / "r", *options) == 0
    with (
        FeatureFile(features_of(tmp_path / "r")) as received,
        FeatureFile(features_of(tmp_path / "beside" / "unbroken")) as expected,
    ):
        assert received.attributes["values_sha256"] == expected.attributes["values_sha256"]


def test_the_random_baseline_first_leaves_the_run_its_weights(image_folder: Path, tmp_path: Path) -> None:
    options = ["--image-size", "32", "--layers", "block2_pool", "--pooling", "avg"]
    assert thaw("random", "--dataset", f"folder:{image_folder}", "--run", tmp_path / "r", *options) == 0
    record = read_run(tmp_path / "r")
    assert record is not None
    assert list(record.feature_sets) == [name := "vgg16-32-block2_pool-avg", f"{name}-random"]
    assert record.first == name
    assert not features_path(tmp_path / "r", name).exists()


def test_options_that_mend_a_failed_first_call_are_taken(damaged_folder: Path, tmp_path: Path) -> None:
    options = ["--dataset", f"folder:{damaged_folder}", "--run", tmp_path / "r", *FAST]
    assert thaw("features", *options) == 1
    assert thaw("features", "--run", tmp_path / "r", "--skip-bad", "--batch-size", "8") == 0
    stored = json.loads((tmp_path / "r/run.json").read_text())
    assert (stored["skip_bad"], stored["feature_sets"][SET]["batch_size"]) == (True, 8)


def test_a_wrong_first_command_leaves_no_run(tmp_path: Path) -> None:
    for wrong in (["--weights", "nowhere.h5"], ["--pooling", "grid9"], ["--layers", "block9_pool"]):
        assert thaw("features", "--run", tmp_path / "r", *wrong) == 1
    assert not (tmp_path / "r").exists()


# --- bad input: the exact line -----------------------------------------------------------------------------------


def message(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 1) -> str:
    capsys.readouterr()
    assert thaw(*arguments) == code
    lines = capsys.readouterr().err.strip().splitlines()
    assert "Traceback" not in "".join(lines)
    return lines[-1]


def test_no_such_data_set(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert message(capsys, "features", "--dataset", "cifar11", "--run", tmp_path / "r") == (
        "error: no data set 'cifar11'; expected one of digits, elpv, cifar10, cifar100, folder:PATH, csv:PATH, npz:PATH"
        "; type --dataset cifar10"
    )
    assert not (tmp_path / "r").exists()


def test_one_class_only(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "p" / "only").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "p" / "only" / "a.png")
    assert message(capsys, "features", "--dataset", f"folder:{tmp_path / 'p'}", "--run", tmp_path / "r") == (
        f"error: folder:{tmp_path / 'p'} has one class only, 'only'; expected two or more; add images of another class"
    )


def test_a_class_with_fewer_images_than_folds(capsys: pytest.CaptureFixture[str], finished: Path) -> None:
    assert message(capsys, "svm", "--run", finished, "--folds", "40") == (
        "error: class 'blue sky' has 19 image(s) outside the test split, fewer than the 40 folds; add images, or type "
        "--folds 19"
    )


@pytest.fixture
def damaged_folder(image_folder: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "damaged"
    shutil.copytree(image_folder, folder)
    content = (folder / "grass" / "05.png").read_bytes()
    (folder / "grass" / "05.png").write_bytes(content[: len(content) // 2])
    (folder / "sunset" / "note.txt").write_text("not a picture")
    return folder


def test_a_bad_image_stops_with_its_name(
    capsys: pytest.CaptureFixture[str], damaged_folder: Path, tmp_path: Path
) -> None:
    line = message(capsys, "features", "--dataset", f"folder:{damaged_folder}", "--run", tmp_path / "r", *FAST)
    assert line.startswith("error: grass/05.png is damaged")
    assert line.endswith("--skip-bad")


def test_skip_bad_records_and_goes_on(damaged_folder: Path, tmp_path: Path) -> None:
    run_folder = tmp_path / "r"
    options = ["--dataset", f"folder:{damaged_folder}", "--run", run_folder, "--skip-bad", *FAST]
    assert thaw("features", *options) == 0
    with (run_folder / "skipped.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == ["grass/05.png"]
    assert all(row["reason"] for row in rows)
    with FeatureFile(features_of(run_folder)) as features:
        assert len(features.ids) == 71
    assert thaw("logreg", "--run", run_folder) == 0


def test_below_the_networks_minimum(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert message(capsys, "features", "--dataset", "digits", "--image-size", "16", "--run", tmp_path / "r") == (
        "error: --image-size 16 is below the minimum of vgg16; expected 32 or more, for example --image-size 48"
    )


def test_unknown_layers(capsys: pytest.CaptureFixture[str], finished: Path, tmp_path: Path) -> None:
    line = message(capsys, "features", "--dataset", "digits", "--layers", "block9_pool", "--run", tmp_path / "r")
    assert line.startswith("error: vgg16 has no layer 'block9_pool'; expected one of block1_conv1, ")
    assert message(capsys, "svm", "--run", finished, "--layer", "block5_pool") == (
        f"error: --layer block5_pool: no feature set of the run has it ({SET} has block2_pool, block3_pool); choose "
        "among them, or type --layers block5_pool beside it, which makes another feature set"
    )
    line = message(capsys, "svm", "--run", finished, "--layer", "block2_pol+block3_pool")
    assert line.startswith("error: vgg16 has no layer 'block2_pol'; expected one of block1_conv1, ")


def test_names_that_belong_to_something_else(capsys: pytest.CaptureFixture[str], finished: Path) -> None:
    assert message(capsys, "svm", "--run", finished, "--name", "chance") == (
        "error: --name chance is the strategy chance's own; choose another, for example svm-2"
    )
    assert message(capsys, "svm", "--run", finished, "--name", "features") == (
        f"error: --name features: {finished / 'features'} is the run's own; choose another name"
    )


def test_class_weights_where_there_are_none(capsys: pytest.CaptureFixture[str], finished: Path) -> None:
    assert message(capsys, "knn", "--run", finished, "--class-weight", "balanced") == (
        "error: knn: KNeighborsClassifier knows no class weights; leave --class-weight out"
    )


def test_a_class_in_fewer_groups_than_folds(
    capsys: pytest.CaptureFixture[str], image_folder: Path, tmp_path: Path
) -> None:
    lines = ["path,label,group"]
    for path in sorted(image_folder.glob("*/*.png")):
        group = f"{path.parent.name} {int(path.stem) % 3}"
        lines.append(f"{path.relative_to(image_folder)},{path.parent.name},{group}")
    table = image_folder / "table.csv"
    table.write_text("\n".join(lines))
    options = ["--dataset", f"csv:{table}", "--run", tmp_path / "r", *FAST]
    try:
        line = message(capsys, "svm", *options)
    finally:
        table.unlink()
    assert line == (
        "error: class 'grass' has 2 group(s) outside the test split, fewer than the 5 folds; add groups, or type "
        "--folds 2"
    )


def test_features_of_another_data_set_in_the_folder(
    capsys: pytest.CaptureFixture[str], finished: Path, tmp_path: Path
) -> None:
    other = copy_run(finished, tmp_path / "r", "split.csv", "features")
    line = message(capsys, "logreg", "--dataset", "digits", "--run", other, *FAST)
    assert line.startswith(f"error: {other / 'features' / SET}.h5 was made with another dataset (folder:")
    assert line.endswith(f"now digits); remove it to extract again, or start another run: --run {other}-2")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            ["--layers", ""],
            "--layers received '': expected one layer or more, joined by commas, for example",
        ),
        (["--seed", "5000000000"], "--seed received '5000000000': input should be less than 4294967296"),
        (["--jobs", "0"], "--jobs received '0': expected 1 or more, or -1 for one per core"),
        (
            ["--layer", "a++b"],
            "--layer received 'a++b': expected auto, a layer, or different layers joined by +",
        ),
        (["--name", "../x"], "--name received '../x': string should match pattern"),
    ],
)
def test_values_that_cannot_be(capsys: pytest.CaptureFixture[str], options: list[str], expected: str) -> None:
    assert message(capsys, "svm", *options, code=2).startswith(f"error: {expected}")


def test_settings_that_contradict_the_run(
    capsys: pytest.CaptureFixture[str], finished: Path, image_folder: Path
) -> None:
    assert message(capsys, "svm", "--run", finished, "--seed", "1") == (
        f"error: {finished} was made with other settings: --seed was 0 and is now 1. Leave the option out to "
        f"continue with the run's, or start another run: --run {finished}-2 --dataset folder:{image_folder}"
    )


def test_images_that_changed_since_the_features(
    capsys: pytest.CaptureFixture[str], image_folder: Path, finished: Path, tmp_path: Path
) -> None:
    folder, run_folder = tmp_path / "pictures", tmp_path / "r"
    shutil.copytree(image_folder, folder)
    assert thaw("features", "--dataset", f"folder:{folder}", "--run", run_folder, *FAST) == 0
    Image.new("RGB", (9, 9)).save(folder / "grass" / "03.png")
    (run_folder / "images.csv").unlink()  # without which nobody knows which images are as they were
    line = message(capsys, "features", "--run", run_folder)
    assert line.startswith(f"error: {features_of(run_folder)} was made with another dataset_sha256 (")
    assert line.endswith(
        f"remove it to extract again, or start another run: --run {run_folder}-2 --dataset folder:{folder}"
    )


def test_a_damaged_feature_file(capsys: pytest.CaptureFixture[str], finished: Path, tmp_path: Path) -> None:
    other = copy_run(finished, tmp_path / "r", "run.json", "split.csv", "features")
    features_of(other).write_bytes(features_of(finished).read_bytes()[:3000])
    line = message(capsys, "svm", "--run", other)
    assert line.startswith(f"error: {features_of(other)} is not a whole feature file (")
    assert line.endswith(f"; remove it and type: {program()} features")


def test_a_split_that_was_changed(capsys: pytest.CaptureFixture[str], finished: Path, tmp_path: Path) -> None:
    other = copy_run(finished, tmp_path / "r", "run.json", "split.csv", "features")
    (other / "split.csv").write_bytes((finished / "split.csv").read_bytes()[:100])
    line = message(capsys, "svm", "--run", other)
    assert line.startswith(f"error: {other / 'split.csv'} was changed after {features_of(other)} was made by it; ")


def test_weights_that_are_damaged(capsys: pytest.CaptureFixture[str], image_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "w.h5").write_bytes(b"cut")
    line = message(
        capsys,
        "features",
        "--dataset",
        f"folder:{image_folder}",
        "--run",
        tmp_path / "r",
        "--weights",
        tmp_path / "w.h5",
    )
    assert line.startswith(
        f"error: the weights in {tmp_path / 'w.h5'} are not those of vgg16: the file is damaged or of"
    )


def test_too_little_memory(capsys: pytest.CaptureFixture[str], finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thaw.pipeline.training.memory.COPIES_PER_FIT", 1e5)
    line = message(capsys, "ridge", "--run", finished, "--memory", "10", "--jobs", "1")
    assert line == (
        "error: training needs about 5,837 MB and may use 10 MB; choose a smaller layer by --layer, or allow more by "
        "--memory 5837"
    )
    line = message(capsys, "ridge", "--run", finished, "--memory", "10", "--jobs", "2")
    assert "may use 10 MB; fit one at a time by --jobs 1, choose a smaller layer" in line


def failing_write(number: int) -> object:
    def fail(path: Path, *_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), str(path))

    return fail


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB, which needs the right to mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("a small file system cannot be mounted here; root can")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_fills_up_while_parts_are_written(
    capsys: pytest.CaptureFixture[str], small_disk: Path, image_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("thaw.features.extraction.extraction.check_space", lambda *arguments: None)
    options = ["--image-size", "32", "--weights", "random", "--layers", "block1_conv1", "--pooling", "none"]
    parts = small_disk / "r/features/vgg16-32-block1_conv1-none-random.h5.parts"
    line = message(capsys, "features", "--dataset", f"folder:{image_folder}", "--run", small_disk / "r", *options)
    assert line == (
        f"error: the disk is full at {parts}/part-000000000.h5; make room and type the command again: finished parts "
        "are kept"
    )
    assert not list(parts.iterdir())


def test_a_disk_too_small_is_said_before_the_start(
    capsys: pytest.CaptureFixture[str], small_disk: Path, image_folder: Path
) -> None:
    line = message(capsys, "features", "--dataset", f"folder:{image_folder}", "--run", small_disk / "r", *FAST)
    assert re.fullmatch(
        rf"error: {small_disk}/r/features/{re.escape(SET)}.h5 needs 1 MB and the disk has 1 MB left; make room and "
        "type the command again: finished parts are kept",
        line,
    )
    assert not list((small_disk / "r/features" / f"{SET}.h5.parts").iterdir())
    subprocess.run(["mount", "-o", "remount,size=20m", str(small_disk)], check=True)
    assert thaw("features", "--run", small_disk / "r") == 0


def test_a_full_disk_while_results_are_written(
    capsys: pytest.CaptureFixture[str], finished: Path, small_disk: Path
) -> None:
    run_folder = copy_run(finished, small_disk / "r", "run.json", "split.csv", "features")
    used = sum(path.stat().st_size for path in run_folder.glob("**/*") if path.is_file())
    (small_disk / "ballast").write_bytes(bytes(2**20 - used - 5 * 4096 - 3 * 4096))
    line = message(capsys, "logreg", "--run", run_folder)
    assert re.fullmatch(
        rf"error: the disk is full at {run_folder}/\S+; make room and type the command again: finished parts are kept",
        line,
    )
    assert not list(run_folder.glob("logreg/report.json"))


def test_no_permission(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import errno

    monkeypatch.setattr(Path, "mkdir", failing_write(errno.EACCES))
    path = tmp_path / "locked"
    assert message(capsys, "features", "--dataset", "digits", "--run", path, *FAST) == (
        f"error: no permission to use {path}; change its permissions, or choose another folder by --run"
    )


def test_wrong_command_lines(capsys: pytest.CaptureFixture[str]) -> None:
    line = message(capsys, "svm", "--folds", "1", code=2)
    assert line == ("error: --folds received '1': input should be greater than or equal to 2; --help shows the options")
    assert "unrecognized arguments: --fold-count" in message(capsys, "svm", "--fold-count", "3", code=2)
    assert "unrecognized arguments: --image-sze 64; did you mean --image-size? " in message(
        capsys, "features", "--image-sze", "64", code=2
    )
    assert "did you mean" not in message(capsys, "export", "--run", "runs/flowers", code=2)  # it has no such option
    assert "did you mean --values?" in message(capsys, "svm", "--value=3", code=2)
    assert "invalid choice: 'svn'" in message(capsys, "svn", code=2)


def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert thaw("features", "--dataset", "digits", "--image-size", "16", "--run", tmp_path / "r", "--debug") == 1


def test_a_run_that_is_not_there(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert message(capsys, "svm", "--run", tmp_path / "flower") == (
        f"error: there is no run in {tmp_path / 'flower'}; fix the name, or begin it: {program()} features "
        f"--dataset ... --run {tmp_path / 'flower'}"
    )
    assert not (tmp_path / "flower").exists()


def test_help_says_what_each_stage_does(capsys: pytest.CaptureFixture[str]) -> None:
    assert thaw("--help") == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "Train a multinomial logistic regression." in text
    assert "Train the head and the network from one layer on" in text
    assert "Label new images: a table, CSV or JSON lines." in text
