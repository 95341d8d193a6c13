"""Tensors in other files are read if those lie in the folder, whole; anything else is refused."""

import os
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto

from thaw.features.errors import InputError
from thaw.features.foreign import onnx_file
from thaw.features.foreign.onnx_file import read_onnx

from tests.builders.onnx_networks import convolutional

BESIDE = {"save_as_external_data": True, "location": "net.data", "size_threshold": 0}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "nets").mkdir()
    return convolutional(tmp_path / "nets" / "net.onnx", **BESIDE)


def changed(path: Path, **entries: str | None) -> Path:
    """Change the entries of the first tensor that lies elsewhere."""
    model = onnx.load(path, load_external_data=False)
    tensor = next(t for t in model.graph.initializer if t.data_location == TensorProto.EXTERNAL)
    for entry in tensor.external_data:
        entry.value = entries.get(entry.key) or entry.value
    path.write_bytes(model.SerializeToString())
    return path


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as error:
        read_onnx(path)
    assert "\n" not in str(error.value)
    return str(error.value).removeprefix(f"--backbone onnx:{path}: ")


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "a/../../secret", "..", "a\\b"])
def test_a_file_outside_the_folder_is_never_read(path: Path, location: str) -> None:
    (path.parent.parent / "secret").write_bytes(b"\0" * 10**5)
    assert refusal(changed(path, location=location)) == (
        f"its tensors lie in {location!r}, which is outside its folder, or a link; expected a file in the folder of "
        "the .onnx: copy it there and export the network again"
    )


@pytest.mark.parametrize("of_the_folder", [False, True])
def test_a_link_is_not_followed(path: Path, of_the_folder: bool) -> None:
    secret = path.parent.parent / "secret"
    secret.mkdir()
    os.rename(path.parent / "net.data", secret / "net.data")  # noqa: PTH104
    if of_the_folder:
        (path.parent / "in").symlink_to(secret)
        changed(path, location="in/net.data")
    else:
        (path.parent / "net.data").symlink_to(secret / "net.data")
    assert "which is outside its folder, or a link; expected a file in the folder of the .onnx" in refusal(path)


def test_the_folder_itself_may_be_a_link(path: Path) -> None:
    (path.parent.parent / "other").symlink_to(path.parent)
    assert read_onnx(path.parent.parent / "other" / "net.onnx").sha256 == read_onnx(path).sha256


def test_a_file_in_a_folder_below_is_read(path: Path) -> None:
    (path.parent / "in").mkdir()
    os.link(path.parent / "net.data", path.parent / "in" / "net.data")
    assert read_onnx(changed(path, location="in/net.data")).outputs == ("maps", "features")


def test_a_missing_file_is_named(path: Path) -> None:
    (path.parent / "net.data").unlink()
    assert refusal(path) == "its tensors lie in net.data, which is not in its folder; put that file beside it"


@pytest.mark.parametrize(
    "entries",
    [{"offset": "99999999"}, {"length": "12"}, {"length": "-1"}, {"offset": "x"}, {"offset": "9" * 50}],
)
def test_a_tensor_that_is_not_whole_is_refused(path: Path, entries: dict[str, str]) -> None:
    assert refusal(changed(path, **entries)) == (
        "its tensor held_0 (float, [6, 3, 3, 3]) is not whole in net.data, which is cut short or another network's; "
        "export the network again"
    )


def test_files_that_are_too_large_are_not_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_file, "MOST_BYTES", 3000)
    with (path.parent / "net.data").open("ab") as file:
        file.truncate(5 * 10**9)
    assert refusal(path) == (
        "its tensors in other files take 5.0 GB, more than the 0.0 GB that one ONNX file holds beside the rest; export "
        "a smaller network"
    )


def test_a_tensor_of_a_constant_is_held_to_the_same_rules(tmp_path: Path) -> None:
    path = convolutional(tmp_path / "net.onnx")
    model = onnx.load(path)
    tensor = TensorProto(name="t", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="/etc/passwd")
    model.graph.node.append(onnx.helper.make_node("Constant", [], ["c"]))
    model.graph.node[-1].attribute.append(onnx.AttributeProto(name="value", type=onnx.AttributeProto.TENSOR, t=tensor))
    path.write_bytes(model.SerializeToString())
    assert "its tensors lie in '/etc/passwd', which is outside its folder" in refusal(path)
