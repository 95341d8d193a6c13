"""The frozen network with its weights, started on one engine or another."""

import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from thaw.features.backbones.graph import Tensors
from thaw.features.backbones.registry import Backbone, get_backbone
from thaw.features.backbones.weights import TensorsLater, Weights, load_weights
from thaw.features.engines import agreement
from thaw.features.engines.keras_engine import KerasEngine
from thaw.features.engines.mnn_engine import MNNEngine, engine_digest
from thaw.features.errors import InputError
from thaw.features.processor import num_cores, processor_name


@dataclass(frozen=True)
class Network:
    """The frozen network with its weights, for one image size, and the layers whose activations it gives.

    `precision` is that of the arithmetic: `float32`, or `bfloat16` or `float16` with the `keras` engine. With `keep`
    what MNN needs is kept in the user's cache folder, so that it starts a second sooner the next time. By `source` and
    `seed`, as in `load_weights`, another machine that the network is sent to finds its own copy of the weights.
    """

    backbone: Backbone
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
        for layer in backbone.layers:
            shape = "x".join(str(size) for size in backbone.output_shape(layer.name, self.image_size))
            lines.append(f"  {layer.name:<{backbone.name_width}} {shape:>12}  frozen")
        total, _ = backbone.cost(backbone.layers[-1].name, self.image_size)
        return "\n".join([*lines, f"  {total:,} parameters, 0 of them trainable"])

    def start(self, engine: str, batch_size: int, device: str = "cpu") -> KerasEngine | MNNEngine:
        """Return the engine of that name, ready to run."""
        given = (self.backbone, self.weights, self.layers, self.image_size, batch_size)
        if engine == "mnn":
            return MNNEngine(*given, keep=self.keep)
        from thaw.features.backbones.keras_model import dtype_policy

        with dtype_policy("float32" if self.precision == "float32" else f"mixed_{self.precision}"):
            return KerasEngine(*given, device)

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
    backbone, (source, seed, sha256) = get_backbone(name), weights

    def load() -> Tensors:
        own = load_weights(source, backbone, seed)
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
