"""A feature file follows its images: rows of those that are as they were are taken over, new ones are extracted."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np

from thaw.features.extraction.extraction import DIGESTS, Extraction
from thaw.features.extraction.spec import FeatureRequest
from thaw.features.schema import row_blocks, stored_row_bytes
from thaw.features.store import FeatureFile
from thaw.pipeline.extraction.feature_files import RECORDED
from thaw.pipeline.run.data.images_csv import read_images

log = logging.getLogger("thaw")

FOLLOWS = frozenset({"dataset", "dataset_sha256", "split_sha256"})  # what differs if images changed or moved since


def update_rows(request: FeatureRequest, extract: Callable[[FeatureRequest], object]) -> None:
    """Write the feature file of a request anew if images changed since it was made; leave any other file alone.

    Args:
        request: all images as they are now, and the path of a file that is there.
        extract: makes the file of a request for the new images alone.
    """
    with FeatureFile(request.path) as made:
        differing = _differing(made, request)
        if "dataset_sha256" not in differing or not differing <= FOLLOWS:
            return
        record = read_images(request.run / "images.csv")
        changed = record.changed_since(str(made.attributes["dataset_sha256"])) if record else None
        if changed is None:  # which images are as they were is not known
            return
        old = {name: row for row, name in enumerate(made.ids) if name not in changed}
        new = [row for row, name in enumerate(request.dataset.ids) if name not in old]
        log.info("%s: %d of %d images are new and are extracted", request.path, len(new), len(request.dataset.ids))
        if not new:
            _join(request, made, old, None)
            return
        part = _request_of(replace(request, engine=str(made.attributes["engine"])), new)
        extract(part)
        with FeatureFile(part.path) as added:
            _join(request, made, old, added)
        part.path.unlink()


def _differing(made: FeatureFile, request: FeatureRequest) -> set[str]:
    return {name for name in RECORDED if name in request.record and made.attributes.get(name) != request.record[name]}


def _request_of(request: FeatureRequest, rows: list[int]) -> FeatureRequest:
    """Return the request for the images at `rows` alone, in a file of its own beside."""
    path = request.path.with_name(f".{request.path.stem}-new.h5")
    return replace(
        request,
        path=path,
        folder=path.absolute().with_name(f"{path.name}.parts"),
        dataset=request.dataset.take(rows),
        split=request.split[rows],
        batch_size=min(request.batch_size, len(rows)),
        is_sample=True,
    )


def _join(request: FeatureRequest, made: FeatureFile, old: dict[str, int], added: FeatureFile | None) -> None:
    """Write the file of all images that have a row in one of two files, in the order of the dataset."""
    new = {name: row for row, name in enumerate(added.ids)} if added else {}
    rows = np.array([row for row, name in enumerate(request.dataset.ids) if name in old or name in new], np.int64)
    names = [request.dataset.ids[row] for row in rows]
    same = {name: value for name, value in made.attributes.items() if name not in DIGESTS}

    def fill(file: h5py.File) -> None:
        for layer in request.layers.shapes:
            stored = file[f"features/{layer}"]
            for block in row_blocks(len(names), stored_row_bytes(stored)):
                values = np.empty((block.stop - block.start, *stored.shape[1:]), stored.dtype)
                for source, known in ((made, old), (added, new)):
                    places = {k: known[name] for k, name in enumerate(names[block]) if name in known}
                    if source is not None and places:
                        values[list(places)] = _rows_of(source, layer, list(places.values()))
                stored[block] = values

    Extraction(request).write_rows(rows, {**same, **{name: request.record[name] for name in FOLLOWS}}, fill)


def _rows_of(source: FeatureFile, layer: str, rows: list[int]) -> np.ndarray:
    """Return rows of a layer in the order asked for."""
    order = np.argsort(rows)
    values = source.read_rows(layer, np.array(rows)[order])
    return values[np.argsort(order)]


def is_behind(path: Path, run: Path) -> bool:
    """Return whether a feature file is of images as they were before a change that the run has followed since."""
    record = read_images(run / "images.csv")
    if record is None or len(record.digests) < 2:
        return False
    with FeatureFile(path) as made:
        return made.attributes.get("dataset_sha256") in record.digests[:-1]
