"""The frozen network as one compiled forward pass of Keras, on any of its backends."""

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
