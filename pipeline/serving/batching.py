"""Images of many requests -> labels: decoded in a few threads, labelled together by the one thread of the network."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from thaw.features.errors import InputError
from thaw.models.audit.similarity_search import Likeness
from thaw.pipeline.inference.classifier import Classifier
from thaw.pipeline.inference.similar_images import MOST_NEIGHBOURS, Nearest

NUM_DECODERS = 2  # each may hold an image of the most pixels several times over
IMAGE_NAME = "the image"  # in errors, since an upload has no name


class Labelled(NamedTuple):
    """The labels of one image: class probabilities (K,) float64, and the training images most like it."""

    probabilities: np.ndarray
    likenesses: Sequence[Likeness]


class Labeller:
    """Labels images for an event loop, those that wait at the same moment in one pass of the network.

    The thread of the loop alone changes the batch that waits, so that nothing is locked.
    """

    def __init__(self, classifier: Classifier, nearest: Nearest | None, max_pixels: int):
        self._classifier, self._nearest, self._max_pixels = classifier, nearest, max_pixels
        self._decoders = ThreadPoolExecutor(NUM_DECODERS, "decode")
        self._network = ThreadPoolExecutor(1, "network")
        self._one_pass = asyncio.Lock()
        self._waiting: list[np.ndarray] = []
        self._pass_of_waiting: asyncio.Task[list[Labelled]] | None = None

    def close(self) -> None:
        """End the threads once they have done what they began."""
        for threads in (self._decoders, self._network):
            threads.shutdown(cancel_futures=True)

    async def label(self, body: bytes) -> Labelled:
        """Return the labels of the image in `body`; raises InputError if it cannot be read."""
        inputs = await asyncio.get_running_loop().run_in_executor(self._decoders, self._prepare, body)
        if self._pass_of_waiting is None or len(self._waiting) == self._classifier.batch_size:
            self._waiting = []
            self._pass_of_waiting = asyncio.create_task(self._label(self._waiting))
        index, labelled = len(self._waiting), self._pass_of_waiting
        self._waiting.append(inputs)
        return (await asyncio.shield(labelled))[index]  # a request that ends early does not end the others

    async def _label(self, batch: list[np.ndarray]) -> list[Labelled]:
        """Return the labels of a batch, which other images join until the network is free."""
        async with self._one_pass:
            if batch is self._waiting:
                self._pass_of_waiting = None
            return await asyncio.get_running_loop().run_in_executor(self._network, self._pass, np.stack(batch))

    async def thumbnails(self, likenesses: Sequence[Likeness]) -> list[str | None]:
        """Return the data URLs of training images, None for each that cannot be read."""
        if self._nearest is None or not likenesses:
            return []
        thumbnail, work = self._nearest.thumbnail, asyncio.get_running_loop().run_in_executor
        return await asyncio.gather(*(work(self._decoders, thumbnail, likeness.id) for likeness in likenesses))

    def _prepare(self, body: bytes) -> np.ndarray:
        """Return network input; errors are freed of options that the sender of the image does not have."""
        try:
            return self._classifier.read(body, IMAGE_NAME, self._max_pixels)
        except InputError as error:
            raise InputError(str(error).rpartition(";")[0].removesuffix("; remove it")) from None

    def _pass(self, inputs: np.ndarray) -> list[Labelled]:
        """Return the labels of each image, in the thread of the network."""
        views = self._classifier.views(inputs)
        probabilities = self._classifier.average(views)
        likenesses: Sequence[Any] = [()] * len(inputs)
        if self._nearest:
            likenesses = self._nearest.find(views[0].reshape(len(inputs), -1), MOST_NEIGHBOURS)
        return [Labelled(*each) for each in zip(probabilities, likenesses, strict=True)]
