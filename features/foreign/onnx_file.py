"""Read a network from an ONNX file, and refuse what is no plain network of images, without running anything of it."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thaw.features.errors import FILE_ERRORS, InputError, shown
from thaw.features.foreign.external_data import read_into, type_name
from thaw.features.onnx.builder import MOST_BYTES
from thaw.features.onnx.network import OPSET

STANDARD_DOMAINS = ("", "ai.onnx")
RANDOM = ("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike")
RANKS = (2, 3, 4)  # of an output that features are taken from: (N, D), (N, T, D), and maps


@dataclass(frozen=True)
class ImageInput:
    """The input of a network: its name, and what its declared shape says.

    `size` is the side of its square images in pixels, and `batch` the number of images at once, None if free.
    """

    name: str
    channels_first: bool
    size: int | None
    batch: int | None


@dataclass(frozen=True)
class OnnxContent:
    """A network from an ONNX file: the model (onnx.ModelProto), its input, and the outputs that features come from.

    `sha256` is the digest of the file; if tensors lie in other files, of its digest and theirs.
    """

    model: Any
    image: ImageInput
    outputs: tuple[str, ...]
    sha256: str


def read_onnx(path: Path) -> OnnxContent:
    """Return the network in an ONNX file; raises InputError if it is damaged, or is not what can be used here."""
    model, content_sha256, size = _parsed(path)
    _check_operators(path, model)
    try:
        others = read_into(list(_tensors(model)), path.parent, MOST_BYTES - size)
    except InputError as error:
        raise refused(path, str(error)) from None
    digest = hashlib.sha256(content_sha256.digest() + b"".join(others)) if others else content_sha256
    if opset_of(model) < OPSET:
        model = _raised(path, model)
    return OnnxContent(model, _image_input(path, model), _outputs(path, model), digest.hexdigest())


def refused(path: Path, reason: str) -> InputError:
    """Return the error for a file that is not used: the reason says what was received and what to do."""
    return InputError(f"--backbone onnx:{shown(path)}: {reason}")


def _parsed(path: Path) -> tuple[Any, Any, int]:
    """Return the model as the file has it, the digest of the file (of hashlib), and its bytes."""
    from google.protobuf.message import DecodeError
    from onnx import ModelProto

    if not path.is_file():
        expected = "expected a network that was exported as .onnx; a trained model's that was moved: --weights PATH"
        raise refused(path, f"there is no such file; {expected}")
    if (size := path.stat().st_size) > MOST_BYTES:
        raise refused(path, _too_large(size))
    content, model = path.read_bytes(), ModelProto()
    try:
        model.ParseFromString(content)
    except DecodeError as error:
        raise refused(path, f"it is no ONNX file, or damaged ({shown(error)}); export the network again") from None
    if not all(isinstance(name, str) for name in _names(model.graph)):
        raise refused(path, "it is no ONNX file, or damaged (a name is no UTF-8); export the network again")
    if not model.graph.node:
        raise refused(path, "it is no ONNX file, or empty: there is no operator in it; export the network again")
    return model, hashlib.sha256(content), size


def _names(graph: Any) -> Iterator[object]:
    """Yield every name of a graph that is used here: protobuf returns bytes for one that is not UTF-8."""
    for node in graph.node:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
    for value in (*graph.input, *graph.output):
        yield from (value.name, *(side.dim_param for side in value.type.tensor_type.shape.dim))
    yield from (tensor.name for tensor in graph.initializer)
    yield from (tensor.values.name for tensor in graph.sparse_initializer)


def _too_large(num_bytes: int) -> str:
    """Return the reason for which a file of so many bytes is not used."""
    most = f"{MOST_BYTES / 1e9:,.1f} GB"
    return (
        f"it has {num_bytes / 1e9:,.1f} GB; expected at most {most}, as one ONNX file holds: export a smaller network"
    )


def _tensors(model: Any) -> Iterator[Any]:
    """Yield every tensor of the model: of its graph, and of its nodes' attributes."""
    graph = model.graph
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for attribute in (attribute for node in graph.node for attribute in node.attribute):
        yield from ([attribute.t] if attribute.HasField("t") else [])
        yield from attribute.tensors
        for sparse in (*([attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []),):
            yield from (sparse.values, sparse.indices)


def _check_operators(path: Path, model: Any) -> None:
    """Raise InputError for operators that are not the standard's, that hold graphs themselves, or that draw numbers."""
    from onnx import AttributeProto

    if model.functions:
        names = _listed(function.name for function in model.functions)
        raise refused(path, f"it defines operators itself ({names}); expected standard ones alone: {_inlined(path)}")
    for node in model.graph.node:
        if node.domain not in STANDARD_DOMAINS:
            received = f"it has the custom operator {shown(node.domain)}.{shown(node.op_type)}"
            advice = "export the network without it, and before any optimisation for one runtime"
            raise refused(path, f"{received}; expected the standard's operators alone: {advice}")
        if any(attribute.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS) for attribute in node.attribute):
            received = f"it has control flow ({shown(node.op_type)})"
            advice = "export the network for inference, by torch.onnx.export of model.eval()"
            raise refused(path, f"{received}; expected a plain sequence of operators: {advice}")
        if node.op_type in RANDOM or _is_training(node):
            received = f"it draws random numbers ({shown(node.op_type)})"
            raise refused(path, f"{received}, so that features differ each time; export it for inference: model.eval()")


