"""The features stage: a data set's images -> features.h5, on a GPU if there is one."""

import csv
import logging
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from features.backbones import get_backbone
from features.datasets import Dataset, load_dataset
from features.engines import KerasEngine, describe, resolve_device
from features.errors import InputError
from features.extraction import Extraction, Recipe
from features.preprocessing import pooled_shape
from features.store import FeatureFile
from features.weights import Weights, load_weights
from features.wholefiles import write_whole, writing_alone
from pipeline import split
from pipeline.config import Shared
from pipeline.progress import counting
from pipeline.rundir import another_run, write_run_settings

log = logging.getLogger("thaw")

# What a feature file records, and what has to agree before it is used again.
RECORDED = (
    *("dataset", "backbone", "weights_sha256", "image_size", "resize", "normalize", "pooling", "dtype", "layers"),
    *("dataset_sha256", "split_sha256"),
)
# The libraries whose versions may change a feature's value.
VALUE_LIBRARIES = ("tensorflow", "keras", "numpy", "pillow")


def main(settings: Shared, folder: Path | None = None, weights_from: str | None = None) -> Path:
    """Write `features.h5` into `folder` (the run directory unless given) and return its path.

    The network's weights are those of the run unless `weights_from` names others. A whole file of the same settings and
    images is left as it is; finished parts of an earlier call are gone on from.
    """
    path = (folder or settings.run_folder) / "features.h5"
    backbone = get_backbone(settings.backbone)
    backbone.check_image_size(settings.image_size)
    shapes = {
        name: pooled_shape(settings.pooling, backbone.output_shape(name, settings.image_size))
        for name in settings.layer_names
    }
    weights = load_weights(weights_from or settings.weights, backbone, settings.seed)
    dataset = load_dataset(settings.dataset, settings.data, settings.target, settings.max_pixels)
    sides = _prepare_run(settings, dataset)
    log.info("weights: %s (sha256 %s...)", weights.source, weights.sha256[:12])
    made_of = _made_of(settings, dataset, weights)
    if path.exists():
        check_features(path, made_of, settings.run_folder)
        log.info("%s is whole and up to date", path)
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with writing_alone(path):
        _extract(path, settings, dataset, sides, weights, shapes, made_of)
    log.info("wrote %s: %s", path, ", ".join(f"{name} {shape}" for name, shape in shapes.items()))
    return path


def _extract(
    path: Path,
    settings: Shared,
    dataset: Dataset,
    sides: np.ndarray,
    weights: Weights,
    shapes: dict[str, tuple[int, ...]],
    made_of: dict[str, Any],
) -> None:
    device = resolve_device(settings.device)
    libraries = {name: version(name) for name in VALUE_LIBRARIES}
    recipe = Recipe(
        settings.image_size,
        settings.resize,
        settings.normalize,
        settings.pooling,
        settings.dtype,
        shapes,
        record={**made_of, **libraries, "device": device, "engine": KerasEngine.name},
        skip_bad=settings.skip_bad,
    )
    extraction = Extraction(path, dataset, recipe, min(settings.batch_size, len(dataset.ids)))
    _run(extraction, settings, weights, device)
    recorded = {f"version_{name}": text for name, text in versions().items()}
    origin = {"weights_source": weights.source, "device": device, "engine": KerasEngine.name}
    skipped = extraction.join(sides, {**made_of, **origin, **recorded})
    _write_skipped(path.with_name("skipped.csv"), skipped)


def _prepare_run(settings: Shared, dataset: Dataset) -> np.ndarray:
    run = settings.run_folder
    run.mkdir(parents=True, exist_ok=True)
    if not (run / "run.json").exists():
        log.info("new run %s on %s", run, settings.dataset)
    sides = split.main(run, dataset, settings.seed)
    write_run_settings(settings)
    counts = np.bincount(sides, minlength=3)
    log.info(
        "%s: %d images, %d classes; %d train, %d validation, %d test",
        settings.dataset,
        len(dataset.ids),
        len(dataset.class_names),
        *counts,
    )
    return sides


def versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that a result depends on."""
    names = ("tensorflow", "keras", "scikit-learn", "numpy", "scipy", "h5py", "pillow")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


def settings_of(settings: Shared) -> dict[str, Any]:
    """Return what a feature file of these settings records of them."""
    names = ("dataset", "backbone", "image_size", "resize", "normalize", "pooling", "dtype")
    return {**{name: getattr(settings, name) for name in names}, "layers": ",".join(sorted(settings.layer_names))}


def _made_of(settings: Shared, dataset: Dataset, weights: Weights) -> dict[str, Any]:
    digests = {
        "weights_sha256": weights.sha256,
        "dataset_sha256": dataset.digest(),
        "split_sha256": split.digest(settings.run_folder),
    }
    return {**settings_of(settings), **digests}


def check_features(path: Path, expected: dict[str, Any], run: Path) -> None:
    """Raise InputError where the feature file at `path` was made from other settings, images or weights."""
    with FeatureFile(path) as features:
        received = features.attributes
    differing = [name for name in RECORDED if name in expected and received.get(name) != expected[name]]
    if differing:
        name = differing[0]
        raise InputError(
            f"{path} was made with another {name} ({received.get(name)}; now {expected[name]}); "
            f"remove it to extract again, or start another run: {another_run(run)}"
        )


def _run(extraction: Extraction, settings: Shared, weights: Weights, device: str) -> None:
    missing = extraction.missing()
    if not missing:
        return
    total = len(extraction.dataset.ids)
    todo = sum(extraction.part_size(start) for start in missing)
    if todo < total:
        log.info("going on: %d of %d images are done", total - todo, total)
    engine = KerasEngine(
        get_backbone(settings.backbone),
        weights,
        settings.layer_names,
        settings.image_size,
        extraction.batch_size,
        device,
    )
    log.info("engine: %s on %s; network %s:\n%s", engine.name, device, settings.backbone, describe(engine))
    with counting("features", todo) as advance:
        extraction.run(engine, advance)


def _write_skipped(path: Path, skipped: dict[str, str]) -> None:
    if not skipped:
        return
    with write_whole(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "reason"])
        writer.writerows(skipped.items())
    log.warning("%d image(s) could not be read and were skipped; %s names them", len(skipped), path)
