import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from thaw.features.errors import InputError
from thaw.features.images.preprocess import NORMALIZATIONS, normalize
from thaw.features.pooling import pool, pooled_shape, resolve_pooling


def test_caffe_is_keras_own_preprocessing() -> None:
    import keras

    images = np.random.default_rng(0).uniform(0, 255, (3, 8, 9, 3)).astype(np.float32)
    expected = keras.applications.vgg16.preprocess_input(images.copy())
    np.testing.assert_allclose(normalize(images, "caffe"), expected, atol=1e-4)


def test_caffe_puts_blue_first_and_subtracts_the_mean_of_each_colour() -> None:
    red = np.zeros((1, 1, 1, 3), np.float32)
    red[..., 0] = 255
    np.testing.assert_allclose(normalize(red, "caffe")[0, 0, 0], [-103.939, -116.779, 255 - 123.68], rtol=1e-6)


def test_article_divides_by_255_exactly() -> None:
    images = np.arange(256, dtype=np.float32).repeat(3).reshape(1, 16, 16, 3)
    np.testing.assert_array_equal(normalize(images, "article"), (images.astype(np.uint8) / 255).astype(np.float32))


@pytest.mark.parametrize("method", ["caffe", "article"])
def test_normalize_leaves_the_callers_array_alone(method: str) -> None:
    images = np.full((2, 4, 4, 3), 7, np.float32)
    normalize(images, method)
    assert (images == 7).all()


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((3, 3, 512), "flat"),
        ((4, 4, 512), "flat"),
        ((6, 6, 512), "grid4"),
        ((6, 6, 256), "grid5"),
        ((2, 2, 4096), "grid1"),
    ],
)
def test_auto_pooling_is_the_finest_that_fits(shape: tuple[int, int, int], expected: str) -> None:
    assert resolve_pooling("auto", shape) == expected
    assert pooled_shape("auto", shape)[0] <= 8192


@given(st.integers(1, 6), st.integers(6, 15), st.integers(6, 15))
def test_grid_is_adaptive_averaging(cells: int, height: int, width: int) -> None:
    maps = np.random.default_rng(0).standard_normal((2, height, width, 3)).astype(np.float32)
    expected = [
        maps[
            :,
            i * height // cells : -(-(i + 1) * height // cells),
            j * width // cells : -(-(j + 1) * width // cells),
        ]
        .astype(np.float64)
        .mean(axis=(1, 2))
        for i in range(cells)
        for j in range(cells)
    ]
    np.testing.assert_allclose(pool(maps, f"grid{cells}"), np.concatenate(expected, axis=1), atol=1e-5)


def test_the_other_poolings() -> None:
    maps = np.random.default_rng(0).standard_normal((2, 3, 3, 4)).astype(np.float32)
    np.testing.assert_array_equal(pool(maps, "max"), maps.max(axis=(1, 2)))
    np.testing.assert_allclose(pool(maps, "avg"), maps.mean(axis=(1, 2)), atol=1e-6)
    np.testing.assert_array_equal(pool(maps, "none"), maps)
    np.testing.assert_array_equal(pool(maps, "auto"), maps.reshape(2, 36))


@pytest.mark.parametrize("pooling", ["auto", "none", "avg", "max", "grid2"])
def test_the_shape_announced_is_the_shape_given(pooling: str) -> None:
    maps = np.zeros((2, 5, 4, 512), np.float32)
    assert pool(maps, pooling).shape[1:] == pooled_shape(pooling, maps.shape[1:])


def test_a_grid_finer_than_the_map_is_refused() -> None:
    with pytest.raises(InputError, match="--pooling grid4 needs a map of 4x4 or more and a layer has 3x3; choose"):
        pooled_shape("grid4", (3, 3, 512))


IMAGES = arrays(
    np.float32,
    st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 6), st.just(3)),
    elements=st.floats(0, 255, width=32),
)


def plain_pixel(pixel: list[float], method: str) -> list[float]:
    """One pixel of a network's input by the published formulas, in float64."""
    if method == "caffe":
        return [pixel[2] - 103.939, pixel[1] - 116.779, pixel[0] - 123.68]
    if method == "tf":
        return [value / 127.5 - 1 for value in pixel]
    if method == "torch":
        statistics = zip(pixel, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), strict=True)
        return [(value / 255 - mean) / deviation for value, mean, deviation in statistics]
    return [value / 255 for value in pixel]


@settings(max_examples=40, deadline=None)
@given(IMAGES, st.sampled_from(NORMALIZATIONS))
def test_normalize_is_its_formula_pixel_by_pixel(images: np.ndarray, method: str) -> None:
    expected = [plain_pixel(pixel, method) for pixel in images.reshape(-1, 3).tolist()]
    result = normalize(images, method)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, np.reshape(expected, images.shape), atol=3e-5)


@settings(max_examples=40, deadline=None)
@given(IMAGES, st.sampled_from(NORMALIZATIONS))
def test_flips_and_parts_of_a_batch_are_normalised_alike(images: np.ndarray, method: str) -> None:
    result = normalize(images, method)
    for part in (np.s_[:, ::-1], np.s_[:, :, ::-1], np.s_[:1], np.s_[:, :1]):
        np.testing.assert_array_equal(normalize(images[part], method), result[part])


@settings(max_examples=40, deadline=None)
@given(st.tuples(*[st.integers(0, 255)] * 3), st.integers(1, 9), st.sampled_from(NORMALIZATIONS))
def test_an_image_of_one_colour_stays_one(colour: tuple[int, ...], side: int, method: str) -> None:
    result = normalize(np.broadcast_to(np.float32(colour), (2, side, side + 1, 3)), method)
    assert (result == result[0, 0, 0]).all()
