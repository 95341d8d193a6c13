"""Exported models against the run's own predictions, most of them in processes that cannot import this project."""

import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from thaw.features.datasets.dataset import load_dataset
from thaw.models.artifacts import load_model, save_model
from thaw.pipeline.cli import run
from thaw.pipeline.commands import program
from thaw.pipeline.config import Trained
from thaw.pipeline.export import export
from thaw.pipeline.export.bundle import example
from thaw.pipeline.export.keras_model import keras_classifier
from thaw.pipeline.inference.classifier import Classifier
from thaw.pipeline.inference.loading import load_classifier
from thaw.pipeline.run.export_json import read_exports
from thaw.pipeline.run.predictions_csv import read_predictions
from thaw.pipeline.run.report_json import read_report
from thaw.pipeline.run.run_json import read_run

onnxruntime = pytest.importorskip("onnxruntime")

ROOT = Path(__file__).resolve().parents[3]
FAST = ["--image-size", "32", "--weights", "random", "--engine", "keras", "--layers", "block3_pool,block5_pool"]
ALONE = "import sys; sys.modules.update(dict.fromkeys(('features', 'models', 'pipeline')))\n"
"""What makes it impossible to import this project."""
ODD = np.random.default_rng(0).integers(0, 256, (2, 41, 113, 3)).astype(np.uint8)


def thaw(*arguments: object) -> int:
    return run([str(argument) for argument in arguments])


def error_of(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    capsys.readouterr()
    assert thaw(*arguments) == 1
    return capsys.readouterr().err.splitlines()[-1]


@pytest.fixture(autouse=True)
def _timed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "TIMED_SECONDS", 0.0)
    monkeypatch.setattr(export, "IMAGE_SIDE", 64)


