"""Images of many requests -> labels: decoded in a few threads, labelled together by the one that has the network."""

import asyncio
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from thaw.features.errors import InputError
from thaw.features.images.decode import decode
from thaw.models.audit.similarity_search import Likeness
from thaw.pipeline.inference.classifier import Classifier
from thaw.pipeline.inference.similar_images import MOST_NEIGHBOURS, Nearest

NUM_DECODERS = 2  # each may hold an image of the most pixels several times over
CALLED = "the image"  # in errors, since an upload has no name


@dataclass(frozen=True)
class Labelled:
    """What is known of one image: class probabilities (K,) float64, and the training images most like it."""

    probabilities: np.ndarray
    likenesses: Sequence[Likeness]


class Labeller:
    """Labels images for an event loop, those that wait at the same moment in one pass of the network.

    Only the loop's own thread changes what waits, so that nothing is locked.
    """

    def __init__(self, classifier: Classifier, nearest: Nearest | None, max_pixels: int):
        self._classifier, self._nearest, self._max_pixels = classifier, nearest, max_pixels
        self._decoders = ThreadPoolExecutor(NUM_DECODERS, "decode")
        self._network = ThreadPoolExecutor(1, "network")
        self._waiting: deque[tuple[np.ndarray, asyncio.Future[Labelled]]] = deque()
        self._passes: asyncio.Task[None] | None = None

    def close(self) -> None:
        """End the threads once they have done what they began."""
        for threads in (self._decoders, self._network):
            threads.shutdown(cancel_futures=True)

    async def label(self, body: bytes) -> Labelled:
        """Return what is known of the image in `body`; raises InputError where it is none that can be read."""
        inputs = await asyncio.get_running_loop().run_in_executor(self._decoders, self._prepare, body)
        labelled: asyncio.Future[Labelled] = asyncio.get_running_loop().create_future()
        self._waiting.append((inputs, labelled))
        if self._passes is None:
            self._passes = asyncio.create_task(self._label_waiting())
        return await labelled

    async def thumbnails(self, likenesses: Sequence[Likeness]) -> list[str | None]:
        """Return the data URLs of training images, None for each that is not at hand."""
        if self._nearest is None or not likenesses:
            return []
        thumbnail = self._nearest.thumbnail
        work = asyncio.get_running_loop().run_in_executor
        return await asyncio.gather(*(work(self._decoders, thumbnail, likeness.id) for likeness in likenesses))

    def _prepare(self, body: bytes) -> np.ndarray:
        """Return network input (S, S, 3); errors are freed of options that whoever sent the image does not have."""
        preprocessing = self._classifier.preprocessing
        try:
            image = decode(body, CALLED, self._max_pixels, preprocessing.least_side)
        except InputError as error:
            raise InputError(str(error).rpartition(";")[0].removesuffix("; remove it")) from None
        return preprocessing.prepare(image)

    async def _label_waiting(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                count = min(len(self._waiting), self._classifier.batch_size)
                batch = [self._waiting.popleft() for _ in range(count)]
                inputs = np.stack([image for image, _ in batch])
                await _settle([future for _, future in batch], loop.run_in_executor(self._network, self._pass, inputs))
        finally:
            self._passes = None

    def _pass(self, inputs: np.ndarray) -> list[Labelled]:
        """Return what is known of each image, in the network's thread."""
        views = self._classifier.views(inputs)
        probabilities = self._classifier.average(views)
        likenesses: Sequence[Any] = [()] * len(inputs)
        if self._nearest:
            likenesses = self._nearest.find(views[0].reshape(len(inputs), -1), MOST_NEIGHBOURS)
        return [Labelled(*each) for each in zip(probabilities, likenesses, strict=True)]


async def _settle(futures: Sequence["asyncio.Future[Labelled]"], work: "asyncio.Future[list[Labelled]]") -> None:
    """Give each of those who wait its own part of what the work gives, or all of them its error."""
    try:
        for future, labelled in zip(futures, await work, strict=True):
            if not future.done():  # whoever asked may have gone
                future.set_result(labelled)
    except Exception as error:
        for future in futures:
            if not future.done():
                future.set_exception(error)
