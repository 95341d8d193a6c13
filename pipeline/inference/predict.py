"""Stage `predict`: label new images by a model of a run, with probabilities, in constant memory."""

import logging
import sys
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TextIO

import numpy as np
from threadpoolctl import threadpool_limits

from thaw.features.errors import InputError
from thaw.features.prefetch import Behind, load_ahead
from thaw.pipeline.config import Predict
from thaw.pipeline.inference.classifier import Classifier
from thaw.pipeline.inference.inputs import list_images
from thaw.pipeline.inference.loading import load_classifier
from thaw.pipeline.inference.trained import find_result
from thaw.pipeline.inference.writers import FORMATS, Answer

log = logging.getLogger("thaw")


@dataclass(frozen=True)
class _ImageBatch:
    """Some images: network input of the n that can be read, as `Classifier.read` has it, and the others' errors."""

    paths: list[Path]
    inputs: np.ndarray
    errors: dict[int, str]


def main(settings: Predict, lines: Iterable[str] | None = None, out: TextIO | None = None) -> int:
    """Label the images that the settings name, write a line for each to `out`, and return how many cannot be read.

    Lines come in the order of the images, as soon as their batch is labelled. An image that cannot be read is a line of
    its own and does not end the stage. Raises InputError if the model cannot be used or a folder holds no image.
    """
    folder = find_result(settings.run_folder, settings.strategy)
    paths = list_images(settings.images, sys.stdin if lines is None else lines)
    first = next(paths)  # a missing image is an error before the model is loaded
    classifier = load_classifier(folder, settings)
    out = out or sys.stdout
    write = FORMATS[settings.format](out, classifier.class_names, min(settings.top, len(classifier.class_names)))

    def write_batch(batch: _ImageBatch, views: list[np.ndarray]) -> None:
        probabilities = iter(classifier.average(views) if views else [])
        for index, path in enumerate(batch.paths):
            error = batch.errors.get(index)
            write(Answer(path, np.empty(0) if error else next(probabilities), settings.reject, error))
        out.flush()

    began, num_images, num_errors = time.perf_counter(), 0, 0
    # A second thread of OpenBLAS would wait for its next product in a busy loop, on a core that the network needs.
    with (
        threadpool_limits(1, user_api="blas"),
        Behind() as behind,
        closing(_batches(classifier, chain([first], paths), settings.max_pixels)) as batches,
    ):
        for batch in batches:
            behind.hand(write_batch, batch, classifier.views(batch.inputs) if len(batch.inputs) else [])
            num_images, num_errors = num_images + len(batch.paths), num_errors + len(batch.errors)
    seconds = time.perf_counter() - began
    log.info("%s images in %.1f s, %.0f a second", f"{num_images:,}", seconds, num_images / max(seconds, 1e-9))
    if num_errors:
        log.warning("%d of %s images could not be read; their lines say why", num_errors, f"{num_images:,}")
    return num_errors


def _batches(classifier: Classifier, paths: Iterator[Path], max_pixels: int) -> Generator[_ImageBatch, None, None]:
    """Yield the images batch by batch, decoded and resized in threads a few batches ahead."""

    def load(batch: list[Path]) -> _ImageBatch:
        inputs, errors = [], {}
        for index, path in enumerate(batch):
            try:
                inputs.append(classifier.read(path, str(path), max_pixels))
            except InputError as error:
                errors[index] = str(error).removesuffix(", or leave it out by --skip-bad")
        return _ImageBatch(batch, np.stack(inputs) if inputs else np.empty(0, np.float32), errors)

    return load_ahead(load, iter(lambda: list(islice(paths, classifier.batch_size)), []))
