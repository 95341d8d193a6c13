"""The parsers of what a run directory holds: feature files, settings, tables, reports, models."""

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import mutations
import numpy as np
import seeds
from targets import Target, file_target

from thaw.features import store
from thaw.features.datasets.dataset import Dataset
from thaw.features.datasets.listing import ImageArrays
from thaw.features.extraction import parts
from thaw.models import artifacts
from thaw.models.neural import checkpoints, saved_network
from thaw.pipeline.config import Shared
from thaw.pipeline.inference.loading import load_classifier
from thaw.pipeline.run import advice_json, export_json, predictions_csv, report_json, run_json, sha256sums, split_csv
from thaw.pipeline.run.model_record import NEEDED
from thaw.pipeline.training import learning_curve_csv
from thaw.pipeline.training import warm_start as warm
from thaw.pipeline.verify import verify

from tests.builders.advice import advice as made_advice
from tests.builders.results import add

CLASSES = ["cat", "dog", "eel"]
CURVE = b"epoch,loss,accuracy,validation_loss,validation_accuracy,validation_balanced_accuracy\n0,,,1.2,0.4,0.4\n"
RECORD = dict.fromkeys(NEEDED, 0) | {
    **{"model_version": artifacts.MODEL_VERSION, "strategy": "svm", "backbone": "vgg16", "weights": "random"},
    **{"weights_sha256": "c" * 64, "layer": "block5_pool", "class_names": CLASSES, "image_size": 48, "views": 1},
    **{"resize": "bilinear", "aspect": "pad", "normalize": "caffe", "pooling": "max", "dtype": "float32"},
    **{
        "decoding": 2,
        "engine": "keras",
        "engine_layers": ["block5_pool"],
        "engine_precision": "float32",
        "batch_size": 8,
    },
}


def feature_targets(folder: Path) -> Iterator[Target]:
    """Yield those of HDF5 files of features."""
    path, part = folder / "features.h5", folder / "part-000000000.h5"

    def features() -> None:
        with store.FeatureFile(path) as file:
            rows = store.FeatureRows(file, list(file.layers)[:1], file.split != 2)
            rows.read(slice(0, 3))
            file.groups_of(file.split == 0)
            file.check_digests()

    def read_part() -> None:
        parts.peek_part(part)
        parts.read_part(part, ("block5_pool",))

    for name, read, content in (
        (path, features, seeds.feature_files(folder)),
        (part, read_part, seeds.parts(folder)),
    ):
        target = file_target(name.name.partition("-")[0], name, read, content, 8)
        yield target._replace(change=mutations.in_hdf5(content[0]))


def make_run(folder: Path) -> Path:
    """Write a run directory with a result, advice and all tables, as the stages would, and return it."""
    run = folder / "run"
    result = add(run, "svm", [0, 1])
    run_json.write_run(Shared(run=run, dataset="digits"))
    (run / "split.csv").write_text("id,label,split\na,cat,train\nb,dog,test\n")
    advice_json.write_advice(run, made_advice())
    (result / "learning_curve.csv").write_bytes(CURVE)
    sha256sums.write_sums(result, [result / "report.json", result / "predictions.csv"], {})
    times = {"cores": 2, "image_side": 256, "batch_size": 32, "milliseconds_one": 1.5, "milliseconds_batch": None}
    entry = {"format": "onnx", "path": "model.onnx", "bytes": 9, "runtime": "onnxruntime", "command": "x", **times}
    export_json.record_export(result, export_json.Exported.model_validate(entry))
    return run


def run_targets(folder: Path) -> Iterator[Target]:
    """Yield those of JSON and tables in a run directory, each in a run of its own."""
    labels = np.array([0, 1])
    dataset = Dataset("x", ("a", "b"), labels, ("cat", "dog"), ("", ""), None, ImageArrays([]))

    def sides(path: Path) -> None:
        split_csv.read_table(path)
        split_csv.read_split(path, dataset)

    kinds: list[tuple[str, Callable[[Path], object], int]] = [
        ("run.json", lambda path: run_json.read_run(path.parent), 90),
        ("split.csv", sides, 140),
        ("advice.json", lambda path: advice_json.read_advice(path.parent), 90),
        ("svm/report.json", report_json.read_report, 90),
        ("svm/export.json", lambda path: export_json.read_exports(path.parent), 90),
        ("svm/predictions.csv", lambda path: predictions_csv.read_predictions(path, CLASSES), 120),
        ("svm/learning_curve.csv", learning_curve_csv.read_curve, 120),
        ("svm/SHA256SUMS", lambda path: sha256sums.changed_files(path.parent), 140),
        ("run.json", lambda path: list(verify.findings(path.parent)), 5),
        ("svm/report.json", lambda path: list(verify.findings(path.parent.parent)), 5),
    ]
    for number, (name, read, share) in enumerate(kinds):
        path = make_run(folder / str(number)) / name
        target = file_target(path.name, path, partial(read, path), [path.read_bytes()], share)
        yield target._replace(name=f"verify, {path.name}") if share < 10 else target


def _read_classifier(folder: Path) -> object:
    return load_classifier(folder, None).layers


def _save_apart(path: Path, architecture: Any, record: dict[str, Any]) -> None:
    """Save a network in a process of its own: what is forked after TensorFlow has computed may wait for its threads."""
    from thaw.models.neural import network

    if child := os.fork():
        if os.waitpid(child, 0)[1]:
            raise SystemExit(f"{path} could not be made")
        return
    try:
        saved_network.save(path, network.build(architecture, None, 0), architecture, record)
        os._exit(0)
    finally:
        os._exit(70)


def model_targets(folder: Path) -> Iterator[Target]:
    """Yield those of trained models, of both kinds, and of what an interrupted training leaves."""
    from thaw.models.linear import LinearSVM
    from thaw.models.neural import network
    from thaw.models.strategies import STRATEGIES

    linear = add(folder / "models", "svm", [0])
    generator = np.random.default_rng(0)
    model = STRATEGIES["logreg"].classifier(1.0, 0, None).fit(generator.normal(size=(12, 3)), np.arange(12) % 3)
    artifacts.save_model(linear / "model.skops", model, RECORD)
    machine = LinearSVM().fit(generator.normal(size=(12, 3)).astype(np.float32), np.arange(12) % 3)
    artifacts.save_model(folder / "other.skops", machine, RECORD)
    both = [(linear / "model.skops").read_bytes(), (folder / "other.skops").read_bytes()]
    yield file_target("model.skops", linear / "model.skops", partial(_read_classifier, linear), both, 6)

    architecture = network.Architecture("alexnet", 63, 3, "pool5", None, units=2)
    record = RECORD | {"strategy": "head", "backbone": "alexnet"}
    for name in ("model.json", "model.weights.h5"):
        neural = add(folder / f"for {name}", "head", [0], strategy="head")
        _save_apart(neural / "model.json", architecture, record)
        content = [(neural / name).read_bytes()]
        target = file_target(name, neural / name, partial(_read_classifier, neural), content, 1)
        yield target._replace(change=mutations.in_hdf5(content[0])) if name.endswith(".h5") else target

    probe, checkpoint = folder / "probe.npz", folder / "checkpoint.npz"
    content = seeds.probes()
    kept = checkpoints.Checkpoint(checkpoint, "a" * 64)
    yield file_target("probe.npz", probe, lambda: warm._read(probe, {}), content[:1], 20)
    yield file_target("checkpoint.npz", checkpoint, kept.peek, content[1:], 20)
