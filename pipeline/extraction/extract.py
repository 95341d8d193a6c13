"""The features stage: a dataset's images -> a feature set, on a GPU if there is one."""

import logging
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from thaw.features.backbones.image_size import expected_seconds
from thaw.features.backbones.registry import get_backbone
from thaw.features.datasets.dataset import Dataset
from thaw.features.extraction.choice import choose_engine, library_versions
from thaw.features.extraction.extraction import Extraction
from thaw.features.extraction.spec import FeatureRequest
from thaw.features.files.locks import held
from thaw.features.foreign.extractors import engines_of, get_extractor, is_foreign
from thaw.pipeline.cluster.client import connected
from thaw.pipeline.config import RUN_FIELDS, SET_FIELDS, Features, Shared
from thaw.pipeline.extraction.changed_images import is_behind, update_rows
from thaw.pipeline.extraction.executors import ClusterExecutor, Executor, LocalExecutor
from thaw.pipeline.extraction.feature_files import FeatureSet, check_features, megabytes_of
from thaw.pipeline.extraction.runs_beside import copy_from_beside
from thaw.pipeline.formatting import duration
from thaw.pipeline.memory import check_image_memory
from thaw.pipeline.run import split_csv
from thaw.pipeline.run.data.dataset import dataset_of, readable_dataset
from thaw.pipeline.run.data.images_csv import record_images
from thaw.pipeline.run.data.skipped_csv import write_skipped
from thaw.pipeline.run.run_json import check_agrees, read_run, shared_settings, write_run
from thaw.pipeline.terminal import console_for, say
from thaw.pipeline.versions import versions

if TYPE_CHECKING:
    from distributed import Client

log = logging.getLogger("thaw")


def main(settings: Features) -> Path | None:
    """Make the feature set and return its path; with `dry_run` say what would be done and return None."""
    if not settings.dry_run:
        return extract(shared_settings(settings))
    extractor, num_images = get_extractor(settings.backbone, settings.weights), len(dataset_of(settings).ids)
    extractor.check_image_size(settings.image_size)
    minutes = ""
    if not is_foreign(settings.backbone):
        seconds = expected_seconds(get_backbone(settings.backbone), settings.image_size, num_images)
        minutes = f"about {duration(settings.num_views * seconds)} here without a GPU, "
    say(
        console_for(),
        f"Plan: {num_images:,} images through {settings.backbone} at {settings.image_size} pixels into the feature set "
        f"{settings.feature_set} ({', '.join(settings.layer_names)}): {minutes}"
        f"{megabytes_of(settings, num_images):,.0f} MB of disk.",
    )
    return None


def extract(settings: Shared, feature_set: FeatureSet | None = None, follow: bool = True) -> Path:
    """Write a feature file of all images, that of the feature set unless another is given, and return its path.

    A whole file of the same settings, images and weights is left as it is; finished parts of an earlier call are used.
    If images changed since, the split follows them, and of the feature set's file the new ones alone are extracted; not
    with another feature set, or without `follow`.
    """
    wanted = feature_set or FeatureSet(settings)
    extractor = get_extractor(settings.backbone, wanted.settings.weights)
    extractor.check_image_size(settings.image_size)
    if not settings.cluster:  # whose machines may have more
        check_image_memory(settings, extractor, settings.batch_size)
    with nullcontext() if wanted.path.exists() else connected(settings) as client:
        network = wanted.network()
        wanted.layers(network)  # raises InputError before a run is begun
        dataset = readable_dataset(settings)
        if not wanted.path.exists() and client is None:  # what cannot be leaves no run behind
            asked = (wanted.settings.engine, settings.device, settings.engine_precision)
            choose_engine(*asked, engines_of(extractor))
        split = begin_run(settings, dataset, update=follow and feature_set is None)
        log.info("weights: %s (sha256 %s...)", network.weights.source, network.weights.sha256[:12])
        request = wanted.request(dataset, split, network)
        if request.path.exists():
            update_rows(request, lambda part: _extract(part, ClusterExecutor(client) if client else LocalExecutor()))
        return make_features(request, client)


