"""What runs the frozen network: which engines there are, which is taken, and Keras' as one compiled forward pass."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from thaw.features.backbones.registry import Backbone, build_frozen, truncate
from thaw.features.backbones.weights import Weights
from thaw.features.engines import agreement
from thaw.features.engines.backend import backend_name, computing_on, pin_threads, sees_gpu
from thaw.features.engines.mnn_engine import MNNEngine, engine_digest, mnn_version
from thaw.features.errors import InputError
from thaw.features.processor import num_cores, processor_name

ENGINES = ("auto", "keras", "mnn")
DEVICES = ("auto", "cpu", "gpu")
GPU_FILES = ("nvidia[0-9]*", "kfd", "dxg")  # in /dev: NVIDIA's, AMD's, and a GPU under WSL


def resolve_device(requested: str) -> str:
    """Return `gpu` or `cpu`; `auto` takes a GPU if there is one. Raises InputError where a GPU is asked for in vain."""
    if requested == "cpu" or (requested == "auto" and not may_have_gpu()):
        return "cpu"
    pin_threads()
    has_gpu = sees_gpu()
    if requested == "gpu" and not has_gpu:
        more = "make setup EXTRA=gpu" if backend_name() == "tensorflow" else f"a build of {backend_name()} for GPUs"
        raise InputError(f"--device gpu: the backend sees no GPU; type --device cpu, or {more} on a machine with one")
    return "gpu" if has_gpu else "cpu"


def may_have_gpu() -> bool:
    """Return whether it is worth the seconds that it takes to ask the backend for a GPU."""
    return sys.platform != "linux" or any(next(Path("/dev").glob(name), None) for name in GPU_FILES)


def choose_engine(engine: str, device: str, precision: str = "float32") -> tuple[str, str]:
    """Return the engine and the device for what was asked for.

    `auto` takes a GPU if there is one, with `keras`; else `mnn` where it is installed; else `keras`, which alone
    computes in another precision than float32. Raises InputError where what was asked for is not there or does not go
    together.
    """
    if engine == "mnn" and precision != "float32":
        raise InputError(f"--engine mnn computes in float32, not with --engine-precision {precision}; leave one out")
    if engine == "mnn" and device == "gpu":
        raise InputError("--engine mnn runs on a CPU, not with --device gpu; leave one of them out")
    if engine == "mnn":
        if mnn_version() is None:
            raise InputError(
                "--engine mnn: MNN is not installed, or cannot be loaded; type make setup, which installs it where it "
                "has a wheel, or --engine keras"
            )
        return "mnn", "cpu"
    device = resolve_device(device)
    takes_mnn = engine == "auto" and (device, precision) == ("cpu", "float32")
    return ("mnn" if takes_mnn and mnn_version() else "keras"), device


class KerasEngine:
    """The frozen network as one compiled Keras function.

    Called with float32 (n, S, S, 3), n at most `batch_size`, it returns one float32 array (n, H, W, C) per layer.
    A smaller batch is filled up with zeros, so that the function is compiled once and an image's features do not
    depend on how full its batch was.
    """

    name = "keras"
    libraries = ("keras", "numpy", "pillow")  # beside the backend's, whose versions may change a feature's value

    def __init__(
        self,
        backbone: Backbone,
        weights: Weights,
        layers: tuple[str, ...],
        image_size: int,
        batch_size: int = 64,
        device: str = "cpu",
    ):
        pin_threads()
        self.device, self.batch_size, self.layers = device, batch_size, layers
        self._scope = lambda: computing_on(device)
        self._backbone = backbone
        with self._scope():
            self.network = build_frozen(backbone, image_size, weights)
            self._model = truncate(self.network, layers)

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Return layer name -> activations for one batch of network input."""
        count = len(images)
        if count < self.batch_size:
            padding = np.zeros((self.batch_size - count, *images.shape[1:]), images.dtype)
            images = np.concatenate([images, padding])
        with self._scope():
            outputs: Any = self._model.predict_on_batch(images)
        outputs = outputs if isinstance(outputs, list | tuple) else [outputs]
        arrays = [np.asarray(output)[:count].astype(np.float32, copy=False) for output in outputs]
        return dict(zip(self.layers, arrays, strict=True))

    def describe(self) -> str:
        """Return the network's cut points with their output shapes, one a line, and whether each is frozen."""
        lines, width = [], self._backbone.name_width
        image, *layers = self.network.layers
        for layer in (image, *(layer for layer in layers if layer.name in self._backbone.graph.cuts)):
            shape = "x".join(str(side) for side in layer.output.shape[1:])
            lines.append(f"  {layer.name:<{width}} {shape:>12}  {'trainable' if layer.trainable else 'frozen'}")
        total = sum(int(np.prod(weight.shape)) for weight in self.network.weights)
        trainable = sum(int(np.prod(weight.shape)) for weight in self.network.trainable_weights)
        lines.append(f"  {total:,} parameters, {trainable:,} of them trainable")
        return "\n".join(lines)


@contextmanager
def _arithmetic(precision: str) -> Iterator[None]:
    """Let layers that are built compute in `precision`, with their weights in float32."""
    import keras

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32" if precision == "float32" else f"mixed_{precision}")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


@dataclass(frozen=True)
class Network:
    """What an engine runs: the frozen network with its weights, for one image size, and the layers to be given.

    `precision` is that of the arithmetic: `float32`, or `bfloat16` or `float16` with the `keras` engine. With `keep`
    what MNN needs is kept in the user's cache folder, so that it starts a second sooner the next time.
    """

    backbone: Backbone
    weights: Weights
    layers: tuple[str, ...]
    image_size: int
    precision: str = "float32"
    keep: bool = False

    def start(self, engine: str, batch_size: int, device: str = "cpu") -> KerasEngine | MNNEngine:
        """Return the engine of that name, ready to run."""
        given = (self.backbone, self.weights, self.layers, self.image_size, batch_size)
        if engine == "mnn":
            return MNNEngine(*given, keep=self.keep)
        with _arithmetic(self.precision):
            return KerasEngine(*given, device)

    def error_of_mnn(self, batch_size: int, pictures: Callable[[], np.ndarray]) -> float:
        """Return how far MNN's output is from Keras', as a relative L2 error: the worst image and layer.

        Compared are a few images of noise and `pictures()`, network input (n, S, S, 3); once for one MNN, set of
        weights and processor, then taken from the user's cache folder.
        """
        made_for = {
            "engine": "mnn",
            "engine_sha256": engine_digest(),
            "weights_sha256": self.weights.sha256,
            "processor": processor_name(),
            "cores": num_cores(),
            "layers": list(self.layers),
            "image_size": self.image_size,
            "batch_size": batch_size,
        }

        def measure() -> float:
            noise = agreement.noise(self.image_size, self.backbone.normalization)
            images = np.concatenate([noise, pictures()])
            reference = self.start("keras", min(batch_size, len(images)))
            return agreement.compare(self.start("mnn", batch_size), reference, images, reference.batch_size)

        return agreement.kept_or_measured(made_for, measure)