def _inlined(path: Path) -> str:
    return f"onnx.inliner.inline_local_functions(onnx.load('{shown(path.name)}')) returns such a model, for onnx.save"


def _is_training(node: Any) -> bool:
    """Return whether a node is a dropout that can be told to drop values: it has a third input."""
    return node.op_type == "Dropout" and len(node.input) > 2 and bool(node.input[2])


def opset_of(model: Any) -> int:
    """Return the version of the standard's operators that a model uses, 0 if it names none."""
    return max((opset.version for opset in model.opset_import if opset.domain in STANDARD_DOMAINS), default=0)


def _raised(path: Path, model: Any) -> Any:
    """Return the model with the operators of a later version of the standard, which means the same."""
    from onnx import shape_inference, version_converter

    try:
        return version_converter.convert_version(model, OPSET)
    except (*FILE_ERRORS, version_converter.ConvertError, shape_inference.InferenceError) as error:
        reason = f"it is of opset {opset_of(model)}, and cannot be raised to {OPSET} ({shown(error)[:160]})"
        raise refused(path, f"{reason}; export it with opset_version={OPSET} or later") from None


def _image_input(path: Path, model: Any) -> ImageInput:
    """Return the one input, checked: float32 (N, 3, H, W) or (N, H, W, 3), square."""
    from onnx import TensorProto

    held = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in held]
    expected = "expected one input, float32 images (N, 3, H, W) or (N, H, W, 3)"
    if len(inputs) != 1:
        names = _listed(value.name for value in inputs) or "none"
        advice = "export the image tower alone"
        raise refused(path, f"it has {len(inputs)} inputs ({names}); {expected}: {advice}")
    name, given = inputs[0].name, inputs[0].type.tensor_type
    sides = [side.dim_value or None for side in given.shape.dim]
    channels = [axis for axis in (1, 3) if len(sides) == 4 and sides[axis] == 3]
    if given.elem_type != TensorProto.FLOAT or not channels or min(side or 1 for side in sides) < 1:
        received = f"{type_name(given.elem_type)} {_described(given)}"
        raise refused(path, f"its input {shown(name)} is {received}; {expected}: export it again with such an input")
    height, width = sides[2:] if channels[0] == 1 else sides[1:3]
    if height and width and height != width:
        raise refused(path, f"its images are {height}x{width}; expected squares: export it with a square input")
    return ImageInput(name, channels[0] == 1, height or width, sides[0])


def _described(given: Any) -> str:
    """Return a declared shape as (N, 3, 224, 224)."""
    sides = (str(side.dim_value) if side.dim_value else shown(side.dim_param or "?") for side in given.shape.dim)
    return f"({', '.join(sides)})" if given.HasField("shape") else "of an unknown shape"


def _outputs(path: Path, model: Any) -> tuple[str, ...]:
    """Return the outputs that features are taken from: floating point, and of rank 2 to 4 as far as is declared."""
    from onnx import TensorProto

    usual = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.UNDEFINED)
    outputs = model.graph.output
    found = tuple(
        value.name
        for value in outputs
        if value.type.tensor_type.elem_type in usual
        if not value.type.tensor_type.HasField("shape") or len(value.type.tensor_type.shape.dim) in RANKS
    )
    if not found:
        received = _listed(f"{value.name} {_described(value.type.tensor_type)}" for value in outputs) or "none"
        advice = "export the network so that it returns its features"
        raise refused(path, f"its outputs are {received}; expected an output of floats, of rank 2 to 4: {advice}")
    return found


def _listed(names: Iterable[str], most: int = 4) -> str:
    """Return a few names, joined by commas."""
    found = [shown(name) for name in names]
    return ", ".join([*found[:most], *(["..."] if len(found) > most else [])])
