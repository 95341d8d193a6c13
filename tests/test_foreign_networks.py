"""Networks from ONNX files through the whole product: features, models, prediction, export, and what is refused."""

import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from thaw.features.backbones.registry import BACKBONES
from thaw.features.backbones.weights import load_weights
from thaw.features.engines.agreement import relative_error
from thaw.features.extraction.spec import Preprocessing
from thaw.features.onnx.network import network_graph
from thaw.features.store import FeatureFile
from thaw.pipeline.cli import run
from thaw.pipeline.export import export

from tests.builders.features import features_of
from tests.builders.onnx_networks import convolutional, state, vision_transformer

ROOT = Path(__file__).resolve().parents[1]
LAYERS = {"conv": "maps,features", "vit": "tokens", "free": "maps,features"}


def thaw(*arguments: object) -> int:
    return run([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("networks")
    state(convolutional(folder / "conv.onnx"))
    state(vision_transformer(folder / "vit.onnx", opset=18), resize="bicubic")
    state(convolutional(folder / "free.onnx", size="S"), size=48, aspect="crop", order="bgr")
    return folder


@pytest.fixture(scope="module", params=LAYERS)
def finished(
    request: pytest.FixtureRequest, networks: Path, image_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A run on small pictures with a linear strategy and a head."""
    folder = tmp_path_factory.mktemp("runs") / request.param
    network = networks / f"{request.param}.onnx"
    assert thaw("logreg", "--dataset", f"folder:{image_folder}", "--backbone", f"onnx:{network}", "--run", folder) == 0
    assert thaw("knn", "--run", folder) == 0
    assert thaw("head", "--run", folder, "--epochs", 2) == 0
    return folder


def pixels_of(image_folder: Path, name: str) -> np.ndarray:
    return np.asarray(Image.open(image_folder / name).convert("RGB"))


def test_features_are_onnx_runtime_s_own_of_the_prepared_images(
    finished: Path, networks: Path, image_folder: Path
) -> None:
    [[name, settings]] = json.loads((finished / "run.json").read_text())["feature_sets"].items()
    assert name == f"{finished.name}-{settings['image_size']}"
    network = networks / f"{finished.name}.onnx"
    assert (settings["backbone"], settings["weights"]) == (f"onnx:{finished.name}", str(network))
    assert settings["layers"] == LAYERS[finished.name]
    prepare = Preprocessing(*(settings[name] for name in ("image_size", "resize", "aspect", "normalize"))).prepare
    with FeatureFile(features_of(finished)) as features:
        inputs = np.stack([prepare(pixels_of(image_folder, name)) for name in features.ids])
        received = {name: features.read([name], np.arange(len(inputs))) for name in features.layers}
        assert features.attributes["engine"] == "onnxruntime"
    session = onnxruntime.InferenceSession(network, providers=["CPUExecutionProvider"])
    for name, values in received.items():
        (expected,) = session.run([name], {"pixels": inputs.transpose(0, 3, 1, 2)})
        if name == "tokens":
            expected = np.concatenate([expected[:, 0], expected[:, 1:].mean(axis=1)], axis=1)
        if name == "maps":
            expected = expected.mean(axis=(2, 3))
        assert relative_error(values, expected.reshape(len(values), -1)) < 1e-5


def test_our_own_network_as_a_file_gives_the_features_of_the_network_itself(image_folder: Path, tmp_path: Path) -> None:
    backbone, layers, path = BACKBONES["efficientnet_lite0"], ("block5c_add", "top_activation"), tmp_path / "lite.onnx"
    path.write_bytes(network_graph(backbone, load_weights("random", backbone), layers, 64, 8))
    state(path, mean=[127 / 255] * 3, std=[128 / 255] * 3)
    common = ["--dataset", f"folder:{image_folder}", "--pooling", "avg", "--batch-size", 8]
    own = ["--backbone", backbone.name, "--weights", "random", "--image-size", 64, "--engine", "onnxruntime"]
    assert thaw("features", *common, *own, "--run", tmp_path / "own") == 0
    assert thaw("features", *common, "--backbone", f"onnx:{path}", "--run", tmp_path / "file") == 0
    with (
        FeatureFile(features_of(tmp_path / "own")) as expected,
        FeatureFile(features_of(tmp_path / "file")) as received,
    ):
        assert received.layers == expected.layers
        rows = np.arange(len(expected.ids))
        assert relative_error(received.read(layers, rows), expected.read(layers, rows)) < 1e-5


@pytest.mark.parametrize("name", ["logreg", "knn", "head"])
def test_predict_and_export_give_what_the_test_split_got(
    finished: Path,
    image_folder: Path,
    name: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with (finished / name / "predictions.csv").open(newline="") as file:
        rows = {row["id"]: row for row in csv.DictReader(file)}
    assert len(rows) == 15
    paths = {str(image_folder / key): row for key, row in rows.items()}
    capsys.readouterr()
    assert thaw("predict", *paths, "--run", finished, "--strategy", name, "--format", "csv", "--top", 3) == 0
    answers = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    monkeypatch.setattr(export, "TIMED_SECONDS", 0.0)
    assert thaw("export", finished, "--name", name) == 0
    session = onnxruntime.InferenceSession(finished / name / "model.onnx", providers=["CPUExecutionProvider"])
    classes = json.loads(session.get_modelmeta().custom_metadata_map["class_names"])
    for answer in answers:
        row = paths[answer["image"]]
        expected = [float(row[f"p_{label}"]) for label in classes]
        assert answer["label"] == row["predicted"]
        assert float(answer["probability"]) == pytest.approx(max(expected), abs=1e-5)
        [received] = session.run(None, {"images": pixels_of(image_folder, row["id"])[np.newaxis]})
        np.testing.assert_allclose(received[0], expected, atol=1e-4)
    assert len(answers) == len(rows)


def test_the_report_and_the_verification_take_it_like_any_network(finished: Path) -> None:
    assert thaw("report", "--run", finished) == 0
    assert f"onnx:{finished.name}" in (finished / "report.md").read_text()
    assert thaw("verify", finished) == 0


def test_killed_after_a_part_extraction_ends_as_if_unbroken(tmp_path: Path) -> None:
    network = state(vision_transformer(tmp_path / "vit.onnx", size=96, patch=4))
    options = ["--backbone", f"onnx:{network}", "--dataset", "digits"]
    assert thaw("features", "--run", tmp_path / "beside" / "unbroken", *options) == 0
    command = [sys.executable, "-m", "pipeline", "features", "--run", str(tmp_path / "r"), *options]
    parts = tmp_path / "r/features/vit-96.h5.parts"
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while not list(parts.glob("part-*.h5")):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert not features_of(tmp_path / "r").exists()
    done = {path.name: path.stat().st_mtime_ns for path in parts.glob("part-*.h5")}
    assert 0 < len(done) < 4
    assert thaw("features", "--run", tmp_path / "r", *options) == 0
    with (
        FeatureFile(features_of(tmp_path / "r")) as received,
        FeatureFile(features_of(tmp_path / "beside" / "unbroken")) as expected,
    ):
        assert received.attributes["values_sha256"] == expected.attributes["values_sha256"]


def test_a_file_that_was_changed_is_not_taken_for_the_one_of_the_run(
    image_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network, folder = state(convolutional(tmp_path / "net.onnx")), tmp_path / "run"
    assert thaw("logreg", "--dataset", f"folder:{image_folder}", "--backbone", f"onnx:{network}", "--run", folder) == 0
    image = image_folder / "grass" / "00.png"
    moved = network.rename(tmp_path / "moved.onnx")
    capsys.readouterr()
    assert thaw("predict", image, "--run", folder) == 1
    assert "there is no such file; expected a network that was exported as .onnx; a trained" in capsys.readouterr().err
    assert thaw("predict", image, "--run", folder, "--weights", moved) == 0
    state(vision_transformer(network))
    capsys.readouterr()
    assert thaw("predict", image, "--run", folder) == 1
    assert "give the same file: --weights PATH" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (
            ["finetune"],
            "finetune needs a network that is built here, and onnx:conv is a file that is run as it is; take ",
        ),
        (
            ["scratch"],
            "scratch needs a network that is built here, and onnx:conv is a file that is run as it is; take ",
        ),
        (
            ["head", "--augment", "standard"],
            "head --augment standard needs a network that is built here, and onnx:conv ",
        ),
        (
            ["random"],
            "onnx:conv has the weights in its file alone, and cannot be had with random ones; leave --weights, ",
        ),
        (
            ["advise"],
            "the advice, which tries fine-tuning, needs a network that is built here, and onnx:conv is a file ",
        ),
        (
            ["features", "--engine", "mnn"],
            "--engine mnn cannot run a network from an ONNX file; expected onnxruntime; ",
        ),
        (["features", "--engine", "keras"], "--engine keras cannot run a network from an ONNX file; expected "),
        (
            ["features", "--device", "gpu"],
            "--engine onnxruntime runs on a CPU, not with --device gpu; leave one of them ",
        ),
        (["features", "--image-size", "64"], "--image-size 64: onnx:conv takes images of 32 pixels alone; leave "),
        (["features", "--layers", "nothing"], "onnx:conv has no layer 'nothing'; expected for example one of maps, "),
    ],
)
def test_what_a_foreign_network_cannot_is_refused_in_one_line(
    networks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str], expected: str
) -> None:
    given = ["--dataset", "digits", "--backbone", f"onnx:{networks / 'conv.onnx'}", "--run", tmp_path / "run"]
    assert thaw(*command, *given) == 1
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith(f"error: {expected}")
    assert not (tmp_path / "run").exists()


def test_an_export_to_keras_is_refused(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert thaw("export", finished, "--name", "logreg", "--format", "keras") == 1
    assert capsys.readouterr().err == (
        f"error: Keras cannot hold onnx:{finished.name}, which is an ONNX file; export ONNX instead: --format onnx\n"
    )


def test_a_network_of_a_fixed_batch_labels_and_is_not_exported(
    image_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network, folder = state(convolutional(tmp_path / "net.onnx", batch=1)), tmp_path / "run"
    assert thaw("logreg", "--dataset", f"folder:{image_folder}", "--backbone", f"onnx:{network}", "--run", folder) == 0
    assert thaw("predict", image_folder / "grass" / "00.png", "--run", folder) == 0
    capsys.readouterr()
    assert thaw("export", folder, "--name", "logreg") == 1
    assert capsys.readouterr().err == (
        f"error: onnx:net takes 1 image(s) at once, and an exported classifier any number; export {network} again with "
        "a free batch (dynamic_axes) and train on that\n"
    )


def test_preprocessing_may_be_typed_instead_of_stated(
    tmp_path: Path, image_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = convolutional(tmp_path / "net.onnx", size="S")
    given = ["--dataset", f"folder:{image_folder}", "--backbone", f"onnx:{network}", "--run", tmp_path / "run"]
    assert thaw("features", *given) == 1
    assert "nothing says which it was trained with; expected size in" in capsys.readouterr().err
    assert thaw("features", *given, "--image-size", 40) == 1
    assert "nothing says how its images are prepared; expected mean and std in" in capsys.readouterr().err
    assert thaw("features", *given, "--image-size", 40, "--normalize", "torch:1") == 2
    assert capsys.readouterr().err == (
        "error: --normalize received 'torch:1': expected rgb or bgr, three means and three deviations above 0, for "
        "example rgb:0.485,0.456,0.406:0.229,0.224,0.225; --help shows the options\n"
    )
    assert not (tmp_path / "run").exists()
    assert thaw("features", "--backbone", "onnx:", "--run", tmp_path / "run") == 2
    assert capsys.readouterr().err == (
        "error: --backbone onnx: names no file; expected its path, for example --backbone onnx:resnet18.onnx; --help "
        "shows the options\n"
    )
    typed = ["--image-size", 40, "--normalize", "rgb:0.5,0.5,0.5:0.5,0.5,0.5", "--layers", "/Relu_1:none,maps"]
    assert thaw("features", *given, *typed) == 0
    with FeatureFile(features_of(tmp_path / "run")) as features:
        assert thaw("features", "--run", tmp_path / "run", "--pooling", "auto") == 0  # what the run has
        assert features.layers == {"Relu_1:none": (72, 20, 20, 6), "maps": (72, 8)}
