"""What runs the frozen network: which engines there are, which is taken, and Keras' as one compiled forward pass."""

from typing import Any

import numpy as np

from thaw.features.backbones.registry import Backbone
from thaw.features.backbones.weights import Weights
from thaw.features.engines.backend import computing_on, pin_threads


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
        from thaw.features.backbones.keras_model import build_frozen, truncate

        pin_threads()
        self.device, self.batch_size, self.layers = device, batch_size, layers
        self._scope = lambda: computing_on(device)
        self._backbone = backbone
        with self._scope():
            self.network = build_frozen(backbone, image_size, weights.tensors)
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
