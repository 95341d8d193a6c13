"""Images that are not square, through training, predict, the local page and every exported file, squashed in none."""

import csv
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

from thaw.features.datasets.dataset import load_dataset
from thaw.pipeline.cli import run
from thaw.pipeline.export import export
from thaw.pipeline.export.keras_model import keras_classifier
from thaw.pipeline.inference.loading import load_classifier
from thaw.pipeline.run.predictions_csv import read_predictions
from thaw.pipeline.run.run_json import read_run

from tests.builders.features import features_of
from tests.builders.server import serving

FAST = ["--image-size", "32", "--weights", "random", "--engine", "keras", "--layers", "block3_pool,block5_pool"]
SHAPES = ((40, 51), (51, 40), (1, 60), (60, 1), (33, 33), (17, 90), (64, 31), (2, 3))
STRATEGIES = ("logreg", "finetune", "scratch")


def thaw(*arguments: object) -> int:
    return run([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def oblong(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of 24 pictures of all shapes, each class in a colour of its own."""
    folder, generator = tmp_path_factory.mktemp("oblong"), np.random.default_rng(0)
    for channel, name in enumerate(("blue", "green", "red")):
        (folder / name).mkdir()
        for number in range(24):
            pixels = generator.integers(0, 140, (*SHAPES[number % len(SHAPES)], 3))
            pixels[..., 2 - channel] += generator.integers(0, 115)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{number:02d}.png")
    return folder


@pytest.fixture(scope="module", params=["crop", "pad"])
def trained(request: pytest.FixtureRequest, oblong: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with strategies on features, on activations of two views, and on images; its name is the aspect."""
    folder = tmp_path_factory.mktemp("runs") / request.param
    options = [*FAST, "--aspect", request.param]
    assert thaw("logreg", "--dataset", f"folder:{oblong}", "--run", folder, *options, "--values", 0.01) == 0
    assert thaw("finetune", "--run", folder, "--epochs", 1, "--augment", "flip") == 0
    assert thaw("scratch", "--run", folder, "--epochs", 1, "--augment", "standard") == 0
    return folder


def rows_of(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / name / "predictions.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def images_and_probabilities(folder: Path, oblong: Path, name: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """The images of the test split, each (1, H, W, 3), with the probabilities in predictions.csv."""
    dataset = load_dataset(f"folder:{oblong}")
    given = read_predictions(folder / name / "predictions.csv", dataset.class_names)
    images = [dataset.read(dataset.row_of[image])[np.newaxis] for image in given.ids]
    assert len({image.shape for image in images}) > 4
    return list(zip(images, given.probabilities, strict=True))


def test_the_aspect_is_recorded_wherever_it_counts(trained: Path) -> None:
    aspect = trained.name
    record = read_run(trained)
    assert record is not None
    assert record.shared(record.first).aspect == aspect
    for path in (features_of(trained), *trained.glob("activations/*/*.h5")):
        with h5py.File(path) as file:
            assert file.attrs["aspect"] == aspect
    for name in STRATEGIES:
        assert load_classifier(trained / name, None).record["aspect"] == aspect
        assert f"| aspect | {aspect} |" in (trained / name / "model_card.md").read_text()
    assert thaw("verify", trained) == 0


@pytest.mark.parametrize("name", STRATEGIES)
def test_predict_gives_the_probabilities_of_the_training(
    trained: Path, oblong: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = {str(oblong / row["id"]): row for row in rows_of(trained, name)}
    capsys.readouterr()
    assert thaw("predict", "--run", trained, "--strategy", name, "--top", 3, "--format", "jsonl", "--", *expected) == 0
    for line in capsys.readouterr().out.splitlines():
        answer = json.loads(line)
        own = expected[answer["image"]]
        assert answer["label"] == own["predicted"]
        for one in answer["top"]:
            assert one["probability"] == pytest.approx(float(own[f"p_{one['label']}"]), abs=1e-5)


@pytest.mark.parametrize("name", STRATEGIES)
def test_exported_files_give_the_probabilities_of_the_training(
    trained: Path, oblong: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    monkeypatch.setattr(export, "TIMED_SECONDS", 0.0)
    assert thaw("export", trained, "--name", name) == 0
    session = onnxruntime.InferenceSession(str(trained / name / "model.onnx"), providers=["CPUExecutionProvider"])
    assert session.get_modelmeta().custom_metadata_map["aspect"] == trained.name
    model = keras_classifier(load_classifier(trained / name, None))
    for images, expected in images_and_probabilities(trained, oblong, name):
        [received] = session.run(["probabilities"], {"images": images})
        np.testing.assert_allclose(received[0], expected, atol=1e-4, err_msg=str(images.shape))
        np.testing.assert_allclose(model.predict_on_batch(images)[0], expected, atol=1e-4, err_msg=str(images.shape))


def test_the_bundles_example_prepares_images_as_the_training(
    trained: Path, oblong: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(export, "TIMED_SECONDS", 0.0)
    assert thaw("export", trained, "--name", "logreg", "--format", "bundle", "--out", tmp_path / "b.zip") == 0
    with zipfile.ZipFile(tmp_path / "b.zip") as archive:
        archive.extractall(tmp_path / "b")
    rows = {str(oblong / row["id"]): row for row in rows_of(trained, "logreg")}
    done = subprocess.run(
        [sys.executable, str(tmp_path / "b" / "predict.py"), *rows], capture_output=True, text=True, check=True
    )
    for line, (path, row) in zip(done.stdout.splitlines(), rows.items(), strict=True):
        probability = float(line.rpartition(" ")[2])
        assert line.startswith(f"{path}: {row['predicted']}, probability ")
        assert probability == pytest.approx(float(row[f"p_{row['predicted']}"]), abs=2e-4)


def test_keras_and_savedmodel_of_these_images_load_alone(trained: Path, oblong: Path, tmp_path: Path) -> None:
    classifier = load_classifier(trained / "logreg", None)
    export._save_keras(tmp_path / "m.keras", keras_classifier(classifier), "[]")
    export._save_savedmodel(tmp_path / "saved", keras_classifier(classifier), "[]")
    images, expected = images_and_probabilities(trained, oblong, "logreg")[0]
    np.save(tmp_path / "images.npy", images)
    code = f"""
import sys; sys.modules.update(dict.fromkeys(("thaw", "features", "models", "pipeline")))
import keras, numpy as np
images = np.load({str(tmp_path / "images.npy")!r})
model = keras.models.load_model({str(tmp_path / "m.keras")!r})
saved = keras.layers.TFSMLayer({str(tmp_path / "saved")!r}, call_endpoint="serve")
np.save({str(tmp_path / "both.npy")!r}, [model.predict_on_batch(images)[0], np.asarray(saved(images))[0]])
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, capture_output=True)
    np.testing.assert_allclose(np.load(tmp_path / "both.npy"), [expected, expected], atol=1e-4)


def test_the_page_labels_as_predict(trained: Path, oblong: Path) -> None:
    with serving(trained, strategy="logreg") as server:
        for row in rows_of(trained, "logreg")[: len(SHAPES)]:
            answer = server.predict((oblong / row["id"]).read_bytes(), "?top=3&neighbours=1").json
            assert answer["label"] == row["predicted"]
            assert answer["top"][0]["probability"] == pytest.approx(float(row[f"p_{row['predicted']}"]), abs=1e-5)
            assert len(answer["neighbours"]) == 1


def test_the_report_shows_heat_and_says_how_images_were_prepared(trained: Path) -> None:
    assert thaw("report", "--run", trained) == 0
    page = (trained / "report.html").read_text(encoding="utf-8")
    assert "Heat maps of" not in page  # the line that says why they are missing
    assert f"aspect {trained.name}, " in page  # beside the name of the feature set


def test_a_mirror_is_the_mirror_of_what_the_network_sees(trained: Path, oblong: Path) -> None:
    """The odd pixel of the middle square, or of the border, is not taken from the other side."""
    dataset, preprocessing = load_dataset(f"folder:{oblong}"), load_classifier(trained / "finetune", None).preprocessing
    for row in range(len(SHAPES)):
        mirrored = type(preprocessing)(32, "bilinear", trained.name, "caffe", flip=True).load(dataset, row)
        np.testing.assert_array_equal(mirrored, preprocessing.load(dataset, row)[:, ::-1])


def test_contradictions_are_refused_with_one_line(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = {"crop": "pad", "pad": "crop"}[trained.name]
    [name] = (path.stem for path in trained.glob("features/*.h5"))
    assert thaw("svm", "--run", trained, "--features", name, "--aspect", other) == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"error: --features {name} of {trained} was made with other settings: --aspect was {trained.name} and is now "
        f"{other}. Leave the option out to take what is there, or name a new feature set by --features"
    )
    scrambled = ["--resize", "article", "--aspect", other]
    assert thaw("features", "--run", tmp_path / "r", "--dataset", "digits", *scrambled) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(
        f"error: --aspect received '{other}': expected squash with --resize article, which keeps no rows and columns"
    )
    assert not (tmp_path / "r").exists()


def test_features_of_another_aspect_are_not_used(trained: Path, tmp_path: Path, capsys: Any) -> None:
    shutil.copytree(trained, tmp_path / "run")
    content = json.loads((tmp_path / "run" / "run.json").read_text())
    [given] = content["feature_sets"].values()
    given["aspect"] = "squash"
    (tmp_path / "run" / "run.json").write_text(json.dumps(content))
    assert thaw("svm", "--run", tmp_path / "run") == 1
    path = features_of(tmp_path / "run")
    assert f"{path} was made with another aspect ({trained.name}; now squash); " in capsys.readouterr().err
    assert thaw("verify", tmp_path / "run") == 1
    assert f"was made with aspect {trained.name}, and run.json says squash" in capsys.readouterr().out
