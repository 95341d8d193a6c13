"""What makes the parts of a feature file: this process, or the workers of a cluster."""

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from thaw.features.engines.utilisation import Watched
from thaw.features.extraction.choice import agreed_engine, choose_engine, compared_images
from thaw.features.extraction.extraction import Extraction
from thaw.features.extraction.spec import FeatureRequest
from thaw.features.foreign.extractors import engines_of
from thaw.pipeline.cluster import scheduling
from thaw.pipeline.cluster.client import workers_of
from thaw.pipeline.progress import counting

if TYPE_CHECKING:
    from distributed import Client

log = logging.getLogger("thaw")


class Executor(Protocol):
    """Makes parts."""

    def choose(self, request: FeatureRequest) -> FeatureRequest:
        """Return the request with the engine and the device that are taken.

        Raises InputError if what is asked for cannot be. If mnn's numbers are not Keras' own, Keras is taken.
        """

    def run(self, extraction: Extraction, missing: int) -> None:
        """Make the parts that are missing, of `missing` images."""


class LocalExecutor:
    """This process makes the parts."""

    def choose(self, request: FeatureRequest) -> FeatureRequest:
        """Return the request with the engine and the device that are taken."""
        network = request.network
        asked = (request.engine, request.device, network.precision)
        engine, device = choose_engine(*asked, engines_of(network.backbone))
        if not request.is_sample:
            given = (request.engine, engine, network, request.batch_size)
            engine = agreed_engine(*given, lambda: compared_images(request))
        return replace(request, engine=engine, device=device)

    def run(self, extraction: Extraction, missing: int) -> None:
        """Make the parts that are missing."""
        request = extraction.request
        engine = request.network.start(request.engine, request.batch_size, request.device)
        if request.is_sample:
            extraction.run(engine)
            return
        network = request.network
        used = (request.engine, request.device, network.backbone.name, network.describe())
        log.info("engine: %s on %s; network %s:\n%s", *used)
        watched = Watched(engine)
        with counting("features", missing) as advance:
            extraction.run(watched, advance)
        if message := watched.summary():
            log.info("%s", message)


class ClusterExecutor:
    """The workers of a cluster make the parts."""

    def __init__(self, client: "Client"):
        self._client = client

    def choose(self, request: FeatureRequest) -> FeatureRequest:
        """Return the request with what the workers take, after each has reached the storage and the images."""
        chosen = scheduling.check_workers(self._client, request)
        if chosen.engine != "mnn" or request.is_sample:
            return chosen
        return scheduling.compare_engines(self._client, chosen, request.engine)

    def run(self, extraction: Extraction, missing: int) -> None:
        """Have the parts made that are missing."""
        request = extraction.request
        if request.is_sample:
            scheduling.run(self._client, extraction, lambda count: None)
            return
        workers = len(workers_of(self._client))
        log.info("engine: %s on %s of %d worker(s)", request.engine, request.device, workers)
        with counting("features", missing) as advance:
            scheduling.run(self._client, extraction, advance)
