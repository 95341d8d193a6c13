"""Data that lies in another place now: the run goes on with it if the images are the same."""

import logging
from collections.abc import Mapping
from typing import Any

from thaw.features.files.locks import held
from thaw.pipeline.config import PATH_KINDS, Common, Shared
from thaw.pipeline.run.data.dataset import dataset_of
from thaw.pipeline.run.data.images_csv import read_images, record_images
from thaw.pipeline.run.run_json import RunRecord, write_record

log = logging.getLogger("thaw")


def follow_move(settings: Common, stored: RunRecord | None) -> RunRecord | None:
    """Return what run.json says, with the place that the command line names if the same images lie there now.

    Every image is read, for the digest. Of other images, and of a run without images.csv, nothing is changed here.
    """
    if stored is None or "dataset" not in settings.model_fields_set or settings.dataset == stored.settings["dataset"]:
        return stored
    kinds = {word.partition(":")[0] for word in (settings.dataset, str(stored.settings["dataset"]))}
    record = read_images(settings.run_folder / "images.csv")
    if record is None or len(kinds) > 1 or not kinds <= set(PATH_KINDS):
        return stored
    moved: Mapping[str, Any] = {**stored.settings, "dataset": settings.dataset}
    dataset = dataset_of(Shared.model_validate({**moved, "run": settings.run_folder}))
    if dataset.digest() != record.digests[-1]:
        return stored
    log.info("the data moved from %s to %s: the same images", stored.settings["dataset"], settings.dataset)
    followed = RunRecord(moved, stored.feature_sets)
    with held(settings.run_folder / "run.json", wait=True):
        write_record(settings.run_folder, followed)
        record_images(settings.run_folder, dataset)
    return followed
