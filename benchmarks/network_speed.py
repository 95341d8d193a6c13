"""Images per second of networks on each engine that is installed, taking turns over the same batch.

`python -m benchmarks.network_speed vgg16 efficientnet_lite0 --image-size 224` prints the median of each, and for the
best engine of each network its ratio to that of the first network.
"""

import argparse
import statistics
import time
from collections.abc import Sequence

import numpy as np

from thaw.features.backbones.registry import get_backbone
from thaw.features.backbones.weights import load_weights
from thaw.features.engines.network import Engine, Network

BATCH = 16
SECONDS = 3.0  # of each turn, about


def main(names: Sequence[str], engines: Sequence[str], image_size: int, rounds: int) -> dict[tuple[str, str], float]:
    """Return the median images a second by network and engine."""
    started = {(name, engine): _start(name, engine, image_size) for name in names for engine in engines}
    images = np.random.default_rng(0).normal(size=(BATCH, image_size, image_size, 3)).astype(np.float32)
    batches = {key: max(1, round(SECONDS / _seconds(engine, images, 1))) for key, engine in started.items()}
    speeds: dict[tuple[str, str], list[float]] = {key: [] for key in started}
    for _ in range(rounds):
        for key, engine in started.items():
            speeds[key].append(BATCH * batches[key] / _seconds(engine, images, batches[key]))
    return {key: statistics.median(values) for key, values in speeds.items()}


def _start(name: str, engine: str, image_size: int) -> Engine:
    backbone = get_backbone(name)
    layers = tuple(backbone.default_layers.split(","))
    started = Network(backbone, load_weights("imagenet", backbone), layers, image_size).start(engine, BATCH)
    started(np.zeros((BATCH, image_size, image_size, 3), np.float32))  # what is done once is not timed
    return started


def _seconds(engine: Engine, images: np.ndarray, batches: int) -> float:
    began = time.perf_counter()
    for _ in range(batches):
        engine(images)
    return time.perf_counter() - began


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="+")
    parser.add_argument("--engines", default="mnn", help="joined by commas")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    found = main(given.networks, given.engines.split(","), given.image_size, given.rounds)
    best = {name: max(speed for (network, _), speed in found.items() if network == name) for name in given.networks}
    for (name, engine), speed in found.items():
        print(f"{name:24} {engine:12} {speed:8.1f} images/s")
    for name, speed in best.items():
        print(f"{name:24} {speed / best[given.networks[0]]:8.2f} times {given.networks[0]}, each on its best engine")
