"""The same tests over all networks. Keras' ImageNet files cannot be had offline: all weights are seeded random ones.

They are drawn with biases and with means and variances of batch normalisation that are not neutral, saved as Keras
saves them (AlexNet's and EfficientNet-Lite's as PyTorch does), and read back from that file as any user's.
EfficientNet-Lite's published weights are tested in tests/features/backbones/test_efficientnet_lite.py.
"""

import ctypes
import gc
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file
from scipy.special import softmax

from benchmarks.keras_graphs import MODULES, as_published
from benchmarks.keras_networks import draw_weights
from thaw.features.backbones import weights
from thaw.features.backbones.applications.reader import layers_by_operation
from thaw.features.backbones.graph import IMAGE
from thaw.features.backbones.keras_model import build_frozen
from thaw.features.backbones.registry import BACKBONES, Backbone
from thaw.features.backbones.weights import Weights, load_weights
from thaw.features.datasets.dataset import Dataset, load_dataset
from thaw.features.engines.agreement import relative_error
from thaw.features.engines.keras_engine import KerasEngine
from thaw.features.engines.mnn_engine import MNNEngine, mnn_version
from thaw.features.errors import InputError
from thaw.features.extraction.extraction import Extraction
from thaw.features.images.preprocess import normalize
from thaw.features.onnx.network import network_nodes
from thaw.features.pooling import pooled_shape
from thaw.models.neural import network, saved_network
from thaw.models.neural.network import Architecture
from thaw.pipeline.advice.fine_tuning_trials import HEAD, cuts_of
from thaw.pipeline.cli import run
from thaw.pipeline.commands import as_typed
from thaw.pipeline.config import Finetune
from thaw.pipeline.run.report_json import read_report

from tests.builders.extraction import request
from tests.builders.pytorch import lite_state

# The smallest network of each family; of those in LARGE the features alone. `make bench` takes all networks.
NAMES = (
    *("vgg16", "vgg19", "resnet50", "resnet50v2", "inceptionv3", "xception", "densenet121"),
    *("mobilenet", "mobilenetv2", "mobilenetv3small", "nasnetmobile", "efficientnetb0", "efficientnetv2b0"),
    *("convnexttiny", "alexnet", "efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"),
)
LARGE = ("inceptionresnetv2", "efficientnetv2s")
LITES = {"efficientnet_lite0": (1.0, 1.0), "efficientnet_lite1": (1.0, 1.1), "efficientnet_lite2": (1.1, 1.2)}
FINE_TUNED = tuple(name for name in NAMES if name != "nasnetmobile")
WITH_NORMS = tuple(name for name in FINE_TUNED if name not in ("vgg16", "vgg19", "alexnet", "convnexttiny"))
BATCH = 4
every = pytest.mark.parametrize("name", NAMES, ids=lambda name: f"{name}-random-weights")
fine_tuned = pytest.mark.parametrize("name", FINE_TUNED, ids=lambda name: f"{name}-random-weights")
with_norms = pytest.mark.parametrize("name", WITH_NORMS, ids=lambda name: f"{name}-random-weights")


@pytest.fixture(scope="module", autouse=True)
def _op_by_op() -> Iterator[None]:
    """Networks run op by op: to compile one for a handful of images takes longer than all that they compute."""
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)
    for cached in (
        reference,
        backbone_and_weights,
        engine,
        images_of,
        network_input,
    ):  # gigabytes, which later tests of the process need
        cached.cache_clear()
    keras.backend.clear_session()
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)  # which the C library would keep


def alexnet_by_hand(size: int | None) -> keras.Model:
    """AlexNet as its paper and PyTorch's documentation give it, layer by layer."""
    layers = keras.layers
    value = image = keras.Input((size, size, 3))
    for name, width, kernel, stride, padding in (
        *(("conv1", 64, 11, 4, 2), ("pool1", 0, 3, 2, 0), ("conv2", 192, 5, 1, 2), ("pool2", 0, 3, 2, 0)),
        *(("conv3", 384, 3, 1, 1), ("conv4", 256, 3, 1, 1), ("conv5", 256, 3, 1, 1), ("pool5", 0, 3, 2, 0)),
    ):
        if width:
            value = layers.ZeroPadding2D(padding)(value)
            value = layers.Conv2D(width, kernel, stride, activation="relu", name=name)(value)
        else:
            value = layers.MaxPooling2D(kernel, stride, name=name)(value)
    return keras.Model(image, value)


