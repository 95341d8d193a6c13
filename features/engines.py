"""One compiled forward pass of the frozen network over batches of one fixed shape."""

from typing import Any

import numpy as np

from features.backbones import Backbone, build_frozen, truncate
from features.errors import InputError
from features.weights import Weights

ENGINES = ("auto", "keras")
DEVICES = ("auto", "cpu", "gpu")


def resolve_device(requested: str) -> str:
    """Return `gpu` or `cpu`; `auto` takes a GPU if there is one. Raises InputError where a GPU is asked for in vain."""
    import keras

    has_gpu = bool(keras.distribution.list_devices("gpu"))
    if requested == "gpu" and not has_gpu:
        raise InputError(
            "--device gpu: the backend sees no GPU; type --device cpu, or make setup EXTRA=gpu on a machine with one"
        )
    return "gpu" if has_gpu and requested != "cpu" else "cpu"


class KerasEngine:
    """The frozen network as one compiled Keras function.

    Called with float32 (n, S, S, 3), n at most `batch_size`, it returns one float32 array (n, H, W, C) per layer.
    A smaller batch is filled up with zeros, so that the function is compiled once and an image's features do not
    depend on how full its batch was.
    """

    name = "keras"

    def __init__(
        self,
        backbone: Backbone,
        weights: Weights,
        layers: tuple[str, ...],
        image_size: int,
        batch_size: int = 64,
        device: str = "cpu",
    ):
        import keras

        self.device, self.batch_size, self.layers = device, batch_size, layers
        self._scope = lambda: keras.device(f"{device}:0")
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
        return {name: np.asarray(output)[:count] for name, output in zip(self.layers, outputs, strict=True)}


def describe(engine: KerasEngine) -> str:
    """Return the network's layers with their output shapes, one a line, and whether each is frozen."""
    lines = []
    for layer in engine.network.layers:
        shape = "x".join(str(side) for side in layer.output.shape[1:])
        lines.append(f"  {layer.name:<14} {shape:>12}  {'trainable' if layer.trainable else 'frozen'}")
    total = sum(int(np.prod(weight.shape)) for weight in engine.network.weights)
    trainable = sum(int(np.prod(weight.shape)) for weight in engine.network.trainable_weights)
    lines.append(f"  {total:,} parameters, {trainable:,} of them trainable")
    return "\n".join(lines)
