"""Images per second of each stage of extraction alone, and of all together.

`python -m benchmarks.stages DATA` reads an image folder or a .zip. Alone are measured: decoding and resizing (in the
threads that extraction uses), the network over images that are ready, pooling and writing parts of activations that
are ready, and joining the parts. `whole` is extraction as it is; `one_after_another` is what the four would give
without overlap. The same again on large JPEGs, 3000 x 2000, made from two photographs that scikit-learn carries, with
and without decoding them at a reduced size. Medians of repeats that take turns; start-up is not counted.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.feature_request import request_for
from thaw.features.backbones.registry import BACKBONES
from thaw.features.backbones.weights import load_weights
from thaw.features.datasets.dataset import Dataset, load_dataset
from thaw.features.engines.network import Engine, Network
from thaw.features.extraction.choice import choose_engine
from thaw.features.extraction.extraction import Extraction
from thaw.features.extraction.parts import GrowingPart
from thaw.features.extraction.spec import FeatureRequest
from thaw.features.prefetch import load_ahead

LAYERS = ("block4_pool", "block5_pool")
BATCH_SIZE = 64
LARGE = (3000, 2000)
DISTINCT = 20  # large pictures; the others are copies of them


def some(dataset: Dataset, count: int) -> Dataset:
    """Return `count` images spread evenly over the data set."""
    rows = np.linspace(0, len(dataset.ids) - 1, min(count, len(dataset.ids))).astype(int)
    return replace(
        dataset,
        ids=tuple(dataset.ids[row] for row in rows),
        labels=dataset.labels[rows],
        given_split=tuple(dataset.given_split[row] for row in rows),
        groups=None,
        read=lambda i, least_side=None: dataset.read(int(rows[i]), least_side),
    )


def whole_pictures(dataset: Dataset) -> Dataset:
    """Return the data set with every JPEG decoded at its full size."""
    return replace(dataset, read=lambda i, least_side=None: dataset.read(i))


def write_large(folder: Path, count: int) -> None:
    """Write `count` JPEGs of 3000 x 2000 in two classes: cuts of photographs, enlarged, with the grain of a camera."""
    from sklearn.datasets import load_sample_image

    generator = np.random.default_rng(0)
    photographs = [Image.fromarray(load_sample_image(name)) for name in ("china.jpg", "flower.jpg")]
    for label in "ab":
        (folder / label).mkdir()
    for number in range(count):
        path = folder / "ab"[number % 2] / f"{number:04d}.jpg"
        if number >= DISTINCT:
            path.hardlink_to(folder / "ab"[number % 2] / f"{number % DISTINCT:04d}.jpg")
            continue
        left, top = generator.integers(0, (100, 60))
        picture = photographs[number % 2].resize(LARGE, Image.Resampling.BICUBIC, (left, top, left + 540, top + 360))
        grain = generator.normal(0, 6, (LARGE[1], LARGE[0], 1))
        pixels = np.clip(np.asarray(picture) + grain, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(path, quality=90)


@dataclass
class Stages:
    """The stages of one extraction, each to be run alone; `prepare` makes ready what the later ones need."""

    request: FeatureRequest
    engine: Engine

    @property
    def dataset(self) -> Dataset:
        """The images."""
        return self.request.dataset

    def prepare(self) -> None:
        """Decode all images and run the network over them once."""
        self.inputs = list(self._loaded())
        self.activations = [self.engine(batch) for batch in self.inputs]

    def _batches(self) -> list[range]:
        rows = range(len(self.dataset.ids))
        return [rows[i : i + BATCH_SIZE] for i in range(0, len(rows), BATCH_SIZE)]

    def _loaded(self) -> Iterable[np.ndarray]:
        def load(rows: range) -> np.ndarray:
            return np.stack([self.request.preprocessing.load(self.dataset, row) for row in rows])

        return load_ahead(load, self._batches())

    def decode(self) -> None:
        """Decode and resize all images."""
        for _ in self._loaded():
            pass

    def network(self) -> None:
        """Run the network over images that are ready."""
        for batch in self.inputs:
            self.engine(batch)

    def write(self) -> None:
        """Pool and write the parts."""
        extraction = self._extraction()
        extraction.folder.mkdir(exist_ok=True)
        batches = list(zip(self._batches(), self.activations, strict=True))
        per_part = extraction.part_rows // BATCH_SIZE
        for first in range(0, len(batches), per_part):
            part = GrowingPart(self.request.layers)
            for rows, activations in batches[first : first + per_part]:
                part.add(list(rows), [activations], {})
            record = {"settings_sha256": extraction.settings_sha256, "seconds": 0}
            part.write(extraction.part_path(batches[first][0].start), record)

    def join(self) -> None:
        """Join the parts that `write` wrote."""
        self._extraction().join({})

    def whole(self) -> None:
        """Extract, from the files to the feature file."""
        extraction = self._extraction()
        extraction.run(self.engine)
        extraction.join({})

    def _extraction(self) -> Extraction:
        return Extraction(self.request)


def rates(stages: Stages, names: Iterable[str], repeats: int) -> dict[str, float]:
    """Return the median images per second of each stage named; they take turns in the order given."""
    runs: dict[str, Callable[[], None]] = {name: getattr(stages, name) for name in names}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            began = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - began)
    return {name: round(len(stages.dataset.ids) / statistics.median(times), 1) for name, times in seconds.items()}


def measure(dataset: Dataset, image_size: int, engine: str, repeats: int) -> dict[str, object]:
    """Return the images per second of every stage alone, one after another and together."""
    backbone = BACKBONES["vgg16"]
    name, device = choose_engine(engine, "auto")
    network = Network(backbone, load_weights("random", backbone), LAYERS, image_size)
    runner = network.start(name, BATCH_SIZE, device)
    with tempfile.TemporaryDirectory(dir=".") as folder:
        stages = Stages(request_for(Path(folder) / "features.h5", dataset, network, BATCH_SIZE), runner)
        stages.prepare()
        found = rates(stages, ("decode", "network", "write", "join", "whole"), repeats)
    one_after_another = 1 / sum(1 / found[stage] for stage in ("decode", "network", "write", "join"))
    return {
        "images": len(dataset.ids),
        "image_size": image_size,
        "engine": name,
        "images_per_second": {**found, "one_after_another": round(one_after_another, 1)},
    }


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="an image folder or a .zip")
    parser.add_argument("--images", type=int, default=2048)
    parser.add_argument("--large", type=int, default=200, help="large JPEGs; 0 for none")
    parser.add_argument("--image-size", type=int, default=48)
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    given = (options.image_size, options.engine, options.repeats)
    results = {"data": measure(some(load_dataset(f"folder:{options.data}"), options.images), *given)}
    if options.large:
        with tempfile.TemporaryDirectory(dir=".") as folder:
            write_large(Path(folder), options.large)
            large = load_dataset(f"folder:{folder}")
            results["large JPEGs"] = measure(large, *given)
            results["large JPEGs, not reduced"] = measure(whole_pictures(large), *given)
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
