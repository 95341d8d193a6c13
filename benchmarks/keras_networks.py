"""Every network of `keras.applications` against Keras itself: `.venv/bin/python -m benchmarks.keras_networks`.

Weights are drawn, with biases, means and variances that are not neutral, since Keras' own files are often out of
reach; each network is built by Keras as if with its ImageNet weights. Compared are the features of the default layers
at the least image size and at one pixel more, so that every padding is seen at even and odd sizes. It takes half an
hour on two cores, and ends with exit code 1 if an engine is further from Keras than it may be.
"""

import argparse
import json
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from thaw.features.backbones.applications.graph_files import read_list
from thaw.features.files.atomic import write_whole

OUT = Path(__file__).parent / "keras_networks.json"
LIMITS = {"keras": 1e-5, "mnn": 1e-3, "onnxruntime": 1e-3}  # relative L2 error of an image
BATCH = 2
RANGES = {"gamma": (0.5, 1.2), "moving_variance": (0.5, 2.0), "variance": (0.04, 0.06)}


def draw(variable: Any, generator: np.random.Generator) -> np.ndarray:
    """Return values for a variable of Keras: kernels normal with variance 2 / fan-in, others uniform."""
    kind, shape = variable.path.rpartition("/")[2], tuple(variable.shape)
    if "kernel" in kind:
        by_channel = kind == "depthwise_kernel" or "dwconv" in variable.path or "depthwise" in variable.path
        fan_in = np.prod(shape[: 2 if by_channel else len(shape) - 1])
        return generator.normal(0, (2 / fan_in) ** 0.5, shape)
    return generator.uniform(*RANGES.get(kind, (-0.3, 0.3)), shape) if kind != "count" else np.zeros(shape)


def draw_weights(model: Any) -> None:
    """Give a model of Keras seeded weights."""
    import keras

    generator = np.random.default_rng(1)
    for variable in model.weights:
        variable.assign(draw(variable, generator))
    for layer in model.layers:
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()  # it computes with the new mean and variance from then on, as after Keras' loading


def errors(name: str) -> dict[str, Any]:
    """Return the largest relative L2 error of an image, a layer and a size on each engine, and the seconds taken."""
    import keras
    import tensorflow as tf

    from benchmarks.keras_graphs import as_published
    from thaw.features.backbones.applications.reader import layers_by_operation, tensors_by_operation
    from thaw.features.backbones.registry import BACKBONES
    from thaw.features.backbones.weights import Weights
    from thaw.features.engines.agreement import relative_error
    from thaw.features.images.preprocess import normalize

    tf.config.run_functions_eagerly(True)  # to compile a network takes longer than what it computes here
    began, backbone = time.perf_counter(), BACKBONES[name]
    layers = tuple(backbone.default_layers.split(","))
    found = dict.fromkeys(LIMITS, 0.0)
    for size in (backbone.min_image_size, backbone.min_image_size + 1):
        model, _ = as_published(str(backbone.builder), size)
        draw_weights(model)
        weights = Weights.checked(tensors_by_operation(model), "drawn", backbone)
        own = layers_by_operation(model)
        images = np.random.default_rng(0).uniform(0, 255, (BATCH, size, size, 3)).astype(np.float32)
        inputs = normalize(images, backbone.normalization)
        expected = keras.Model(model.input, [own[layer].output for layer in layers])(inputs, training=False)
        del model, own
        for engine in LIMITS:
            received = _features(engine, (backbone, weights, layers, size, BATCH), inputs)
            for layer, values in zip(layers, expected, strict=True):
                found[engine] = max(found[engine], relative_error(received[layer], np.asarray(values)))
    return {"name": name, **found, "seconds": round(time.perf_counter() - began, 1)}


def _features(engine: str, network: Any, inputs: np.ndarray) -> dict[str, np.ndarray]:
    """Return the features of an engine, layer -> (n, H, W, C)."""
    if engine == "keras":
        from thaw.features.engines.keras_engine import KerasEngine

        return KerasEngine(*network)(inputs)
    if engine == "mnn":
        from thaw.features.engines.mnn_engine import MNNEngine

        return MNNEngine(*network)(inputs)
    import onnxruntime

    from thaw.features.onnx.network import INPUT, network_graph

    session = onnxruntime.InferenceSession(network_graph(*network), providers=["CPUExecutionProvider"])
    outputs = session.run(list(network[2]), {INPUT: np.ascontiguousarray(inputs.transpose(0, 3, 1, 2))})
    return {layer: output.transpose(0, 2, 3, 1) for layer, output in zip(network[2], outputs, strict=True)}


def main() -> int:
    """Compare the networks, each in a process of its own, and write what came out; return 1 if one is too far off.

    Rows of other networks in the file stay as they are.
    """
    names = [row["name"] for row in read_list()]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME")
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    kept = json.loads(given.out.read_text(encoding="utf-8")) if given.out.is_file() else []
    rows = {row["name"]: row for row in kept}
    for name in given.only:
        with ProcessPoolExecutor(1, get_context("spawn")) as one:
            row = rows[name] = one.submit(errors, name).result()
        print(" ".join(f"{key} {value:.1e}" if key in LIMITS else str(value) for key, value in row.items()), flush=True)
        with write_whole(given.out) as file:
            file.write("[\n" + ",\n".join(json.dumps(rows[name]) for name in names if name in rows) + "\n]\n")
    measured = (rows[name] for name in given.only)
    too_far = [f"{row['name']} on {engine}" for row in measured for engine in LIMITS if row[engine] > LIMITS[engine]]
    if too_far:
        print(f"further from Keras than allowed: {', '.join(too_far)}", file=sys.stderr)
    return int(bool(too_far))


if __name__ == "__main__":
    sys.exit(main())
