"""The frozen network through MNN's Winograd convolutions, on a CPU."""

import ctypes
import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from features.backbones import Backbone
from features.errors import InputError
from features.onnx_graph import INPUT, network_graph
from features.processor import num_cores
from features.weights import Weights
from features.wholefiles import check_space

CONVERTER = "_tools"  # the module of MNN's wheel that holds it
CONVERT = f"import sys, {CONVERTER}; {CONVERTER}.mnnconvert(sys.argv[1:])"


def mnn_version() -> str | None:
    """Return the version of MNN, None where it is not installed or cannot be loaded."""
    try:
        with _native_output_dropped():
            import MNN.nn  # noqa: F401
        return version("MNN") if find_spec(CONVERTER) else None
    except (ImportError, PackageNotFoundError):
        return None


def engine_digest() -> str:
    """Return the SHA-256 over what computes: MNN's two native libraries and the files here that make their input."""
    digest = hashlib.sha256()
    for module in ("_mnncengine", CONVERTER, __name__, network_graph.__module__):
        spec = find_spec(module)
        digest.update(Path(str(spec and spec.origin)).read_bytes())
    return digest.hexdigest()


class MNNEngine:
    """The frozen network, truncated above the last of `layers`, as a module of MNN.

    Called with float32 (n, S, S, 3), n at most `batch_size`, it returns one float32 array (n, H, W, C) per layer, the
    caller's own. A smaller batch is filled up with zeros, since MNN plans its memory for one shape and its numbers
    differ a little with the batch size.
    """

    name, device = "mnn", "cpu"
    libraries = ("MNN", "numpy", "pillow")  # whose versions may change a feature's value

    def __init__(
        self, backbone: Backbone, weights: Weights, layers: tuple[str, ...], image_size: int, batch_size: int = 64
    ):
        backbone.check_image_size(image_size)
        self.batch_size, self.layers = batch_size, layers
        self._backbone, self._image_size = backbone, image_size
        self._shape = (batch_size, 3, image_size, image_size)
        with tempfile.TemporaryDirectory(prefix="thaw-") as folder, _native_output_dropped():
            import MNN.nn

            model = _convert(network_graph(backbone, weights, layers, image_size, batch_size), Path(folder))
            self._runtime = MNN.nn.create_runtime_manager(({"backend": "CPU", "numThread": num_cores()},))
            self._module = MNN.nn.load_module_from_file(
                str(model), [INPUT], list(layers), runtime_manager=self._runtime
            )

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Return layer name -> activations for one batch of network input."""
        from MNN import expr

        planes = np.zeros(self._shape, np.float32)
        planes[: len(images)] = images.transpose(0, 3, 1, 2)
        outputs = self._module.forward([expr.const(planes, self._shape, expr.NCHW)])
        # What MNN hands out is its own memory, which the next pass overwrites: copied even where the order would do.
        received = [np.array(output.read()[: len(images)].transpose(0, 2, 3, 1), order="C") for output in outputs]
        return dict(zip(self.layers, received, strict=True))

    def describe(self) -> str:
        """Return the network's layers with their output shapes, one a line."""
        lines = []
        for layer in self._backbone.layers:
            shape = "x".join(str(side) for side in self._backbone.output_shape(layer.name, self._image_size))
            lines.append(f"  {layer.name:<14} {shape:>12}  frozen")
        total = sum(9 * layer.in_channels * layer.channels + layer.channels for layer in self._backbone.convolutions)
        return "\n".join([*lines, f"  {total:,} parameters, 0 of them trainable"])


def _convert(graph: bytes, folder: Path) -> Path:
    """Write `graph` as a model file of MNN into `folder` and return its path; raises InputError where that fails.

    The converter's native function is called, in a process of its own: its protobuf and TensorFlow's do not bear each
    other. The package's own wrapper around it, MNN.tools, is never imported: on import it installs a client and reports
    usage over the network.
    """
    source, model = folder / "network.onnx", folder / "network.mnn"
    check_space(source, 2 * len(graph))  # a disk that is full cuts the model short, and the converter does not say so
    source.write_bytes(graph)
    files = ["--modelFile", str(source), "--MNNModel", str(model)]
    arguments = ["mnnconvert", "-f", "ONNX", *files, "--bizCode", "thaw"]
    # -P: not a file of that name in the folder that the user happens to be in.
    subprocess.run([sys.executable, "-P", "-c", CONVERT, *arguments], capture_output=True, check=False)  # noqa: S603
    if not model.is_file() or model.stat().st_size < 0.99 * len(graph):
        raise InputError(f"MNN's converter wrote no whole model into {folder}; type --engine keras")
    return model


@contextmanager
def _native_output_dropped() -> Iterator[None]:
    """Drop what native code prints to standard output, which is for results: MNN says there what it loads."""
    library, kept = ctypes.CDLL(None), os.dup(1)
    try:
        library.fflush(None)
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123
            os.dup2(nowhere.fileno(), 1)
        yield
    finally:
        library.fflush(None)  # C keeps what it printed until its buffer is full
        os.dup2(kept, 1)
        os.close(kept)
