"""What every strategy ends with: its model, predictions and report, each written whole into its folder."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from thaw.features.files.locks import held
from thaw.features.pooling import layer_and_pooling
from thaw.features.store import FeatureFile
from thaw.models.artifacts import MODEL_VERSION
from thaw.models.metrics import evaluate
from thaw.pipeline.card import model_card
from thaw.pipeline.config import Shared
from thaw.pipeline.extraction.feature_files import UNSAID
from thaw.pipeline.run.export_json import remove_exports
from thaw.pipeline.run.predictions_csv import write_predictions
from thaw.pipeline.run.report_json import Report, read_report, report_text, write_report
from thaw.pipeline.run.results import command
from thaw.pipeline.run.run_json import shared_settings
from thaw.pipeline.run.sha256sums import write_sums
from thaw.pipeline.training.memory import peak_memory_mb
from thaw.pipeline.versions import versions

if TYPE_CHECKING:
    pass

log = logging.getLogger("thaw")


@dataclass(frozen=True)
class Origin:
    """Where a result's inputs come from; None where it has none."""

    backbone: str | None = None
    layer: str | None = None
    features_sha256: str | None = None
    weights_sha256: str | None = None
    engine: str | None = None
    device: str = "cpu"
    feature_seconds: float | None = None
    engine_layers: tuple[str, ...] = ()

    @classmethod
    def of(cls, features: FeatureFile, layer: str) -> "Origin":
        """Return the origin of what was trained on a layer of a feature file."""
        given = features.attributes
        names = ("backbone", "weights_sha256", "engine", "device")
        own: dict[str, Any] = {"features_sha256": given["values_sha256"], "feature_seconds": given["seconds"]}
        layers = (layer_and_pooling(name, "")[0] for name in str(given["layers"]).split(","))
        own["engine_layers"] = tuple(dict.fromkeys(layers))
        return cls(layer=layer, **{name: given[name] for name in names}, **own)


@dataclass(frozen=True)
class Outcome:
    """What training gives: class probabilities (num_test, K) float64 of the test rows, and how they came about.

    `save(path, record)` writes the model, all its files beginning with the path's stem; `model_file` is the path's
    name, None where there is no model.
    """

    origin: Origin
    probabilities: np.ndarray
    hyperparameters: dict[str, Any]
    fit_seconds: float
    predict_seconds: float
    save: Callable[[Path, dict[str, Any]], None] | None = None
    model_file: str = "model.skops"


def write_outcome(
    settings: Shared, folder: Path, name: str, strategy: str, features: FeatureFile, outcome: Outcome
) -> Path:
    """Write the model, predictions.csv, report.json and, of these, the model card into `folder`, and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").unlink(missing_ok=True)
    test = features.split == 2
    labels = features.labels[test]
    ids = [features.ids[row] for row in np.flatnonzero(test)]
    if len(outcome.probabilities) != len(ids):
        raise RuntimeError(f"{name} labelled {len(outcome.probabilities)} of {len(ids)} test images")
    for path in folder.glob("model.*"):  # perhaps of another strategy by the same --name
        path.unlink()
    remove_exports(folder)
    if outcome.save is not None:
        outcome.save(folder / outcome.model_file, model_record(settings, strategy, features, outcome))
    model_bytes = sum(path.stat().st_size for path in folder.glob("model.*")) or None
    write_predictions(folder / "predictions.csv", ids, labels, outcome.probabilities, features.class_names)
    report = Report.model_validate(
        {
            "name": name,
            "strategy": strategy,
            "dataset": settings.dataset,
            "class_names": list(features.class_names),
            "backbone": outcome.origin.backbone,
            "layer": outcome.origin.layer,
            **evaluate(labels, outcome.probabilities, features.class_names),
            **_counts(features),
            "hyperparameters": outcome.hyperparameters,
            "seconds": {
                "features": outcome.origin.feature_seconds,
                "fit": outcome.fit_seconds,
                "predict": outcome.predict_seconds,
            },
            "peak_memory_mb": peak_memory_mb(),
            "model_bytes": model_bytes,
            "split_sha256": features.attributes["split_sha256"],
            "features_sha256": outcome.origin.features_sha256,
            "weights_sha256": outcome.origin.weights_sha256,
            "device": outcome.origin.device,
            "seed": settings.seed,
            "versions": versions(),
            "command": command(),
        }
    )
    # The report comes last: a result without one is none.
    listed = [folder / "predictions.csv", *folder.glob("model.*")]
    write_sums(folder, listed, {"report.json": report_text(report)})
    write_report(folder, report)
    low, high = report.accuracy_ci95
    log.info(
        "%s: accuracy %.2f %% [%.2f, %.2f] on %d test images",
        name,
        *_percent(report.accuracy, low, high),
        len(ids),
    )
    if model_bytes:
        model_card.write(folder)
    return folder


def _percent(*shares: float) -> list[float]:
    return [100 * share for share in shares]


def _counts(features: FeatureFile) -> dict[str, int]:
    counts = np.bincount(features.split, minlength=3).tolist()
    return dict(zip(("num_train", "num_validation", "num_test"), counts, strict=True))


def model_record(settings: Shared, strategy: str, features: FeatureFile, outcome: Outcome) -> dict[str, Any]:
    """Return what a model carries so that new images go through the same steps."""
    kept = ("image_size", "resize", "normalize", "pooling", "dtype")
    given = {**UNSAID, **features.attributes}
    return {
        "model_version": MODEL_VERSION,
        "strategy": strategy,
        **{name: given[name] for name in kept},
        "decoding": given["decoding"],
        "engine": outcome.origin.engine or given["engine"],
        "engine_layers": list(outcome.origin.engine_layers),
        "engine_precision": given["engine_precision"],
        "batch_size": min(shared_settings(settings).batch_size, len(features.ids)),
        "backbone": outcome.origin.backbone,
        "weights": "random" if strategy == "random" else settings.weights,
        "weights_sha256": outcome.origin.weights_sha256,
        "seed": settings.seed,
        "layer": outcome.origin.layer,
        "views": outcome.hyperparameters.get("views_averaged", 1),
        "class_names": list(features.class_names),
        "dataset": settings.dataset,
        "split_sha256": given["split_sha256"],
    }


def write_chance(settings: Shared, features: FeatureFile) -> None:
    """Write the baseline `chance`, the most frequent class of the training split, unless this split's is there."""
    folder = settings.run_folder / "chance"
    if _has_chance(folder, features):
        return
    with held(folder, wait=True):  # each strategy of the run comes by here
        if not _has_chance(folder, features):
            write_outcome(settings, folder, "chance", "chance", features, _chance(features))


def _has_chance(folder: Path, features: FeatureFile) -> bool:
    path = folder / "report.json"
    return path.exists() and read_report(path).split_sha256 == features.attributes["split_sha256"]


def _chance(features: FeatureFile) -> Outcome:
    counts = np.bincount(features.labels[features.split == 0], minlength=len(features.class_names))
    probabilities = np.tile(counts / counts.sum(), (int((features.split == 2).sum()), 1))
    return Outcome(Origin(), probabilities, {}, 0.0, 0.0)
