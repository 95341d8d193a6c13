"""What a cluster costs: the same images through a single process, and through two workers of the same machine.

`python -m benchmarks.cluster DATA` reads an image folder or a .zip. Both are started and have run before anything is
timed; then they take turns. Compared are the seconds that passed and the seconds of processors that all processes of
each took together: on a machine where other jobs run, the latter says more. Every value has to be the same.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.feature_request import request_for
from thaw.features.backbones.registry import BACKBONES
from thaw.features.backbones.weights import load_weights
from thaw.features.datasets.dataset import Dataset, load_dataset
from thaw.features.engines.network import Network
from thaw.features.extraction.extraction import Extraction
from thaw.features.extraction.parts import peek_part
from thaw.pipeline.cluster import scheduling
from thaw.pipeline.cluster.client import connected, workers_of
from thaw.pipeline.cluster.worker import start_engine
from thaw.pipeline.config import Shared
from thaw.pipeline.extraction.executors import ClusterExecutor

LAYERS, BATCH_SIZE = ("block4_pool", "block5_pool"), 64


@dataclass
class Runs:
    """Of each turn the seconds that passed, those of processors, those of each part; the digests of what came out."""

    wall: list[float]
    processors: list[float]
    parts: list[list[float]]
    digests: set[str]


def processor_seconds(pids: list[int]) -> float:
    """Return the seconds of processors that the processes have taken until now."""
    times = [psutil.Process(pid).cpu_times() for pid in pids]
    return sum(one.user + one.system for one in times)


def timed(runs: Runs, extraction: Extraction, make: Callable[[Extraction], None], pids: list[int]) -> None:
    """Make all parts and add what it took; the parts are removed."""
    before, began = processor_seconds(pids), time.perf_counter()
    make(extraction)
    runs.wall.append(time.perf_counter() - began)
    runs.processors.append(processor_seconds(pids) - before)
    records: list[Any] = [peek_part(extraction.part_path(start)) for start in extraction.starts]
    runs.parts.append([record["seconds"] for record in records])
    runs.digests.add("".join(record["values_sha256"][:8] for record in records))
    for start in extraction.starts:
        extraction.part_path(start).unlink()


def some_images(data: Path, number: int) -> Dataset:
    """Return at most so many images of a folder or a .zip, from all over it."""
    dataset = load_dataset(f"folder:{data.absolute()}")
    return dataset.take(np.linspace(0, len(dataset.ids) - 1, min(number, len(dataset.ids))).astype(int).tolist())


def measure(dataset: Dataset, image_size: int, engine: str, repeats: int, num_workers: int) -> dict[str, Any]:
    """Return the seconds of both, of each part on the cluster, and what the cluster takes more, as fractions."""
    backbone = BACKBONES["vgg16"]
    network = Network(backbone, load_weights("random", backbone), LAYERS, image_size, source="random")
    single, cluster = (Runs([], [], [], set()) for _ in range(2))
    settings = Shared(workers=num_workers, engine=engine, device="cpu")  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory(dir=".") as folder, connected(settings) as client:
        if client is None:
            raise RuntimeError("no cluster")
        wanted = request_for(Path(folder) / "features.h5", dataset, network, BATCH_SIZE)
        wanted = replace(wanted, engine=engine, device="cpu", is_sample=True)  # a sample's engine is not compared again
        extraction = Extraction(ClusterExecutor(client).choose(wanted))  # every worker sees the images
        given = (extraction.request.of_rows(range(0)), scheduling.neighbours_of(client))
        client.gather([client.submit(start_engine, *given, workers=[worker]) for worker in workers_of(client)])
        started = network.start(engine, BATCH_SIZE)
        started(np.zeros((BATCH_SIZE, image_size, image_size, 3), np.float32))
        pids = [os.getpid(), *client.run(os.getpid).values()]
        for _ in range(repeats):
            timed(single, extraction, lambda one: one.run(started), pids[:1])
            timed(cluster, extraction, lambda one: scheduling.run(client, one, lambda count: None), pids)
    if len(single.digests | cluster.digests) != 1 and engine == "keras":
        raise RuntimeError("the values differ")
    return {
        **{"images": len(dataset.ids), "image_size": image_size, "engine": engine, "workers": num_workers},
        "single": {"seconds": single.wall, "processor_seconds": single.processors},
        "cluster": {"seconds": cluster.wall, "processor_seconds": cluster.processors},
        "parts": cluster.parts,
        "more_seconds": statistics.median(cluster.wall) / statistics.median(single.wall) - 1,
        "more_processor_seconds": statistics.median(cluster.processors) / statistics.median(single.processors) - 1,
        "load_average": os.getloadavg(),
    }


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="an image folder or a .zip")
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--image-size", type=int, default=48)
    parser.add_argument("--engine", default="keras", choices=("keras", "mnn"))
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    images = some_images(given.data, given.images)
    found = measure(images, given.image_size, given.engine, given.repeats, given.workers)
    text = json.dumps(found, indent=2)
    print(text)
    if given.out:
        given.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
