"""Weights as Keras' old format has them, written by Keras itself; the published files are out of reach here.

The weights are drawn, and differ in every tensor, so that two that changed places would be seen.
"""

import subprocess
import sys
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from keras.src.legacy.saving import legacy_h5_format

from benchmarks.keras_graphs import as_published
from benchmarks.keras_networks import draw_weights
from thaw.features.backbones.applications.reader import tensors_by_operation
from thaw.features.backbones.registry import BACKBONES
from thaw.features.backbones.weights import Weights, load_weights
from thaw.features.errors import InputError

NAMES = (
    *("resnet50", "resnet50v2", "inceptionv3", "xception", "densenet121", "mobilenet", "mobilenetv3small"),
    *("nasnetmobile", "efficientnetb0", "efficientnetv2b0", "convnexttiny"),
)
SMALL = "mobilenetv3small"
ROOT = Path(__file__).resolve().parents[4]


def drawn(name: str) -> keras.Model:
    model, _ = as_published(str(BACKBONES[name].builder), BACKBONES[name].min_image_size)
    draw_weights(model)
    return model


def saved(model: keras.Model, path: Path) -> Path:
    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, model)
    return path


@pytest.mark.parametrize("name", NAMES)
def test_a_file_of_keras_old_format_is_read_without_keras_as_keras_has_it(name: str, tmp_path: Path) -> None:
    model = drawn(name)
    path = saved(model, tmp_path / f"{name}_notop.h5")
    expected = Weights.checked(tensors_by_operation(model), "keras", BACKBONES[name])
    code = (
        "import sys; from thaw.features.backbones.weights import load_weights\n"
        "from thaw.features.backbones.registry import BACKBONES\n"
        "print(load_weights(sys.argv[1], BACKBONES[sys.argv[2]]).sha256)\n"
        "assert not {'keras', 'tensorflow'} & set(sys.modules)"
    )
    given = [sys.executable, "-c", code, str(path), name]
    received = subprocess.run(given, capture_output=True, text=True, check=True, cwd=ROOT).stdout.strip()
    assert received == expected.sha256


def test_a_whole_model_and_keras_new_format_hold_the_same(tmp_path: Path) -> None:
    model, backbone = drawn(SMALL), BACKBONES[SMALL]
    path = tmp_path / "whole.h5"
    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file.create_group("model_weights"), model)
    model.save_weights(tmp_path / "new.weights.h5")
    expected = Weights.checked(tensors_by_operation(model), "keras", backbone).sha256
    assert {load_weights(str(tmp_path / file), backbone).sha256 for file in ("whole.h5", "new.weights.h5")} == {
        expected
    }


@pytest.fixture
def small_file(tmp_path: Path) -> Path:
    return saved(drawn(SMALL), tmp_path / "small.h5")


def test_another_networks_file_is_refused(small_file: Path) -> None:
    with pytest.raises(InputError) as error:
        load_weights(str(small_file), BACKBONES["mobilenetv2"])
    assert str(error.value) == (
        f"the weights in {small_file} are not those of mobilenetv2: the file is damaged or of another kind (it has 86 "
        "layers with weights, not 104); expected a Keras .h5 of this network, or type --weights imagenet"
    )


def test_a_layer_with_another_shape_is_refused(small_file: Path) -> None:
    with h5py.File(small_file, "r+") as file:
        group = file["conv"]["conv"]
        del group["kernel"]
        group["kernel"] = np.zeros((3, 3, 3, 8), np.float32)
    with pytest.raises(InputError, match=r"/conv/conv/kernel has the shape \(3, 3, 3, 8\), not \(3, 3, 3, 16\)"):
        load_weights(str(small_file), BACKBONES[SMALL])


def test_a_weight_that_lies_in_another_file_is_refused(small_file: Path, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["kernel"] = np.zeros((3, 3, 3, 16), np.float32)
    layout = h5py.VirtualLayout((3, 3, 3, 16), "f4")
    layout[...] = h5py.VirtualSource(str(tmp_path / "other.h5"), "kernel", (3, 3, 3, 16))
    with h5py.File(small_file, "r+") as file:
        group = file["conv"]["conv"]
        del group["kernel"]
        group.create_virtual_dataset("kernel", layout)
    with pytest.raises(InputError, match="/conv/conv/kernel lies elsewhere"):
        load_weights(str(small_file), BACKBONES[SMALL])


def test_a_long_list_of_names_is_read_from_its_pieces(small_file: Path) -> None:
    expected = load_weights(str(small_file), BACKBONES[SMALL]).sha256
    with h5py.File(small_file, "r+") as file:
        names = file.attrs["layer_names"]
        del file.attrs["layer_names"]
        file.attrs["layer_names0"], file.attrs["layer_names1"] = names[:50], names[50:]
    assert load_weights(str(small_file), BACKBONES[SMALL]).sha256 == expected


def test_a_file_cut_short_is_refused(small_file: Path) -> None:
    content = small_file.read_bytes()
    small_file.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="the file is damaged or of another kind"):
        load_weights(str(small_file), BACKBONES[SMALL])
