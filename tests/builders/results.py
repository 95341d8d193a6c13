"""Made-up results of a run: report.json and predictions.csv with given figures."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from thaw.features.errors import InputError
from thaw.models.metrics import evaluate
from thaw.pipeline.run.predictions_csv import write_predictions
from thaw.pipeline.run.report_json import Report, write_report

CLASSES = ["cat", "dog", "eel"]


LABELS = np.arange(60) % 3


IDS = [f"test/{CLASSES[label]}/{row:03d}.png" for row, label in enumerate(LABELS)]


def probabilities_with(wrong: list[int], num_classes: int = 3) -> np.ndarray:
    """Predictions for LABELS that are right but on the rows named in `wrong`."""
    called = LABELS.copy()
    called[wrong] = (called[wrong] + 1) % num_classes
    return np.where(np.eye(num_classes, dtype=bool)[called], 0.9, 0.1 / (num_classes - 1))


def fields(name: str, probabilities: np.ndarray, classes: list[str], **changed: Any) -> dict[str, Any]:
    content = {
        "name": name, "strategy": "svm", "dataset": "folder:animals", "features": "vgg16-48",
        "backbone": "vgg16", "image_size": 48, "layer": "block5_pool",
        "class_names": classes, **evaluate(LABELS, probabilities, classes),
        "num_train": 200, "num_validation": 20, "num_test": 60, "hyperparameters": {"C": 0.01, "kernel": None},
        "seconds": {"features": 12.0, "fit": 3.5, "predict": 0.25}, "peak_memory_mb": 812.0, "model_bytes": 61_440,
        "split_sha256": "a" * 64, "features_sha256": "b" * 64, "weights_sha256": "c" * 64, "seed": 0, "device": "cpu",
        "versions": {"numpy": "2.0"}, "command": f"thaw svm --name {name}",
    }  # fmt: skip
    return content | changed


def add(run: Path, name: str, wrong: list[int], classes: list[str] = CLASSES, **changed: Any) -> Path:
    """Write one strategy's report and predictions; `changed` replaces fields of the report."""
    probabilities = probabilities_with(wrong, len(classes))
    write_report(run / name, Report.model_validate(fields(name, probabilities, classes, **changed)))
    write_predictions(run / name / "predictions.csv", IDS, LABELS, probabilities, classes)
    return run / name


def baseline(run: Path) -> Path:
    nothing = dict.fromkeys(
        [
            "features",
            "backbone",
            "image_size",
            "layer",
            "features_sha256",
            "weights_sha256",
            "peak_memory_mb",
            "model_bytes",
        ]
    )
    seconds = {"features": None, "fit": 0.001, "predict": None}
    return add(run, "chance", list(range(40)), strategy="chance", seconds=seconds, device=None, **nothing)


def refusal(call: Any, *arguments: Any) -> str:
    with pytest.raises(InputError) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)
