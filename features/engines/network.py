"""The frozen network with its weights, started on one engine or another."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from thaw.features.backbones.registry import Backbone
from thaw.features.backbones.weights import Weights
from thaw.features.engines import agreement
from thaw.features.engines.keras_engine import KerasEngine
from thaw.features.engines.mnn_engine import MNNEngine, engine_digest
from thaw.features.processor import num_cores, processor_name


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
