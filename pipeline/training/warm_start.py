"""The linear probe that tuned fine-tuning begins from: chosen on validation images, fitted to training images only."""

import json
import logging
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from thaw.features.backbones.registry import get_backbone
from thaw.features.errors import FILE_ERRORS, InputError
from thaw.features.files.atomic import write_whole
from thaw.features.pooling import resolve_pooling
from thaw.features.store import FeatureFile
from thaw.models.neural.probe import Probe, ProbeShape, from_fitted
from thaw.models.selection.final_fit import final_fit
from thaw.models.selection.search import Trial, best_trial
from thaw.models.strategies import STRATEGIES
from thaw.pipeline.config import Finetune, Linear
from thaw.pipeline.run.report_json import Report, read_report
from thaw.pipeline.run.run_json import shared_settings
from thaw.pipeline.training.linear_choice import Rows, try_all, validation_fold

log = logging.getLogger("thaw")

LOGREG = STRATEGIES["logreg"]


@dataclass(frozen=True)
class WarmStart:
    """A fitted probe.

    Attributes:
        shape: where it sits.
        probe: its numbers.
        value: its C.
        chosen_by: what chose its layer, transform and C.
        seconds: what the choice and the fit took.
    """

    shape: ProbeShape
    probe: Probe
    value: float
    chosen_by: str
    seconds: float

    @property
    def setting(self) -> dict[str, Any]:
        """What its numbers follow from, besides the features."""
        return {**asdict(self.shape), "C": self.value}

    @property
    def record(self) -> dict[str, Any]:
        """What the report says of it."""
        return {**self.setting, "chosen_by": self.chosen_by}


def warm_start(settings: Finetune, features: FeatureFile, input_layer: str | None, folder: Path) -> WarmStart | None:
    """Return the probe for a network that begins at `input_layer`, None if it is to begin without.

    Layer and C are those of the run's `logreg` if its layer is usable; otherwise they are chosen on the validation
    split. A probe that an interrupted call has fitted is read from `folder`.
    """
    if settings.probe_layer == "none":
        return None
    usable = {name: transforms_of(name, input_layer) for name in _usable_layers(settings, features, input_layer)}
    if not usable:
        log.info("no layer of the feature set lies above the cut: fine-tuning begins without a probe")
        return None
    path = folder / "probe.npz"
    made_for = {"usable": usable, "class_weight": settings.class_weight}
    made_for["features"] = features.attributes["values_sha256"]
    if start := _read(path, made_for):
        return start
    began = time.perf_counter()
    found = _from_logreg(settings, features, usable)
    trial, chosen_by = found or (_choose(settings, features, usable), "the validation split")
    start = fitted_start(settings, features, trial, chosen_by)
    start = replace(start, seconds=time.perf_counter() - began)
    _write(path, start, made_for)
    return start


def fitted_start(settings: Finetune, features: FeatureFile, trial: Trial, chosen_by: str) -> WarmStart:
    """Return the probe with the layer, transform and C of a trial, fitted to the training images."""
    began = time.perf_counter()
    log.info("fitting the probe: logistic regression on %s, C %g, training images only", trial.layer, trial.value)
    rows = Rows(_linear_settings(settings), features, features.split == 0, [], [], "validation")
    fit = final_fit(LOGREG, trial, rows.load(trial.layer, trial.transform), rows.labels, [], rows.options)
    probe = from_fitted(fit.model, len(features.class_names))
    shape = ProbeShape(trial.layer, _pooling(settings, features, trial.layer), trial.transform)
    return WarmStart(shape, probe, trial.value, chosen_by, time.perf_counter() - began)


def _usable_layers(settings: Finetune, features: FeatureFile, input_layer: str | None) -> list[str]:
    """Return the layers of the feature set that the network passes, or the one that --probe-layer names."""
    names = [layer.name for layer in get_backbone(settings.backbone).layers]
    first = names.index(input_layer) if input_layer else 0
    usable = [name for name in names[first:] if name in features.layers]
    if settings.probe_layer == "auto":
        return usable
    if settings.probe_layer not in usable:
        raise InputError(
            f"--probe-layer {settings.probe_layer}: expected one of {', '.join(usable) or 'none here'}, the layers of "
            f"the feature set from {input_layer or 'the image'} on; or type --probe-layer none"
        )
    return [settings.probe_layer]