@pytest.fixture(scope="module")
def trained(image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a strategy of every kind."""
    folder = tmp_path_factory.mktemp("runs") / "pictures"
    assert thaw("features", "--dataset", f"folder:{image_folder}", "--run", folder, *FAST) == 0
    both = ["--layer", "block3_pool+block5_pool", "--transform", "sqrt"]
    assert thaw("logreg", "--run", folder, *both) == 0
    assert thaw("svm", "--run", folder, "--transform", "none") == 0
    assert thaw("knn", "--run", folder) == 0
    assert thaw("random", "--run", folder) == 0
    assert thaw("head", "--run", folder, "--epochs", 1) == 0
    assert thaw("finetune", "--run", folder, "--epochs", 1, "--unfreeze-from", "block4_conv1", "--augment", "flip") == 0
    assert thaw("scratch", "--run", folder, "--epochs", 1) == 0
    return folder


def test_images_of(folder: Path, name: str) -> tuple[list[np.ndarray], np.ndarray]:
    """The test split's images and the probabilities that predictions.csv has of them."""
    record = read_run(folder)
    assert record is not None
    dataset = load_dataset(record.settings["dataset"], None, None, 10**8)
    predictions = read_predictions(folder / name / "predictions.csv", dataset.class_names)
    return [dataset.read(dataset.row_of[image]) for image in predictions.ids], predictions.probabilities


test_images_of.__test__ = False  # type: ignore[attr-defined]


def probabilities_of(classifier: Classifier) -> np.ndarray:
    """The probabilities of the odd images by the classifier of the run."""
    inputs = np.stack([classifier.preprocessing.prepare(image) for image in ODD])
    return classifier.average(classifier.views(inputs))


def session_of(path: Path) -> Any:
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def label(session: Any, images: np.ndarray) -> np.ndarray:
    return session.run(["probabilities"], {"images": images})[0]


@pytest.mark.parametrize("name", ["logreg", "svm", "knn", "random", "head", "finetune", "scratch"])
def test_onnx_gives_the_predictions_of_the_run(trained: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert thaw("export", trained, "--name", name) == 0
    path, size, one, many = capsys.readouterr().out.splitlines()
    assert path == str(trained / name / "model.onnx")
    assert re.fullmatch(r"[\d.]+ MB", size)
    assert re.fullmatch(r"[\d.]+ ms for one image of 64x64 pixels, ONNX Runtime [\d.]+, \d+ cores", one)
    assert re.fullmatch(r"[\d.]+ ms for 32 images at once", many)
    images, expected = test_images_of(trained, name)
    session = session_of(trained / name / "model.onnx")
    received = label(session, np.stack(images))
    assert received.dtype == np.float32
    np.testing.assert_allclose(received, expected, atol=1e-4)
    np.testing.assert_array_equal(received.argmax(axis=1), expected.argmax(axis=1))
    classifier = load_classifier(trained / name, Trained(engine="keras"))
    wanted = probabilities_of(classifier)
    np.testing.assert_allclose(label(session, ODD), wanted, atol=1e-4)


def test_efficientnet_lite_is_exported_with_its_own_preprocessing(image_folder: Path, tmp_path: Path) -> None:
    """At an odd size, whose maps TensorFlow pads unlike those of an even one."""
    given = ["--backbone", "efficientnet_lite0", "--image-size", 45, "--weights", "random", "--engine", "keras"]
    folder = tmp_path / "run"
    assert thaw("features", "--dataset", f"folder:{image_folder}", "--run", folder, *given) == 0
    assert thaw("logreg", "--run", folder, "--layer", "block5c_add+top_activation") == 0
    assert thaw("finetune", "--run", folder, "--epochs", 1) == 0
    for name in ("logreg", "finetune"):
        assert thaw("export", folder, "--name", name) == 0
        session = session_of(folder / name / "model.onnx")
        images, expected = test_images_of(folder, name)
        np.testing.assert_allclose(label(session, np.stack(images)), expected, atol=1e-4)
        classifier = load_classifier(folder / name, Trained(engine="keras"))
        wanted = probabilities_of(classifier)
        np.testing.assert_allclose(label(session, ODD), wanted, atol=1e-4)
        received = keras_classifier(classifier).predict_on_batch(ODD)
        np.testing.assert_allclose(np.asarray(received), wanted, atol=1e-4)


def test_a_calibrated_network_keeps_its_power_everywhere(trained: Path, tmp_path: Path) -> None:
    """Validation images are too few here for a power to be fitted: it is put in by hand."""
    shutil.copytree(trained, tmp_path / "run")
    path = tmp_path / "run" / "head" / "model.json"
    content = json.loads(path.read_text())
    content["architecture"]["power"] = 0.7
    path.write_text(json.dumps(content))
    classifier = load_classifier(path.parent, Trained(engine="keras"))
    wanted = probabilities_of(classifier)
    plain = load_classifier(trained / "head", Trained(engine="keras"))
    assert np.abs(wanted - probabilities_of(plain)).max() > 1e-3
    assert thaw("export", tmp_path / "run", "--name", "head") == 0
    np.testing.assert_allclose(label(session_of(path.parent / "model.onnx"), ODD), wanted, atol=1e-4)
    received = keras_classifier(load_classifier(path.parent, None)).predict_on_batch(ODD)
    np.testing.assert_allclose(np.asarray(received), wanted, atol=1e-4)


def test_onnx_says_what_it_is(trained: Path) -> None:
    assert thaw("export", trained, "--name", "logreg") == 0
    given = session_of(trained / "logreg" / "model.onnx").get_modelmeta().custom_metadata_map
    report = read_report(trained / "logreg" / "report.json")
    assert json.loads(given["class_names"]) == ["blue sky", "grass", "sunset"]
    assert (given["strategy"], given["backbone"], given["layer"]) == ("logreg", "vgg16", "block3_pool+block5_pool")
    assert (given["image_size"], given["resize"], given["normalize"]) == ("32", "bilinear", "caffe")
    assert given["weights_sha256"] == report.weights_sha256
    assert float(given["accuracy"]) == report.accuracy


@pytest.mark.parametrize(
    "options",
    [
        ["--resize", "article", "--normalize", "article", "--pooling", "grid2"],
        ["--resize", "area", "--pooling", "max", "--dtype", "float16"],
        ["--resize", "bicubic", "--pooling", "none"],
    ],
    ids=["article", "area", "bicubic"],
)
def test_settings_of_the_run_go_into_the_graph(image_folder: Path, tmp_path: Path, options: list[str]) -> None:
    folder = tmp_path / "r"
    layers = ["--layers", "block4_pool"]
    assert (
        thaw(
            "logreg", "--dataset", f"folder:{image_folder}", "--run", folder, *FAST, *layers, *options, "--values", 0.01
        )
        == 0
    )
    assert thaw("export", folder, "--out", tmp_path / "elsewhere.onnx") == 0
    images, expected = test_images_of(folder, "logreg")
    np.testing.assert_allclose(label(session_of(tmp_path / "elsewhere.onnx"), np.stack(images)), expected, atol=1e-4)
    [exported] = read_exports(folder / "logreg")
    assert exported.path == str(tmp_path / "elsewhere.onnx")


@pytest.mark.parametrize("name", ["logreg", "svm", "head", "finetune"])
def test_keras_layers_give_the_predictions_of_the_run(trained: Path, name: str) -> None:
    images, expected = test_images_of(trained, name)
    model = keras_classifier(load_classifier(trained / name, None))
    np.testing.assert_allclose(model.predict_on_batch(np.stack(images)), expected, atol=1e-4)
    classifier = load_classifier(trained / name, Trained(engine="keras"))
    wanted = probabilities_of(classifier)
    np.testing.assert_allclose(model.predict_on_batch(ODD), wanted, atol=1e-4)


def test_keras_and_savedmodel_load_without_this_project(trained: Path, tmp_path: Path) -> None:
    for form in ("keras", "savedmodel"):
        assert thaw("export", trained, "--name", "finetune", "--format", form) == 0
    images, expected = test_images_of(trained, "finetune")
    np.save(tmp_path / "images.npy", np.stack(images))
    code = f"""
import json, zipfile, keras, numpy as np
images, folder = np.load({str(tmp_path / "images.npy")!r}), {str(trained / "finetune")!r}
model = keras.models.load_model(f"{{folder}}/model.keras")
saved = keras.layers.TFSMLayer(f"{{folder}}/savedmodel", call_endpoint="serve")
np.save({str(tmp_path / "keras.npy")!r}, model.predict_on_batch(images))
np.save({str(tmp_path / "saved.npy")!r}, np.asarray(saved(images)))
names = json.loads(zipfile.ZipFile(f"{{folder}}/model.keras").read("class_names.json"))
assert names == json.load(open(f"{{folder}}/savedmodel/assets.extra/class_names.json"))
print(names, model.input.dtype, len(model.trainable_weights))
"""
    done = subprocess.run(
        [sys.executable, "-c", ALONE + code], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "['blue sky', 'grass', 'sunset'] uint8 0"
    for kind in ("keras", "saved"):
        np.testing.assert_allclose(np.load(tmp_path / f"{kind}.npy"), expected, atol=1e-4)


def test_keras_says_what_it_has_no_layer_for(
    trained: Path, image_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = error_of(capsys, "export", trained, "--name", "knn", "--format", "keras")
    assert said == "error: knn is no linear model, and Keras has no layer for it; export ONNX instead: --format onnx"
    options = [*FAST, "--layers", "block1_pool", "--pooling", "avg", "--resize", "area"]
    assert thaw("logreg", "--dataset", f"folder:{image_folder}", "--run", tmp_path / "r", *options) == 0
    said = error_of(capsys, "export", tmp_path / "r", "--format", "savedmodel")
    assert said == "error: Keras has no layer for --resize area; export ONNX instead: --format onnx"


def test_the_bundle_labels_images_in_a_process_of_its_own(trained: Path, tmp_path: Path) -> None:
    assert thaw("export", trained, "--name", "svm", "--format", "bundle", "--out", tmp_path / "b.zip") == 0
    with zipfile.ZipFile(tmp_path / "b.zip") as archive:
        archive.extractall(tmp_path / "b")
    assert {path.name for path in (tmp_path / "b").iterdir()} == {
        *("model.onnx", "class_names.json", "README.md", "predict.py", "requirements.txt", "LICENCES.md"),
        "reliability.png",
    }
    images, expected = test_images_of(trained, "svm")
    for number, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{number:02d}.png")
    paths = sorted(map(str, tmp_path.glob("*.png")))
    script = str(tmp_path / "b" / "predict.py")
    code = f"{ALONE}import runpy; sys.argv = {[script, *paths]!r}; runpy.run_path(sys.argv[0], run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    names = json.loads((tmp_path / "b" / "class_names.json").read_text())
    assert done.stdout.splitlines() == [
        f"{path}: {names[row.argmax()]}, probability {row.max():.4f}" for path, row in zip(paths, expected, strict=True)
    ]
    assert (tmp_path / "b" / "README.md").read_text() == (trained / "svm" / "model_card.md").read_text()


def test_the_same_bundle_has_the_same_bytes(trained: Path, tmp_path: Path) -> None:
    for name in ("one.zip", "two.zip"):
        assert thaw("export", trained, "--name", "svm", "--format", "bundle", "--out", tmp_path / name) == 0
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()


def test_a_result_with_damaged_predictions_has_no_bundle(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "r"
    shutil.copytree(trained, folder)
    (folder / "svm" / "predictions.csv").write_text("id,label\n")
    assert "predictions.csv is not valid" in error_of(
        capsys, "export", folder, "--name", "svm", "--format", "bundle", "--out", tmp_path / "b.zip"
    )


def test_the_example_is_short_and_in_the_docs() -> None:
    assert len(example().splitlines()) <= 15
    assert example() in (ROOT / "docs" / "export.md").read_text(encoding="utf-8")


def test_without_onnx_runtime_there_is_no_latency(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    capsys.readouterr()
    assert thaw("export", trained, "--name", "knn") == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    [exported] = read_exports(trained / "knn")
    assert (exported.runtime, exported.milliseconds_one, exported.milliseconds_batch) == (None, None, None)


def test_training_again_removes_what_was_exported(trained: Path, tmp_path: Path) -> None:
    folder = tmp_path / "r"
    shutil.copytree(trained, folder)
    for form in ("onnx", "bundle"):
        assert thaw("export", folder, "--name", "knn", "--format", form) == 0
    assert [one.format for one in read_exports(folder / "knn")] == ["onnx", "bundle"]
    assert thaw("knn", "--run", folder) == 0
    assert not {"model.onnx", "bundle.zip", "export.json"} & {path.name for path in (folder / "knn").iterdir()}


def test_the_report_has_size_and_latency(trained: Path, tmp_path: Path) -> None:
    folder = tmp_path / "r"
    shutil.copytree(trained, folder)
    assert thaw("export", folder, "--name", "knn") == 0
    assert thaw("report", "--run", folder) == 0
    size = f"{(folder / 'knn' / 'model.onnx').stat().st_size / 1e6:.1f} MB"
    assert f"| knn | onnx | {size} |" in (folder / "report.md").read_text()
    page = (folder / "report.html").read_text()
    assert "Exported files: size and latency" in page
    assert size in page


def test_errors_are_one_line(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = error_of(capsys, "export", trained, "--name", "svn")
    assert said.startswith(f"error: {trained} has no model 'svn'; expected best or one of finetune, head, knn,")
    assert "no model 'chance'" in error_of(capsys, "export", trained, "--name", "chance")
    said = error_of(capsys, "export", tmp_path / "nowhere")
    assert said.startswith(f"error: {tmp_path / 'nowhere'} has no trained model; type {program()} svm")
    said = error_of(capsys, "export", trained, "--out", tmp_path / "no" / "x.onnx")
    assert said == (
        f"error: --out {tmp_path / 'no' / 'x.onnx'}: {tmp_path / 'no'} is no folder that can be written into; "
        "choose another place"
    )
    said = error_of(capsys, "export", trained, "--out", tmp_path)
    assert said == f"error: --out {tmp_path}: expected the name of a file, for example {tmp_path / 'model.onnx'}"
    said = error_of(capsys, "export", trained, "--format", "keras", "--out", tmp_path / "x.h5")
    assert said == f"error: --out {tmp_path / 'x.h5'}: expected a name that ends in .keras"
    said = error_of(capsys, "export", trained, "--format", "savedmodel", "--out", tmp_path)
    assert said.endswith("expected the name of a folder that is not there yet, or of an earlier export")


def test_a_model_of_another_version_or_cut_short_is_refused(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "r"
    shutil.copytree(trained, folder)
    path = folder / "knn" / "model.skops"
    model, record = load_model(path)
    save_model(path, model, {**record, "model_version": 1})
    assert "is of version 1 and this program reads version 3" in error_of(capsys, "export", folder, "--name", "knn")
    path.write_bytes(path.read_bytes()[:1000])
    assert "is not a model that can be read" in error_of(capsys, "export", folder, "--name", "knn")
    path.unlink()
    assert f"there is no model {path}; type: {program()} knn" in error_of(capsys, "export", folder, "--name", "knn")


@pytest.mark.weights
@pytest.mark.slow
def test_digits_as_onnx_are_labelled_as_in_the_run(tmp_path: Path) -> None:
    """With the ImageNet weights, on the whole test split."""
    folder = tmp_path / "digits"
    assert thaw("logreg", "--dataset", "digits", "--run", folder, "--engine", "keras", "--values", "0.01") == 0
    assert thaw("export", folder) == 0
    images, expected = test_images_of(folder, "logreg")
    session = session_of(folder / "logreg" / "model.onnx")
    parts = [label(session, np.stack(images[start : start + 60])) for start in range(0, len(images), 60)]
    received = np.concatenate(parts)
    assert len(received) == 360
    np.testing.assert_array_equal(received.argmax(axis=1), expected.argmax(axis=1))
    np.testing.assert_allclose(received, expected, atol=1e-4)
