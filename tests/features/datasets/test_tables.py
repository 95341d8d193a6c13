import importlib.util
import pickle
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest

from thaw.features.datasets.dataset import load_dataset

from tests.builders.images import PLAIN, classes, folder, refusal

# ---- csv


def table(root: Path, text: str) -> str:
    folder(root, *PLAIN)
    (root / "t.csv").write_text(text, encoding="utf-8")
    return f"csv:{root}/t.csv"


def test_csv(tmp_path):
    text = "path,label,split,group\ndogs/a.png,dog,train,p1\ncats/a.png,cat,val,p2\ncats/b.png,cat,,p2\n"
    dataset = load_dataset(table(tmp_path, text))
    assert dataset.ids == ("dogs/a.png", "cats/a.png", "cats/b.png")
    assert dataset.class_names == ("cat", "dog")
    assert classes(dataset) == ["dog", "cat", "cat"]
    assert dataset.given_split == ("train", "validation", "")
    assert dataset.groups == ("p1", "p2", "p2")
    assert dataset.read(0)[0, 0, 0] == 2


def test_csv_as_spreadsheets_write_it(tmp_path):
    text = '\ufefflabel,path\r\n"a, b",./dogs/a.png\r\n\r\nc,cats/a.png\r\n'
    dataset = load_dataset(table(tmp_path, text))
    assert dataset.ids == ("dogs/a.png", "cats/a.png")
    assert dataset.class_names == ("a, b", "c")
    assert dataset.groups is None
    assert dataset.given_split == ("", "")


@pytest.mark.parametrize("header", ["file,class", "path", "path,label,spilt", "path,label,label"])
def test_csv_with_other_columns(tmp_path, header):
    assert refusal(table(tmp_path, header + "\ncats/a.png,cat\n")) == (
        f"{tmp_path}/t.csv has the columns {header}; expected path,label[,split][,group]; put them in the first line"
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("no.png,cat,,g", ": no.png is not a file; expected a path relative to the table; fix it"),
        ("cats,cat,,g", ": cats is not a file; expected a path relative to the table; fix it"),
        (
            "../x.png,cat,,g",
            ": ../x.png leaves the folder of the table; expected a path inside it; move the file there",
        ),
        ("/x.png,cat,,g", ": /x.png leaves the folder of the table; expected a path inside it; move the file there"),
        ("out.png,cat,,g", ": out.png leaves the folder of the table; expected a path inside it; move the file there"),
        ("cats/b.png,cat,dev,g", " has the split 'dev'; expected train, validation, val, test or nothing; fix it"),
        ("cats/b.png,,,g", " has no label; expected one on every line; fill it in"),
        ("cats/b.png,cat,,", " has no group; expected one on every line; fill it in"),
        ("cats/b.png,cat", " has too many or too few fields; expected one per column; fix the line"),
        ("cats/b.png,cat,,g,h", " has too many or too few fields; expected one per column; fix the line"),
        ("cats/a.png,dog,,g", ": cats/a.png a second time; expected each path once; remove it"),
    ],
)
def test_csv_errors_name_the_line(tmp_path, line, message):
    folder(tmp_path, "x.png")
    word = table(tmp_path / "data", f"path,label,split,group\ncats/a.png,cat,,g\n{line}\n")
    (tmp_path / "data/out.png").symlink_to(tmp_path / "x.png")
    assert refusal(word) == f"{tmp_path}/data/t.csv line 3{message}"


def test_csv_that_is_no_text(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"path,label\n\xff\xfe,x\n")
    assert re.fullmatch(
        rf"{tmp_path}/t\.csv cannot be read as a table \(.*\); expected UTF-8 text with the columns "
        r"path,label\[,split\]\[,group\]; save it again as CSV",
        refusal(f"csv:{tmp_path}/t.csv"),
    )
    assert "Is a directory" in refusal(f"csv:{tmp_path}")


def test_csv_with_a_nul_in_a_path(tmp_path):
    assert " leaves the folder " in refusal(table(tmp_path, "path,label\ncats/\0a.png,cat\n"))


def test_csv_without_rows(tmp_path):
    word = table(tmp_path, "path,label\n")
    assert refusal(word) == f"{word} holds no images; expected two classes or more; add images"