def lite_by_hand(name: str, size: int | None) -> keras.Model:
    """An EfficientNet-Lite as Keras writes EfficientNet, without gates; its layers have the names that Keras gives."""
    layers, (width, depth) = keras.layers, LITES[name]

    def finish(value: Any, prefix: str) -> Any:
        return layers.Activation("relu6", name=f"{prefix}activation")(
            layers.BatchNormalization(name=f"{prefix}bn")(value)
        )

    def convolve(value: Any, channels: int, kernel: int, stride: int, name: str) -> Any:
        return layers.Conv2D(channels, kernel, stride, padding="same", use_bias=False, name=name)(value)

    image = keras.Input((size, size, 3))
    value = finish(convolve(image, 32, 3, 2, "stem_conv"), "stem_")
    widths = {1.0: (16, 24, 40, 80, 112, 192, 320), 1.1: (16, 24, 48, 88, 120, 208, 352)}[width]
    numbers = {1.0: (1, 2, 2, 3, 3, 4, 1), 1.1: (1, 3, 3, 4, 4, 5, 1), 1.2: (1, 3, 3, 4, 4, 5, 1)}[depth]
    for stage, (channels, number) in enumerate(zip(widths, numbers, strict=True), start=1):
        for block in range(number):
            before, name = value, f"block{stage}{'abcde'[block]}_"
            if stage > 1:
                value = finish(convolve(value, 6 * value.shape[-1], 1, 1, f"{name}expand_conv"), f"{name}expand_")
            stride, kernel = 2 if block == 0 and stage in (2, 3, 4, 6) else 1, 5 if stage in (3, 5, 6) else 3
            value = layers.DepthwiseConv2D(kernel, stride, padding="same", use_bias=False, name=f"{name}dwconv")(value)
            value = convolve(finish(value, name), channels, 1, 1, f"{name}project_conv")
            value = layers.BatchNormalization(name=f"{name}project_bn")(value)
            value = layers.Add(name=f"{name}add")([before, value]) if block else value
    return keras.Model(image, finish(convolve(value, 1280, 1, 1, "top_conv"), "top_"))


def kerass_own(name: str, size: int) -> keras.Model:
    """The network as Keras builds it with its ImageNet weights, which have another graph than random ones."""
    builder = BACKBONES[name].builder
    if builder is None:
        return lite_by_hand(name, size) if name in LITES else alexnet_by_hand(size)
    return as_published(builder, size)[0]


def kerass_layers(name: str, model: keras.Model) -> dict[str, Any]:
    """Keras' layers by the names of our operations."""
    own = {layer.name: layer for layer in model.layers}
    return layers_by_operation(model) if BACKBONES[name].builder else own


@cache
def reference(name: str, more_pixels: int = 0) -> keras.Model:
    model = kerass_own(name, BACKBONES[name].min_image_size + more_pixels)
    draw_weights(model)
    return model


def save(name: str, folder: Path) -> Path:
    model = reference(name)
    if BACKBONES[name].builder:
        model.save_weights(folder / f"{name}.weights.h5")
        return folder / f"{name}.weights.h5"
    state = lite_state(weights_by_layer(model)) if name in LITES else alexnet_state(model)
    save_file(state, folder / f"{name}.safetensors")
    np.savez(folder / f"{name}.npz", **state)  # type: ignore[arg-type]
    return folder / f"{name}.safetensors"


def weights_by_layer(model: keras.Model) -> dict[str, tuple[np.ndarray, ...]]:
    return {layer.name: tuple(layer.get_weights()) for layer in model.layers if layer.weights}


def alexnet_state(model: keras.Model) -> dict[str, np.ndarray]:
    state: dict[str, np.ndarray] = {"classifier.1.weight": np.zeros((4, 4), np.float32)}
    for layer, index in (("conv1", 0), ("conv2", 3), ("conv3", 6), ("conv4", 8), ("conv5", 10)):
        kernel, bias = model.get_layer(layer).get_weights()
        state |= {f"features.{index}.weight": np.ascontiguousarray(kernel.transpose(3, 2, 0, 1))}
        state |= {f"features.{index}.bias": bias}
    return state


@cache
def backbone_and_weights(name: str) -> tuple[Backbone, Weights]:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = save(name, Path(folder))
        read = load_weights(str(path), BACKBONES[name])
        if path.suffix == ".safetensors":
            assert load_weights(str(path.with_suffix(".npz")), BACKBONES[name]).sha256 == read.sha256
    return BACKBONES[name], read


@cache
def engine(name: str, more_pixels: int = 0) -> KerasEngine:
    backbone, held = backbone_and_weights(name)
    layers = tuple(backbone.default_layers.split(","))
    return KerasEngine(backbone, held, layers, backbone.min_image_size + more_pixels, BATCH)


