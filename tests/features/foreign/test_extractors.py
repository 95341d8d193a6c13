"""Networks by their names: which are from files, what these cannot, and how an option becomes a name and a path."""

from pathlib import Path

import pytest

from thaw.features.backbones.registry import BACKBONES
from thaw.features.errors import InputError
from thaw.features.foreign.extractors import engines_of, get_extractor, trainable_backbone, without_path

from tests.builders.onnx_networks import convolutional


def test_a_name_means_one_of_our_own_or_a_file(tmp_path: Path) -> None:
    assert get_extractor("vgg16") is BACKBONES["vgg16"]
    network = get_extractor("onnx:net", str(convolutional(tmp_path / "moved.onnx")))
    assert network.name == "onnx:net"
    assert engines_of(network) == ("onnxruntime",)
    assert engines_of(BACKBONES["vgg16"]) == ("keras", "mnn", "onnxruntime")
    with pytest.raises(InputError, match="no such backbone: 'resnet5'"):
        get_extractor("resnet5")


def test_training_it_is_refused() -> None:
    with pytest.raises(InputError) as error:
        trainable_backbone("onnx:net", "finetune")
    assert str(error.value) == (
        "finetune needs a network that is built here, and onnx:net is a file that is run as it is; take another "
        "--backbone, or a strategy on its features: svm, logreg, knn, ridge, head"
    )
    assert trainable_backbone("vgg16", "finetune").name == "vgg16"


def test_random_weights_are_refused() -> None:
    with pytest.raises(
        InputError, match="onnx:net has the weights in its file alone, and cannot be had with random ones"
    ):
        get_extractor("onnx:net", "random")


def test_a_file_becomes_a_name_and_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = without_path({"backbone": "onnx:nets/my net (v2).onnx", "seed": 1})
    assert settings == {"backbone": "onnx:my_net_v2", "weights": str(tmp_path / "nets/my net (v2).onnx"), "seed": 1}
    assert without_path(settings) == settings
    assert without_path({"backbone": "vgg16"}) == {"backbone": "vgg16"}
    with pytest.raises(
        InputError, match="--backbone onnx:a.onnx has its weights in its own file; leave --weights random out"
    ):
        without_path({"backbone": "onnx:a.onnx", "weights": "random"})
    with pytest.raises(
        InputError, match="--backbone onnx: names no file; expected its path, for example --backbone onnx:resnet18"
    ):
        without_path({"backbone": "onnx:"})