# ---- npz


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
    monkeypatch.setattr("thaw.features.datasets.tables.ALWAYS_UNPACKED", 1_000_000)
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
    expected = "expected uint8 of shape (N, H, W), (N, H, W, 1) or (N, H, W, 3); convert it"
    assert refusal(npz(tmp_path, x=np.zeros((2, 4, 4, 3), np.float32), y=y)) == (
        f"{tmp_path}/a.npz: x is float32 of shape (2, 4, 4, 3); {expected}"
    )
    assert refusal(npz(tmp_path, x=pixels(2, 3, 4, 4), y=y)).endswith(f"x is uint8 of shape (2, 3, 4, 4); {expected}")
    assert refusal(npz(tmp_path, x=pixels(2, 4, 4), y=np.array([0.0, 1.0]))) == (
        f"{tmp_path}/a.npz: y is float64 of shape (2,); expected integers or strings of shape (2,), one per image; "
        "convert it"
    )
    assert "y is int64 of shape (3,); expected" in refusal(npz(tmp_path, x=pixels(2, 4, 4), y=np.arange(3)))


def test_npz_with_labels_of_two_kinds(tmp_path):
    arrays = {"x_train": pixels(2, 4, 4), "x_test": pixels(1, 4, 4), "y_train": np.arange(2), "y_test": np.array(["1"])}
    assert refusal(npz(tmp_path, **arrays)) == (
        f"{tmp_path}/a.npz: y_train is int64 and y_test is <U1; expected integers in both or strings in both; "
        "convert one"
    )


def test_npz_with_other_arrays(tmp_path):
    assert refusal(npz(tmp_path, images=pixels(2, 4, 4), y=np.arange(2))) == (
        f"{tmp_path}/a.npz holds the arrays images, y; expected x_train, y_train, x_test, y_test or x, y, "
        "and class_names if you like; save it with these names"
    )


def test_npz_that_is_pickled(tmp_path):
    assert refusal(npz(tmp_path, x=pixels(2, 4, 4), y=np.array([0, "a"], object))) == (
        f"{tmp_path}/a.npz cannot be read (it holds pickled objects); expected uint8 images and labels of integers "
        "or strings; save them with numpy.savez"
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
    assert re.match(rf"{tmp_path}/a\.npz cannot be read \(Bad CRC-32 .*\); expected uint8 images", refusal(word))


# ---- elpv


def test_npz_with_a_damaged_lzma_array(tmp_path):
    path = tmp_path / "data.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        for name in ("x", "y"):
            archive.writestr(f"{name}.npy", bytes(range(256)) * 40)
    content = bytearray(path.read_bytes())
    content[60:90] = bytes(30)
    path.write_bytes(content)
    assert "cannot be read (" in refusal(f"npz:{path}")


def test_elpv_without_its_package(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert refusal("elpv") == (
        "the package elpv_dataset is not installed; expected it for --dataset elpv (its images are CC BY-NC-SA 4.0); "
        "type make setup EXTRA=elpv, or pip install elpv-dataset"
    )


def test_elpv(tmp_path, monkeypatch):
    data = folder(tmp_path / "elpv_dataset" / "data", *(f"images/cell000{i}.png" for i in range(1, 5)))
    (tmp_path / "elpv_dataset" / "__init__.py").write_text("raise RuntimeError('imported')")
    degrees = ["0.0", "0.3333333333333333", "0.6666666666666666", "1.0"]
    lines = [f"images/cell000{i + 1}.png  {degree}   mono\n" for i, degree in enumerate(degrees)]
    (data / "labels.csv").write_text("".join(lines))
    spec = importlib.util.spec_from_file_location(
        "elpv_dataset", data.parent / "__init__.py", submodule_search_locations=[str(data.parent)]
    )
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    binary = load_dataset("elpv")
    assert binary.ids[0] == "images/cell0001.png"
    assert binary.class_names == ("functional", "defective")
    np.testing.assert_array_equal(binary.labels, [0, 0, 1, 1])
    assert binary.read(3).shape == (2, 3, 3)
    four = load_dataset("elpv", target="four")
    assert four.class_names == ("functional", "possibly_defective", "likely_defective", "defective")
    np.testing.assert_array_equal(four.labels, [0, 1, 2, 3])
    assert four.digest() != binary.digest()
