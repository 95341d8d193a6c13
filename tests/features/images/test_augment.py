import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thaw.features.images.augment import AUGMENTATIONS, augment

from tests.builders.images import noise

SHAPES = [(16, 16), (9, 14), (24, 13)]


def changed(image: np.ndarray, method: str, seed: int) -> np.ndarray:
    return augment(image, method, np.random.default_rng(seed))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 25), st.integers(1, 25), st.sampled_from(AUGMENTATIONS), st.integers(0, 2**31))
def test_shape_and_type_stay_and_the_seed_alone_decides(height: int, width: int, method: str, seed: int) -> None:
    image = noise(height, width)
    result = changed(image, method, seed)
    assert result.shape == (height, width, 3)
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(image, noise(height, width))
    np.testing.assert_array_equal(changed(image, method, seed), result)


def test_a_read_only_image_is_accepted() -> None:
    image = noise(20, 30)
    image.flags.writeable = False
    for method in AUGMENTATIONS:
        assert changed(image, method, 1).shape == image.shape


def test_none_changes_nothing() -> None:
    for seed in range(20):
        np.testing.assert_array_equal(changed(noise(20, 30), "none", seed), noise(20, 30))


def test_flip_gives_the_image_or_its_mirror_each_about_as_often() -> None:
    image = noise(20, 30)
    mirrored = 0
    for seed in range(200):
        result = changed(image, "flip", seed)
        expected = image[:, ::-1] if (result != image).any() else image
        np.testing.assert_array_equal(result, expected)
        mirrored += expected is not image
    assert 70 < mirrored < 130


def test_standard_is_another_image_for_every_seed() -> None:
    results = {changed(noise(20, 30), "standard", seed).tobytes() for seed in range(20)}
    assert len(results | {noise(20, 30).tobytes()}) == 21


def test_one_generator_gives_another_image_each_time() -> None:
    generator = np.random.default_rng(0)
    assert (augment(noise(20, 30), "standard", generator) != augment(noise(20, 30), "standard", generator)).any()


@pytest.mark.parametrize("shape", SHAPES)
def test_standard_changes_the_brightness_alone_of_an_image_of_one_grey(shape: tuple[int, int]) -> None:
    levels = set()
    for seed in range(50):
        result = changed(np.full((*shape, 3), 100, np.uint8), "standard", seed).astype(int)
        assert result.max() - result.min() <= 1  # nothing from beyond the border shows
        assert 79 <= result.min() <= result.max() <= 121
        levels.add(int(result.max()))
    assert min(levels) < 90
    assert max(levels) > 110


def test_what_is_brighter_than_white_stays_white() -> None:
    for seed in range(50):
        assert changed(np.full((8, 8, 3), 255, np.uint8), "standard", seed).min() >= 203
        assert changed(np.zeros((8, 8, 3), np.uint8), "standard", seed).max() == 0


@pytest.mark.parametrize("shape", [*SHAPES, (1, 7), (7, 1), (1, 1)])
def test_without_crop_angle_and_colour_standard_is_flip(
    shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("thaw.features.images.augment.SMALLEST_CROP", 1.0)
    monkeypatch.setattr("thaw.features.images.augment.LARGEST_ANGLE", 0.0)
    monkeypatch.setattr("thaw.features.images.augment.COLOUR_RANGE", 0.0)
    for seed in range(20):
        np.testing.assert_array_equal(changed(noise(*shape), "standard", seed), changed(noise(*shape), "flip", seed))


@pytest.mark.parametrize("shape", [(80, 80), (60, 100)])
def test_standard_moves_the_middle_by_no_more_than_the_crop_allows(shape: tuple[int, int]) -> None:
    image = np.zeros((*shape, 3), np.uint8)
    middle = np.array(shape) // 2
    image[middle[0] - 3 : middle[0] + 3, middle[1] - 3 : middle[1] + 3] = 200
    offsets = []
    for seed in range(60):
        # The darkest value is black after the change of contrast.
        weights = changed(image, "standard", seed)[..., 0].astype(float)
        weights -= weights.min()
        centres = np.indices(shape) + 0.5
        offsets.append((centres * weights).sum(axis=(1, 2)) / weights.sum() - middle)
    # A crop keeps 0.8 of the side and so lies 0.1 of the side from the middle at most, enlarged by 1 / 0.8.
    assert (np.abs(offsets) <= 0.125 * np.array(shape) + 1).all()
    assert (np.ptp(offsets, axis=0) > 0.05 * np.array(shape)).all()


def test_standard_keeps_the_upper_half_up() -> None:
    image = np.zeros((40, 40, 3), np.uint8)
    image[:20] = 200
    for seed in range(50):
        result = changed(image, "standard", seed).astype(int)
        assert result[:8, 12:28].min() > result[-8:, 12:28].max() + 100


@pytest.mark.parametrize("shape", [(1, 1), (1, 12), (12, 1), (2, 2)])
@pytest.mark.parametrize("method", AUGMENTATIONS)
def test_an_image_one_pixel_wide_keeps_its_shape(method: str, shape: tuple[int, int]) -> None:
    for seed in range(10):
        assert changed(noise(*shape), method, seed).shape == (*shape, 3)


@pytest.mark.parametrize("shape", [(20, 100), (10, 100), (50, 1)])
def test_nothing_black_comes_into_a_long_image(shape: tuple[int, int]) -> None:
    for seed in range(50):
        assert changed(np.full((*shape, 3), 100, np.uint8), "standard", seed).min() >= 79
