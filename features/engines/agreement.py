"""Is an engine's output Keras' own? Measured once on a machine, and the verdict kept in the user's cache folder."""

import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from thaw.features.files.atomic import write_whole
from thaw.features.images.preprocess import normalize

LIMIT = 1e-3  # relative L2 norm of the difference, the worst image and layer
NUM_NOISE = 4

Forward = Callable[[np.ndarray], dict[str, np.ndarray]]


def verdicts_folder() -> Path:
    """Return the folder of the verdicts: `thaw/engines` in XDG_CACHE_HOME, or in ~/.cache if that is not set."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if Path(base).is_absolute() else Path("~/.cache").expanduser()) / "thaw" / "engines"


def relative_error(received: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest relative L2 error of an image of `expected` (n, H, W, C); 0 or inf if that is zero."""
    difference = np.linalg.norm((received - expected).reshape(len(expected), -1).astype(np.float64), axis=1)
    norms = np.linalg.norm(expected.reshape(len(expected), -1).astype(np.float64), axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        errors = np.where((difference == 0) & (norms == 0), 0.0, difference / norms)
    return float(errors.max())


def compare(engine: Forward, reference: Forward, images: np.ndarray, batch_size: int) -> float:
    """Return the largest relative L2 error over `images` (n, S, S, 3), network input, and over the layers."""
    errors = []
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size]
        received, expected = engine(batch), reference(batch)
        errors += [relative_error(received[name], expected[name]) for name in expected]
    return float(np.max(errors))  # a NaN stays one


def noise(image_size: int, method: str = "caffe") -> np.ndarray:
    """Return a few seeded images of noise, float32 (n, S, S, 3), in the range of that normalisation."""
    shape, generator = (NUM_NOISE, image_size, image_size, 3), np.random.default_rng(0)
    if method == "caffe":
        return generator.uniform(-124, 152, shape).astype(np.float32)
    return normalize(generator.uniform(0, 255, shape), method)


def kept_or_measured(made_for: Mapping[str, Any], measure: Callable[[], float]) -> float:
    """Return the relative error that is kept for `made_for`, or measure it and keep it.

    A verdict that cannot be read, or is another's, is measured again; one that cannot be written is measured each time.
    """
    digest = hashlib.sha256(json.dumps(made_for, sort_keys=True).encode()).hexdigest()
    path = verdicts_folder() / f"{digest}.json"
    error = _read(path, made_for)
    if error is None:
        error = measure()
        if math.isfinite(error):
            _keep(path, made_for, error)
    return error


def _read(path: Path, made_for: Mapping[str, Any]) -> float | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        error, same = content["relative_error"], content["made_for"] == made_for
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return error if same and isinstance(error, float) and math.isfinite(error) and error >= 0 else None


def _keep(path: Path, made_for: Mapping[str, Any], error: float) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with write_whole(path) as file:
            json.dump({"made_for": made_for, "relative_error": error}, file, indent=2)
    except OSError:
        return  # a home that is full or may not be written to costs seconds, not the run
