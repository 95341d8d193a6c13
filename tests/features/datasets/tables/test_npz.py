import pickle
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest

from thaw.features.datasets.dataset import load_dataset

from tests.builders.images import classes, refusal


def npz(path: Path, **given: np.ndarray) -> str:
    np.savez(path / "a.npz", **given)
    return f"npz:{path}/a.npz"


def pixels(num: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(num).integers(0, 256, (num, *shape), dtype=np.uint8)


def test_npz_with_a_test_split(tmp_path):
    x_train, x_test = pixels(3, 4, 5, 3), pixels(2, 4, 5, 3)
    y_train, y_test = np.array([[10], [2], [10]], np.uint8), np.array([[33], [2]], np.uint8)
    dataset = load_dataset(npz(tmp_path, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test))
    assert dataset.ids == ("train/00000", "train/00001", "train/00002", "test/00000", "test/00001")
    assert dataset.given_split == ("train", "train", "train", "test", "test")
    assert dataset.class_names == ("2", "10", "33")
    np.testing.assert_array_equal(dataset.labels, [1, 0, 1, 2, 0])
    np.testing.assert_array_equal(dataset.read(4), x_test[1])
    assert dataset.content(4).endswith(x_test[1].tobytes())


def test_ids_of_many_arrays_are_equally_long(tmp_path):
    dataset = load_dataset(npz(tmp_path, x=np.zeros((100_001, 1, 1), np.uint8), y=np.arange(100_001) % 2))
    assert (dataset.ids[0], dataset.ids[-1]) == ("train/000000", "train/100000")


def test_an_npz_that_unpacks_to_far_more_than_images_do_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, x=np.zeros((4, 500, 500, 3), np.uint8), y=np.array([0, 1, 0, 1]))
    assert len(load_dataset(f"npz:{path}").ids) == 4
    monkeypatch.setattr("thaw.features.datasets.tables.npz.ALWAYS_UNPACKED", 1_000_000)
    with zipfile.ZipFile(path) as archive:
        packed = archive.getinfo("x.npy").compress_size
    assert refusal(f"npz:{path}") == (
        f"{path}: x.npy unpacks from {packed} to 3000128 bytes; expected at most 200 times as many; save it with "
        "numpy.savez, which packs nothing"
    )


def test_npz_with_integers_of_two_widths(tmp_path):
    y_train, y_test = np.array([1, 0], np.uint64), np.array([1], np.int8)
    word = npz(tmp_path, x_train=pixels(2, 4, 4), y_train=y_train, x_test=pixels(1, 6, 3), y_test=y_test)
    dataset = load_dataset(word)
    assert dataset.class_names == ("0", "1")
    assert dataset.read(2).shape == (6, 3, 3)


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 1)])
def test_npz_of_grey_images(tmp_path, shape):
    x = pixels(2, *shape)
    dataset = load_dataset(npz(tmp_path, x=x, y=np.array(["b", "a"])))
    assert dataset.class_names == ("a", "b")
    assert dataset.given_split == ("", "")
    for channel in range(3):
        np.testing.assert_array_equal(dataset.read(0)[..., channel], x[0].reshape(4, 5))


def test_npz_class_names_are_the_order(tmp_path):
    word = npz(tmp_path, x=pixels(2, 4, 4), y=np.array([2, 0]), class_names=np.array(["small", "unused", "big"]))
    dataset = load_dataset(word)
    assert dataset.class_names == ("small", "big")
    assert classes(dataset) == ["big", "small"]


@pytest.mark.parametrize(
    ("y", "names"), [([0, 2], ["a", "b"]), ([-1, 0], ["a", "b"]), ([0, 1], ["a", "a"]), (["a", "b"], ["a", "b"])]
)
def test_npz_class_names_that_do_not_fit(tmp_path, y, names):
    assert refusal(npz(tmp_path, x=pixels(2, 4, 4), y=np.array(y), class_names=np.array(names))) == (
        f"{tmp_path}/a.npz: class_names has 2 entries that do not fit the labels; expected distinct names "
        "and labels from 0 on that index them; fix either"
    )


def test_npz_of_the_wrong_type_or_shape(tmp_path):
    y = np.array([0, 1])
    expected = "expected numbers of shape (N, H, W), (N, H, W, C) or (N, C, H, W) with 1, 3 or 4 channels; convert it"
    assert refusal(npz(tmp_path, x=np.zeros((2, 5, 5, 7), np.uint8), y=y)) == (
        f"{tmp_path}/a.npz: x is uint8 of shape (2, 5, 5, 7); {expected}"
    )
    assert refusal(npz(tmp_path, x=np.zeros((2, 4, 4), np.complex64), y=y)).endswith(
        f"x is complex64 of shape (2, 4, 4); {expected}"
    )
    assert refusal(npz(tmp_path, x=pixels(2, 4, 4), y=np.array([0.5, 1.0]))) == (
        f"{tmp_path}/a.npz: y is float64 of shape (2,); expected whole numbers or strings of shape (2,), one per "
        "image, or "
        "one 1 in each row of (N, K); convert it"
    )
    assert "y is int64 of shape (3,); expected" in refusal(npz(tmp_path, x=pixels(2, 4, 4), y=np.arange(3)))
    assert "y is int64 of shape (2, 3); expected" in refusal(npz(tmp_path, x=pixels(2, 4, 4), y=np.ones((2, 3), int)))
    for low in (-1.0, np.nan):
        word = npz(tmp_path, x=np.full((2, 4, 4), low, np.float32), y=y)
        assert refusal(word) == (
            f"{tmp_path}/a.npz holds images with values from {low:g} to {low:g}; expected 0 to 1 or 0 to 255; convert "
            "them"
        )


