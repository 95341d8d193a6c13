"""The results of a run that can label images: finding one, and checking what its model records."""

import logging
from pathlib import Path
from typing import Any

from thaw.features.errors import InputError
from thaw.features.images.decode import DECODING
from thaw.models.artifacts import MODEL_VERSION
from thaw.models.metrics import wilson_interval
from thaw.pipeline.run.model_record import ModelRecord, RecordKind, invalid_field, needed
from thaw.pipeline.run.report_json import BASELINES, Report, read_report, remedy

log = logging.getLogger("thaw")


def find_result(run_folder: Path, name: str) -> Path:
    """Return the folder of a result by its name; `best` is the most accurate one on images that are not test images.

    Some results were judged by cross-validation on all of these images, some on the few of the validation split: the
    lower end of each accuracy's 95 % interval counts. Raises InputError if the run has no such model.
    """
    reports = [read_report(path) for path in sorted(run_folder.glob("*/report.json"))]
    usable = {report.name: report for report in reports if report.model_bytes}
    if not usable:
        raise InputError(f"{run_folder} has no trained model; type make svm RUN={run_folder}, or another strategy")
    if name != "best" and name in usable:
        return run_folder / name
    if name != "best":
        path, expected = run_folder / name / "report.json", ", ".join(usable)
        if path.parent.is_dir() and not path.exists():
            raise InputError(f"{path} is gone or was never written; train it again, or choose best or {expected}")
        raise InputError(f"{run_folder} has no model {name!r}; expected best or one of {expected}")
    candidates = [report for report in usable.values() if report.strategy not in BASELINES] or list(usable.values())
    best = max(candidates, key=_least_accuracy).name
    log.info(
        "model: %s, the best of %s on held-out images that are not test (--strategy NAME takes another, or --name NAME "
        "in an export)",
        *(best, ", ".join(report.name for report in candidates)),
    )
    return run_folder / best


def _least_accuracy(report: Report) -> float:
    """Return the lower end of the interval of the accuracy that chose a result's settings; -1 without one."""
    accuracy = report.hyperparameters.get("selection_accuracy")
    crossed = report.hyperparameters.get("select") == "cv"
    num_images = report.num_validation + (report.num_train if crossed else 0)
    if not isinstance(accuracy, int | float) or num_images == 0:
        return -1.0
    return wilson_interval(round(accuracy * num_images), num_images)[0]


def check_record(path: Path, report: Report, record: dict[str, Any], kind: RecordKind = ModelRecord) -> None:
    """Raise InputError if a model's record does not let it label images, or is not the report's.

    Args:
        path: of the model.
        report: of the result.
        record: the record in the model's file.
        kind: what the record has to be.
    """
    if error := _record_error(report, record, kind):
        again = remedy(path, report.strategy)
        raise InputError(f"the model in {path.parent} {error}; train it again: {again}")


def _record_error(report: Report, record: dict[str, Any], kind: RecordKind) -> str | None:
    version = record.get("model_version")
    if version != MODEL_VERSION or any(name not in record for name in needed(kind)):
        return f"is of version {version or 'unknown'} and this program reads version {MODEL_VERSION}"
    if invalid := invalid_field(record, kind):
        return f"has an invalid record ({invalid})"
    if any(one.get("decoding", DECODING) != DECODING for one in (record, *record.get("sets", ()))):
        return "was trained on pixels decoded by other rules"
    if record["class_names"] != report.class_names or record["strategy"] != report.strategy:
        return "is not the model of its report.json"
    return None
