"""Save and load models; loading builds known types from their numbers and runs nothing that the file brings."""

import json
import zipfile
from pathlib import Path
from typing import Any

from thaw.features.errors import FILE_ERRORS, InputError
from thaw.features.files.atomic import whole_path

# The types in a model of ours that skops does not trust by itself.
TRUSTED = [
    "thaw.models.calibration.TemperatureScaled",
    "thaw.models.linear.LinearSVM",
    "thaw.models.linear.PowerNormalizer",
    "thaw.models.linear.SoftmaxRegression",
]


MODEL_VERSION = 3  # to be raised if the content of a model changes
RECORD = "record.json"


def save_model(path: Path, model: Any, record: dict[str, Any]) -> None:
    """Write a model and its record to one file, whole.

    The file is the zip of skops, with the record as one more member that can be read without skops.

    Args:
        path: the file.
        model: a fitted scikit-learn estimator.
        record: its settings, JSON values.
    """
    with whole_path(path) as temporary:
        skops_io().dump(model, temporary, compression=zipfile.ZIP_DEFLATED, compresslevel=1)
        with zipfile.ZipFile(temporary, "a") as archive:
            archive.writestr(RECORD, json.dumps(record))


def load_model(path: Path) -> tuple[Any, dict[str, Any]]:
    """Return (model, record) from `path`; raises InputError if it is damaged or holds other types than ours."""
    record, io = load_record(path), skops_io()
    try:
        model = io.load(path, trusted=TRUSTED)
    except io.exceptions.UntrustedTypesFoundException as error:
        raise InputError(f"{path} was refused, nothing in it was run: {error}; train the model again") from None
    except FILE_ERRORS as error:
        raise _unreadable(path, error) from None
    if not hasattr(model, "predict_proba"):
        raise _unreadable(path, f"it holds a {type(model).__name__}")
    return model, record


def load_record(path: Path) -> dict[str, Any]:
    """Return the record of the model at `path`; raises InputError if there is none."""
    try:
        with zipfile.ZipFile(path) as archive:
            return dict(json.loads(archive.read(RECORD)))
    except PermissionError:  # the command line says what to do
        raise
    except FILE_ERRORS as error:
        raise _unreadable(path, error) from None


def skops_io() -> Any:
    """Return skops.io, whose import takes more than a second."""
    import skops.io
    import skops.io.exceptions

    return skops.io


def _unreadable(path: Path, reason: object) -> InputError:
    message = " ".join(str(reason).split())[:300]
    return InputError(f"{path} is not a model that can be read ({message}); train the model again")