def _linear_settings(settings: Finetune) -> Linear:
    own = {"class_weight": settings.class_weight, "jobs": 1, "select": "validation"}  # one fit at a time
    return Linear.model_validate({**shared_settings(settings).model_dump(), **own})


def transforms_of(layer: str, input_layer: str | None) -> list[str]:
    """Return the transforms that a probe may have; the slope of the square root at 0 allows no training through it."""
    return ["none", "sqrt"] if layer == input_layer else ["none"]


def _from_logreg(settings: Finetune, features: FeatureFile, usable: dict[str, list[str]]) -> tuple[Trial, str] | None:
    """Return the best that a `logreg` of the run tried on these features, and its report's path within the run.

    It is None if it tried none of these layers and transforms.
    """
    for name in ("logreg", f"logreg-{settings.feature_set}"):
        path = settings.run_folder / name / "report.json"
        if not path.exists():
            continue
        report = read_report(path)
        trained_on = (features.attributes["values_sha256"], settings.class_weight)
        if (report.features_sha256, report.hyperparameters.get("class_weight")) != trained_on:
            continue
        tried = [Trial(**one) for one in _tried(report) if one["transform"] in usable.get(one["layer"], [])]
        if tried:
            return _as_reported(report, best_trial(tried)), f"{name}/report.json"
    return None


def _as_reported(report: Report, best: Trial) -> Trial:
    """Return the best trial of a report with the C that the report chose, if that is of its layer and transform."""
    chosen: Any = report.hyperparameters
    own = (best.layer, best.transform) == (report.layer, chosen["transform"])
    return replace(best, value=chosen["C"], accuracy=chosen["selection_accuracy"]) if own else best


def _tried(report: Report) -> list[dict[str, Any]]:
    """Return what a logistic regression tried on the feature set that it chose, as the fields of `Trial`."""
    tried: Any = report.hyperparameters["tried"]
    own = [one for one in tried if one["features"] == report.features]
    return [{"value": one["C"], **{name: one[name] for name in ("layer", "transform", "accuracy")}} for one in own]


def _choose(settings: Finetune, features: FeatureFile, usable: dict[str, list[str]]) -> Trial:
    """Return the best layer, transform and C on the validation split."""
    mask = features.split != 2
    fold = validation_fold(features.split[mask])
    rows = Rows(_linear_settings(settings), features, mask, fold, fold, "validation")
    return best_trial(try_all(rows, LOGREG, usable))


def _pooling(settings: Finetune, features: FeatureFile, layer: str) -> str:
    """Return how the probe pools the layer, in the words of ProbeShape."""
    shape = get_backbone(settings.backbone).output_shape(layer, settings.image_size)
    resolved = resolve_pooling(str(features.attributes["pooling"]), shape)
    return {"none": "flat", "avg": "grid1"}.get(resolved, resolved)


def _write(path: Path, start: WarmStart, made_for: dict[str, Any]) -> None:
    content: dict[str, Any] = {"made_for": made_for, "shape": asdict(start.shape)}
    content |= {"value": start.value, "chosen_by": start.chosen_by, "seconds": start.seconds}
    with write_whole(path, "wb") as file:
        np.savez(file, content=np.array(json.dumps(content)), **asdict(start.probe))


def _read(path: Path, made_for: dict[str, Any]) -> WarmStart | None:
    """Return the probe of an interrupted call, None if it is of other settings or cannot be read."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            content = json.loads(str(arrays["content"]))
            if content.pop("made_for") != made_for:
                return None
            probe = Probe(**{name: arrays[name] for name in ("mean", "scale", "kernel", "bias")})
        return WarmStart(ProbeShape(**content.pop("shape")), probe, **content)
    except FILE_ERRORS:
        return None