def ready_features(settings: Shared) -> Path:
    """Return the path of a feature set's file, extracted if it is not there, without looking at the images if it is.

    Raises InputError if it was made from other settings or another split.
    """
    wanted = FeatureSet(settings)
    if not wanted.path.exists() or is_behind(wanted.path, settings.run_folder):
        return extract(settings, follow=False)
    expected = {**wanted.record(), "split_sha256": split_csv.digest(settings.run_folder)}
    check_features(wanted.path, expected, settings.run_folder)
    return wanted.path


def make_features(request: FeatureRequest, client: "Client | None" = None) -> Path:
    """Make the feature file that is requested, here or by the workers of a cluster, unless it is there."""
    if _is_there(request):
        return request.path
    request.path.parent.mkdir(parents=True, exist_ok=True)
    with held(request.path, wait=True):
        if _is_there(request):  # by the process that this one waited for
            return request.path
        skipped = _extract(request, ClusterExecutor(client) if client else LocalExecutor())
        write_skipped(request.run / "skipped.csv", skipped)
    if not request.is_sample:
        shapes = ", ".join(f"{name} {shape}" for name, shape in request.layers.shapes.items())
        log.info("wrote %s: %s", request.path, shapes)
    return request.path


def _is_there(request: FeatureRequest) -> bool:
    """Return whether the file is there; raises InputError if it was made of anything else."""
    if not request.path.exists():
        return False
    check_features(request.path, request.record, request.run)
    if not request.is_sample:
        log.info("%s is whole and up to date", request.path)
    return True


def _extract(request: FeatureRequest, executor: Executor) -> dict[str, str]:
    """Make the missing parts and join all of them; return the skipped images, id -> reason."""
    if not request.is_sample and copy_from_beside(request):
        return {}
    record, request = request.record, executor.choose(request)
    libraries = library_versions(request.engine)
    used = {"device": request.device, "engine": request.engine}
    extraction = Extraction(replace(request, record={**record, **libraries, **used}))
    if missing := extraction.missing():
        total, todo = extraction.num_images, sum(len(extraction.rows(start)) for start in missing)
        if todo < total:
            log.info("going on: %d of %d images are done", total - todo, total)
        executor.run(extraction, todo)
    recorded = {f"version_{name}": text for name, text in {**versions(), **libraries}.items()}
    return extraction.join({**record, "weights_source": request.network.weights.source, **used, **recorded})


def begin_run(settings: Shared, dataset: Dataset, with_set: bool = True, update: bool = False) -> np.ndarray:
    """Write run.json and split.csv, or check them, and return the split of each image, uint8 (N,).

    Args:
        settings: of the run and of a feature set.
        dataset: the images.
        with_set: whether run.json gets the feature set too.
        update: whether split.csv follows images that changed since it was drawn.
    """
    run = settings.run_folder
    run.mkdir(parents=True, exist_ok=True)
    if not (run / "run.json").exists():
        log.info("new run %s on %s", run, settings.dataset)
    with held(run / "run.json", wait=True):  # both files, since each says what the other is of
        check_agrees(settings, read_run(run), (*RUN_FIELDS, *(SET_FIELDS if with_set else ())))
        is_new = not split_csv.is_used(run)
        if update:
            split_csv.update(run, dataset)
        split = split_csv.main(run, dataset, settings.seed)
        write_run(settings, with_set)
        if is_new:
            write_skipped(run / "skipped.csv", dict(dataset.skipped))
        if is_new or update:
            record_images(run, dataset)
    for note in dataset.notes:
        log.info("%s", note)
    for gap in split_csv.gaps(dataset, split):
        log.warning("%s", gap)
    counts = np.bincount(split, minlength=3)
    log.info(
        "%s: %d images, %d classes; %d train, %d validation, %d test",
        *(settings.dataset, len(dataset.ids), len(dataset.class_names), *counts),
    )
    return split
