"""A network from an ONNX file gives what ONNX Runtime's own run of the file gives, as maps, tokens or vectors."""

import pickle
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from thaw.features.backbones.weights import Weights
from thaw.features.engines.agreement import relative_error
from thaw.features.engines.network import Network
from thaw.features.engines.onnxruntime_engine import OnnxRuntimeEngine
from thaw.features.errors import InputError
from thaw.features.foreign.extractors import get_extractor, weights_of
from thaw.features.foreign.graphs import network_graph_of
from thaw.features.foreign.network import OnnxNetwork, name_of, open_network, safe_name

from tests.builders.onnx_networks import Net, convolutional, state, value, vision_transformer

IMAGES = np.random.default_rng(0).normal(0, 1, (5, 32, 32, 3)).astype(np.float32)


def opened(path: Path) -> OnnxNetwork:
    return open_network(path, name_of(path))


def given(path: Path, names: list[str], images: np.ndarray) -> list[np.ndarray]:
    """Return what ONNX Runtime gives for the file as it is."""
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(names, {"pixels": images})


def engine(network: OnnxNetwork, *layers: str, size: int = 32, batch_size: int = 3) -> OnnxRuntimeEngine:
    return OnnxRuntimeEngine(network_graph_of(network, layers, size), layers, batch_size, network.image.batch)