@cache
def images_of(name: str, more_pixels: int = 0) -> np.ndarray:
    size = BACKBONES[name].min_image_size + more_pixels
    return np.random.default_rng(0).uniform(0, 255, (BATCH, size, size, 3)).astype(np.float32)


def kerass_input(name: str, images: np.ndarray) -> np.ndarray:
    if name in LITES:
        return (images - 127) / 128  # as Google's own code feeds them
    builder = BACKBONES[name].builder or "DenseNet121"  # torchvision's AlexNet takes what Keras' DenseNet takes
    module = next(module for begin, module in MODULES.items() if builder.startswith(begin))
    return getattr(keras.applications, module).preprocess_input(images.copy())


@cache
def network_input(name: str, more_pixels: int = 0) -> np.ndarray:
    return normalize(images_of(name, more_pixels), BACKBONES[name].normalization)


@every
def test_the_input_is_what_keras_makes_of_the_images(name: str) -> None:
    np.testing.assert_allclose(network_input(name), kerass_input(name, images_of(name)), atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("more_pixels", [0, 1])
@pytest.mark.parametrize("name", [*NAMES, *LARGE], ids=lambda name: f"{name}-random-weights")
def test_features_are_keras_own_at_even_and_odd_sizes(name: str, more_pixels: int) -> None:
    model, ours = reference(name, more_pixels), engine(name, more_pixels)
    layers = kerass_layers(name, model)
    outputs = keras.Model(model.input, [layers[layer].output for layer in ours.layers])
    expected = outputs(kerass_input(name, images_of(name, more_pixels)), training=False)
    received = ours(network_input(name, more_pixels))
    for layer, values in zip(ours.layers, expected, strict=True):
        assert relative_error(received[layer], np.asarray(values)) < 1e-5
        assert received[layer].std() > 0
    assert not ours.network.trainable_weights


@pytest.mark.skipif(mnn_version() is None, reason="MNN is not installed: make setup, if it has a wheel")
@pytest.mark.parametrize("more_pixels", [0, 1])
@every
def test_mnn_gives_what_keras_gives(name: str, more_pixels: int) -> None:
    backbone, held = backbone_and_weights(name)
    ours, size = engine(name, more_pixels), backbone.min_image_size + more_pixels
    received = MNNEngine(backbone, held, ours.layers, size, BATCH)(network_input(name, more_pixels))
    for layer, expected in ours(network_input(name, more_pixels)).items():
        assert relative_error(received[layer], expected) < 1e-3


@every
def test_the_onnx_graph_gives_what_keras_gives_for_any_number_of_images(name: str) -> None:
    import onnxruntime
    from onnx import TensorProto, helper

    backbone, held = backbone_and_weights(name)
    layers = engine(name).layers
    nodes, tensors = network_nodes(backbone, held, layers, ("input", backbone.min_image_size), prefix="thaw/")
    given = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", 3, "h", "w"])
    outputs = [helper.make_tensor_value_info(f"thaw/{layer}", TensorProto.FLOAT, None) for layer in layers]
    graph = helper.make_graph(nodes, name, [given], outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = engine(name)(network_input(name))
    for count in (1, 3):
        received = session.run(None, {"input": network_input(name)[:count].transpose(0, 3, 1, 2)})
        for layer, values in zip(layers, received, strict=True):
            assert relative_error(values.transpose(0, 2, 3, 1), expected[layer][:count]) < 1e-4


@every
def test_the_sizes_of_maps_are_those_of_keras_network(name: str) -> None:
    """At sizes that are odd and that poolings cut, too."""
    backbone = BACKBONES[name]
    least = backbone.min_image_size
    for more_pixels in (0, 1, 18):
        model = kerass_own(name, least + more_pixels)
        layers = kerass_layers(name, model)
        for layer in backbone.layers:
            received = backbone.output_shape(layer.name, least + more_pixels)
            assert layers[layer.name].output.shape[1:] == received, layer.name
    counted = sum(int(np.prod(v.shape)) for v in model.weights if not v.path.endswith("count"))
    assert backbone.cost(backbone.layers[-1].name, least)[0] == counted


@every
def test_everything_above_a_cut_point_depends_on_it_alone(name: str) -> None:
    backbone = BACKBONES[name]
    order = {operation: index for index, operation in enumerate([IMAGE, *backbone.graph.operations])}
    for layer in backbone.layers:
        around = [
            operation.name
            for operation in backbone.graph.operations.values()
            if order[operation.name] > order[layer.name]
            and any(order[below] < order[layer.name] for below in operation.inputs)
        ]
        assert layer.splits == (not around), layer.name


@every
def test_below_the_minimum_size(name: str) -> None:
    backbone = BACKBONES[name]
    backbone.check_image_size(backbone.min_image_size)
    with pytest.raises(InputError) as error:
        build_frozen(backbone, backbone.min_image_size - 1, None)
    assert str(error.value) == (
        f"--image-size {backbone.min_image_size - 1} is below the minimum of {name}; expected "
        f"{backbone.min_image_size} or more, for example --image-size {usual_size(name)}"
    )


def usual_size(name: str) -> int:
    own = {"efficientnet_lite1": 240, "efficientnet_lite2": 260, "inceptionv3": 299}
    own |= {"vgg16": 48, "vgg19": 48, "alexnet": 63, "xception": 299}
    return own.get(name, 224)


def convolutions_from(backbone: Backbone, cut: str) -> set[str]:
    """Return the convolutions at the layer `cut` and above, down to the cut point below it."""
    order = list(backbone.graph.operations)
    below = backbone.input_of(cut)
    above = order[order.index(below) + 1 :] if below else order
    return {operation for operation in above if backbone.graph.operations[operation].convolves}


def variables(model: keras.Model) -> dict[str, np.ndarray]:
    return {variable.path: np.array(variable) for variable in model.weights}


@fine_tuned
def test_a_step_of_fine_tuning_moves_what_is_above_the_cut_and_nothing_else(name: str) -> None:
    """Gradients reach the convolutions above the cut and the head alone; batch normalisation keeps its statistics."""
    backbone, held = backbone_and_weights(name)
    cut = backbone.trainable[-1].name
    architecture = Architecture(name, backbone.min_image_size, 3, None, cut, units=8, dropout=0.0)
    model = network.build(architecture, held, seed=0)
    trained = {variable.path.split("/")[0] for variable in model.trainable_variables}
    assert trained == convolutions_from(backbone, cut) | {"fc1", "predictions"}
    depths = network.depths(model, architecture)
    assert {depths[layer] for layer in trained - {"fc1", "predictions"}} == {0}
    before, inputs = variables(model), network_input(name)
    in_training, at_inference = (np.asarray(model(inputs, training=flag)) for flag in (True, False))
    np.testing.assert_allclose(softmax(in_training, axis=1), at_inference, atol=1e-6)
    model.compile(keras.optimizers.SGD(1e-2), keras.losses.CategoricalCrossentropy(from_logits=True), jit_compile=False)
    model.train_on_batch(inputs, np.eye(3, dtype=np.float32)[[0, 1, 2, 0]])
    for path, values in variables(model).items():
        part = path.rpartition("/")[2]
        moved = not np.array_equal(values, before[path])
        assert moved == (path.split("/")[0] in trained and part in ("kernel", "bias")), path
    assert weights.taken_from(model, held, backbone).sha256 != held.sha256


@with_norms
def test_batch_normalisation_is_trained_from_scratch_alone(name: str) -> None:
    backbone = BACKBONES[name]
    architecture = Architecture(name, backbone.min_image_size, 3, None, backbone.trainable[0].name, units=8)
    model = network.build(architecture, backbone_and_weights(name)[1], seed=0, from_scratch=True)
    operations = backbone.graph.operations.values()
    norms = {operation.name for operation in operations if operation.kind == "norm" and operation.center}
    trained = {variable.path.split("/")[0] for variable in model.trainable_variables}
    assert norms | convolutions_from(backbone, backbone.trainable[0].name) == trained - {"fc1", "predictions"}
    before = variables(model)
    model(network_input(name), training=True)
    moved = {
        path.split("/")[0] for path, values in variables(model).items() if not np.array_equal(values, before[path])
    }
    assert norms <= moved


class KilledError(Exception):
    """Stands for a process that ends at once."""


@pytest.fixture(scope="module")
def few_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of eight small images, one dark and one bright."""
    folder, generator = tmp_path_factory.mktemp("few"), np.random.default_rng(0)
    for name, level in (("dark", 0), ("bright", 150)):
        (folder / name).mkdir()
        for number in range(8):
            pixels = level + generator.integers(0, 100, (20, 20, 3))
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{number}.png")
    return folder


def extraction_of(path: Path, dataset: Dataset, name: str) -> Extraction:
    backbone = BACKBONES[name]
    size = backbone.min_image_size
    shapes = {layer: pooled_shape("avg", backbone.output_shape(layer, size)) for layer in engine(name).layers}
    wanted = request(path, dataset, shapes=shapes, pooling="avg", image_size=size, normalize=backbone.normalization)
    return Extraction(replace(wanted, record={"backbone": name}, batch_size=BATCH))


@every
def test_a_killed_extraction_is_continued(
    name: str, few_images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("thaw.features.extraction.spec.PART_ROWS", BATCH)
    dataset, calls = load_dataset(f"folder:{few_images}"), 0

    class Killed:
        batch_size = BATCH

        def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
            nonlocal calls
            calls += 1
            if calls == 3:
                raise KilledError
            return engine(name)(images)

    broken, whole = (extraction_of(tmp_path / f"{word}.h5", dataset, name) for word in ("broken", "whole"))
    with pytest.raises(KilledError):
        broken.run(Killed())
    assert len(broken.missing()) == 2
    for work in (broken, whole):
        work.run(engine(name))
        work.join({})
    with h5py.File(broken.path) as one, h5py.File(whole.path) as other:
        assert one.attrs["values_sha256"] == other.attrs["values_sha256"]


@every
def test_defaults_follow_the_network(name: str) -> None:
    backbone = BACKBONES[name]
    settings = Finetune(backbone=name)
    assert settings.layer_names == tuple(layer.name for layer in backbone.probed[-2:])
    assert settings.image_size == usual_size(name)
    assert settings.pooling == ("auto" if name in ("vgg16", "vgg19", "alexnet") else "avg")
    cut = backbone.stage_starts[-1] if name in FINE_TUNED else "none"
    assert (settings.normalize, settings.unfreeze_from) == (backbone.normalization, cut)
    assert not {"layers", "image_size", "normalize", "unfreeze_from"} & settings.model_fields_set


@fine_tuned
def test_a_network_is_fine_tuned_by_the_stages(name: str, few_images: Path, tmp_path: Path) -> None:
    """Features, one epoch from the last layer that has something to train, and the model that is left."""
    backbone, folder = BACKBONES[name], tmp_path / "run"
    cut = backbone.trainable[-1].name
    below = backbone.input_of(cut)
    images = ["--dataset", f"folder:{few_images}", "--image-size", str(backbone.min_image_size)]
    network_options = ["--backbone", name, "--weights", "random", "--engine", "keras", "--layers", str(below)]
    assert run(["features", "--run", str(folder), *images, *network_options]) == 0
    assert run(["finetune", "--run", str(folder), "--unfreeze-from", cut, "--epochs", "1"]) == 0
    report = read_report(folder / "finetune" / "report.json")
    assert (report.backbone, report.layer, report.hyperparameters["epochs_trained"]) == (name, cut, 1)
    assert report.hyperparameters["inputs"] == f"cached activations of {below}"
    model, architecture, _ = saved_network.load(folder / "finetune" / "model.json")
    assert architecture.input_layer == below
    assert model.input_shape[1:] == backbone.output_shape(str(below), backbone.min_image_size)


def test_nasnet_has_features_and_a_head_and_says_in_one_line_that_it_is_not_fine_tuned(
    few_images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = ["--run", str(tmp_path / "run")]
    images = ["--dataset", f"folder:{few_images}", "--image-size", "32", "--engine", "keras", "--weights", "random"]
    assert run(["features", *folder, *images, "--backbone", "nasnetmobile"]) == 0
    assert run(["logreg", *folder]) == 0
    assert run(["head", *folder, "--epochs", "1"]) == 0
    report = read_report(tmp_path / "run" / "head" / "report.json")
    assert (report.backbone, report.layer) == ("nasnetmobile", "activation_187")
    capsys.readouterr()
    for given in ([], ["--unfreeze-from", "activation_187"]):
        assert run(["finetune", *folder, *given]) == 1
        assert capsys.readouterr().err.splitlines()[-1] == as_typed(
            "error: nasnetmobile is not fine-tuned: no layer in its upper part has all above it depend on it alone, "
            "since each block takes the outputs of the two before it; type make head or make logreg, or take another "
            "network"
        )
    assert cuts_of("nasnetmobile") == ()


@fine_tuned
def test_advice_has_three_cuts_to_try(name: str) -> None:
    backbone = BACKBONES[name]
    head, *cuts = cuts_of(name)
    assert head == HEAD
    assert (cuts[0], cuts[-1]) == (backbone.default_cut, backbone.trainable[0].name)
    assert [backbone.stages_above(cut) for cut in cuts[:2]] == [0, 1]


@every
def test_another_networks_normalisation_is_refused(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    own = BACKBONES[name].normalization
    for other in {"caffe", "tf", "torch", "lite", "pixels"} - {own}:
        assert run(["features", "--backbone", name, "--normalize", other]) == 2
        assert capsys.readouterr().err == (
            f"error: --normalize received '{other}': expected {own}, which {name} was trained with, or article; --help "
            "shows the options\n"
        )
