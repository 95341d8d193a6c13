"""Copies of an image are found however it lies, and other images are not."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from thaw.models.audit.copies import groups_of_copies, joined_groups


def noise(number: int, side: int = 16) -> np.ndarray:
    return np.random.default_rng(number).uniform(0, 255, (side, side))


def test_an_image_is_found_equal_mirrored_turned_brighter_and_nearly_equal() -> None:
    image = noise(0)
    slightly = image + np.random.default_rng(9).normal(0, 3, image.shape)
    alike = [image, image[:, ::-1], image[::-1], np.rot90(image), np.rot90(image, 3), image + 40, 0.5 * image, slightly]
    groups = groups_of_copies(np.stack([*alike, noise(1), noise(2)]))
    assert len(set(groups[: len(alike)])) == 1
    assert len(set(groups[len(alike) - 1 :])) == 3


def test_images_of_one_grey_are_no_copies() -> None:
    groups = groups_of_copies(np.stack([np.full((16, 16), 7.0), np.full((16, 16), 7.0), noise(0)]))
    assert len(set(groups.tolist())) == 3


def test_more_images_than_are_compared_at_once_are_compared() -> None:
    images = np.stack([noise(number, 4) for number in range(2100)])
    groups = groups_of_copies(np.concatenate([images, images[:3, :, ::-1]]))
    assert [np.flatnonzero(groups == groups[row]).tolist() for row in range(3)] == [[0, 2100], [1, 2101], [2, 2102]]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=30))
def test_joined_groups_divide_neither_grouping(pairs: list[tuple[int, int]]) -> None:
    first, second = np.array(pairs).T
    joined = joined_groups(first, second)
    for given_groups in (first, second):
        for group in np.unique(given_groups):
            assert len(np.unique(joined[given_groups == group])) == 1
    apart = joined_groups(np.arange(len(first)), np.arange(len(first)))
    assert len(np.unique(apart)) == len(first)
