"""Rows that a run beside has made already of the same images: another seed or split takes them, extracts nothing."""

import logging
from collections.abc import Iterator
from pathlib import Path

from thaw.features.errors import InputError
from thaw.features.extraction.extraction import Extraction
from thaw.features.extraction.spec import FeatureRequest
from thaw.features.store import FeatureFile
from thaw.pipeline.config import FORMER
from thaw.pipeline.extraction.feature_files import RECORDED

log = logging.getLogger("thaw")

OF_THE_RUN = ("dataset", "split_sha256")  # what differs between runs and does not change a feature


def copy_from_beside(request: FeatureRequest) -> bool:
    """Write the feature file of a request from one of a run beside its run, if one has all its rows; say whether.

    The images, by their digest, the weights and every setting that changes a feature have to be the same.
    """
    for path in _candidates(request):
        try:
            with FeatureFile(path) as made:
                if not _has_all(made, request):
                    continue
                Extraction(request).copy(made, {name: request.record[name] for name in OF_THE_RUN})
        except InputError as error:
            log.info("%s is not used: %s", path, error)
            continue
        log.info("took all %d rows of %s: the same images, network and settings", len(request.dataset.ids), path)
        return True
    return False


def _candidates(request: FeatureRequest) -> Iterator[Path]:
    """Yield the files of the runs beside the request's that have the same name in their run."""
    run = request.run.absolute()
    name = request.path.absolute().relative_to(run)
    yield from (path for path in sorted(run.parent.glob(f"*/{name}")) if path != run / name and path.is_file())


def _has_all(made: FeatureFile, request: FeatureRequest) -> bool:
    needed = [name for name in RECORDED if name in request.record and name not in OF_THE_RUN]
    same = all({**FORMER, **made.attributes}.get(name) == request.record[name] for name in needed)
    return same and made.ids == list(request.dataset.ids) and set(request.layers.shapes) == set(made.layers)
