import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from thaw.features.errors import InputError
from thaw.features.images.preprocess import (
    NORMALIZATIONS,
    RESIZES,
    is_normalization,
    neutral_colour,
    normalize,
    resize,
    stated,
)

from tests.builders.images import noise

SMOOTH = [method for method in RESIZES if method != "article"]
SMALL_IMAGES = arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12), st.just(3)))


def triangle_weights(old: int, new: int) -> np.ndarray:
    """(new, old): the weight of every old pixel in every new one; a triangle as wide as the wider pixel."""
    scale = old / new
    reach = max(scale, 1.0)
    weights = np.zeros((new, old))
    for i in range(new):
        centre = (i + 0.5) * scale
        for j in range(old):
            weights[i, j] = max(0.0, 1 - abs(j + 0.5 - centre) / reach)
    return weights / weights.sum(axis=1, keepdims=True)


# ---- resize


@pytest.mark.parametrize("method", RESIZES)
def test_same_size_changes_nothing(method):
    image = noise(9, 9)
    result = resize(image, 9, method)
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, image)


@pytest.mark.parametrize("method", RESIZES)
@pytest.mark.parametrize("size", [1, 5, 16, 33])
def test_a_constant_stays_constant(method, size):
    image = np.broadcast_to(np.array([7, 100, 255], np.uint8), (11, 14, 3))
    expected = np.broadcast_to(np.float32([7, 100, 255]), (size, size, 3))
    np.testing.assert_allclose(resize(image, size, method), expected, rtol=1e-6)


def test_bilinear_enlarging_interpolates_between_pixel_centres():
    image, size = noise(5, 7), 13
    expected = np.empty((size, size, 3))
    for i in range(size):
        for j in range(size):
            y = np.clip((i + 0.5) * 5 / size - 0.5, 0, 4)
            x = np.clip((j + 0.5) * 7 / size - 0.5, 0, 6)
            top, left = min(int(y), 3), min(int(x), 5)
            corners = image[top : top + 2, left : left + 2].astype(float)
            above, below = corners[:, 0] * (1 - (x - left)) + corners[:, 1] * (x - left)
            expected[i, j] = above * (1 - (y - top)) + below * (y - top)
    np.testing.assert_allclose(resize(image, size, "bilinear"), expected, atol=1e-4)


@pytest.mark.parametrize("size", [3, 8, 10, 20])
def test_bilinear_is_a_triangle_filter_in_both_directions(size):
    image = noise(17, 12)
    expected = np.einsum("ih,jw,hwc->ijc", triangle_weights(17, size), triangle_weights(12, size), image)
    np.testing.assert_allclose(resize(image, size, "bilinear"), expected, atol=1e-4)


@pytest.mark.parametrize("method", ["bilinear", "bicubic"])
@pytest.mark.parametrize(
    ("height", "width", "size"), [(8, 8, 48), (32, 32, 48), (90, 40, 32), (40, 200, 32), (300, 200, 48)]
)
def test_small_images_are_resized_as_pillow_does(method, height, width, size):
    image = noise(height, width)
    planes = [Image.fromarray(image[:, :, channel].astype(np.float32)) for channel in range(3)]
    expected = [np.asarray(plane.resize((size, size), Image.Resampling[method.upper()])) for plane in planes]
    np.testing.assert_allclose(resize(image, size, method), np.stack(expected, axis=2), atol=2e-4)


@pytest.mark.parametrize("method", ["bilinear", "bicubic"])
def test_long_images_need_no_memory_for_their_weights(method):
    assert resize(np.full((1, 100_000, 3), 9, np.uint8), 1, method).tolist() == [[[9, 9, 9]]]


