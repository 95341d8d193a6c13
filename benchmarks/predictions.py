"""Is what a model says the same everywhere, and how fast: `python -m benchmarks.predictions RUN --images FOLDER`.

FOLDER holds the run's images at their ids, for a zipped folder unpacked. On the first test images the labels and
probabilities of `predict`, of each export and of the page's API are compared with predictions.csv; the speed of
`predict` on all of FOLDER's test images is set beside the bare engine's, and the first label is timed from the start.
"""

import argparse
import asyncio
import csv
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from thaw.features.images.decode import decode

Label = Callable[[list[Path]], np.ndarray]


def expected_of(run: Path, name: str) -> tuple[list[str], np.ndarray]:
    """Return the ids of predictions.csv and its probabilities (N, K)."""
    with (run / name / "predictions.csv").open(encoding="utf-8", newline="") as file:
        _, *rows = csv.reader(file)
    return [row[0] for row in rows], np.array([[float(value) for value in row[3:]] for row in rows])


def by_predict(run: Path, name: str, paths: list[Path]) -> tuple[np.ndarray, str]:
    """Return probabilities (n, K) by the command line, and what it says of its speed."""
    names = json.loads((run / name / "report.json").read_text("utf-8"))["class_names"]
    command = [
        "predict",
        "--run",
        str(run),
        "--strategy",
        name,
        "--format",
        "jsonl",
        "--top",
        str(len(names)),
        "--",
        "-",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", *command],
        input="\n".join(map(str, paths)),
        capture_output=True,
        text=True,
        check=True,
    )
    tops = [
        {item["label"]: item["probability"] for item in json.loads(line)["top"]} for line in done.stdout.splitlines()
    ]
    return np.array([[top[label] for label in names] for top in tops]), done.stderr.strip().splitlines()[-1]


def export(run: Path, name: str, form: str, out: Path) -> Path:
    """Export a strategy and return the path."""
    command = ["export", str(run), "--name", name, "--format", form, "--out", str(out)]
    subprocess.run([sys.executable, "-m", "pipeline", *command], capture_output=True, check=True)
    return out


def by_onnx(path: Path) -> Label:
    """Return what labels by ONNX Runtime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda paths: np.concatenate([session.run(None, {"images": pixels(path)})[0] for path in paths])


def by_keras(path: Path) -> Label:
    """Return what labels by Keras."""
    import keras

    model: Any = keras.models.load_model(path)
    return lambda paths: np.concatenate([np.asarray(model(pixels(path))) for path in paths])


def by_savedmodel(path: Path) -> Label:
    """Return what labels by TensorFlow."""
    import tensorflow as tf

    model: Any = tf.saved_model.load(str(path))
    return lambda paths: np.concatenate([np.asarray(model.serve(pixels(path))) for path in paths])


def by_page(run: Path, name: str) -> Label:
    """Return what labels by the page's application, its requests answered in this process."""
    from thaw.pipeline.inference.loading import load_classifier
    from thaw.pipeline.serving.batching import Labeller

    classifier = load_classifier(run / name)

    async def label(paths: list[Path]) -> np.ndarray:
        labeller = Labeller(classifier, None, 10**8)
        found = []
        for start in range(0, len(paths), classifier.batch_size):
            batch = [path.read_bytes() for path in paths[start : start + classifier.batch_size]]
            found += await asyncio.gather(*(labeller.label(body) for body in batch))
        return np.array([each.probabilities for each in found])

    return lambda paths: asyncio.run(label(paths))


def pixels(path: Path) -> np.ndarray:
    """Return one image as uint8 (1, H, W, 3)."""
    return decode(path, path.name)[np.newaxis]


def compare(what: str, received: np.ndarray, expected: np.ndarray) -> None:
    """Print how many labels are equal and the largest difference of a probability."""
    same = int((received.argmax(axis=1) == expected.argmax(axis=1)).sum())
    worst = float(np.abs(received - expected).max())
    print(f"{what}: {same:,} of {len(expected):,} labels equal, probabilities to {worst:.1e}", flush=True)


def time_predict(run: Path, name: str, paths: list[Path]) -> None:
    """Print the speed of `predict` beside the bare engine's, and the seconds to the first label."""
    from thaw.pipeline.inference.loading import load_classifier

    classifier = load_classifier(run / name)
    size = classifier.record["image_size"]
    inputs = np.random.default_rng(0).uniform(-120, 130, (classifier.batch_size, size, size, 3)).astype(np.float32)
    num_batches = -(-len(paths) // classifier.batch_size)
    for _ in range(2):
        if classifier.networks.engines:
            classifier.networks(inputs)
            began = time.perf_counter()
            for _ in range(num_batches):
                classifier.networks(inputs)
            bare = num_batches * len(inputs) / (time.perf_counter() - began)
            print(f"bare engine: {bare:.0f} images/s; predict: {by_predict(run, name, paths)[1]}", flush=True)
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        by_predict(run, name, paths[:1])
        seconds.append(time.perf_counter() - began)
    print(f"first label after {np.median(seconds):.2f} s (median of 5 starts)", flush=True)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--images", type=Path, required=True, help="the folder that the ids are relative to")
    parser.add_argument("--names", default="svm", help="strategies, joined by commas")
    parser.add_argument("--count", type=int, default=1000, help="test images that are compared")
    parser.add_argument("--speed", action="store_true", help="time predict too")
    options = parser.parse_args()
    for name in options.names.split(","):
        ids, expected = expected_of(options.run, name)
        paths = [options.images / image for image in ids]
        step = max(1, len(paths) // options.count)
        some, theirs = paths[::step][: options.count], expected[::step][: options.count]
        compare(f"{name}, predict", by_predict(options.run, name, some)[0], theirs)
        with tempfile.TemporaryDirectory() as folder:
            makers = {"onnx": by_onnx, "keras": by_keras, "savedmodel": by_savedmodel}
            for form, maker in makers.items():
                out = Path(folder) / ("model.keras" if form == "keras" else form)
                compare(f"{name}, {form}", maker(export(options.run, name, form, out))(some), theirs)
        compare(f"{name}, page", by_page(options.run, name)(some), theirs)
        if options.speed:
            time_predict(options.run, name, paths)


if __name__ == "__main__":
    main()