def test_the_features_of_a_convolutional_network_are_onnx_runtime_s_own(tmp_path: Path) -> None:
    network = opened(convolutional(tmp_path / "net.onnx"))
    assert network.name == "onnx:net"
    assert network.default_layers == "maps,features"
    assert [network.output_shape(layer.name, 32) for layer in network.layers] == [(8, 8, 8), (1, 1, 8)]
    maps, features = given(network.path, ["maps", "features"], IMAGES[:3].transpose(0, 3, 1, 2))
    received = engine(network, "maps", "features")(IMAGES[:3])
    np.testing.assert_allclose(received["maps"], maps.transpose(0, 2, 3, 1), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(received["features"][:, 0, 0], features, rtol=1e-5, atol=1e-5)


def test_tokens_become_the_first_and_the_mean_of_the_others(tmp_path: Path) -> None:
    network = opened(vision_transformer(tmp_path / "vit.onnx"))
    assert network.output_shape("tokens", 32) == (1, 1, 32)
    (tokens,) = given(network.path, ["tokens"], IMAGES[:3].transpose(0, 3, 1, 2))
    assert tokens.shape == (3, 17, 16)
    expected = np.concatenate([tokens[:, 0], tokens[:, 1:].mean(axis=1)], axis=1)
    assert relative_error(engine(network, "tokens")(IMAGES[:3])["tokens"][:, 0, 0], expected) < 1e-5


def test_a_single_token_is_taken_as_it_is(tmp_path: Path) -> None:
    net = Net()
    net.add("Reshape", net.add("GlobalAveragePool", "pixels"), net.hold(np.array([0, 1, 3])), name="token")
    path = net.save(tmp_path / "one.onnx", [value("pixels", "N", 3, 32, 32)], [value("token", "N", 1, 3)])
    received = engine(opened(path), "token")(IMAGES[:2])["token"]
    np.testing.assert_allclose(received[:, 0, 0], IMAGES[:2].mean(axis=(1, 2)), atol=1e-6)


@pytest.mark.parametrize("channels_last", [False, True])
def test_maps_are_found_in_either_order_of_their_axes(tmp_path: Path, channels_last: bool) -> None:
    network = opened(convolutional(tmp_path / "net.onnx", size=64, channels_last=channels_last))
    assert network.image.channels_first is not channels_last
    pixels = np.tile(IMAGES[:3], (1, 2, 2, 1))
    images = pixels if channels_last else pixels.transpose(0, 3, 1, 2)
    (maps,) = given(network.path, ["maps"], images)  # the convolution's own, whatever the images are
    received = engine(network, "maps", size=64)(pixels)["maps"]
    np.testing.assert_allclose(received, maps.transpose(0, 2, 3, 1), rtol=1e-5, atol=1e-5)


def test_any_tensor_of_the_graph_is_a_layer(tmp_path: Path) -> None:
    network = opened(convolutional(tmp_path / "net.onnx"))
    inner = next(node.output[0] for node in network.content.model.graph.node if node.op_type == "Relu")
    layer = safe_name(inner)
    assert layer == "Relu_1" != inner
    assert network.output_shape(layer, 32) == (16, 16, 6)
    assert engine(network, layer)(IMAGES[:1])[layer].min() == 0
    with pytest.raises(InputError) as error:
        network.output_shape("Relu_9", 32)
    assert str(error.value) == "onnx:net has no layer 'Relu_9'; expected for example one of Relu_1"


@pytest.mark.parametrize(("batch", "count"), [(1, 3), (2, 3), (4, 3)])
def test_a_fixed_batch_takes_as_many_runs_as_it_needs(tmp_path: Path, batch: int, count: int) -> None:
    free = engine(opened(convolutional(tmp_path / "free.onnx")), "features")(IMAGES[:count])["features"]
    network = opened(convolutional(tmp_path / "fixed.onnx", batch=batch))
    received = engine(network, "features")(IMAGES[:count])["features"]
    np.testing.assert_allclose(received, free, rtol=1e-5, atol=1e-6)


def test_an_image_s_features_do_not_depend_on_how_full_its_batch_is(tmp_path: Path) -> None:
    run = engine(opened(vision_transformer(tmp_path / "vit.onnx")), "tokens", batch_size=5)
    np.testing.assert_array_equal(run(IMAGES)["tokens"][:2], run(IMAGES[:2])["tokens"])


def test_a_network_of_any_size_takes_the_size_that_is_asked_for(tmp_path: Path) -> None:
    path = state(convolutional(tmp_path / "net.onnx", size="S"), size=48)
    network = opened(path)
    assert network.default_image_size == 48
    assert network.output_shape("maps", 64) == (16, 16, 8)
    assert network.output_shape("maps", 32) == (8, 8, 8)


@pytest.mark.parametrize("opset", [11, 13, 17, 18, 20])
def test_files_of_earlier_and_later_versions_of_the_standard_are_read(tmp_path: Path, opset: int) -> None:
    network = opened(convolutional(tmp_path / "net.onnx", opset=opset))
    (features,) = given(network.path, ["features"], IMAGES[:3].transpose(0, 3, 1, 2))
    received = engine(network, "features")(IMAGES[:3])["features"][:, 0, 0]
    np.testing.assert_allclose(received, features, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("opset", [17, 18])
def test_tokens_are_averaged_in_every_version_of_the_standard(tmp_path: Path, opset: int) -> None:
    network = opened(vision_transformer(tmp_path / "vit.onnx", opset=opset))
    assert np.isfinite(engine(network, "tokens")(IMAGES[:2])["tokens"]).all()


def test_float16_inside_comes_out_as_float32(tmp_path: Path) -> None:
    net = Net()
    half = net.add("Cast", "pixels", to=onnx.TensorProto.FLOAT16)
    net.add("Flatten", net.add("GlobalAveragePool", half), name="half")
    path = net.save(tmp_path / "half.onnx", [value("pixels", "N", 3, 32, 32)], [value("half", "N", 3, kind=10)])
    received = engine(opened(path), "half")(IMAGES[:2])["half"]
    assert received.dtype == np.float32
    np.testing.assert_allclose(received[:, 0, 0], IMAGES[:2].mean(axis=(1, 2)), atol=2e-3)


def test_a_network_travels_by_its_digest(tmp_path: Path) -> None:
    path = convolutional(tmp_path / "net.onnx")
    extractor = get_extractor("onnx:net", str(path))
    sent = Network(extractor, weights_of(extractor, str(path)), ("features",), 32, source=str(path))
    content = pickle.dumps(sent)
    assert len(content) < 2000
    received = pickle.loads(content)  # noqa: S301
    expected = sent.start("onnxruntime", 3)(IMAGES[:3])["features"]
    np.testing.assert_array_equal(received.start("onnxruntime", 3)(IMAGES[:3])["features"], expected)
    vision_transformer(path)
    with pytest.raises(InputError, match="has other weights"):
        pickle.loads(content).start("onnxruntime", 3)  # noqa: S301


def test_other_engines_refuse_it_in_one_line(tmp_path: Path) -> None:
    path = convolutional(tmp_path / "net.onnx")
    network = Network(opened(path), Weights({}, str(path), ""), ("features",), 32)
    with pytest.raises(InputError, match="--engine keras needs a network that is built here, and onnx:net is a file"):
        network.start("keras", 3)


def test_what_does_not_depend_on_the_image_is_no_layer(tmp_path: Path) -> None:
    net = Net()
    net.add("Identity", net.weights(3, 3), name="weights")
    net.add("MatMul", net.add("Flatten", net.add("GlobalAveragePool", "pixels")), "weights", name="features")
    path = net.save(tmp_path / "net.onnx", [value("pixels", "N", 3, 32, 32)], [value("features", "N", 3)])
    assert opened(path).tensor_names == ("GlobalAveragePool_1", "Flatten_2", "features")
    with pytest.raises(InputError, match="onnx:net has no layer 'weights'"):
        opened(path).output_shape("weights", 32)


def test_a_file_that_is_replaced_is_read_anew(tmp_path: Path) -> None:
    path = convolutional(tmp_path / "net.onnx")
    before = opened(path)
    assert opened(path) is before
    vision_transformer(path)
    assert opened(path).default_layers == "tokens"
