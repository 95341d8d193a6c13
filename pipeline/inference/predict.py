"""The predict stage: new images -> labels with probabilities, by a model of a run, in constant memory."""

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
from thaw.features.images.decode import decode
from thaw.features.prefetch import Behind, load_ahead
from thaw.pipeline.config import Predict
from thaw.pipeline.inference.classifier import Classifier, How, load_classifier
from thaw.pipeline.inference.inputs import list_images
from thaw.pipeline.inference.trained import find_result
from thaw.pipeline.inference.writers import FORMATS, Answer, Writer

log = logging.getLogger("thaw")


@dataclass(frozen=True)
class _Loaded:
    """Some images: the network input of those that can be read, float32 (n, S, S, 3), and what the others lack."""

    paths: list[Path]
    inputs: np.ndarray
    faults: dict[int, str]


def main(settings: Predict, lines: Iterable[str] | None = None, out: TextIO | None = None) -> int:
    """Label the images that the settings name, write a line for each to `out`, and return how many could not be read.

    Lines come in the order of the images, as soon as their batch is labelled. Raises InputError where the model cannot
    be used or a folder holds no image; an image that cannot be read is a line of its own and stops nothing.
    """
    folder = find_result(settings.run_folder, settings.strategy)
    paths = list_images(settings.images, sys.stdin if lines is None else lines)
    first = next(paths)  # what is not there is said before the model is loaded
    classifier = load_classifier(folder, How(settings.engine, settings.device, settings.weights))
    writer = FORMATS[settings.format](out or sys.stdout, classifier.class_names, settings.top)
    began, count, num_faults = time.perf_counter(), 0, 0
    # A second thread of OpenBLAS would wait for its next product in a busy loop, on a core that the network needs.
    with (
        threadpool_limits(1, user_api="blas"),
        Behind() as behind,
        closing(_load(classifier, chain([first], paths), settings.max_pixels)) as loaded,
    ):
        for batch in loaded:
            views = classifier.views(batch.inputs) if len(batch.inputs) else []
            behind.hand(_answer, classifier, batch, views, writer, settings.reject)
            count, num_faults = count + len(batch.paths), num_faults + len(batch.faults)
    seconds = time.perf_counter() - began
    log.info("%s images in %.1f s, %.0f a second", f"{count:,}", seconds, count / max(seconds, 1e-9))
    if num_faults:
        log.warning("%d of %s images could not be read; their lines say why", num_faults, f"{count:,}")
    return num_faults


def _load(classifier: Classifier, paths: Iterator[Path], max_pixels: int) -> Generator[_Loaded, None, None]:
    """Yield the images batch by batch, decoded and resized in threads a few batches ahead."""

    def batches() -> Iterator[list[Path]]:
        while batch := list(islice(paths, classifier.batch_size)):
            yield batch

    def load(batch: list[Path]) -> _Loaded:
        inputs, faults = [], {}
        for number, path in enumerate(batch):
            try:
                inputs.append(classifier.prepare(decode(path, str(path), max_pixels, classifier.least_side)))
            except InputError as error:
                faults[number] = str(error).removesuffix(", or go on without it by --skip-bad")
        return _Loaded(batch, np.stack(inputs) if inputs else np.empty(0, np.float32), faults)

    yield from load_ahead(load, batches())


def _answer(
    classifier: Classifier, batch: _Loaded, views: list[np.ndarray], writer: Writer, reject: float | None
) -> None:
    probabilities = iter(classifier.average(views) if views else [])
    for number, path in enumerate(batch.paths):
        fault = batch.faults.get(number)
        writer.write(Answer.of_fault(path, fault) if fault else Answer.of(path, next(probabilities), reject))
    writer.flush()
