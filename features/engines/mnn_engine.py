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
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from thaw.features.backbones.registry import Backbone
from thaw.features.backbones.weights import Weights
from thaw.features.engines.mnn_cache import keep_model, kept_model
from thaw.features.errors import InputError
from thaw.features.files.atomic import check_space
from thaw.features.onnx import network
from thaw.features.processor import num_cores

CONVERTER = "_tools"  # the module of MNN's wheel that holds it
CONVERT = f"import sys, {CONVERTER}; {CONVERTER}.mnnconvert(sys.argv[1:])"


def mnn_version() -> str | None:
    """Return the version of MNN, None if it is not installed or cannot be loaded."""
    try:
        with _native_output_dropped():
            import MNN  # noqa: F401
        return version("MNN") if find_spec(CONVERTER) else None
    except (ImportError, PackageNotFoundError):
        return None


def engine_digest() -> str:
    """Return the SHA-256 over what computes: MNN's two native libraries and the files here that make their input."""
    digest, ours = hashlib.sha256(), Path(__file__).parent.parent
    libraries = [Path(str(spec.origin)) for name in ("_mnncengine", CONVERTER) if (spec := find_spec(name))]
    kinds = (f"{place}/**/*.{ending}" for place in ("backbones", "onnx") for ending in ("py", "json"))
    sources = (sorted(ours.glob(kind)) for kind in kinds)
    for path in (*libraries, Path(__file__), *chain.from_iterable(sources)):
        digest.update(path.read_bytes())
    return digest.hexdigest()


class MNNEngine:
    """The frozen network, truncated above the last of `layers`, as a session of MNN.

    Called with float32 (n, S, S, 3), n at most `batch_size`, it returns one float32 array (n, H, W, C) per layer, the
    caller's own. A smaller batch is filled up with zeros, since MNN plans its memory for one shape and its numbers
    differ a little with the batch size.
    """

    name, device = "mnn", "cpu"
    libraries = ("MNN", "numpy", "pillow")  # whose versions may change a feature's value

    def __init__(
        self,
        backbone: Backbone,
        weights: Weights,
        layers: tuple[str, ...],
        image_size: int,
        batch_size: int = 64,
        keep: bool = False,
    ):
        """Start the session; with `keep` the converted network is kept in the user's cache folder, or taken from it."""
        backbone.check_image_size(image_size)
        self.batch_size, self.layers = batch_size, layers
        with tempfile.TemporaryDirectory(prefix="thaw-") as folder, _native_output_dropped():
            import MNN

            made_for: dict[str, Any] = {"engine": engine_digest(), "weights": weights.sha256, "backbone": backbone.name}
            made_for |= {"layers": list(layers), "image_size": image_size, "batch_size": batch_size}
            model = kept_model(made_for) if keep else None
            if model is None:
                graph = network.network_graph(backbone, weights, layers, image_size, batch_size)
                model = _convert(graph, Path(folder), _bytes_of_kernels(backbone, layers))
                if keep:
                    keep_model(made_for, model)
            self._interpreter = MNN.Interpreter(str(model))
            self._session = self._interpreter.createSession({"backend": "CPU", "numThread": num_cores()})
        self._input = self._interpreter.getSessionInput(self._session, network.INPUT)
        self._outputs = {name: self._interpreter.getSessionOutput(self._session, name) for name in layers}

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Return layer name -> activations for one batch of network input.

        A session lets other threads run meanwhile; MNN's newer `Module` would hold Python's lock.
        """
        planes = np.zeros(self._input.getShape(), np.float32)
        planes[: len(images)] = images.transpose(0, 3, 1, 2)
        self._input.copyFrom(_host_tensor(planes))
        self._interpreter.runSession(self._session)
        return {name: _received(output, len(images)) for name, output in self._outputs.items()}


def _bytes_of_kernels(backbone: Backbone, layers: tuple[str, ...]) -> int:
    return 4 * sum(operation.num_parameters for operation in backbone.graph.up_to(layers) if operation.convolves)


def _host_tensor(planes: np.ndarray) -> Any:
    """Return a tensor of MNN over `planes` (n, C, H, W) float32."""
    import MNN

    try:
        return MNN.Tensor(planes.shape, MNN.Halide_Type_Float, planes, MNN.Tensor_DimensionType_Caffe)
    except TypeError as error:  # "data load failed" is its message if it gets no memory
        raise MemoryError(f"{planes.nbytes / 1e6:,.0f} MB for a batch in MNN") from error


def _received(output: Any, count: int) -> np.ndarray:
    """Return an output's first images, float32 (count, H, W, C): a copy, since the next pass overwrites MNN's own."""
    host = _host_tensor(np.empty(output.getShape(), np.float32))
    output.copyToHostTensor(host)
    planes = host.getNumpyData().reshape(output.getShape())[:count]
    return np.array(planes.transpose(0, 2, 3, 1), order="C")


def _convert(graph: bytes, folder: Path, least_bytes: int) -> Path:
    """Write `graph` as a model file of MNN into `folder` and return its path; raises InputError if that fails.

    A whole model has `least_bytes` or more, those of its kernels, give or take one in a hundred.

    The converter's native function is called, in a process of its own: its protobuf and TensorFlow's exclude each
    other. The package's own wrapper around it, MNN.tools, is never imported: on import it installs a client and reports
    usage over the network.
    """
    source, model = folder / "network.onnx", folder / "network.mnn"
    check_space(source, 2 * len(graph))  # a full disk cuts the model short, and the converter does not report it
    source.write_bytes(graph)
    files = ["--modelFile", str(source), "--MNNModel", str(model)]
    arguments = ["mnnconvert", "-f", "ONNX", *files, "--bizCode", "thaw"]
    # -P: not a file of that name in the folder that the user happens to be in.
    done = subprocess.run([sys.executable, "-P", "-c", CONVERT, *arguments], capture_output=True, check=False)  # noqa: S603
    if not model.is_file() or model.stat().st_size < 0.99 * least_bytes:
        output = (done.stderr or done.stdout).decode(errors="replace").strip()
        reason = (output.splitlines() or [f"exit {done.returncode}"])[-1]
        raise InputError(f"MNN's converter wrote no whole model into {folder} ({reason}); type --engine keras")
    return model


@contextmanager
def _native_output_dropped() -> Iterator[None]:
    """Drop what native code prints to standard output, which is for results: MNN prints there what it loads."""
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
