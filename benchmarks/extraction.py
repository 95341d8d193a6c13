"""Images a second through the frozen network, and from JPEG files on disk, beside what users would run instead."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks import files, machine
from benchmarks.checks import largest_error
from benchmarks.results import Figures, Row, Target, rows_of
from benchmarks.runner import DEFAULTS, Contender, Result, take_turns
from benchmarks.settings import Settings
from thaw.features.backbones.registry import BACKBONES
from thaw.features.datasets.dataset import load_dataset
from thaw.features.images.preprocess import normalize, resize

SECTION, LAYERS = "extraction", ["block4_pool", "block5_pool"]
PREDICT = "Keras predict, TensorFlow's defaults"
OURS = "ours, engine mnn"
TASKS = {48: (2048, 3), 96: (256, 3), 224: (64, 3)}  # image size: images, repeats
QUICK = {48: (128, 2)}


def main(settings: Settings) -> Iterator[Figures]:
    """Time every contender at every image size, then from JPEG files."""
    for size, (num_images, repeats) in (QUICK if settings.quick else TASKS).items():
        task = f"network only, {size} px, {num_images} images"
        if not settings.wants(task):
            continue
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "images.npy"
            np.save(path, network_input(settings.images, num_images, size))
            results = take_turns(contenders(str(path)), repeats, largest_error, warm_up=False)
        operations = machine.network_operations(BACKBONES["vgg16"], size, LAYERS[-1])
        found = rows_of(SECTION, task, results, OURS, num_images, "images/s")
        yield [with_limit(row, operations, settings.limits["sgemm"]) for row in found], _targets(size, results)
    yield files.rows(settings, *((128, 2) if settings.quick else (2048, 3))), []


def contenders(path: str) -> list[Contender]:
    """Return all that run the network; the first one's output is the reference."""
    given = {"images": path, "layers": LAYERS}
    return [
        Contender(PREDICT, "benchmarks.networks:keras_predict", given, onednn=DEFAULTS),
        Contender(OURS, "benchmarks.networks:ours", given | {"engine": "mnn"}),
        Contender("ours, engine keras", "benchmarks.networks:ours", given | {"engine": "keras"}),
        Contender("TensorFlow function, oneDNN on", "benchmarks.networks:tensorflow_function", given),
        Contender("PyTorch, channels last", "benchmarks.networks:pytorch", given, peer=True),
        Contender("ONNX Runtime", "benchmarks.networks:onnx_runtime", given, peer=True),
        Contender("OpenVINO", "benchmarks.networks:openvino", given, peer=True),
    ]


def network_input(images: Path, num_images: int, size: int) -> np.ndarray:
    """Return float32 (num_images, size, size, 3): images at equal steps through the image folder, preprocessed."""
    dataset = load_dataset(f"folder:{images}")
    chosen = np.linspace(0, len(dataset.ids) - 1, num_images).astype(int)
    return np.stack([normalize(resize(dataset.read(row), size, "bilinear"), "caffe") for row in chosen])


def with_limit(row: Row, operations: float, rate: float) -> Row:
    """Return the row with its fraction of the operations a second that the matrix product reaches."""
    if row.value is None:
        return row
    return row.model_copy(update={"of_limit": row.value * operations / rate})


def _targets(size: int, results: dict[str, Result]) -> list[Target]:
    if size != 48:
        return []
    own = results[OURS]
    peers = [
        r.median for name, r in results.items() if not name.startswith("ours") and not r.failed and name != PREDICT
    ]
    over_predict = results[PREDICT].median / own.median if not (own.failed or results[PREDICT].failed) else None
    over_best = min(peers) / own.median if peers and not own.failed else None
    return [
        Target(
            section=SECTION,
            what="48 px: over Keras predict with TensorFlow's defaults",
            required=2.3,
            measured=over_predict,
        ),
        Target(section=SECTION, what="48 px: over the best other peer", required=1.6, measured=over_best),
    ]
