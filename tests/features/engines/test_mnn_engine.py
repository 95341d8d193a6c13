"""MNN's output is Keras' own to 1e-3 an image, on whatever layers, and nothing leaves the machine."""

import os
import platform
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from thaw.features.backbones.registry import BACKBONES
from thaw.features.backbones.weights import Weights, load_weights
from thaw.features.datasets.dataset import load_dataset
from thaw.features.engines.agreement import relative_error
from thaw.features.engines.keras_engine import KerasEngine
from thaw.features.engines.mnn_engine import MNNEngine, mnn_version
from thaw.features.engines.network import Network
from thaw.features.errors import InputError
from thaw.features.images.preprocess import normalize, resize

VGG16 = BACKBONES["vgg16"]
LAYERS = ("block5_pool", "block1_pool", "block3_conv2")  # in no order, and one that is no pooling
ROOT = Path(__file__).resolve().parents[3]

pytestmark = pytest.mark.skipif(mnn_version() is None, reason="MNN is not installed: make setup, where it has a wheel")


@pytest.fixture(scope="module")
def weights() -> Weights:
    """Random weights with biases too, which those of `--weights random` lack."""
    drawn, generator = load_weights("random", VGG16), np.random.default_rng(1)
    tensors = {
        name: (kernel, generator.normal(0, 5, bias.shape).astype(np.float32))
        for name, (kernel, bias) in drawn.tensors.items()
    }
    return Weights.checked(tensors, "random", VGG16)


@pytest.fixture(scope="module")
def engine(weights: Weights) -> MNNEngine:
    return MNNEngine(VGG16, weights, LAYERS, 32, batch_size=4)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).uniform(-124, 152, (4, 32, 32, 3)).astype(np.float32)


def test_several_layers_are_keras_own(engine: MNNEngine, weights: Weights, images: np.ndarray) -> None:
    received, expected = engine(images), KerasEngine(VGG16, weights, LAYERS, 32, batch_size=4)(images)
    assert list(received) == list(LAYERS)
    for name in LAYERS:
        assert (received[name].shape, received[name].dtype) == (expected[name].shape, np.float32)
        assert relative_error(received[name], expected[name]) < 1e-3
        assert expected[name].std() > 0


@pytest.mark.parametrize("image_size", [33, 47, 50])
def test_sizes_that_the_poolings_cut(weights: Weights, image_size: int) -> None:
    images = np.random.default_rng(0).uniform(-124, 152, (2, image_size, image_size, 3)).astype(np.float32)
    received = MNNEngine(VGG16, weights, ("block5_pool",), image_size, 2)(images)["block5_pool"]
    expected = KerasEngine(VGG16, weights, ("block5_pool",), image_size, 2)(images)["block5_pool"]
    assert relative_error(received, expected) < 1e-3


def test_a_batch_that_is_not_full(engine: MNNEngine, images: np.ndarray) -> None:
    alone, together = engine(images[2:3]), engine(images)
    for name in LAYERS:
        assert alone[name].shape == (1, *together[name].shape[1:])
        assert relative_error(alone[name], together[name][2:3]) < 1e-6


def test_the_next_pass_overwrites_no_output(engine: MNNEngine, images: np.ndarray) -> None:
    first = engine(images)
    kept = {name: values.copy() for name, values in first.items()}
    second = engine(images[::-1] / 2)
    for name in LAYERS:
        assert np.array_equal(first[name], kept[name])
        assert not np.array_equal(first[name], second[name])
        assert first[name].flags.owndata


def test_two_engines_do_not_share_memory(weights: Weights, engine: MNNEngine, images: np.ndarray) -> None:
    first = engine(images)["block5_pool"]
    other = MNNEngine(VGG16, weights, ("block2_pool",), 32, batch_size=2)
    other(images[:2])
    assert np.array_equal(engine(images)["block5_pool"], first)


def test_the_callers_images_are_left_as_they_are(engine: MNNEngine, images: np.ndarray) -> None:
    given = images[:3].copy()
    engine(given)
    assert np.array_equal(given, images[:3])


def test_below_the_minimum_size(weights: Weights) -> None:
    with pytest.raises(InputError, match="--image-size 31 is below the minimum of vgg16"):
        MNNEngine(VGG16, weights, ("block5_pool",), 31)


def test_the_table_of_layers(weights: Weights) -> None:
    text = Network(VGG16, weights, ("block5_pool",), 32).describe()
    assert text.count("frozen") == len(VGG16.layers)
    assert "14,714,688 parameters, 0 of them trainable" in text


def test_nothing_is_printed_where_results_go(capfd: pytest.CaptureFixture[str], weights: Weights) -> None:
    MNNEngine(VGG16, weights, ("block1_pool",), 32, batch_size=1)
    os.write(1, b"a result\n")
    assert capfd.readouterr().out == "a result\n"


def test_a_converter_that_writes_nothing_is_found_out(monkeypatch: pytest.MonkeyPatch, weights: Weights) -> None:
    monkeypatch.setattr("thaw.features.engines.mnn_engine.CONVERT", "pass")
    with pytest.raises(InputError, match=r"MNN's converter wrote no whole model into .*; type --engine keras"):
        MNNEngine(VGG16, weights, ("block1_pool",), 32, batch_size=1)