@pytest.mark.parametrize(
    ("x", "expected", "said"),
    [
        ([0, 0.5, 1], [0, 128, 255], "from 0 to 1; 1 becomes white"),
        ([0.0, 127.6, 255], [0, 128, 255], "from 0 to 255; 255 becomes white"),
        (np.array([0, 7, 255], np.int64), [0, 7, 255], "from 0 to 255; 255 becomes white"),
        (np.array([0, 2048, 4000], np.uint16), [0, 128, 249], "from 0 to 4000; 4095 becomes white"),
        (np.array([0, 1, 1], bool), [0, 255, 255], None),
    ],
)
def test_npz_of_other_numbers(tmp_path, x, expected, said):
    array = np.asarray(x, np.float64 if isinstance(x, list) else None)
    dataset = load_dataset(npz(tmp_path, x=np.stack([array.reshape(1, 3)] * 2), y=np.array([0, 1])))
    assert dataset.read(1)[0, :, 1].tolist() == expected
    assert dataset.notes == ((f"the images hold values {said}",) if said else ())


def test_npz_with_channels_first_and_with_transparency(tmp_path):
    x = pixels(2, 3, 5, 6)
    dataset = load_dataset(npz(tmp_path, x=x, y=np.arange(2)))
    np.testing.assert_array_equal(dataset.read(1), x[1].transpose(1, 2, 0))
    assert dataset.notes == ("x has its channels first, shape (2, 3, 5, 6)",)
    clear = np.zeros((2, 5, 6, 4), np.uint8)
    assert load_dataset(npz(tmp_path, x=clear, y=np.arange(2))).read(0).min() == 255


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        ("{}_images", "{}_labels"),
        ("X_{}", "y_{}"),
        ("x_{}", "Y_{}"),
        ("images_{}", "labels_{}"),
        ("{}_data", "{}_targets"),
    ],
)
def test_npz_by_the_names_that_others_use(tmp_path, images, labels):
    arrays = {}
    for number, split in enumerate(("train", "val", "test")):
        arrays[images.format(split)] = np.full((2 + number, 4, 4), number, np.uint8)
        arrays[labels.format(split)] = np.arange(2 + number)[:, np.newaxis] % 2
    dataset = load_dataset(npz(tmp_path, **arrays, extra=np.array([object()])))
    assert dataset.given_split == ("train",) * 2 + ("validation",) * 3 + ("test",) * 4
    assert dataset.ids[2] == "validation/00000"
    assert [int(dataset.read(row)[0, 0, 0]) for row in (0, 2, 8)] == [0, 1, 2]
    assert dataset.notes == ("not used of a.npz: extra",)


@pytest.mark.parametrize(
    ("y", "expected"),
    [
        (np.eye(3)[[2, 0]], ["2", "0"]),
        (np.array([3.0, 1.0]), ["3", "1"]),
        (np.array([True, False]), ["1", "0"]),
        (np.array([b"dog", b"katze"]), ["dog", "katze"]),
    ],
)
def test_npz_labels_of_every_kind(tmp_path, y, expected):
    assert classes(load_dataset(npz(tmp_path, images=pixels(2, 4, 4), labels=y))) == expected


def test_npz_with_labels_of_two_kinds(tmp_path):
    arrays = {"x_train": pixels(2, 4, 4), "x_test": pixels(1, 4, 4), "y_train": np.arange(2), "y_test": np.array(["1"])}
    assert refusal(npz(tmp_path, **arrays)) == (
        f"{tmp_path}/a.npz: y_train is int64 and y_test is <U1; expected integers in both or strings in both; "
        "convert one"
    )


def test_npz_with_other_arrays(tmp_path):
    assert refusal(npz(tmp_path, pictures=pixels(2, 4, 4), y=np.arange(2))) == (
        f"{tmp_path}/a.npz holds the arrays pictures, y; expected x_train, y_train, x_test, y_test or x, y (or images "
        "and "
        "labels), and class_names if you like; save it with these names"
    )


def test_npz_that_is_pickled(tmp_path):
    assert refusal(npz(tmp_path, x=pixels(2, 4, 4), y=np.array([0, "a"], object))) == (
        f"{tmp_path}/a.npz cannot be read (it holds pickled objects); expected images and labels of numbers or "
        "strings; save them with numpy.savez"
    )


def test_npz_that_is_something_else(tmp_path):
    (tmp_path / "a.npz").write_bytes(pickle.dumps([1, 2]))
    expected = f"{tmp_path}/a.npz is not an .npz archive; expected what numpy.savez writes; save it so"
    assert refusal(f"npz:{tmp_path}/a.npz") == expected


def test_npz_that_is_damaged(tmp_path):
    word = npz(tmp_path, x=pixels(2, 4, 4), y=np.arange(2))
    data = bytearray((tmp_path / "a.npz").read_bytes())
    data[data.index(b"NUMPY") + 140] ^= 0xFF
    (tmp_path / "a.npz").write_bytes(data)
    assert re.match(rf"{tmp_path}/a\.npz cannot be read \(Bad CRC-32 .*\); expected images", refusal(word))


def test_npz_with_a_damaged_lzma_array(tmp_path):
    path = tmp_path / "data.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        for name in ("x", "y"):
            archive.writestr(f"{name}.npy", bytes(range(256)) * 40)
    content = bytearray(path.read_bytes())
    content[60:90] = bytes(30)
    path.write_bytes(content)
    assert "cannot be read (" in refusal(f"npz:{path}")
