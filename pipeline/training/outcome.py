"""What a strategy ends with: its model, predictions, report and model card, each written whole into its folder."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from thaw.features.files.locks import held
from thaw.features.joined import JoinedFeatures
from thaw.features.pooling import layer_and_pooling
from thaw.features.store import FeatureFile
from thaw.models.artifacts import MODEL_VERSION
from thaw.models.metrics import evaluate
from thaw.pipeline.card import model_card
from thaw.pipeline.commands import running_command
from thaw.pipeline.config import FORMER, Shared
from thaw.pipeline.run import report_json
from thaw.pipeline.run.export_json import remove_exports
from thaw.pipeline.run.predictions_csv import OUT_OF_FOLD, Predictions, write_predictions
from thaw.pipeline.run.report_json import Report, Seconds, read_report
from thaw.pipeline.run.run_json import existing_run
from thaw.pipeline.run.schema import json_text
from thaw.pipeline.run.sha256sums import write_sums
from thaw.pipeline.training.memory import peak_memory_mb
from thaw.pipeline.versions import versions

log = logging.getLogger("thaw")

ORIGIN_IN_REPORT = ("backbone", "layer", "features_sha256", "weights_sha256", "device")


class LabelledImages(Protocol):
    """The N images of a run, as a feature file has them: `labels` int64 (N,), `split` uint8 (N,), indices of SPLITS.

    Of the attributes only `split_sha256` is needed.
    """

    ids: list[str]
    labels: np.ndarray
    split: np.ndarray
    class_names: tuple[str, ...]
    attributes: dict[str, Any]


@dataclass(frozen=True)
class Origin:
    """What a model is trained on: None if a field does not apply. `engine` runs the frozen layers `engine_layers`.

    `features` and `image_size` are those of the settings unless they are given.
    """

    backbone: str | None = None
    layer: str | None = None
    features_sha256: str | None = None
    weights_sha256: str | None = None
    device: str = "cpu"
    engine: str | None = None
    engine_layers: tuple[str, ...] = ()
    features: str | None = None
    image_size: int | str | None = None

    @classmethod
    def of(cls, features: FeatureFile, layer: str) -> "Origin":
        """Return the origin of a model that is trained on a layer of a feature file."""
        given = features.attributes
        layers = dict.fromkeys(layer_and_pooling(name, "")[0] for name in given["layers"].split(","))
        same = {name: given[name] for name in ("backbone", "weights_sha256", "device", "engine")}
        size = given["image_size"] if isinstance(features, JoinedFeatures) else None
        digest = given["values_sha256"]
        return cls(layer=layer, features_sha256=digest, engine_layers=tuple(layers), image_size=size, **same)


@dataclass(frozen=True)
class Outcome:
    """What the training of a strategy gives.

    Attributes:
        strategy: its name.
        origin: what it was trained on.
        seconds: what it took.
        probabilities: of the classes for the test images, float64 (num_test, K).
        hyperparameters: JSON values for the report.
        save: writes the model for a path and a record, in files whose names begin with the path's stem; None if there
            is no model.
        model_file: the name of the path.
        out_of_fold: probabilities of the images that are not test, in their order, each by the fold that left it out,
            float64 (n, K); None if the strategy has no folds.
        record: what the model's file records, if the settings and the features do not say it.
        bytes_elsewhere: the size of what the model needs beside the files in its folder.
    """

    strategy: str
    origin: Origin
    seconds: Seconds
    probabilities: np.ndarray
    hyperparameters: dict[str, Any]
    save: Callable[[Path, dict[str, Any]], None] | None = None
    model_file: str = "model.skops"
    out_of_fold: np.ndarray | None = None
    record: dict[str, Any] | None = None
    bytes_elsewhere: int = 0


def write_outcome(settings: Shared, folder: Path, features: LabelledImages, outcome: Outcome) -> Path:
    """Write the model, its predictions, report.json, SHA256SUMS and the model card of a result and return its folder.

    The report comes after all that it is about: without one there is no result.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").unlink(missing_ok=True)
    predictions = _predictions(features, outcome.probabilities, features.split == 2)
    record = outcome.record or model_record(settings, features, outcome)
    save_model(folder, outcome, record)
    write_predictions(folder / "predictions.csv", *predictions, features.class_names)
    (folder / OUT_OF_FOLD).unlink(missing_ok=True)
    if outcome.out_of_fold is not None:
        known = _predictions(features, outcome.out_of_fold, features.split != 2)
        write_predictions(folder / OUT_OF_FOLD, *known, features.class_names)
    report = build_report(settings, folder, features, outcome)
    write_report(folder, report)
    if outcome.save is not None:
        model_card.write(folder, report, predictions, record)
    return folder


def _predictions(features: LabelledImages, probabilities: np.ndarray, mask: np.ndarray) -> Predictions:
    """Return the labelled images of a mask (N,) bool; raises RuntimeError if one is missing."""
    rows = np.flatnonzero(mask)
    if len(probabilities) != len(rows):
        raise RuntimeError(f"{len(probabilities)} of {len(rows)} images were labelled")
    return Predictions([features.ids[row] for row in rows], features.labels[rows], probabilities)


