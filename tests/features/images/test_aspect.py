"""How images that are not square become squares: exact pixels of small ones, and the geometry of any."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from thaw.features.errors import InputError
from thaw.features.images.aspect import ASPECTS, fit, middle_square
from thaw.features.images.preprocess import RESIZES, resize

from tests.builders.images import noise

SMOOTH = [method for method in RESIZES if method != "article"]
BORDER = np.float32([123.68, 116.779, 103.939])
IMAGES = arrays(np.uint8, st.tuples(st.integers(1, 14), st.integers(1, 14), st.just(3)))
SIZES = st.integers(1, 20)


def padded(image: np.ndarray) -> np.ndarray:
    """The square of the longer side, made as the documentation says, float32."""
    height, width = image.shape[:2]
    side = max(height, width)
    above, left = (side - height) // 2, (side - width) // 2
    square = np.broadcast_to(BORDER, (side, side, 3)).copy()
    square[above : above + height, left : left + width] = image
    return square


# ---- exact pixels


def test_the_middle_of_an_odd_difference_leaves_the_smaller_half_on_the_left_and_above() -> None:
    row = np.arange(5, dtype=np.uint8).reshape(1, 5, 1).repeat(3, axis=2)
    assert middle_square(row[:, :4])[..., 0].tolist() == [[1]]
    assert middle_square(row)[..., 0].tolist() == [[2]]
    two = row.repeat(2, axis=0)
    assert middle_square(two)[..., 0].tolist() == [[1, 2]] * 2
    assert middle_square(two.swapaxes(0, 1))[..., 0].tolist() == [[1, 1], [2, 2]]


@pytest.mark.parametrize("method", SMOOTH)
def test_crop_at_the_size_of_the_middle_gives_its_pixels(method: str) -> None:
    image = noise(4, 9)
    received = fit(image, 4, method, "crop", BORDER)
    assert received.dtype == np.float32
    np.testing.assert_array_equal(received, image[:, 2:6])


@pytest.mark.parametrize("method", SMOOTH)
@pytest.mark.parametrize(("height", "width"), [(4, 9), (9, 4), (1, 7), (1, 2)])
def test_pad_at_the_size_of_the_longer_side_gives_the_pixels_and_the_border(
    method: str, height: int, width: int
) -> None:
    image = noise(height, width)
    received = fit(image, max(height, width), method, "pad", BORDER)
    assert received.dtype == np.float32
    np.testing.assert_allclose(received, padded(image), atol=2e-5)


def test_an_odd_border_has_the_larger_half_on_the_right_and_below() -> None:
    white = np.full((2, 5, 3), 255, np.uint8)
    rows = fit(white, 5, "bilinear", "pad", np.zeros(3, np.float32))[:, 0, 0]
    np.testing.assert_allclose(rows, [0, 255, 255, 0, 0], atol=1e-4)
    columns = fit(white.swapaxes(0, 1), 5, "bilinear", "pad", np.zeros(3, np.float32))[0, :, 0]
    np.testing.assert_allclose(columns, [0, 255, 255, 0, 0], atol=1e-4)


def test_the_edge_between_image_and_border_is_not_rounded() -> None:
    """Four pixels become two: the edge lies inside a new pixel, which is a quarter white."""
    white = np.full((1, 4, 3), 255, np.uint8)
    received = fit(white, 2, "area", "pad", np.zeros(3, np.float32))[..., 0]
    np.testing.assert_allclose(received, [[127.5, 127.5], [0, 0]], atol=1e-4)
    received = fit(np.full((1, 5, 3), 255, np.uint8), 2, "area", "pad", np.zeros(3, np.float32))[..., 0]
    np.testing.assert_allclose(received, [[51, 51], [51, 51]], atol=1e-4)


# ---- any image


@given(IMAGES, SIZES, st.sampled_from(SMOOTH))
def test_crop_is_the_resized_middle(image: np.ndarray, size: int, method: str) -> None:
    height, width = image.shape[:2]
    middle = middle_square(image)
    assert middle.shape[0] == middle.shape[1] == min(height, width)
    np.testing.assert_array_equal(fit(image, size, method, "crop", BORDER), resize(middle, size, method))


@given(IMAGES, SIZES, st.sampled_from(SMOOTH))
def test_pad_is_the_resized_square_of_the_longer_side(image: np.ndarray, size: int, method: str) -> None:
    np.testing.assert_allclose(fit(image, size, method, "pad", BORDER), resize(padded(image), size, method), atol=5e-4)


@pytest.mark.parametrize("method", SMOOTH)
@pytest.mark.parametrize(("height", "width"), [(427, 640), (1100, 64), (1, 1500), (333, 1030)])
def test_large_images_too(method: str, height: int, width: int) -> None:
    image = noise(height, width)
    for size in (7, 48):
        expected = resize(padded(image), size, method)
        np.testing.assert_allclose(fit(image, size, method, "pad", BORDER), expected, atol=5e-4)


@given(IMAGES, SIZES, st.sampled_from(SMOOTH), st.sampled_from(ASPECTS))
def test_rows_and_columns_are_treated_alike(image: np.ndarray, size: int, method: str, aspect: str) -> None:
    turned = fit(image.swapaxes(0, 1), size, method, aspect, BORDER)
    np.testing.assert_allclose(turned, fit(image, size, method, aspect, BORDER).swapaxes(0, 1), atol=1e-3)


@given(IMAGES, SIZES, st.sampled_from(SMOOTH), st.sampled_from(ASPECTS))
def test_a_mirror_stays_a_mirror_if_the_sides_differ_by_an_even_number(
    image: np.ndarray, size: int, method: str, aspect: str
) -> None:
    image = image if (image.shape[0] - image.shape[1]) % 2 == 0 else image[:, :-1] if image.shape[1] > 1 else image[1:]
    mirrored = fit(image[:, ::-1], size, method, aspect, BORDER)
    np.testing.assert_allclose(mirrored, fit(image, size, method, aspect, BORDER)[:, ::-1], atol=1e-3)


@given(st.integers(1, 14), SIZES, st.sampled_from(RESIZES))
def test_of_a_square_all_are_the_same(side: int, size: int, method: str) -> None:
    image = noise(side, side)
    for aspect in ASPECTS if method in SMOOTH else ("squash",):
        np.testing.assert_array_equal(fit(image, size, method, aspect, BORDER), resize(image, size, method))


@given(IMAGES, SIZES, st.sampled_from(SMOOTH))
def test_an_image_of_the_borders_colour_is_all_border(image: np.ndarray, size: int, method: str) -> None:
    flat = np.full_like(image, 77)
    received = fit(flat, size, method, "pad", np.full(3, 77, np.float32))
    np.testing.assert_allclose(received, 77, atol=1e-3)


def test_the_square_of_a_very_long_image_is_never_made() -> None:
    """It would take 43 GB; 64 MB hold the image in float32 and what it is resized by."""
    image = np.full((1, 60_000, 3), 200, np.uint8)
    tracemalloc.start()
    received = fit(image, 32, "bilinear", "pad", np.zeros(3, np.float32))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 64e6
    assert received.sum(axis=0)[:, 0] == pytest.approx(np.full(32, 200 * 32 / 60_000), rel=0.1)


# ---- messages


def test_another_aspect_is_refused() -> None:
    with pytest.raises(InputError) as error:
        fit(noise(2, 3), 4, "bilinear", "stretch", BORDER)
    assert str(error.value) == "--aspect stretch: expected squash, crop, pad; type --aspect squash"


@pytest.mark.parametrize("aspect", ["crop", "pad"])
def test_the_articles_resize_has_no_middle_and_no_border(aspect: str) -> None:
    with pytest.raises(InputError) as error:
        fit(noise(2, 3), 4, "article", aspect, BORDER)
    assert str(error.value) == (
        f"--aspect {aspect} does not go with --resize article; expected bilinear, bicubic or area; type --resize "
        f"bilinear --aspect {aspect}"
    )
