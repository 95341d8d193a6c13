"""Who makes the parts of a feature file: this process, or the workers of a cluster."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from thaw.features.datasets.dataset import Dataset
from thaw.features.datasets.remote import RemotePath
from thaw.features.engines.network import Network
from thaw.features.engines.utilisation import Watched
from thaw.features.extraction import choice
from thaw.features.extraction.choice import choose_engine
from thaw.features.extraction.extraction import Extraction
from thaw.pipeline.cluster import scheduling
from thaw.pipeline.cluster.client import workers_of
from thaw.pipeline.cluster.worker import Job
from thaw.pipeline.progress import counting

if TYPE_CHECKING:
    from distributed import Client

log = logging.getLogger("thaw")


@dataclass(frozen=True)
class Request:
    """What is asked for: an engine and a device (`auto` too), the weights' source and seed, for which images.

    `folder` is where the parts go. `pictures()` gives a few images as network input (n, S, S, 3), which the engines'
    numbers are compared on; None where they are not to be compared.
    """

    engine: str
    device: str
    weights: str
    seed: int
    batch_size: int
    folder: Path | RemotePath
    dataset: Dataset
    pictures: Callable[[], np.ndarray] | None


class Maker(Protocol):
    """Makes parts."""

    def choose(self, request: Request) -> tuple[str, str]:
        """Return the engine and the device that are taken; raises InputError where what is asked for cannot be."""

    def run(self, extraction: Extraction, missing: int, quiet: bool) -> None:
        """Make the parts that are missing, `missing` images, with what was chosen; `quiet` says nothing of it."""


class Here:
    """This process makes the parts."""

    def __init__(self, network: Network):
        self._network, self._chosen = network, ("keras", "cpu")

    def choose(self, request: Request) -> tuple[str, str]:
        """Return the engine and the device that are taken; raises InputError where what is asked for cannot be."""
        asked = (request.engine, request.device)
        if request.pictures is None:
            self._chosen = choose_engine(*asked, self._network.precision)
        else:
            self._chosen = choice.settle(*asked, self._network, request.batch_size, request.pictures)
        return self._chosen

    def run(self, extraction: Extraction, missing: int, quiet: bool) -> None:
        """Make the parts that are missing."""
        engine, device = self._chosen
        started = self._network.start(engine, extraction.batch_size, device)
        if quiet:
            extraction.run(started)
            return
        name = self._network.backbone.name
        log.info("engine: %s on %s; network %s:\n%s", engine, device, name, started.describe())
        watched = Watched(started)
        with counting("features", missing) as advance:
            extraction.run(watched, advance)
        if said := watched.said():
            log.info("%s", said)


class OnWorkers:
    """The workers of a cluster make the parts."""

    def __init__(self, network: Network, client: "Client"):
        self._network, self._client = network, client
        self._job: Job | None = None

    def choose(self, request: Request) -> tuple[str, str]:
        """Return what the workers take, having seen that each reaches the storage and the images."""
        network = self._network
        job = Job(
            network.backbone.name,
            request.weights,
            network.weights.sha256,
            request.seed,
            network.layers,
            network.image_size,
            network.precision,
            request.engine,
            request.device,
            request.batch_size,
            scheduling.neighbours(self._client),
        )
        job = scheduling.check_workers(self._client, request.folder, request.dataset, job)
        if job.engine == "mnn" and request.pictures is not None:
            job = scheduling.compare_engines(self._client, job, request.engine, request.pictures())
        self._job = job
        return job.engine, job.device

    def run(self, extraction: Extraction, missing: int, quiet: bool) -> None:
        """Have the parts made that are missing."""
        if self._job is None:
            raise RuntimeError("nothing was chosen yet")
        job = replace(self._job, batch_size=extraction.batch_size)
        if quiet:
            scheduling.run(self._client, extraction, job, lambda count: None)
            return
        log.info("engine: %s on %s of %d worker(s)", job.engine, job.device, len(workers_of(self._client)))
        with counting("features", missing) as advance:
            scheduling.run(self._client, extraction, job, advance)
