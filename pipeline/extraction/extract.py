"""The features stage: a data set's images -> features.h5, on a GPU if there is one."""

import csv
import logging
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from thaw.features.backbones.registry import get_backbone
from thaw.features.backbones.weights import Weights, load_weights
from thaw.features.datasets.dataset import Dataset, load_dataset
from thaw.features.engines.network import Network
from thaw.features.extraction import choice
from thaw.features.extraction.choice import choose_engine
from thaw.features.extraction.extraction import Extraction, parts_folder
from thaw.features.extraction.spec import Recipe
from thaw.features.files.atomic import write_whole
from thaw.features.files.locks import held
from thaw.features.pooling import layer_and_pooling, pooled_shape
from thaw.pipeline.cluster.client import connected
from thaw.pipeline.config import Shared
from thaw.pipeline.extraction.executors import Here, Maker, OnWorkers, Request
from thaw.pipeline.extraction.feature_files import Sample, Wanted, check_features, features_of
from thaw.pipeline.run import split_csv
from thaw.pipeline.run.run_json import check_same_run, write_run_settings
from thaw.pipeline.versions import versions

if TYPE_CHECKING:
    from distributed import Client

log = logging.getLogger("thaw")


def main(settings: Shared, wanted: Wanted | None = None) -> Path:
    """Write a feature file, the run's `features.h5` unless another is wanted, and return its path.

    A whole file of the same settings, images and weights is left as it is; finished parts of an earlier call are gone
    on from.
    """
    wanted = wanted or features_of(settings)
    get_backbone(settings.backbone).check_image_size(settings.image_size)
    with nullcontext() if wanted.path.exists() else connected(settings) as client:
        return _main(settings, wanted, client)


def _main(settings: Shared, wanted: Wanted, client: "Client | None") -> Path:
    backbone = get_backbone(settings.backbone)
    shapes = _shapes(settings, wanted)
    weights = load_weights(wanted.weights, backbone, settings.seed)
    dataset = (
        wanted.sample.dataset
        if wanted.sample
        else load_dataset(settings.dataset, settings.data, settings.target, settings.max_pixels)
    )
    if not wanted.path.exists() and client is None:
        choose_engine(wanted.engine, settings.device, settings.engine_precision)  # what cannot be leaves no run behind
    if wanted.sample:
        sides = wanted.sample.sides
    else:
        sides = _prepare_run(settings, dataset)
        log.info("weights: %s (sha256 %s...)", weights.source, weights.sha256[:12])
    made_of = {
        **wanted.settings(settings),
        "weights_sha256": weights.sha256,
        "dataset_sha256": dataset.digest(),
        "split_sha256": split_csv.digest(settings.run_folder),
    }
    if _is_there(settings, wanted, made_of):
        return wanted.path
    wanted.path.parent.mkdir(parents=True, exist_ok=True)
    with held(wanted.path, wait=True):
        if _is_there(settings, wanted, made_of):  # by the process that this one waited for
            return wanted.path
        skipped = _extract(settings, wanted, Sample(dataset, sides), weights, Made(shapes, made_of, client))
        _write_skipped(wanted.path.with_name("skipped.csv"), skipped)
    if not wanted.sample:
        log.info("wrote %s: %s", wanted.path, ", ".join(f"{name} {shape}" for name, shape in shapes.items()))
    return wanted.path


def _is_there(settings: Shared, wanted: Wanted, made_of: dict[str, Any]) -> bool:
    """Return whether the file is there; raises InputError where it was made of anything else."""
    if not wanted.path.exists():
        return False
    check_features(wanted.path, made_of, settings.run_folder)
    if not wanted.sample:
        log.info("%s is whole and up to date", wanted.path)
    return True


def _shapes(settings: Shared, wanted: Wanted) -> dict[str, tuple[int, ...]]:
    """Return the shape of one image's features by the name that the file has them under."""
    backbone, shapes = get_backbone(settings.backbone), {}
    for name in wanted.layers:
        layer, pooling = layer_and_pooling(name, wanted.pooling)
        shapes[name] = pooled_shape(pooling, backbone.output_shape(layer, settings.image_size))
    return shapes


def ready_features(settings: Shared) -> Path:
    """Return the path of the run's `features.h5`, extracted if it is not there, without looking at the images if it is.

    Raises InputError where it was made from other settings or another split.
    """
    wanted = features_of(settings)
    if not wanted.path.exists():
        return main(settings, wanted)
    expected = {**wanted.settings(settings), "split_sha256": split_csv.digest(settings.run_folder)}
    check_features(wanted.path, expected, settings.run_folder)
    return wanted.path


@dataclass(frozen=True)
class Made:
    """The shape of one image's features by layer, all that determines their values, and the cluster, if any."""

    shapes: dict[str, tuple[int, ...]]
    of: dict[str, Any]
    client: "Client | None" = None


def _extract(settings: Shared, wanted: Wanted, images: Sample, weights: Weights, made: Made) -> dict[str, str]:
    dataset = images.dataset
    recipe = Recipe(
        settings.image_size,
        settings.resize,
        settings.normalize,
        wanted.pooling,
        wanted.dtype,
        made.shapes,
        record=made.of,
        skip_bad=settings.skip_bad,
        flip=wanted.flip,
    )
    layers = tuple(dict.fromkeys(layer_and_pooling(name, wanted.pooling)[0] for name in wanted.layers))
    network = Network(get_backbone(settings.backbone), weights, layers, settings.image_size, settings.engine_precision)
    batch_size = min(settings.batch_size, len(dataset.ids))
    maker = OnWorkers(network, made.client) if made.client else Here(network)
    request = Request(
        wanted.engine,
        settings.device,
        wanted.weights,
        settings.seed,
        batch_size,
        parts_folder(wanted.path, settings.parts),
        dataset,
        pictures=None if wanted.sample else partial(choice.some_pictures, dataset, recipe),
    )
    engine, device = maker.choose(request)
    libraries = choice.library_versions(engine)
    used = {"device": device, "engine": engine}
    recipe = replace(recipe, record={**made.of, **libraries, **used})
    extraction = Extraction(wanted.path, dataset, recipe, batch_size, settings.parts)
    _run(extraction, maker, wanted.sample is not None)
    recorded = {f"version_{name}": text for name, text in {**versions(), **libraries}.items()}
    return extraction.join(images.sides, {**made.of, "weights_source": weights.source, **used, **recorded})


def _prepare_run(settings: Shared, dataset: Dataset) -> np.ndarray:
    run = settings.run_folder
    run.mkdir(parents=True, exist_ok=True)
    if not (run / "run.json").exists():
        log.info("new run %s on %s", run, settings.dataset)
    with held(run / "run.json", wait=True):  # both files, since each says what the other is of
        check_same_run(settings)
        sides = split_csv.main(run, dataset, settings.seed)
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


def _run(extraction: Extraction, maker: Maker, quiet: bool) -> None:
    missing = extraction.missing()
    if not missing:
        return
    total = len(extraction.dataset.ids)
    todo = sum(extraction.part_size(start) for start in missing)
    if todo < total:
        log.info("going on: %d of %d images are done", total - todo, total)
    maker.run(extraction, todo, quiet)


def _write_skipped(path: Path, skipped: dict[str, str]) -> None:
    if not skipped:
        return
    with write_whole(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "reason"])
        writer.writerows(skipped.items())
    log.warning("%d image(s) could not be read and were skipped; %s names them", len(skipped), path)
