"""What a layer gives is seen by running it, and what cannot be features is refused in one line."""

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto

from thaw.features.errors import InputError
from thaw.features.foreign.network import open_network
from thaw.features.foreign.probing import Form

from tests.builders.onnx_networks import Net, value


def form_of(net: Net, path: Path) -> Form:
    """Return the form of `layer`, which is no output of the network."""
    net.add("Flatten", net.add("GlobalAveragePool", "pixels"), name="features")
    net.save(path, [value("pixels", "N", 3, 32, 32)], [value("features", "N", 3)])
    return open_network(path, "onnx:net").form("layer", 32)


def refusal(net: Net, path: Path) -> str:
    with pytest.raises(InputError) as error:
        form_of(net, path)
    assert "\n" not in str(error.value)
    return str(error.value).removeprefix(f"--backbone onnx:{path}: ")


def test_a_batch_that_is_fixed_inside_shows(tmp_path: Path) -> None:
    net = Net()
    net.add("Reshape", net.add("GlobalAveragePool", "pixels"), net.hold(np.array([1, -1])), name="layer")
    assert refusal(net, tmp_path / "net.onnx") == (
        "its layer is float32 [1, 6] for 2 images; expected floats of rank 2 to 4 with a row for each image: choose "
        "another tensor by --layers, or export with a free batch (dynamic_axes)"
    )


@pytest.mark.parametrize(
    ("operator", "options", "expected"),
    [
        ("ArgMax", {"axis": 1}, "its layer is int64 [2, 1, 32, 32] for 2 images; expected floats of rank 2 to 4 "),
        ("Unsqueeze", {}, "its layer is float32 [2, 1, 3, 32, 32] for 2 images; expected floats of rank 2 to 4 "),
    ],
)
def test_what_are_no_features_is_refused(tmp_path: Path, operator: str, options: dict[str, int], expected: str) -> None:
    net = Net()
    axes = [net.hold(np.array([1]))] if operator == "Unsqueeze" else []
    net.add(operator, "pixels", *axes, name="layer", **options)
    assert refusal(net, tmp_path / "net.onnx").startswith(expected)


def test_a_network_that_cannot_run_says_at_which_size(tmp_path: Path) -> None:
    net = Net()
    net.add("MatMul", net.add("Flatten", "pixels"), net.weights(7, 2), name="layer")
    message = refusal(net, tmp_path / "net.onnx")
    assert message.startswith("ONNX Runtime cannot run it on images of 32 pixels (")


def test_more_memory_than_there_is_is_refused(tmp_path: Path) -> None:
    net = Net()
    one = net.add("ReduceMean", "pixels", axes=[1, 2, 3], keepdims=0)
    net.add("Expand", net.add("Cast", one, to=TensorProto.FLOAT), net.hold(np.array([2**40, 2])), name="layer")
    assert refusal(net, tmp_path / "net.onnx") == (
        "2 images of 32 pixels take more memory than there is; choose a smaller --image-size, or another network"
    )
