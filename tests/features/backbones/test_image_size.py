"""The image size of a run follows the images, the network and the cost, the same on every machine."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thaw.features.backbones.image_size import MAX_MULTIPLY_ADDS, SIZES, evenly_spaced, fitting_image_size
from thaw.features.backbones.registry import BACKBONES

VGG16 = BACKBONES["vgg16"]


@pytest.mark.parametrize(
    ("name", "median", "expected"),
    [
        ("vgg16", 8, 48),
        ("vgg16", 48, 48),
        ("vgg16", 48.5, 64),
        ("vgg16", 193, 224),
        ("vgg16", 5000, 224),
        ("resnet50", 8, 128),
        ("inceptionv3", 224, 224),
        ("inceptionv3", 240, 299),
    ],
)
def test_the_smallest_size_that_is_not_below_the_images(name: str, median: float, expected: int) -> None:
    assert fitting_image_size(BACKBONES[name], median, 1000) == expected


def test_cifar10_stays_at_48_and_many_photographs_get_smaller() -> None:
    assert fitting_image_size(VGG16, 32, 60_000) == 48
    assert [fitting_image_size(VGG16, 240, number) for number in (5_000, 20_000, 60_000, 10**7)] == [224, 128, 64, 48]


@given(median=st.floats(1, 10_000), number=st.integers(1, 10**8), name=st.sampled_from(sorted(BACKBONES)))
def test_what_holds_of_every_choice(median: float, number: int, name: str) -> None:
    backbone = BACKBONES[name]
    size = fitting_image_size(backbone, median, number)
    least = max(48 if name.startswith("vgg") else 128, backbone.min_image_size)
    assert size in {*SIZES, backbone.own_image_size}
    assert least <= size <= backbone.own_image_size
    cost = number * backbone.cost(backbone.layers[-1].name, size)[1]
    assert cost <= MAX_MULTIPLY_ADDS or size == min(s for s in (*SIZES, backbone.own_image_size) if s >= least)
    assert fitting_image_size(backbone, median + 100, number) >= size
    assert fitting_image_size(backbone, median, 2 * number) <= size


@given(st.integers(1, 5000))
def test_images_are_looked_at_evenly_spaced(number: int) -> None:
    rows = evenly_spaced(number)
    assert rows[0] == 0
    assert rows[-1] == number - 1
    assert len(rows) == min(number, 1000)
    assert rows == sorted(set(rows))