def test_a_file_in_the_working_folder_is_not_taken_for_the_converter(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, weights: Weights
) -> None:
    (tmp_path / "_tools.py").write_text("raise SystemExit('the wrong file')")
    monkeypatch.chdir(tmp_path)
    MNNEngine(VGG16, weights, ("block1_pool",), 32, batch_size=1)


@pytest.mark.parametrize("first", ["tensorflow", "MNN"])
def test_mnn_and_tensorflow_bear_each_other_in_one_process(first: str) -> None:
    second = {"tensorflow": "MNN", "MNN": "tensorflow"}[first]
    program = f"""
        import {first}, {second}, numpy
        from thaw.features.backbones.registry import BACKBONES
        from thaw.features.engines.mnn_engine import MNNEngine, engine_digest, mnn_version
        from thaw.features.backbones.weights import load_weights
        assert mnn_version() and engine_digest()
        weights = load_weights("random", BACKBONES["vgg16"])
        MNNEngine(BACKBONES["vgg16"], weights, ("block1_pool",), 32, 1)(numpy.zeros((1, 32, 32, 3), "float32"))
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True, capture_output=True)


def test_a_disk_that_is_full(monkeypatch: pytest.MonkeyPatch, weights: Weights) -> None:
    def full(path: Path, num_bytes: int) -> None:
        raise InputError(f"{num_bytes} bytes are too many")

    monkeypatch.setattr("thaw.features.engines.mnn_engine.check_space", full)
    with pytest.raises(InputError, match="bytes are too many"):
        MNNEngine(VGG16, weights, ("block1_pool",), 32, batch_size=1)


ISOLATED = """
    import ctypes, struct, sys

    def die_on_socket():
        # A filter in the kernel: the system call socket (41 on x86-64) ends the process, whoever makes it.
        steps = [(0x20, 0, 0, 0), (0x15, 0, 1, 41), (0x06, 0, 0, 0x80000000), (0x06, 0, 0, 0x7FFF0000)]
        code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
        program = ctypes.create_string_buffer(struct.pack("=HxxxxxxQ", len(steps), ctypes.addressof(code)))
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.prctl(38, 1, 0, 0, 0) == 0
        assert libc.prctl(22, 2, ctypes.c_void_p(ctypes.addressof(program)), 0, 0) == 0

    def no_other_program(event, arguments):
        if event == "subprocess.Popen" and CONVERT in arguments[1]:
            return  # the converter, which is under the same filter
        assert event not in ("subprocess.Popen", "os.system", "os.exec"), (event, arguments)

    import joblib, numpy, onnx  # these start programs that have nothing to do with MNN
    from thaw.features.backbones.registry import BACKBONES
    from thaw.features.engines.mnn_engine import CONVERT, MNNEngine, engine_digest, mnn_version
    from thaw.features.processor import num_cores
    from thaw.features.backbones.weights import load_weights

    num_cores()
    die_on_socket()
    sys.addaudithook(no_other_program)
    vgg16 = BACKBONES["vgg16"]
    if sys.argv[1] == "control":
        import socket
        socket.socket()
    mnn_version(), engine_digest()
    engine = MNNEngine(vgg16, load_weights("random", vgg16), ("block5_pool",), 32, 1)
    print(engine(numpy.zeros((1, 32, 32, 3), "f4"))["block5_pool"].shape)
    print(any(name.startswith(("MNN.tools", "aliyun", "tensorflow", "keras")) for name in sys.modules))
"""


@pytest.mark.skipif((sys.platform, platform.machine()) != ("linux", "x86_64"), reason="the filter is Linux' on x86-64")
@pytest.mark.parametrize("control", [False, True])
def test_no_connection_is_opened_and_no_program_started_but_the_converter(control: bool) -> None:
    command = [sys.executable, "-c", textwrap.dedent(ISOLATED), "control" if control else "measure"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    if control:
        assert done.returncode == -31, done.stderr  # SIGSYS
    else:
        assert (done.returncode, done.stdout) == (0, "(1, 1, 1, 512)\nFalse\n"), done.stderr


def check_pictures(word: str, step: int) -> None:
    dataset, weights = load_dataset(word), load_weights("imagenet", VGG16)
    rows = range(0, len(dataset.ids), step)
    images = normalize(np.stack([resize(dataset.read(row), 48, "bilinear") for row in rows]), "caffe")
    layers = ("block4_pool", "block5_pool")
    received = MNNEngine(VGG16, weights, layers, 48, batch_size=len(images))(images)
    expected = KerasEngine(VGG16, weights, layers, 48, batch_size=len(images))(images)
    for name in layers:
        assert relative_error(received[name], expected[name]) < 1e-3


@pytest.mark.weights
def test_imagenet_features_of_digits_are_keras_own() -> None:
    check_pictures("digits", 40)


@pytest.mark.weights
def test_imagenet_features_of_photographs_are_keras_own(cifar10_zip: Path) -> None:
    check_pictures(f"folder:{cifar10_zip}", 1000)
