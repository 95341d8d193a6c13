import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from thaw.features.datasets.dataset import Dataset, load_dataset
from thaw.features.datasets.stream import ImageStream
from thaw.features.errors import InputError
from thaw.features.extraction.spec import Preprocessing
from thaw.features.images.augment import augment
from thaw.features.images.preprocess import normalize, resize

from tests.builders.images import read_by

SIZE = 12
ROWS = list(range(70, 0, -5))  # not in the dataset's order, which streams must not assume
METHODS = ("bilinear", "squash", "caffe")


@pytest.fixture(scope="module")
def dataset(image_folder: Path) -> Dataset:
    return load_dataset(f"folder:{image_folder}")


def stream(dataset: Dataset, augmentation: str = "standard", methods: tuple[str, str, str] = METHODS) -> ImageStream:
    return ImageStream(dataset, ROWS, SIZE, methods, augmentation)


def whole_epoch(
    source: ImageStream, batch_size: int = 4, seed: int = 0, epoch: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    inputs, numbers = zip(*source.epoch(batch_size, seed, epoch), strict=True)
    return np.concatenate(inputs), np.concatenate(numbers)


def by_sample(source: ImageStream, **options: int) -> np.ndarray:
    """Return an epoch's inputs in the order of the samples."""
    inputs, numbers = whole_epoch(source, **options)
    return inputs[np.argsort(numbers)]


@pytest.mark.parametrize(
    "methods", [METHODS, ("area", "squash", "article"), ("bilinear", "crop", "tf"), ("bicubic", "pad", "torch")]
)
@pytest.mark.parametrize("batch_size", [1, 4, 14, 100])
def test_in_order_gives_the_images_unchanged(dataset: Dataset, batch_size: int, methods: tuple[str, str, str]) -> None:
    batches = list(stream(dataset, methods=methods).in_order(batch_size))
    prepared = np.stack([Preprocessing(SIZE, *methods).load(dataset, row) for row in ROWS])
    np.testing.assert_array_equal(np.concatenate(batches), prepared)
    assert all(len(batch) == batch_size for batch in batches[:-1])
    assert {batch.dtype for batch in batches} == {np.dtype(np.float32)}


@pytest.mark.parametrize("batch_size", [1, 4, 14, 100])
def test_an_epoch_has_every_image_once_in_full_batches(dataset: Dataset, batch_size: int) -> None:
    source = stream(dataset)
    batches = list(source.epoch(batch_size, 0, 1))
    assert source.num_samples == len(ROWS)
    assert sorted(np.concatenate([numbers for _, numbers in batches])) == list(range(len(ROWS)))
    assert all(len(numbers) == batch_size for _, numbers in batches[:-1])
    assert all(inputs.shape == (len(numbers), SIZE, SIZE, 3) for inputs, numbers in batches)


def test_an_epoch_without_augmentation_gives_the_images_of_its_numbers(dataset: Dataset) -> None:
    source = stream(dataset, "none")
    np.testing.assert_array_equal(by_sample(source), np.concatenate(list(source.in_order(100))))


def test_flip_gives_images_and_mirrors_of_their_own_numbers(dataset: Dataset) -> None:
    images = np.stack([dataset.read(row) for row in ROWS])
    plain, mirrored = (
        normalize(np.stack([resize(image, SIZE, "bilinear") for image in views]), "caffe")
        for views in (images, images[:, :, ::-1])
    )
    inputs = by_sample(stream(dataset, "flip"))
    is_mirrored = (inputs == mirrored).all(axis=(1, 2, 3))
    np.testing.assert_array_equal(inputs[~is_mirrored], plain[~is_mirrored])
    assert 0 < is_mirrored.sum() < len(ROWS)


def test_the_random_changes_leave_the_border_as_it_is(dataset: Dataset) -> None:
    """The images are wider than high, so that the rows above and below are border: zeros, whatever the colours do."""
    inputs = by_sample(stream(dataset, methods=("area", "pad", "caffe")))
    assert (np.abs(inputs[:, [0, -1]]).max(axis=(1, 2, 3)) < 1e-4).all()
    assert (np.abs(inputs[:, 2:-2]).max(axis=3) > 1).mean() > 0.99


def test_the_random_changes_of_a_middle_square_are_those_of_the_whole_image(dataset: Dataset) -> None:
    """The image is turned and moved before its middle is taken: no mirror of the middle's own edge comes in."""
    changed, method = [], ("bilinear", "crop", "article")
    for number, row in enumerate(ROWS):
        generator = np.random.default_rng((0, 1, number + 1))
        changed.append(Preprocessing(SIZE, *method).prepare(augment(dataset.read(row), "standard", generator)))
    np.testing.assert_array_equal(by_sample(stream(dataset, methods=method)), np.stack(changed))


def test_the_same_seed_and_epoch_give_the_same_inputs(dataset: Dataset) -> None:
    first, again = (whole_epoch(stream(dataset), seed=3, epoch=2) for _ in range(2))
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])


@pytest.mark.parametrize(("seed", "epoch"), [(3, 3), (4, 2)])
def test_another_seed_or_epoch_gives_another_order_and_other_changes(dataset: Dataset, seed: int, epoch: int) -> None:
    source = stream(dataset)
    assert (whole_epoch(source, seed=3, epoch=2)[1] != whole_epoch(source, seed=seed, epoch=epoch)[1]).any()
    differ = by_sample(source, seed=3, epoch=2) != by_sample(source, seed=seed, epoch=epoch)
    assert differ.any(axis=(1, 2, 3)).all()


@pytest.mark.parametrize("batch_size", [1, 5, 100])
def test_an_images_changes_do_not_depend_on_the_batch_size(dataset: Dataset, batch_size: int) -> None:
    np.testing.assert_array_equal(by_sample(stream(dataset), batch_size=batch_size), by_sample(stream(dataset)))


def test_equal_images_are_changed_each_in_its_own_way(dataset: Dataset) -> None:
    inputs = by_sample(ImageStream(dataset, [0] * 10, SIZE, METHODS, "standard"))
    assert len({image.tobytes() for image in inputs}) == 10


def test_a_damaged_image_is_the_callers_error(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(4):
            Image.new("RGB", (5, 5)).save(tmp_path / name / f"{number}.png")
    path = tmp_path / "b" / "3.png"
    path.write_bytes(path.read_bytes()[:40])
    source = ImageStream(load_dataset(f"folder:{tmp_path}"), range(8), SIZE, METHODS, "standard")
    with pytest.raises(InputError, match="b/3.png is not an image"):
        list(source.epoch(2, 0, 1))
    batches = source.in_order(1)
    assert len([next(batches) for _ in range(7)]) == 7
    with pytest.raises(InputError, match="b/3.png is not an image"):
        next(batches)


def test_images_are_read_in_other_threads_than_the_callers(dataset: Dataset) -> None:
    readers = set()

    def read(row: int, least_side: int | None = None) -> np.ndarray:
        readers.add(threading.current_thread())
        return dataset.read(row, least_side)

    list(stream(read_by(dataset, read)).in_order(2))
    assert readers
    assert threading.current_thread() not in readers