@pytest.mark.parametrize("factor", [2, 3, 5])
def test_area_averages_whole_blocks(factor):
    image = noise(4 * factor, 4 * factor)
    result = resize(image, 4, "area")
    blocks = image.reshape(4, factor, 4, factor, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(result, blocks, atol=1e-4)


@settings(max_examples=60, deadline=None)
@given(SMALL_IMAGES, st.integers(1, 24))
def test_area_keeps_the_mean(image, size):
    np.testing.assert_allclose(resize(image, size, "area").mean(), image.mean(), rtol=1e-5, atol=1e-3)


def plain_area(image: np.ndarray, size: int) -> np.ndarray:
    """Every new pixel as the mean of what it covers: by each old pixel's share of its area."""
    height, width = image.shape[:2]

    def shares(old: int) -> list[list[float]]:
        scale = old / size
        spans = [(k * scale, (k + 1) * scale) for k in range(size)]
        return [[max(0.0, min(end, j + 1) - max(start, j)) / scale for j in range(old)] for start, end in spans]

    return np.einsum("ih,jw,hwc->ijc", shares(height), shares(width), image.astype(float))


@settings(max_examples=60, deadline=None)
@given(SMALL_IMAGES, st.integers(1, 24))
def test_any_size_is_its_formula(image, size):
    np.testing.assert_allclose(resize(image, size, "area"), plain_area(image, size), atol=2e-3)
    weights = triangle_weights(image.shape[0], size), triangle_weights(image.shape[1], size)
    np.testing.assert_allclose(resize(image, size, "bilinear"), np.einsum("ih,jw,hwc->ijc", *weights, image), atol=2e-3)


@settings(max_examples=40, deadline=None)
@given(st.tuples(*[st.integers(0, 255)] * 3), st.integers(1, 40), st.integers(1, 40), st.integers(1, 40))
def test_one_colour_stays_one_at_any_size(colour, height, width, size):
    image = np.broadcast_to(np.array(colour, np.uint8), (height, width, 3))
    for method in RESIZES:
        np.testing.assert_allclose(resize(image, size, method), np.broadcast_to(colour, (size, size, 3)), atol=1e-3)


def test_area_splits_a_pixel_between_two():
    image = np.zeros((1, 5, 3), np.uint8)
    image[0, 2] = 100
    np.testing.assert_allclose(resize(image, 2, "area")[0, :, 0], [20, 20], atol=1e-4)


def test_bicubic_is_not_clipped():
    image = np.zeros((8, 8, 3), np.uint8)
    image[:, 4:] = 255
    result = resize(image, 32, "bicubic")
    assert result.min() < 0
    assert result.max() > 255


def test_nothing_is_rounded():
    image = np.zeros((1, 2, 3), np.uint8)
    image[0, 1] = 1
    np.testing.assert_allclose(resize(image, 4, "bilinear")[0, :, 0], [0, 0.25, 0.75, 1], atol=1e-6)


@pytest.mark.parametrize(("height", "width", "size"), [(8, 8, 12), (30, 20, 6), (5, 3, 7)])
def test_article_is_numpy_resize(height, width, size):
    image = noise(height, width)
    result = resize(image, size, "article")
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, np.resize(image, (size, size, 3)))


@settings(max_examples=60, deadline=None)
@given(SMALL_IMAGES, st.integers(1, 24), st.sampled_from(SMOOTH))
def test_flipping_and_resizing_commute(image, size, method):
    result = resize(image, size, method)
    np.testing.assert_allclose(resize(image[:, ::-1], size, method), result[:, ::-1], atol=1e-3)
    np.testing.assert_allclose(resize(image[::-1], size, method), result[::-1], atol=1e-3)


@settings(max_examples=60, deadline=None)
@given(SMALL_IMAGES, st.integers(1, 24), st.sampled_from(["bilinear", "area"]))
def test_weights_are_averages(image, size, method):
    result = resize(image, size, method)
    assert result.shape == (size, size, 3)
    assert result.min() >= image.min() - 1e-3
    assert result.max() <= image.max() + 1e-3


def test_an_unknown_method_is_refused():
    with pytest.raises(InputError) as error:
        resize(noise(2, 2), 4, "lanczos")
    assert str(error.value) == ("--resize lanczos: expected bilinear, bicubic, area, article; type --resize bilinear")


# ---- normalize


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
    if method == "lite":
        return [(value - 127) / 128 for value in pixel]
    if method == "pixels":
        return pixel
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


STATED = (stated("rgb", [0.5, 0.4, 0.3], [0.2, 0.25, 0.3]), stated("bgr", [0.5, 0.4, 0.3], [0.2, 0.25, 0.3]))


@settings(max_examples=40, deadline=None)
@given(IMAGES, st.sampled_from(STATED))
def test_a_stated_normalisation_is_its_formula_pixel_by_pixel(images: np.ndarray, method: str) -> None:
    pixels = images.reshape(-1, 3).astype(np.float64) / 255
    ordered = pixels[:, ::-1] if method.startswith("bgr") else pixels
    expected = (ordered - [0.5, 0.4, 0.3]) / [0.2, 0.25, 0.3]
    result = normalize(images, method)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected.reshape(images.shape), atol=3e-5)


def test_imagenet_s_numbers_stated_are_torch_s() -> None:
    images = np.random.default_rng(0).uniform(0, 255, (2, 3, 4, 3))
    method = stated("rgb", [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    assert method == "rgb:0.485,0.456,0.406:0.229,0.224,0.225"
    np.testing.assert_array_equal(normalize(images, method), normalize(images, "torch"))


@pytest.mark.parametrize(
    "word",
    [
        *("", "rgb", "rgb:0,0,0", "rgb:0,0,0:1,1", "gbr:0,0,0:1,1,1", "rgb:0,0,0:1,1,0", "rgb:0,0,0:1,1,-1"),
        *("rgb:nan,0,0:1,1,1", "rgb:0,0,0:inf,1,1", "rgb:1e9,0,0:1,1,1", "rgb:a,0,0:1,1,1", "rgb:0,0,0:1,1,1:2,2,2"),
    ],
)
def test_a_word_that_states_nothing_is_none(word: str) -> None:
    assert not is_normalization(word)
    with pytest.raises(ValueError, match="normalize received"):
        normalize(np.zeros((1, 1, 1, 3)), word)


@pytest.mark.parametrize("method", [*(method for method in NORMALIZATIONS if method != "pixels"), *STATED])
def test_the_neutral_colour_becomes_zero(method: str) -> None:
    colour = neutral_colour(method)
    assert (colour.shape, colour.dtype) == ((3,), np.float32)
    np.testing.assert_allclose(normalize(colour.reshape(1, 1, 1, 3), method), 0, atol=1e-6)
