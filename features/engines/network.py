"""The frozen network with its weights, started on one engine or another."""

import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from thaw.features.backbones.graph import Tensors
from thaw.features.backbones.weights import TensorsLater, Weights
from thaw.features.engines import agreement
from thaw.features.engines.keras_engine import KerasEngine
from thaw.features.engines.mnn_engine import MNNEngine, engine_digest
from thaw.features.engines.onnxruntime_engine import OnnxRuntimeEngine
from thaw.features.errors import InputError
from thaw.features.foreign.extractors import Extractor, get_extractor, trainable_backbone, weights_of
from thaw.features.foreign.graphs import network_graph_of
from thaw.features.foreign.network import OnnxNetwork
from thaw.features.onnx.network import network_graph
from thaw.features.processor import num_cores, processor_name


@dataclass(frozen=True)
class Network:
    """The frozen network with its weights, for one image size, and the layers whose activations it gives.

    `precision` is that of the arithmetic: `float32`, or `bfloat16` or `float16` with the `keras` engine. With `keep`
    what MNN needs is kept in the user's cache folder, so that it starts a second sooner the next time. By `source` and
    `seed`, as in `load_weights`, another machine that the network is sent to finds its own copy of the weights.
    """

    backbone: Extractor
    weights: Weights
    layers: tuple[str, ...]
    image_size: int
    precision: str = "float32"
    keep: bool = False
    source: str = "imagenet"
    seed: int = 0

    def __reduce__(self) -> tuple[Any, ...]:
        """Send all but the weights' tensors, which the other machine reads itself when it starts an engine."""
        weights = (self.source, self.seed, self.weights.sha256)
        return _received, (self.backbone.name, weights, self.layers, self.image_size, self.precision)

    def check_weights(self) -> None:
        """Read the weights if that was not done yet; raises InputError if they are missing or others."""
        len(self.weights.tensors)

    def describe(self) -> str:
        """Return the network's layers with their output shapes, one a line, and the number of its parameters."""
        backbone, lines = self.backbone, []
        own = isinstance(backbone, OnnxNetwork)  # its layers are those that were asked for
        for name in self.layers if own else (layer.name for layer in backbone.layers):
            shape = "x".join(str(size) for size in backbone.output_shape(name, self.image_size))
            lines.append(f"  {name:<{backbone.name_width}} {shape:>12}  frozen")
        return "\n".join([*lines, f"  {self._num_parameters():,} parameters, 0 of them trainable"])

    def _num_parameters(self) -> int:
        if isinstance(self.backbone, OnnxNetwork):
            return self.backbone.num_parameters
        return self.backbone.cost(self.backbone.layers[-1].name, self.image_size)[0]

    def start(self, engine: str, batch_size: int, device: str = "cpu") -> "Engine":
        """Return the engine of that name, ready to run."""
        if engine == "onnxruntime":
            return self._start_onnxruntime(batch_size)
        backbone = trainable_backbone(self.backbone.name, f"--engine {engine}")
        given = (backbone, self.weights, self.layers, self.image_size, batch_size)
        if engine == "mnn":
            return MNNEngine(*given, keep=self.keep)
        from thaw.features.backbones.keras_model import dtype_policy

        with dtype_policy("float32" if self.precision == "float32" else f"mixed_{self.precision}"):
            return KerasEngine(*given, device)

    def _start_onnxruntime(self, batch_size: int) -> OnnxRuntimeEngine:
        backbone, layers, size = self.backbone, self.layers, self.image_size
        if isinstance(backbone, OnnxNetwork):
            self.check_weights()  # the file may be another one than the model was trained on
            graph = network_graph_of(backbone, layers, size)
            return OnnxRuntimeEngine(graph, layers, batch_size, backbone.image.batch)
        graph = network_graph(backbone, self.weights, layers, size, batch_size)
        return OnnxRuntimeEngine(graph, layers, batch_size)

    def error_of_mnn(self, batch_size: int, images: Callable[[], np.ndarray]) -> float:
        """Return how far MNN's output is from Keras', as a relative L2 error: the worst image and layer.

        Compared are a few images of noise and `images()`, network input (n, S, S, 3); once for one MNN, set of
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
            compared = np.concatenate([noise, images()])
            reference = self.start("keras", min(batch_size, len(compared)))
            return agreement.compare(self.start("mnn", batch_size), reference, compared, reference.batch_size)

        return agreement.kept_or_measured(made_for, measure)


def _received(name: str, weights: tuple[str, int, str], layers: tuple[str, ...], size: int, precision: str) -> Network:
    """Return a network that another machine sent, with this machine's own weights."""
    source, seed, sha256 = weights
    backbone = get_extractor(name, source)

    def load() -> Tensors:
        own = weights_of(backbone, source, seed)
        if own.sha256 != sha256:
            raise InputError(
                f"{socket.gethostname()} has other weights (sha256 {own.sha256[:12]}..., expected {sha256[:12]}...) "
                f"from {own.source}; put the same file there, or name one on shared storage by --weights PATH"
            )
        return own.tensors

    return Network(
        backbone, Weights(TensorsLater(load), source, sha256), layers, size, precision, source=source, seed=seed
    )


class Engine(Protocol):
    """What runs the network: one batch of network input in, layer name -> activations (n, H, W, C) out."""

    batch_size: int

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Return the activations of one batch."""
