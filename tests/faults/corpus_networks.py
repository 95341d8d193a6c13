"""Hostile networks as ONNX files: name, what makes the file in a folder and returns its path, what has to come."""

import json
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from corpus_images import READ, REFUSED

Make = Callable[[Path], Path]
BESIDE = {"save_as_external_data": True, "location": "net.data", "size_threshold": 0}


def networks() -> Iterator[tuple[str, Make, str]]:
    """Yield every case; the layers of a file that is read are looked at too, by running it."""
    from tests.builders.onnx_networks import convolutional, vision_transformer

    yield "a convolutional one", lambda folder: convolutional(folder / "net.onnx"), READ
    yield "a vision transformer", lambda folder: vision_transformer(folder / "net.onnx"), READ
    yield "tensors beside it", lambda folder: convolutional(folder / "net.onnx", **BESIDE), READ
    for location in ("../secret", "/etc/passwd", "in/../../secret", "/dev/zero", ""):
        yield f"tensors in {location or 'no file'}", _elsewhere(location), REFUSED
    yield "tensors behind a link", _linked, REFUSED
    yield "tensors that are cut short", _cut_short, REFUSED
    yield "4 GB", _sparse("net.onnx", 4 * 10**9), REFUSED
    yield "5 GB of tensors beside it", _sparse("net.data", 5 * 10**9), REFUSED
    yield "a folder", _folder, REFUSED
    yield "no ONNX", lambda folder: _written(folder, b"\x08\x07" + bytes(99)), REFUSED
    yield "half of it", _half, REFUSED
    for operator in ("If", "Loop", "Scan"):
        yield f"control flow: {operator}", _with_node(operator, body=True), REFUSED
    yield "a custom operator", _with_node("Own", domain="com.example"), REFUSED
    yield "an operator that nobody knows", _with_node("NoSuchOperator"), REFUSED
    yield "an operator that defines itself", _self_defined, REFUSED
    yield "random numbers", _with_node("RandomUniformLike"), REFUSED
    yield "a tensor of 4 TB that it would make", _enormous, REFUSED
    yield "a tensor with more values than it says", _lying, REFUSED
    yield "a circle", _circle, REFUSED
    yield "ten thousand operators", _long, READ


def statements() -> Iterator[tuple[str, bytes, str]]:
    """Yield every JSON file that lies beside a network."""
    yield "as it should be", json.dumps({"mean": [0.5] * 3, "std": [0.5] * 3}).encode(), READ
    yield "no JSON", b"{", REFUSED
    yield "no UTF-8", b'{"mean": "\xff"}', REFUSED
    yield "nested without an end", b"[" * 10**5, REFUSED
    yield "numbers without an end", b'{"size": 1' + b"0" * 5000 + b"}", REFUSED
    yield "not a number", b'{"mean": [NaN, 0, 0], "std": [1, 1, 1]}', REFUSED
    yield "10 MB", b" " * 10**7, REFUSED


def _written(folder: Path, content: bytes) -> Path:
    (folder / "net.onnx").write_bytes(content)
    return folder / "net.onnx"


def _folder(folder: Path) -> Path:
    (folder / "net.onnx").mkdir()
    return folder / "net.onnx"


def _half(folder: Path) -> Path:
    from tests.builders.onnx_networks import convolutional

    content = convolutional(folder / "net.onnx").read_bytes()
    return _written(folder, content[: len(content) // 2])


def _changed(folder: Path, change: Callable[[Any], object], **options: Any) -> Path:
    """Write a convolutional network that `change` was called with."""
    import onnx

    from tests.builders.onnx_networks import convolutional

    path = convolutional(folder / "net.onnx", **options)
    model = onnx.load(path, load_external_data=False)
    change(model)
    return _written(folder, model.SerializeToString())


def _elsewhere(location: str) -> Make:
    def change(model: Any) -> None:
        for entry in (entry for tensor in model.graph.initializer for entry in tensor.external_data):
            entry.value = location if entry.key == "location" else entry.value

    return lambda folder: _changed(folder, change, **BESIDE)


def _linked(folder: Path) -> Path:
    from tests.builders.onnx_networks import convolutional

    path = convolutional(folder / "net.onnx", **BESIDE)
    (folder / "elsewhere").mkdir()
    (folder / "net.data").rename(folder / "elsewhere" / "net.data")
    (folder / "net.data").symlink_to(folder / "elsewhere" / "net.data")
    return path


def _cut_short(folder: Path) -> Path:
    from tests.builders.onnx_networks import convolutional

    path = convolutional(folder / "net.onnx", **BESIDE)
    (folder / "net.data").write_bytes((folder / "net.data").read_bytes()[:-1])
    return path


def _sparse(name: str, size: int) -> Make:
    def make(folder: Path) -> Path:
        from tests.builders.onnx_networks import convolutional

        path = convolutional(folder / "net.onnx", **BESIDE)
        with (folder / name).open("ab") as file:
            file.truncate(size)
        return path

    return make


def _with_node(operator: str, domain: str = "", body: bool = False) -> Make:
    def change(model: Any) -> None:
        from onnx import helper

        inner = helper.make_graph([helper.make_node("Identity", ["maps"], ["inner"])], "inner", [], [])
        options = {"body": inner} if body else {}
        node = helper.make_node(operator, ["maps"], ["more"], domain=domain, **options)
        model.graph.node.append(node)
        model.graph.node.append(helper.make_node("Add", ["more", "maps"], ["both"]))
        model.graph.output[0].name = "both"

    return lambda folder: _changed(folder, change)


def _self_defined(folder: Path) -> Path:
    def change(model: Any) -> None:
        from onnx import helper

        twice = [helper.make_node("Twice", ["x"], ["y"], domain="own")]
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
        model.functions.append(helper.make_function("own", "Twice", ["x"], ["y"], twice, opsets))

    return _changed(folder, change)


def _enormous(folder: Path) -> Path:
    def change(model: Any) -> None:
        from onnx import helper, numpy_helper

        model.graph.initializer.append(numpy_helper.from_array(np.array([10**6, 10**6]), "sides"))
        model.graph.node.append(helper.make_node("Expand", ["features", "sides"], ["more"]))
        model.graph.output[1].CopyFrom(helper.make_tensor_value_info("more", 1, None))

    return _changed(folder, lambda model: (_one_feature(model), change(model)))


def _one_feature(model: Any) -> None:
    """Average the features, so that they can be spread over any shape."""
    from onnx import helper

    model.graph.node[-1].output[0] = "flat"
    model.graph.node.append(helper.make_node("ReduceMean", ["flat"], ["features"], keepdims=1))


def _lying(folder: Path) -> Path:
    def change(model: Any) -> None:
        model.graph.initializer[0].dims[0] = 2**40

    return _changed(folder, change)


def _circle(folder: Path) -> Path:
    def change(model: Any) -> None:
        model.graph.node[0].input[0] = "maps"

    return _changed(folder, change)


def _long(folder: Path) -> Path:
    def change(model: Any) -> None:
        from onnx import helper

        names = ["maps", *(f"more_{number}" for number in range(10_000))]
        model.graph.node.extend(helper.make_node("Relu", [below], [above]) for below, above in pairwise(names))
        model.graph.output[0].name = names[-1]

    return _changed(folder, change)
