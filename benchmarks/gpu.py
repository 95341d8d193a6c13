"""`python -m benchmarks.gpu`: features and fine-tuning on a GPU: images a second, share of its matrix rate, parity.

Runs on whatever backend Keras has (KERAS_BACKEND=tensorflow, jax or torch) and on a GPU if there is one, else on the
CPU, to show that it works. Prints a line for each precision and writes one JSON file.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from benchmarks.machine import describe
from thaw.features.backbones.registry import BACKBONES
from thaw.features.backbones.weights import load_weights
from thaw.features.engines.agreement import noise, relative_error
from thaw.features.engines.backend import LIBRARIES, check_backend, computing_on, resolve_device
from thaw.features.engines.network import Network
from thaw.features.engines.utilisation import Watched
from thaw.features.prefetch import load_ahead
from thaw.models.neural import network
from thaw.models.neural.network import Architecture
from thaw.models.neural.optimizers import compile_model
from thaw.models.neural.recipes import find_recipe

LAYERS = ("block4_pool", "block5_pool")
NUM_CLASSES = 10
POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}


def main() -> None:
    """Read the command line, measure every precision, write and show what came out."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--device", choices=("auto", "cpu", "gpu"), default="auto")
    parser.add_argument("--image-size", type=int, default=48)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--images", type=int, default=20_480, help="in each measurement")
    parser.add_argument("--matrix", type=int, default=8192, help="side of the matrices whose product is timed")
    parser.add_argument("--precisions", default="float32,bfloat16,float16")
    parser.add_argument("--out", type=Path, default=Path("gpu.json"))
    given = parser.parse_args()
    check_backend()
    device = resolve_device(given.device)
    rows = []
    for precision in given.precisions.split(","):
        rows.append(measure(precision, device, given))
        print(json.dumps(rows[-1]), flush=True)
    libraries = {name: __import__(name).__version__ for name in LIBRARIES[keras.backend.backend()]}
    content = {"backend": keras.backend.backend(), "libraries": libraries, "device": device, "machine": describe()}
    given.out.write_text(json.dumps(content | {"rows": rows}, indent=1) + "\n", encoding="utf-8")


def measure(precision: str, device: str, given: argparse.Namespace) -> dict[str, Any]:
    """Return one precision's figures; the shares are of the rate of the same precision's matrix product."""
    peak = matrix_rate(precision, device, given.matrix)
    forward = 2 * BACKBONES["vgg16"].cost("block5_pool", given.image_size)[1]
    below = 2 * BACKBONES["vgg16"].cost("block4_pool", given.image_size)[1]
    extraction, busy, error = extracted(precision, device, given)
    training = trained(precision, device, given)
    return {
        "precision": precision,
        "matrix_operations_per_second": peak,
        "features_images_per_second": extraction,
        "features_share_of_matrix_rate": extraction * forward / peak,
        "features_engine_busy": busy,
        "features_relative_error_to_cpu": error,
        # Forwards, and backwards by inputs and by weights: three times the operations of what is trained.
        "finetune_images_per_second": training,
        "finetune_share_of_matrix_rate": training * 3 * (forward - below) / peak,
    }


def _seconds(work: Callable[[], Any], repeats: int = 5) -> float:
    work()
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return float(np.median(seconds))


def matrix_rate(precision: str, device: str, side: int) -> float:
    """Return the operations a second of a product of two square matrices, both kinds counted."""
    with computing_on(device):
        values = np.random.default_rng(0).standard_normal((side, side), np.float32)
        matrix = keras.ops.cast(keras.ops.convert_to_tensor(values), precision)
        # A number of the product is fetched, since a GPU's work goes on after the call.
        seconds = _seconds(lambda: keras.ops.convert_to_numpy(keras.ops.matmul(matrix, matrix)[:1, :1]))
    return 2 * side**3 / seconds


def extracted(precision: str, device: str, given: argparse.Namespace) -> tuple[float, float | None, float]:
    """Return images a second, the share of the time that the engine was busy, and the relative L2 error to a CPU's."""
    backbone = BACKBONES["vgg16"]
    frozen = Network(backbone, load_weights("random", backbone, 0), LAYERS, given.image_size, precision)
    started = frozen.start("keras", given.batch_size, device)
    shape = (given.batch_size, given.image_size, given.image_size, 3)

    def load(number: range) -> np.ndarray:
        return np.random.default_rng(number.start).uniform(-124, 152, shape).astype(np.float32)

    watched = Watched(started)
    watched(load(range(1)))
    began = time.perf_counter()
    batches = max(2, given.images // given.batch_size)
    for images in load_ahead(load, [range(i, i + 1) for i in range(batches)]):
        watched(images)
    rate = batches * given.batch_size / (time.perf_counter() - began)
    exact = Network(backbone, frozen.weights, LAYERS, given.image_size).start("keras", 4, "cpu")
    images = noise(given.image_size)
    received, expected = started(images), exact(images)
    return rate, watched.busy, max(relative_error(received[name], expected[name]) for name in LAYERS)


def trained(precision: str, device: str, given: argparse.Namespace) -> float:
    """Return the images a second of training the last block and the head from activations in memory."""
    backbone = BACKBONES["vgg16"]
    cut = {"input_layer": "block4_pool", "unfreeze_from": "block5_conv1", "precision": POLICIES[precision]}
    architecture = Architecture("vgg16", given.image_size, NUM_CLASSES, **cut)
    recipe = find_recipe("tuned", "finetune", given.images)
    generator = np.random.default_rng(0)
    inputs = generator.standard_normal((given.batch_size, *architecture.input_shape)).astype(np.float32)
    targets = np.eye(NUM_CLASSES, dtype=np.float32)[generator.integers(0, NUM_CLASSES, given.batch_size)]
    steps = max(2, given.images // given.batch_size // 4)
    with computing_on(device):
        model = network.build(architecture, load_weights("random", backbone, 0), seed=0)
        compile_model(model, recipe, network.depths(model, architecture), on_gpu=device == "gpu")

        def train() -> None:
            for _ in range(steps):
                logs = model.train_on_batch(inputs, targets, return_dict=True)
            float(logs["loss"])

        return steps * given.batch_size / _seconds(train, repeats=3)


if __name__ == "__main__":
    main()
