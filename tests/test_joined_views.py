"""Feature sets of both views (`--views flip`) beside sets of one view: joined, and below an ensemble."""

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from thaw.features.datasets.dataset import load_dataset
from thaw.features.store import FeatureFile
from thaw.pipeline.cli import run
from thaw.pipeline.inference.loading import load_classifier
from thaw.pipeline.inference.networks import FrozenNetworks, features_of
from thaw.pipeline.inference.similar_images import open_nearest
from thaw.pipeline.run.predictions_csv import read_predictions
from thaw.pipeline.run.run_json import features_path

from tests.builders.server import serving

VGG = ["--image-size", "32", "--weights", "random", "--engine", "keras", "--layers", "block2_pool,block3_pool:max"]
LITE = ["--backbone", "efficientnet_lite0", "--image-size", "64", "--weights", "random", "--engine", "keras"]
BOTH, ONE, OTHER = "both-random", "one-random", "lite-random"
"""Of both views and of one view by the same network, and of one view by another network."""
RESULTS = ["shared", "two", "alone", "ensemble"]


def thaw(*arguments: object) -> int:
    return run([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def finished(image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with the three feature sets, two results on joined sets, one on one set, and the ensemble of the three."""
    folder = tmp_path_factory.mktemp("views") / "run"
    given = ("--dataset", f"folder:{image_folder}", "--run", folder)
    flip = ("--views", "flip", "--dtype", "float16")
    assert thaw("features", *given, *VGG, "--pooling", "avg", "--features", BOTH, *flip) == 0
    assert thaw("features", *given, *VGG, "--pooling", "avg", "--features", ONE) == 0
    assert thaw("features", *given, *LITE, "--features", OTHER) == 0
    shared = ("--features", f"{ONE}+{BOTH}", "--layer", f"{ONE}/block2_pool+{BOTH}/block3_pool:max")
    two = ("--features", f"{BOTH}+{OTHER}", "--layer", f"{BOTH}/block2_pool+{OTHER}/top_activation")
    once = ("--run", folder, "--values", 0.01, "--transform", "none")
    assert thaw("logreg", *once, *shared, "--name", "shared") == 0
    assert thaw("svm", *once, *two, "--name", "two") == 0
    assert thaw("logreg", *once, "--features", ONE, "--layer", "block3_pool:max", "--name", "alone") == 0
    assert thaw("ensemble", "--run", folder, "--members", "shared,two,alone") == 0
    return folder


@dataclass
class CountingEngine:
    """Stands for an engine: keeps what it was given, and returns a layer that tells an image from its mirror."""

    given: list[np.ndarray] = field(default_factory=list)

    def __call__(self, inputs: np.ndarray) -> Mapping[str, np.ndarray]:
        self.given.append(inputs)
        weights = np.arange(inputs.shape[2], dtype=np.float32)[:, np.newaxis]
        return {"layer": (inputs * weights).sum(axis=(1, 2), keepdims=True)}


def set_record(views: str | None) -> dict[str, object]:
    """Return a feature set's record; None is one of a version that did not know the field."""
    names = ("weights", "weights_sha256", "seed", "resize", "aspect", "engine", "engine_precision")
    own = {"backbone": "vgg16", "image_size": 4, "normalize": "caffe", "pooling": "avg", "dtype": "float32"}
    record = {**dict.fromkeys(names, "x"), **own, "layer": "layer", "engine_layers": ["layer"]}
    return record if views is None else {**record, "feature_views": views}


@pytest.mark.parametrize("order", [("flip", "one"), ("one", "flip"), (None, "flip"), ("one", None), ("flip", "flip")])
def test_a_network_runs_once_on_the_images_and_once_on_the_mirrors_if_a_set_takes_these(
    order: tuple[str | None, str | None],
) -> None:
    records = [set_record(views) for views in order]
    networks = FrozenNetworks.of(records)
    [key] = networks.records
    engine = CountingEngine()
    inputs = np.random.default_rng(0).normal(size=(3, 4, 4, 3)).astype(np.float32)
    outputs = FrozenNetworks(networks.records, {key: engine})(inputs)
    both = "flip" in order
    assert len(engine.given) == 1 + both
    np.testing.assert_array_equal(engine.given[0], inputs)
    image, mirror = (CountingEngine()(view)["layer"][:, 0, 0] for view in (inputs, inputs[:, :, ::-1]))
    assert not np.allclose(image, mirror, atol=0.1)
    for views, record in zip(order, records, strict=True):
        expected = (image + mirror) / 2 if views == "flip" else image
        np.testing.assert_allclose(features_of(record, outputs), expected, rtol=1e-5, atol=1e-5)


def test_the_records_say_the_views_of_each_set(finished: Path) -> None:
    record = load_classifier(finished / "shared", None).record
    assert [(one["features"], one["feature_views"]) for one in record["sets"]] == [(ONE, "one"), (BOTH, "flip")]
    networks = load_classifier(finished / "ensemble", None).networks.records
    assert {(one["backbone"], one["feature_views"]) for one in networks.values()} == {
        ("vgg16", "flip"),
        ("efficientnet_lite0", "one"),
    }
    assert thaw("verify", finished) == 0


def test_the_features_are_those_of_the_feature_files(finished: Path, image_folder: Path) -> None:
    classifier = load_classifier(finished / "shared")
    with FeatureFile(features_path(finished, ONE)) as one, FeatureFile(features_path(finished, BOTH)) as both:
        rows = np.arange(4)
        expected = np.hstack([one.read(["block2_pool"], rows), both.read(["block3_pool:max"], rows)])
        paths = [image_folder / one.ids[row] for row in rows]
    inputs = np.stack([classifier.read(path, path.name, 10**8) for path in paths])
    np.testing.assert_allclose(classifier.activations(inputs), expected, rtol=2e-3, atol=1e-3)


@pytest.mark.parametrize("name", RESULTS)
def test_predict_gives_the_probabilities_of_predictions_csv(
    finished: Path, image_folder: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with (finished / name / "predictions.csv").open(newline="") as file:
        expected = {str(image_folder / row["id"]): row for row in csv.DictReader(file)}
    capsys.readouterr()
    given = ("--run", finished, "--strategy", name, "--top", 3, "--format", "jsonl")
    assert thaw("predict", *given, "--", *expected) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(expected)
    for answer in map(json.loads, lines):
        own = expected[answer["image"]]
        assert answer["label"] == own["predicted"]
        for one in answer["top"]:
            assert one["probability"] == pytest.approx(float(own[f"p_{one['label']}"]), abs=2e-3)


@pytest.mark.parametrize("name", RESULTS)
def test_the_exported_graph_gives_the_probabilities_of_predictions_csv(
    finished: Path, image_folder: Path, name: str, tmp_path: Path
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    path = tmp_path / "model.onnx"
    assert thaw("export", finished, "--name", name, "--out", path) == 0
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    dataset = load_dataset(f"folder:{image_folder}")
    own = read_predictions(finished / name / "predictions.csv", dataset.class_names)
    images = np.stack([dataset.read(dataset.row_of[one]) for one in own.ids])
    for start, end in ((0, 1), (1, len(images))):
        [received] = session.run(None, {"images": images[start:end]})
        np.testing.assert_allclose(received, own.probabilities[start:end], atol=2e-3)


def test_a_network_is_in_the_exported_graph_once(finished: Path, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    assert thaw("export", finished, "--name", "ensemble", "--out", tmp_path / "model.onnx") == 0
    operators = [node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node]
    vgg_to_block3, lite = 7, 49
    assert operators.count("Conv") == vgg_to_block3 + lite


def test_training_images_are_nearest_to_themselves(finished: Path, image_folder: Path) -> None:
    with FeatureFile(features_path(finished, BOTH)) as features:
        name = features.ids[int(np.flatnonzero(features.split == 0)[0])]
    for result in ("shared", "ensemble"):
        classifier = load_classifier(finished / result)
        nearest = open_nearest(finished, classifier)
        assert nearest is not None
        inputs = classifier.read(image_folder / name, name, 10**8)[np.newaxis]
        [[first]] = nearest.find(classifier.activations(inputs), 1)
        assert (first.id, first.similarity) == (name, pytest.approx(1, abs=1e-3))


def test_the_page_labels_by_both_views_too(finished: Path, image_folder: Path) -> None:
    with (finished / "two" / "predictions.csv").open(newline="") as file:
        row = next(csv.DictReader(file))
    with serving(finished, "two") as server:
        reply = server.predict((image_folder / row["id"]).read_bytes())
    assert reply.json["label"] == row["predicted"]
    assert reply.json["top"][0]["probability"] == pytest.approx(float(row[f"p_{row['predicted']}"]), abs=2e-3)
