"""`--views flip`: mean features of images and mirrors, in feature files, predict, similar images and exported files."""

import csv
import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from thaw.features.datasets.dataset import load_dataset
from thaw.features.errors import InputError
from thaw.features.extraction.spec import Preprocessing
from thaw.features.schema import record_digest
from thaw.features.store import FeatureFile
from thaw.pipeline.cli import run
from thaw.pipeline.config import Common, Linear
from thaw.pipeline.export import export
from thaw.pipeline.export.keras_model import keras_classifier
from thaw.pipeline.extraction.feature_files import FeatureSet, activations_of, check_features
from thaw.pipeline.inference.loading import load_classifier
from thaw.pipeline.inference.similar_images import open_nearest
from thaw.pipeline.run.predictions_csv import read_predictions
from thaw.pipeline.run.run_json import features_path, read_run

LAYERS = "block3_pool:max,block5_pool"
FAST = ["--image-size", "32", "--weights", "random", "--engine", "keras", "--layers", LAYERS, "--dtype", "float16"]
SET, PLAIN = "flip", "plain"


def thaw(*arguments: object) -> int:
    return run([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def trained(image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a feature set of both views, on which two layers are joined, and one of one view."""
    folder = tmp_path_factory.mktemp("views") / "run"
    given = ["--dataset", f"folder:{image_folder}", "--run", folder, *FAST]
    assert (
        thaw(
            "logreg",
            *given,
            "--features",
            SET,
            "--views",
            "flip",
            "--values",
            0.01,
            "--layer",
            "+".join(LAYERS.split(",")),
        )
        == 0
    )
    assert thaw("features", *given, "--features", PLAIN) == 0
    return folder


def read(folder: Path, name: str) -> dict[str, np.ndarray]:
    with FeatureFile(features_path(folder, f"{name}-random")) as features:
        everything = np.arange(len(features.ids))
        return {layer: features.read([layer], everything) for layer in features.layers}


def test_the_name_of_the_set_says_so() -> None:
    assert Common(views="flip").feature_set == "vgg16-48-flip"
    named = Common(backbone="efficientnet_lite0", views="flip", pooling="max", weights="random").feature_set
    assert named == "efficientnet_lite0-224-max-flip-random"


def test_features_are_the_mean_of_the_images_and_the_mirrors_features(
    trained: Path, image_folder: Path, tmp_path: Path
) -> None:
    mirrored = tmp_path / "mirrored"
    shutil.copytree(image_folder, mirrored)
    dataset = load_dataset(f"folder:{image_folder}")
    for name in dataset.ids:
        Image.fromarray(dataset.read(dataset.row_of[name])[:, ::-1]).save(mirrored / name, "PNG")
    assert (
        thaw("features", "--dataset", f"folder:{mirrored}", "--run", tmp_path / "run", *FAST, "--features", PLAIN) == 0
    )
    both, plain, mirror = read(trained, SET), read(trained, PLAIN), read(tmp_path / "run", PLAIN)
    for layer in LAYERS.split(","):
        assert not np.allclose(plain[layer], mirror[layer], rtol=0.01)
        expected = (plain[layer] + mirror[layer]) / 2
        np.testing.assert_allclose(both[layer], expected, atol=2e-3 * np.abs(expected).max())


def test_it_is_recorded_wherever_it_counts(trained: Path) -> None:
    with h5py.File(features_path(trained, f"{SET}-random")) as file:
        assert file.attrs["views"] == "flip"
    record = load_classifier(trained / "logreg", None).record
    assert (record["feature_views"], record["views"]) == ("flip", 1)
    assert "| feature_views | flip |" in (trained / "logreg" / "model_card.md").read_text()
    assert thaw("verify", trained) == 0


def test_predict_gives_the_probabilities_of_the_training(
    trained: Path, image_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (trained / "logreg" / "predictions.csv").open(newline="") as file:
        expected = {str(image_folder / row["id"]): row for row in csv.DictReader(file)}
    assert (
        thaw("predict", "--run", trained, "--strategy", "logreg", "--top", 2, "--format", "jsonl", "--", *expected) == 0
    )
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(expected)
    for answer in map(json.loads, lines):
        for one in answer["top"]:
            own = float(expected[answer["image"]][f"p_{one['label']}"])
            assert one["probability"] == pytest.approx(own, abs=2e-3)


def test_exported_files_give_the_probabilities_of_the_training(
    trained: Path, image_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    monkeypatch.setattr(export, "TIMED_SECONDS", 0.0)
    assert thaw("export", trained, "--name", "logreg") == 0
    path = trained / "logreg" / "model.onnx"
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert session.get_modelmeta().custom_metadata_map["feature_views"] == "flip"
    model, dataset = keras_classifier(load_classifier(trained / "logreg", None)), load_dataset(f"folder:{image_folder}")
    given = read_predictions(trained / "logreg" / "predictions.csv", dataset.class_names)
    for name, expected in zip(given.ids, given.probabilities, strict=True):
        images = dataset.read(dataset.row_of[name])[np.newaxis]
        [received] = session.run(["probabilities"], {"images": images})
        np.testing.assert_allclose(received[0], expected, atol=2e-3)
        np.testing.assert_allclose(model.predict_on_batch(images)[0], expected, atol=2e-3)
        turned = session.run(["probabilities"], {"images": images[:, :, ::-1]})[0]
        np.testing.assert_allclose(turned, received, atol=1e-4)


def test_a_training_image_is_nearest_to_itself_and_to_its_mirror(trained: Path, image_folder: Path) -> None:
    classifier, dataset = load_classifier(trained / "logreg"), load_dataset(f"folder:{image_folder}")
    nearest = open_nearest(trained, classifier)
    assert nearest is not None
    with FeatureFile(features_path(trained, f"{SET}-random")) as features:
        name = features.ids[int(np.flatnonzero(features.split == 0)[0])]
    inputs = classifier.preprocessing.prepare(dataset.read(dataset.row_of[name]))
    for view in (inputs, inputs[:, ::-1]):
        [[first]] = nearest.find(classifier.activations(view[np.newaxis]), 1)
        assert (first.id, first.similarity) == (name, pytest.approx(1, abs=1e-3))


def test_similar_images_are_not_sought_among_features_of_one_view(
    trained: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    copied = tmp_path / "run"
    shutil.copytree(trained, copied)
    with h5py.File(features_path(copied, f"{SET}-random"), "a") as file:
        file.attrs["views"] = "one"
    with caplog.at_level("INFO", "thaw"):
        assert open_nearest(copied, load_classifier(copied / "logreg")) is None
    assert "was made otherwise than the model (views)" in caplog.text


@pytest.mark.parametrize("strategy", ["head", "finetune", "scratch"])
def test_strategies_that_train_a_network_refuse_it(
    trained: Path, strategy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert thaw(strategy, "--run", trained, "--features", f"{SET}-random") == 1
    [line] = capsys.readouterr().err.strip().splitlines()
    assert line == (
        "error: flip-random holds the mean features of images and their mirrors (--views flip), and "
        f"{strategy} learns from images as they are; add --views one, and --augment flip to learn from mirrors too"
    )
    assert not (trained / strategy).exists()


def test_the_seeded_random_network_has_both_views_too(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "run")
    given = ["--features", f"{SET}-random", "--layer", "block5_pool", "--values", 0.01]
    assert thaw("random", "--run", tmp_path / "run", *given) == 0
    assert load_classifier(tmp_path / "run" / "random", None).record["feature_views"] == "flip"


def test_files_of_an_earlier_version_are_of_one_view(trained: Path, tmp_path: Path) -> None:
    copied = tmp_path / "run"
    shutil.copytree(trained, copied)
    content = json.loads((copied / "run.json").read_text())
    for own in content["feature_sets"].values():
        del own["views"]
    (copied / "run.json").write_text(json.dumps(content))
    for name in (SET, PLAIN):
        with h5py.File(features_path(copied, f"{name}-random"), "a") as file:
            del file.attrs["views"]
            file.attrs["record_sha256"] = record_digest(file)
    record = read_run(copied)
    assert record is not None
    assert {own["views"] for own in record.feature_sets.values()} == {"one"}
    assert thaw("verify", copied) == 0
    wanted = FeatureSet(record.shared(f"{PLAIN}-random").model_copy(update={"run": copied}))
    check_features(wanted.path, wanted.record(), copied)
    with pytest.raises(InputError, match=r"was made with another views \(one; now flip\)"):
        check_features(wanted.path, {**wanted.record(), "views": "flip"}, copied)


def test_whole_activations_are_never_a_mean() -> None:
    settings = Linear(views="flip")
    assert FeatureSet(settings).record()["views"] == "flip"
    assert activations_of(settings, "block4_pool").record()["views"] == "one"


def test_an_image_has_two_views_and_the_second_is_its_mirror() -> None:
    inputs = np.random.default_rng(0).normal(size=(2, 4, 4, 3))
    image, mirror = Preprocessing(4, "bilinear", "squash", "caffe", views="flip").views_of(inputs)
    np.testing.assert_array_equal(image, inputs)
    np.testing.assert_array_equal(mirror[:, :, 0], inputs[:, :, -1])
    assert len(Preprocessing(4, "bilinear", "squash", "caffe").views_of(inputs)) == 1
