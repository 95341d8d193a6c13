"""Images per second through the frozen network, beside Keras' own `model.predict` in the same run.

`python -m benchmarks.extraction` starts one process per contender (TensorFlow reads its oneDNN switch at import), then
lets them take turns over the same images; start-up and compilation are not counted. The peers are `model.predict` with
TensorFlow's defaults on this processor, and with oneDNN off, the default on processors without AVX512-VNNI, AVX-VNNI or
AMX.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np

CONTENDERS = {"engine": "1", "predict, TensorFlow's defaults": None, "predict, oneDNN off": "0"}
IMAGE_SIZE = 48


def serve(contender: str, num_images: int) -> None:
    """Answer each line on standard input with the seconds that one pass over the images took."""
    images = np.random.default_rng(0).uniform(-124, 152, (num_images, IMAGE_SIZE, IMAGE_SIZE, 3)).astype(np.float32)
    run = _engine() if contender == "engine" else _predict()
    run(images[:128])
    for _ in sys.stdin:
        began = time.perf_counter()
        output = run(images)
        seconds = time.perf_counter() - began
        print(json.dumps({"seconds": seconds, "norm": float(np.linalg.norm(output))}), flush=True)


def _engine() -> Callable[[np.ndarray], np.ndarray]:
    from features.backbones import BACKBONES
    from features.engines import KerasEngine
    from features.weights import load_weights

    engine = KerasEngine(BACKBONES["vgg16"], load_weights("random", BACKBONES["vgg16"]), ("block5_pool",), IMAGE_SIZE)
    size = engine.batch_size

    def run(images: np.ndarray) -> np.ndarray:
        batches = [engine(images[i : i + size])["block5_pool"] for i in range(0, len(images), size)]
        return np.concatenate(batches)

    return run


def _predict() -> Callable[[np.ndarray], np.ndarray]:
    import keras  # noqa: F401, I001  # first, since importing `features` turns oneDNN on where nothing else is said
    from features.backbones import BACKBONES, build_frozen
    from features.weights import load_weights

    model = build_frozen(BACKBONES["vgg16"], IMAGE_SIZE, load_weights("random", BACKBONES["vgg16"]))
    return lambda images: model.predict(images, verbose=0)


def _start(contender: str, switch: str | None, num_images: int) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if name != "TF_ENABLE_ONEDNN_OPTS"}
    if switch is not None:
        environment["TF_ENABLE_ONEDNN_OPTS"] = switch
    command = [sys.executable, "-m", "benchmarks.extraction", "--serve", contender, "--images", str(num_images)]
    return subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )


def compare(num_images: int, repeats: int) -> dict[str, object]:
    """Return each contender's median images per second, and the engine's rate over each peer's."""
    processes = {name: _start(name, switch, num_images) for name, switch in CONTENDERS.items()}
    rates: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    norms: dict[str, float] = {}
    for _ in range(repeats):
        for name, process in processes.items():
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write("go\n")
            process.stdin.flush()
            answer = json.loads(process.stdout.readline())
            rates[name].append(num_images / answer["seconds"])
            norms[name] = answer["norm"]
    for process in processes.values():
        process.kill()
        process.wait()
    medians = {name: statistics.median(values) for name, values in rates.items()}
    return {
        "images": num_images,
        "repeats": repeats,
        "images_per_second": {name: round(rate, 1) for name, rate in medians.items()},
        "engine_over_peer": {name: round(medians["engine"] / rate, 3) for name, rate in medians.items()},
        "largest_difference_of_norms": max(abs(norm / norms["engine"] - 1) for norm in norms.values()),
    }


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--serve", choices=CONTENDERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, options.images)
    else:
        print(json.dumps(compare(options.images, options.repeats), indent=2))


if __name__ == "__main__":
    main()
