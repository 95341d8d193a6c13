"""The frozen network through ONNX Runtime, on a CPU: one of our own, or one from a file."""

import numpy as np

from thaw.features.onnx.network import INPUT
from thaw.features.onnx.runtime import runtime_errors, start_session


class OnnxRuntimeEngine:
    """A network as a session of ONNX Runtime.

    Called with float32 (n, S, S, 3), n at most `batch_size`, it returns one float32 array (n, H, W, C) per layer, the
    caller's own. A smaller batch is filled up with zeros, so that an image's features do not depend on how full its
    batch was.
    """

    name, device = "onnxruntime", "cpu"
    libraries = ("onnxruntime", "numpy", "pillow")  # whose versions may change a feature's value

    def __init__(self, graph: bytes, layers: tuple[str, ...], batch_size: int, at_once: int | None = None):
        """Start the session.

        Args:
            graph: the serialised model: `images` float32 (N, 3, S, S) -> each of `layers`, float32 (N, C, H, W).
            layers: the names of the outputs.
            batch_size: the images in one call, at most.
            at_once: the N of the model, None if it takes any.

        Raises:
            InputError: ONNX Runtime cannot run the model.
        """
        self.batch_size, self.layers, self._at_once = batch_size, layers, at_once or batch_size
        with runtime_errors("ONNX Runtime cannot run the network"):
            self._session = start_session(graph)

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Return layer name -> activations for one batch of network input."""
        count, step = len(images), self._at_once
        planes = np.zeros((-(-count // step) * step, *(images.shape[axis] for axis in (3, 1, 2))), np.float32)
        planes[:count] = images.transpose(0, 3, 1, 2)
        with runtime_errors("ONNX Runtime cannot run the network"):
            parts = [
                self._session.run(list(self.layers), {INPUT: planes[start : start + step]})
                for start in range(0, len(planes), step)
            ]
        return {
            layer: np.ascontiguousarray(np.concatenate(outputs)[:count].transpose(0, 2, 3, 1))
            for layer, outputs in zip(self.layers, zip(*parts, strict=True), strict=True)
        }
