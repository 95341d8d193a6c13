"""`python -m benchmarks.cost_measurements`: what the cost model takes from this machine, put into cost_constants.json.

All but the disk are by a processor's seconds, which other work on the machine changes less than it changes the clock.
"""

import hashlib
import io
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.feature_request import request_for
from benchmarks.machine import describe, disk_rate
from thaw.features.backbones.registry import BACKBONES
from thaw.features.backbones.weights import load_weights
from thaw.features.datasets.dataset import Dataset
from thaw.features.datasets.listing import ImageArrays
from thaw.features.engines.network import Network
from thaw.features.extraction.extraction import Extraction
from thaw.features.extraction.parts import write_part
from thaw.features.images.decode import decode, least_side
from thaw.features.images.preprocess import normalize, resize

CONSTANTS = Path(__file__).with_name("cost_constants.json")
COMMAND = "python -m benchmarks.cost_measurements"
SHAPES = {"block4_pool": (4608,), "block5_pool": (512,)}  # what `features` stores by default
PHOTO, THUMBNAIL = (375, 500), (32, 32)
NUM_TASKS = 1000


def main() -> None:
    """Measure everything, and write what was found over what was there."""
    with tempfile.TemporaryDirectory(dir=CONSTANTS.parent) as name:
        found = {
            "decode_photo": (decoding_rate(PHOTO), "images/s of a core"),
            "decode_thumbnail": (decoding_rate(THUMBNAIL), "images/s of a core"),
            "engine_mnn": (engine_rate("mnn"), "images/s of a core"),
            "engine_keras": (engine_rate("keras"), "images/s of a core"),
            "join": (join_rate(Path(name)), "bytes/s of one process, beside the disk"),
            "digest": (digest_rate(), "bytes/s of one process, beside the disk"),
            "disk_write": (disk_rate(Path(name), 2**28), "bytes/s"),
            "dispatch": (dispatch_seconds(), "s of the scheduler for a part"),
        }
    content = json.loads(CONSTANTS.read_text(encoding="utf-8")) if CONSTANTS.exists() else {"constants": {}}
    content["machine"] = describe()
    for constant, (value, unit) in found.items():
        content["constants"][constant] = {"value": _rounded(value), "unit": unit, "source": COMMAND}
        print(f"{constant}: {_rounded(value):g} {unit}")
    CONSTANTS.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _rounded(value: float) -> float:
    return float(f"{value:.3g}")


def _seconds(work: Callable[[], Any], clock: Callable[[], float], least: float = 1.0) -> float:
    """Return the seconds by `clock` of one call of `work`, the mean of as many calls as take `least` seconds."""
    work()
    began, calls = clock(), 0
    while clock() - began < least:
        work()
        calls += 1
    return (clock() - began) / calls


def picture(shape: tuple[int, int], seed: int = 0) -> bytes:
    """Return a JPEG of quality 90, (H, W): noise whose amplitude falls with frequency, as in photographs."""
    height, width = shape
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(width), np.fft.fftfreq(height)))
    frequency[0, 0] = 1
    generator = np.random.default_rng(seed)
    planes = [np.fft.ifft2(np.fft.fft2(generator.standard_normal(shape)) / frequency).real for _ in range(3)]
    pixels = np.stack([128 + 45 * plane / plane.std() for plane in planes], axis=2).clip(0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def decoding_rate(shape: tuple[int, int]) -> float:
    """Return the JPEG files a second that a core turns into network input of 48 pixels."""
    file = picture(shape)

    def prepare() -> np.ndarray:
        return normalize(resize(decode(file, "a.jpg", 10**8, least_side(48, "bilinear")), 48, "bilinear"), "caffe")

    return 1 / _seconds(prepare, time.thread_time)


def engine_rate(engine: str, batch_size: int = 64) -> float:
    """Return the images a second that a core runs through VGG16 at 48 pixels, up to block5_pool."""
    backbone = BACKBONES["vgg16"]
    weights = load_weights("random", backbone, 0)
    started = Network(backbone, weights, tuple(SHAPES), 48).start(engine, batch_size)
    images = np.random.default_rng(0).uniform(-124, 152, (batch_size, 48, 48, 3)).astype(np.float32)
    return batch_size / _seconds(lambda: started(images), time.process_time, least=4.0)


def join_rate(folder: Path, num_images: int = 8192) -> float:
    """Return the bytes of features a second that one process joins into a whole, checked features.h5."""
    network = Network(BACKBONES["vgg16"], load_weights("random", BACKBONES["vgg16"]), tuple(SHAPES), 48)
    ids, labels = tuple(f"train/{i:06d}" for i in range(num_images)), np.zeros(num_images, np.int64)
    images = ImageArrays([np.zeros((1, 1), np.uint8)] * num_images)
    dataset = Dataset("none", ids, labels, ("a",), ("",) * num_images, None, images)
    extraction = Extraction(request_for(folder / "features.h5", dataset, network, 64))
    extraction.folder.mkdir()
    generator = np.random.default_rng(0)
    for start in extraction.starts:
        size = len(extraction.rows(start))
        values = {name: generator.random((size, *shape), np.float32) for name, shape in SHAPES.items()}
        made_by = {"settings_sha256": extraction.settings_sha256, "seconds": 0.0, "skipped": {}}
        write_part(extraction.part_path(start), values, np.arange(start, start + size), made_by)
    attributes = {"split_sha256": "0" * 64, "dataset_sha256": "0" * 64, "weights_sha256": "0" * 64}
    began = time.process_time()
    extraction.join(attributes)
    return extraction.request.layers.image_bytes * num_images / (time.process_time() - began)


def digest_rate() -> float:
    """Return the bytes a second of SHA-256, by which the images of a folder are told from others."""
    block = np.random.default_rng(0).bytes(2**24)
    return len(block) / _seconds(lambda: hashlib.sha256(block), time.thread_time)


def dispatch_seconds() -> float:
    """Return a processor's seconds for a task that does nothing: of scheduler, client and one worker together."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        client.gather(client.map(abs, range(100)))
        began = time.process_time()
        client.gather(client.map(abs, range(1000, 1000 + NUM_TASKS)))
        return (time.process_time() - began) / NUM_TASKS


if __name__ == "__main__":
    main()
