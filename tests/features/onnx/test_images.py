"""Resize, preprocessing and pooling as ONNX, in ONNX Runtime, against the functions that they stand for."""

from collections.abc import Callable

import numpy as np
import pytest

from thaw.features.errors import InputError
from thaw.features.images.aspect import fit
from thaw.features.images.preprocess import NORMALIZATIONS, RESIZES, neutral_colour, normalize, resize
from thaw.features.onnx.builder import GraphBuilder
from thaw.features.onnx.images import images_input, normalized, resized, squared
from thaw.features.onnx.pooling import pooled
from thaw.features.pooling import pool

onnxruntime = pytest.importorskip("onnxruntime")

SIDES = ((8, 8), (1, 1), (1, 300), (300, 1), (48, 48), (47, 49), (2, 3), (97, 31), (333, 500), (64, 1500), (1100, 1200))


def runner(graph: GraphBuilder, output: str, rank: int) -> Callable[[np.ndarray], np.ndarray]:
    shape = [f"d{axis}" for axis in range(rank)]
    model = graph.serialize([images_input("images")], (output, "output", shape), {})
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {"images": images})[0]


def noise(count: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height + width).integers(0, 256, (count, height, width, 3)).astype(np.uint8)


@pytest.mark.parametrize("size", [32, 75])
@pytest.mark.parametrize("method", RESIZES)
def test_images_of_any_shape_are_resized_as_for_training(method: str, size: int) -> None:
    graph = GraphBuilder()
    run = runner(graph, resized(graph, "images", size, method), 4)
    for height, width in SIDES:
        images = noise(2, height, width)
        expected = np.stack([resize(image, size, method) for image in images])
        np.testing.assert_allclose(run(images).transpose(0, 2, 3, 1), expected, atol=3e-4, err_msg=f"{height}x{width}")


@pytest.mark.parametrize("method", ["bilinear", "bicubic", "area"])
@pytest.mark.parametrize("aspect", ["squash", "crop", "pad"])
def test_images_of_any_shape_become_squares_as_for_training(aspect: str, method: str) -> None:
    graph = GraphBuilder()
    run = runner(graph, squared(graph, "images", 32, (method, aspect, "caffe")), 4)
    for height, width in SIDES:
        images = noise(2, height, width)
        expected = np.stack([fit(image, 32, method, aspect, neutral_colour("caffe")) for image in images])
        np.testing.assert_allclose(run(images).transpose(0, 2, 3, 1), expected, atol=3e-4, err_msg=f"{height}x{width}")


@pytest.mark.parametrize("method", [*NORMALIZATIONS, "bgr:0.5,0.4,0.3:0.2,0.25,0.3"])
def test_preprocessing_is_that_of_the_training(method: str) -> None:
    graph, images = GraphBuilder(), noise(3, 20, 20)
    run = runner(graph, normalized(graph, resized(graph, "images", 20, "bilinear"), method), 4)
    np.testing.assert_allclose(run(images).transpose(0, 2, 3, 1), normalize(images, method), atol=1e-4)


@pytest.mark.parametrize("opset", [13, 17, 18, 21, 23])
def test_a_graph_of_a_later_version_of_the_standard_does_the_same(opset: int) -> None:
    graph, images = GraphBuilder(opset, ir_version=10), noise(2, 20, 31)
    inputs = normalized(graph, squared(graph, "images", 32, ("bicubic", "pad", "torch")), "torch")
    parts = [pooled(graph, inputs, pooling, (32, 32, 3)) for pooling in ("max", "grid2")]
    mean = graph.add("ReduceMean", graph.add("Concat", *parts, axis=1), axes=[1], keepdims=0)
    squares = [fit(image, 32, "bicubic", "pad", neutral_colour("torch")) for image in images]
    prepared = normalize(np.stack(squares), "torch")
    expected = np.hstack([pool(prepared, pooling) for pooling in ("max", "grid2")]).mean(axis=1)
    np.testing.assert_allclose(runner(graph, mean, 1)(images), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("pooling", ["auto", "none", "flat", "avg", "max", "grid2", "grid3", "grid5"])
def test_pooling_is_that_of_the_features(pooling: str) -> None:
    graph, images = GraphBuilder(), noise(2, 7, 5)
    activations = graph.add("Transpose", graph.cast("images", np.float32), perm=[0, 3, 1, 2])
    run = runner(graph, pooled(graph, activations, pooling, (7, 5, 3)), 2)
    expected = pool(images.astype(np.float32), pooling).reshape(2, -1)
    np.testing.assert_allclose(run(images), expected, rtol=1e-6)


def test_a_model_larger_than_a_file_may_be_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thaw.features.onnx.builder.MOST_BYTES", 1000)
    graph = GraphBuilder()
    sums = graph.add("Add", graph.cast("images", np.float32), graph.hold(np.zeros(500, np.float32)))
    with pytest.raises(
        InputError, match=r"the model holds 0 MB and an ONNX file at most 0 MB; export another strategy"
    ):
        graph.serialize([images_input("images")], (sums, "output", ["N"]), {})
