"""The trained strategies of a run: finding one, reading what it left behind, and checking it."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thaw.features.backbones.registry import get_backbone
from thaw.features.backbones.weights import Weights, load_weights
from thaw.features.errors import InputError
from thaw.features.images.decode import DECODING
from thaw.models.artifacts import MODEL_VERSION, load_model
from thaw.models.metrics import wilson_interval
from thaw.pipeline.run.model_record import NEEDED, fault_of
from thaw.pipeline.run.report_json import BASELINES, NEURAL, Report, read_report, remedy

log = logging.getLogger("thaw")


def find_result(run_folder: Path, strategy: str) -> Path:
    """Return the folder of a result by its name; `best` is the one of the highest accuracy without the test images.

    Some were judged by all other images, by cross-validation, some by the few of the validation split: it is the lower
    end of each accuracy's 95 % interval that counts.

    Raises InputError where the run has no such model.
    """
    reports = [read_report(path) for path in sorted(run_folder.glob("*/report.json"))]
    usable = {report.name: report for report in reports if report.model_bytes}
    if not usable:
        raise InputError(f"{run_folder} has no trained model; type make svm RUN={run_folder}, or another strategy")
    if strategy != "best":
        if strategy not in usable:
            report, there = run_folder / strategy / "report.json", ", ".join(usable)
            if report.parent.is_dir() and not report.exists():
                raise InputError(f"{report} is gone or was never written; train it again, or choose best or {there}")
            raise InputError(f"{run_folder} has no model {strategy!r}; expected best or one of {there}")
        return run_folder / strategy
    candidates = [report for report in usable.values() if report.strategy not in BASELINES] or list(usable.values())
    best = max(candidates, key=_held_out_at_least)
    log.info(
        "model: %s, the best of %s on held-out images that are not test (STRATEGY=NAME takes another)",
        *(best.name, ", ".join(report.name for report in candidates)),
    )
    return run_folder / best.name


def _held_out_at_least(report: Report) -> float:
    """Return the lower end of the accuracy's interval that a strategy's settings were chosen by; none comes last."""
    accuracy = report.hyperparameters.get("selection_accuracy")
    crossed = report.hyperparameters.get("select") == "cv"
    num_images = report.num_validation + (report.num_train if crossed else 0)
    if not isinstance(accuracy, int | float) or num_images == 0:
        return -1.0
    return wilson_interval(round(accuracy * num_images), num_images)[0]


@dataclass(frozen=True)
class Trained:
    """What a strategy left behind: its report, what its model carries of its making, and the model.

    `architecture` is that of a trained network, `thaw.models.neural.network.Architecture`; None for a linear model.
    """

    folder: Path
    report: Report
    record: dict[str, Any]
    model: Any
    architecture: Any = None

    @property
    def input_layer(self) -> str | None:
        """The layer whose activations a network is given; None where that is the image, and for other models."""
        return self.architecture.input_layer if self.architecture else None

    @property
    def frozen_layers(self) -> tuple[str, ...]:
        """The layers that the frozen network has to give, none where the model itself begins at the image."""
        if self.architecture:
            return (self.input_layer,) if self.input_layer else ()
        return tuple(str(self.record["layer"]).split("+"))


def read_trained(folder: Path) -> Trained:
    """Return what is in a result's folder, RUN/<name>; raises InputError as `load_classifier` does."""
    report = read_report(folder / "report.json")
    model, record, architecture = _read_model(folder, report)
    _check_record(folder, report, record)
    return Trained(folder, report, record, model, architecture)


def _read_model(folder: Path, report: Report) -> tuple[Any, dict[str, Any], Any]:
    """Return the model, its record, and a network's architecture."""
    if report.strategy not in NEURAL:
        path = folder / "model.skops"
        _check_there(path, report)
        return *load_model(path), None
    path = folder / "model.json"
    _check_there(path, report)
    from thaw.models.neural.network import load

    model, architecture, record = load(path)
    return model, record, architecture


def _check_there(path: Path, report: Report) -> None:
    if not path.exists():
        raise InputError(f"there is no model {path}; type: {remedy(path, report.strategy)}")


def _check_record(folder: Path, report: Report, record: dict[str, Any]) -> None:
    version = record.get("model_version")
    again = remedy(folder / "report.json", report.strategy)
    if version != MODEL_VERSION or any(name not in record for name in NEEDED):
        raise InputError(
            f"the model in {folder} is of version {version or 'unknown'} and this program reads version "
            f"{MODEL_VERSION}; train it again: {again}"
        )
    if fault := fault_of(record):
        raise InputError(f"the model in {folder} has a record that cannot be ({fault}); train it again: {again}")
    if record["decoding"] != DECODING:
        raise InputError(f"the model in {folder} was trained on pixels decoded by other rules; train it again: {again}")
    if record["class_names"] != report.class_names or record["strategy"] != report.strategy:
        raise InputError(f"the model in {folder} is not the one that its report.json tells of; train it again: {again}")


def frozen_weights(folder: Path, record: dict[str, Any], source: str | None = None) -> Weights:
    """Return the weights of the frozen network, from `source` where the training's own has moved.

    Raises InputError where they cannot be had or are others than those of the training.
    """
    weights = load_weights(source or record["weights"], get_backbone(record["backbone"]), record["seed"])
    if weights.sha256 != record["weights_sha256"]:
        raise InputError(
            f"the model in {folder} was trained on a network with the weights {record['weights_sha256'][:12]}..., and "
            f"those from {weights.source} are {weights.sha256[:12]}...; give the same file: --weights PATH"
        )
    return weights