def save_model(folder: Path, outcome: Outcome, record: dict[str, Any]) -> None:
    """Write the model, if there is one, in place of an earlier model and of what was exported of it."""
    for path in folder.glob("model.*"):  # perhaps of another strategy by the same --name
        path.unlink()
    remove_exports(folder)
    if outcome.save is not None:
        outcome.save(folder / outcome.model_file, record)


def build_report(settings: Shared, folder: Path, features: LabelledImages, outcome: Outcome) -> Report:
    """Return the report of a result whose model lies in `folder`."""
    counts, origin = np.bincount(features.split, minlength=3).tolist(), outcome.origin
    content = {
        "name": folder.name,
        "strategy": outcome.strategy,
        "dataset": settings.dataset,
        "features": origin.features or (settings.feature_set if origin.backbone else None),
        "image_size": origin.image_size or (settings.image_size if origin.backbone else None),
        "class_names": list(features.class_names),
        **{name: getattr(origin, name) for name in ORIGIN_IN_REPORT},
        **evaluate(features.labels[features.split == 2], outcome.probabilities, features.class_names),
        **dict(zip(("num_train", "num_validation", "num_test"), counts, strict=True)),
        "hyperparameters": outcome.hyperparameters,
        "seconds": outcome.seconds,
        "peak_memory_mb": peak_memory_mb(),
        "model_bytes": sum(path.stat().st_size for path in folder.glob("model.*")) + outcome.bytes_elsewhere or None,
        "split_sha256": features.attributes["split_sha256"],
        "seed": settings.seed,
        "versions": versions(),
        "command": running_command(),
    }
    return Report.model_validate(content)


def write_report(folder: Path, report: Report) -> None:
    """Write SHA256SUMS and report.json, and log the accuracy."""
    files = [folder / "predictions.csv", *folder.glob(OUT_OF_FOLD), *folder.glob("model.*")]
    write_sums(folder, files, {"report.json": json_text(report)})
    report_json.write_report(folder, report)
    percent = [100 * share for share in (report.accuracy, *report.accuracy_ci95)]
    log.info("%s: accuracy %.2f %% [%.2f, %.2f] on %d test images", report.name, *percent, report.num_test)


def model_record(settings: Shared, features: LabelledImages, outcome: Outcome) -> dict[str, Any]:
    """Return what a model carries so that new images go through the same steps; of joined sets, for each of them."""
    views = outcome.hyperparameters.get("views_averaged", 1)
    common = {
        "model_version": MODEL_VERSION,
        "strategy": outcome.strategy,
        "class_names": list(features.class_names),
        "dataset": settings.dataset,
        "split_sha256": features.attributes["split_sha256"],
        "features": settings.feature_set,
        "layer": outcome.origin.layer,
    }
    if not isinstance(features, JoinedFeatures):
        return common | _set_record(settings, features, outcome.origin, views)
    stored = existing_run(settings.run_folder)
    sets = [
        _set_record(stored.shared(name), features.files[name], Origin.of(features.files[name], layer), views)
        for name, layer in features.parts(str(outcome.origin.layer)).items()
    ]
    return common | {"seed": settings.seed, "sets": sets}


def _set_record(settings: Shared, features: LabelledImages, origin: Origin, views: int) -> dict[str, Any]:
    """Return what a record has of a feature set: the network, its input, and the layers that the model takes."""
    kept = ("image_size", "resize", "aspect", "normalize", "pooling", "dtype", "decoding", "engine_precision")
    return {
        **{name: features.attributes[name] for name in kept},
        "engine": origin.engine,
        "engine_layers": list(origin.engine_layers),
        "batch_size": min(settings.batch_size, len(features.ids)),
        "backbone": origin.backbone,
        "features": settings.feature_set,
        "white": settings.white,
        "weights": settings.weights,
        "weights_sha256": origin.weights_sha256,
        "seed": settings.seed,
        "layer": origin.layer,
        "feature_views": features.attributes.get("views", FORMER["views"]),
        "views": views,
    }


def write_chance(settings: Shared, features: FeatureFile) -> None:
    """Write the baseline `chance`, the most frequent class of the training split, unless this split has it."""
    folder = settings.run_folder / "chance"
    if _has_chance(folder, features):
        return
    with held(folder, wait=True):  # every strategy of the run tries to write it
        if not _has_chance(folder, features):
            write_outcome(settings, folder, features, _chance(features))


def _has_chance(folder: Path, features: FeatureFile) -> bool:
    path = folder / "report.json"
    return path.exists() and read_report(path).split_sha256 == features.attributes["split_sha256"]


def _chance(features: FeatureFile) -> Outcome:
    counts = np.bincount(features.labels[features.split == 0], minlength=len(features.class_names))
    probabilities = np.tile(counts / counts.sum(), (int((features.split == 2).sum()), 1))
    return Outcome("chance", Origin(), Seconds(features=None, fit=0.0, predict=0.0), probabilities, {})
