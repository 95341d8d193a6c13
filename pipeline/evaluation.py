"""What every strategy ends with: its model, predictions and report, each written whole into its folder."""

import logging
import os
import resource
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from features.errors import InputError
from features.store import FeatureFile
from models.metrics import evaluate
from models.selection import num_at_once
from pipeline import extract
from pipeline.config import Linear, Shared
from pipeline.predictions import write_predictions
from pipeline.schema import Report, read_report, write_report

log = logging.getLogger("thaw")

COPIES_PER_FIT = 3  # of the features: the fit rows, the same transformed, the same scaled


@dataclass(frozen=True)
class Outcome:
    """What training gives: class probabilities (num_test, K) float64 of the test rows, and how they came about.

    `save(path, record)` writes the model; None where there is none to write.
    """

    layer: str | None
    probabilities: np.ndarray
    hyperparameters: dict[str, Any]
    fit_seconds: float
    predict_seconds: float
    save: Callable[[Path, dict[str, Any]], None] | None = None


def write_outcome(
    settings: Shared, folder: Path, name: str, strategy: str, features: FeatureFile, outcome: Outcome
) -> Path:
    """Write model.skops, predictions.csv and, last, report.json into `folder`, and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").unlink(missing_ok=True)
    test = features.split == 2
    labels = features.labels[test]
    ids = [features.ids[row] for row in np.flatnonzero(test)]
    if len(outcome.probabilities) != len(ids):
        raise RuntimeError(f"{name} labelled {len(outcome.probabilities)} of {len(ids)} test images")
    model_bytes = None
    if outcome.save is not None:
        outcome.save(folder / "model.skops", model_record(settings, features, outcome))
        model_bytes = (folder / "model.skops").stat().st_size
    write_predictions(folder / "predictions.csv", ids, labels, outcome.probabilities, features.class_names)
    report = Report.model_validate(
        {
            "name": name,
            "strategy": strategy,
            "dataset": settings.dataset,
            "class_names": list(features.class_names),
            "layer": outcome.layer,
            **evaluate(labels, outcome.probabilities, features.class_names),
            **_counts(features),
            "hyperparameters": outcome.hyperparameters,
            "seconds": {
                "features": None if outcome.layer is None else features.attributes["seconds"],
                "fit": outcome.fit_seconds,
                "predict": outcome.predict_seconds,
            },
            "peak_memory_mb": peak_memory_mb(),
            "model_bytes": model_bytes,
            "split_sha256": features.attributes["split_sha256"],
            **_provenance(features, outcome),
            "seed": settings.seed,
            "versions": extract.versions(),
            "command": command(),
        }
    )
    write_report(folder, report)
    low, high = report.accuracy_ci95
    log.info(
        "%s: accuracy %.2f %% [%.2f, %.2f] on %d test images",
        name,
        *_percent(report.accuracy, low, high),
        len(ids),
    )
    return folder


def _percent(*shares: float) -> list[float]:
    return [100 * share for share in shares]


def _counts(features: FeatureFile) -> dict[str, int]:
    counts = np.bincount(features.split, minlength=3).tolist()
    return dict(zip(("num_train", "num_validation", "num_test"), counts, strict=True))


def _provenance(features: FeatureFile, outcome: Outcome) -> dict[str, Any]:
    if outcome.layer is None:
        return {"backbone": None, "features_sha256": None, "weights_sha256": None, "device": "cpu"}
    return {
        "backbone": features.attributes["backbone"],
        "features_sha256": features.attributes["values_sha256"],
        "weights_sha256": features.attributes["weights_sha256"],
        "device": features.attributes["device"],
    }


def model_record(settings: Shared, features: FeatureFile, outcome: Outcome) -> dict[str, Any]:
    """Return what a model carries so that new images go through the same steps."""
    kept = ("backbone", "weights_sha256", "image_size", "resize", "normalize", "pooling", "engine")
    return {
        **{name: features.attributes[name] for name in kept},
        "layer": outcome.layer,
        "class_names": list(features.class_names),
        "dataset": settings.dataset,
        "split_sha256": features.attributes["split_sha256"],
    }


def write_chance(settings: Linear, features: FeatureFile) -> None:
    """Write the baseline `chance`, the most frequent class of the training split, unless this split's is there."""
    folder = settings.run_folder / "chance"
    path = folder / "report.json"
    if path.exists() and read_report(path).split_sha256 == features.attributes["split_sha256"]:
        return
    counts = np.bincount(features.labels[features.split == 0], minlength=len(features.class_names))
    probabilities = np.tile(counts / counts.sum(), (int((features.split == 2).sum()), 1))
    outcome = Outcome(None, probabilities, {}, 0.0, 0.0)
    write_outcome(settings, folder, "chance", "chance", features, outcome)


def peak_memory_mb() -> float:
    """Return the largest resident memory of this process so far, in MB (10^6 bytes)."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def check_memory(settings: Linear, features: FeatureFile) -> None:
    """Raise InputError where the features of the rows that are not test cannot fit the memory budget."""
    layers = list(features.layers) if settings.layer == "auto" else settings.layer.split("+")
    largest = max(features.row_bytes([layer]) for layer in layers)
    if settings.layer != "auto":
        largest = features.row_bytes(layers)
    copies = 1 + COPIES_PER_FIT * num_at_once(settings.jobs)
    needed = copies * largest * int((features.split != 2).sum()) / 1e6
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e6
    budget = settings.memory or 0.75 * total
    if needed > budget:
        raise InputError(
            f"training needs about {needed:,.0f} MB and may use {budget:,.0f} MB; fit one at a time by --jobs 1, "
            f"choose a smaller layer by --layer, or allow more by --memory {int(needed) + 1}"
        )


def command() -> str:
    """Return the command line that this process runs."""
    return shlex.join(["python", "-m", "pipeline", *sys.argv[1:]])
