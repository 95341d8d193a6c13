"""Save and load models; loading builds known types from their numbers and runs nothing that the file brings."""

import zipfile
from pathlib import Path
from typing import Any

import skops.io
from skops.io.exceptions import UntrustedTypesFoundException

from features.store import InputError, whole_path

# What a model of ours consists of beyond the types that skops trusts by itself.
TRUSTED = [
    "models.calibration.TemperatureScaled",
    "models.linear.LinearSVM",
    "models.linear.PowerNormalizer",
    "models.linear.SoftmaxRegression",
]


def save_model(path: Path, model: Any, record: dict[str, Any]) -> None:
    """Write `model` (a fitted scikit-learn estimator) and its `record` (settings, JSON values) to `path`, whole."""
    with whole_path(path) as temporary:
        skops.io.dump({"model": model, "record": record}, temporary, compression=zipfile.ZIP_DEFLATED, compresslevel=1)


def load_model(path: Path) -> tuple[Any, dict[str, Any]]:
    """Return (model, record) from `path`; raises InputError where it is damaged or holds other types than ours."""
    try:
        content = skops.io.load(path, trusted=TRUSTED)
        return content["model"], content["record"]
    except UntrustedTypesFoundException as error:
        raise InputError(f"{path} was refused, nothing in it was run: {error}; train the model again") from None
    except (OSError, zipfile.BadZipFile, KeyError, ValueError, TypeError) as error:
        raise InputError(f"{path} is not a model that can be read ({error}); train the model again") from None
