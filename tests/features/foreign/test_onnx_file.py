"""What an ONNX file has to be, and the line that refuses every other one."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from thaw.features.errors import InputError
from thaw.features.foreign.onnx_file import ImageInput, read_onnx

from tests.builders.onnx_networks import Net, convolutional, value

PIXELS = value("pixels", "N", 3, 32, 32)


def refusal(path: Path) -> str:
    """Return the message for a file, without the option and the path that it begins with."""
    with pytest.raises(InputError) as error:
        read_onnx(path)
    message = str(error.value)
    assert "\n" not in message
    assert message.startswith(f"--backbone onnx:{path}: ")
    return message.removeprefix(f"--backbone onnx:{path}: ")


def averages(path: Path, *more: onnx.NodeProto, **changes: object) -> Path:
    """Write a network that averages the pixels, with more nodes before that or other inputs and outputs."""
    net = Net()
    net.nodes += more
    net.add("Flatten", net.add("GlobalAveragePool", "pixels"), name="features")
    given = {"inputs": [PIXELS], "outputs": [value("features", "N", 3)], **changes}
    return net.save(path, **given)  # type: ignore[arg-type]


def test_a_file_says_what_it_takes_and_gives(tmp_path: Path) -> None:
    path = convolutional(tmp_path / "net.onnx")
    content = read_onnx(path)
    assert content.image == ImageInput("pixels", channels_first=True, size=32, batch=None)
    assert content.outputs == ("maps", "features")
    assert content.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_free_and_fixed_sizes_and_batches_are_told_apart(tmp_path: Path) -> None:
    assert read_onnx(convolutional(tmp_path / "a.onnx", size="S", batch=4)).image == ImageInput("pixels", True, None, 4)
    last = convolutional(tmp_path / "b.onnx", channels_last=True)
    assert read_onnx(last).image == ImageInput("pixels", False, 32, None)


def test_what_is_no_image_network_is_refused(tmp_path: Path) -> None:
    expected = "expected one input, float32 images (N, 3, H, W) or (N, H, W, 3)"
    two = averages(tmp_path / "two.onnx", inputs=[PIXELS, value("text", "N", 77)])
    assert refusal(two) == f"it has 2 inputs (pixels, text); {expected}: export the image tower alone"
    grey = averages(tmp_path / "grey.onnx", inputs=[value("pixels", "N", 1, 32, 32)])
    again = "export it again with such an input"
    assert refusal(grey) == f"its input pixels is float (N, 1, 32, 32); {expected}: {again}"
    bytes_ = averages(tmp_path / "bytes.onnx", inputs=[value("pixels", "N", 3, 32, 32, kind=TensorProto.UINT8)])
    assert refusal(bytes_) == f"its input pixels is uint8 (N, 3, 32, 32); {expected}: {again}"
    flat = averages(tmp_path / "flat.onnx", inputs=[value("pixels", "N", 3072)])
    assert refusal(flat) == f"its input pixels is float (N, 3072); {expected}: {again}"
    wide = averages(tmp_path / "wide.onnx", inputs=[value("pixels", "N", 3, 32, 64)])
    assert refusal(wide) == "its images are 32x64; expected squares: export it with a square input"


def test_an_initializer_that_is_listed_as_an_input_is_none(tmp_path: Path) -> None:
    path = convolutional(tmp_path / "net.onnx")
    model = onnx.load(path)
    model.graph.input.append(value(model.graph.initializer[0].name, 6, 3, 3, 3))
    onnx.save(model, path)
    assert read_onnx(path).image.name == "pixels"


def test_an_output_has_a_rank_of_2_to_4(tmp_path: Path) -> None:
    path = averages(tmp_path / "net.onnx", outputs=[value("features", "N"), value("features", "N", 1, 1, 1, 3)])
    assert refusal(path) == (
        "its outputs are features (N), features (N, 1, 1, 1, 3); expected an output of floats, of rank 2 to 4: export "
        "the network so that it returns its features"
    )
    labels = averages(tmp_path / "labels.onnx", outputs=[value("features", "N", 3, kind=TensorProto.INT64)])
    assert refusal(labels).startswith("its outputs are features (N, 3); expected an output of floats, of rank 2 to 4: ")


def test_custom_operators_are_refused(tmp_path: Path) -> None:
    node = helper.make_node("FusedGelu", ["pixels"], ["x"], domain="com.microsoft")
    assert refusal(averages(tmp_path / "net.onnx", node)) == (
        "it has the custom operator com.microsoft.FusedGelu; expected the standard's operators alone: export the "
        "network without it, and before any optimisation for one runtime"
    )


def test_operators_that_the_file_defines_are_refused(tmp_path: Path) -> None:
    path = averages(tmp_path / "net.onnx")
    model = onnx.load(path)
    relu = helper.make_node("Relu", ["x"], ["y"])
    opsets = [helper.make_opsetid("", 17)]
    model.functions.append(helper.make_function("own", "Twice", ["x"], ["y"], [relu], opsets))
    onnx.save(model, path)
    assert refusal(path) == (
        "it defines operators itself (Twice); expected standard ones alone: "
        "onnx.inliner.inline_local_functions(onnx.load('net.onnx')) returns such a model, for onnx.save"
    )


@pytest.mark.parametrize("operator", ["If", "Loop", "Scan"])
def test_control_flow_is_refused(tmp_path: Path, operator: str) -> None:
    inner = helper.make_graph(
        [helper.make_node("Identity", ["pixels"], ["y"])], "inner", [], [value("y", "N", 3, 32, 32)]
    )
    names = {"If": ("then_branch", "else_branch"), "Loop": ("body",), "Scan": ("body",)}[operator]
    node = helper.make_node(operator, ["pixels"], ["x"], **dict.fromkeys(names, inner))
    assert refusal(averages(tmp_path / "net.onnx", node)) == (
        f"it has control flow ({operator}); expected a plain sequence of operators: export the network for inference, "
        "by torch.onnx.export of model.eval()"
    )


@pytest.mark.parametrize("operator", ["RandomNormalLike", "Bernoulli", "Dropout"])
def test_random_numbers_are_refused(tmp_path: Path, operator: str) -> None:
    inputs = ["pixels", "ratio", "training"] if operator == "Dropout" else ["pixels"]
    assert refusal(averages(tmp_path / "net.onnx", helper.make_node(operator, inputs, ["x"]))) == (
        f"it draws random numbers ({operator}), so that features differ each time; export it for inference: "
        "model.eval()"
    )


def test_dropout_for_inference_is_read(tmp_path: Path) -> None:
    averages(tmp_path / "net.onnx", helper.make_node("Dropout", ["pixels"], ["x"]))
    assert read_onnx(tmp_path / "net.onnx").outputs == ("features",)


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(4 * 10**9)


@pytest.mark.parametrize(
    ("write", "expected"),
    [
        (lambda path: None, "there is no such file; expected a network that was exported as .onnx; "),
        (Path.mkdir, "there is no such file; expected a network that was exported as .onnx; "),
        (lambda path: path.write_bytes(b""), "it is no ONNX file, or empty: there is no operator in it; export "),
        (lambda path: path.write_bytes(b"<html>"), "it is no ONNX file, or damaged ("),
        (
            lambda path: path.write_bytes(convolutional(path).read_bytes()[:900]),
            "it is no ONNX file, or damaged (",
        ),
        (
            sparse,
            "it has 4.0 GB; expected at most 2.1 GB, as one ONNX file holds: export a smaller network",
        ),
    ],
)
def test_what_is_no_onnx_file_is_refused(tmp_path: Path, write: Callable[[Path], None], expected: str) -> None:
    path = tmp_path / "net.onnx"
    write(path)
    assert refusal(path).startswith(expected)


def test_a_name_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    path = averages(tmp_path / "net.onnx")
    path.write_bytes(path.read_bytes().replace(b"pixels", b"pixel\xff"))
    assert refusal(path) == "it is no ONNX file, or damaged (a name is no UTF-8); export the network again"


def test_an_earlier_version_whose_graph_is_broken_is_refused(tmp_path: Path) -> None:
    net = Net()
    net.add("Flatten", net.add("GlobalAveragePool", "nothing"), name="features")
    path = net.save(tmp_path / "net.onnx", [PIXELS], [value("features", "N", 3)], opset=11)
    assert refusal(path).startswith("it is of opset 11, and cannot be raised to 13 (")


def test_an_earlier_version_of_the_standard_that_cannot_be_raised_is_refused(tmp_path: Path) -> None:
    net = Net()
    net.add("Flatten", net.add("GlobalAveragePool", net.add("NoSuch", "pixels")), name="features")
    path = net.save(tmp_path / "net.onnx", [PIXELS], [value("features", "N", 3)], opset=9)
    assert refusal(path).startswith("it is of opset 9, and cannot be raised to 13 (")
    assert refusal(path).endswith("); export it with opset_version=13 or later")


def test_the_digest_is_of_every_file(tmp_path: Path) -> None:
    whole = read_onnx(convolutional(tmp_path / "whole.onnx"))
    options = {"save_as_external_data": True, "location": "net.data", "size_threshold": 0}
    path = convolutional(tmp_path / "net.onnx", **options)
    content = read_onnx(path)
    values = [np.asarray(onnx.numpy_helper.to_array(tensor)) for tensor in content.model.graph.initializer]
    expected = [np.asarray(onnx.numpy_helper.to_array(tensor)) for tensor in whole.model.graph.initializer]
    assert all(np.array_equal(*pair) for pair in zip(values, expected, strict=True))
    data = tmp_path / "net.data"
    digests = [hashlib.sha256(file.read_bytes()).digest() for file in (path, data)]
    assert content.sha256 == hashlib.sha256(b"".join(digests)).hexdigest()
    changed = bytearray(data.read_bytes())
    changed[0] ^= 1
    data.write_bytes(changed)
    assert read_onnx(path).sha256 != content.sha256
