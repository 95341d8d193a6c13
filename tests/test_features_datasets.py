import collections
import dataclasses
import hashlib
import importlib.util
import io
import pickle
import re
import struct
import subprocess
import sys
import tarfile
import types
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

from features import archives
from features.datasets import DATASET_WORDS, load_dataset
from features.errors import InputError

WORDS = "digits, elpv, cifar10, cifar100, folder:PATH, csv:PATH, npz:PATH"


def png(value: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (3, 2), (value, value, value)).save(stream, "PNG")
    return stream.getvalue()


def folder(root: Path, *names: str) -> Path:
    """Write a picture at each name, grey value 0, 1, 2...; a name that ends with "/" is an empty folder."""
    for value, name in enumerate(names):
        path = root / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.write_bytes(png(value))
    return root


def zipped(path: Path, *names: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for value, name in enumerate(names):
            archive.writestr(name, b"" if name.endswith("/") else png(value))
    return path


def refusal(*args, **options) -> str:
    with pytest.raises(InputError) as error:
        load_dataset(*args, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def classes(dataset) -> list[str]:
    return [dataset.class_names[label] for label in dataset.labels]


PLAIN = ("cats/a.png", "cats/b.png", "dogs/a.png", "dogs/more/b.png")
SPLIT = ("train/cats/a.png", "train/dogs/a.png", "val/cats/a.png", "validation/dogs/a.png", "test/emus/a.png")


# ---- words


def test_an_unknown_word_lists_the_words_and_suggests_the_closest():
    assert ", ".join(DATASET_WORDS) == WORDS
    assert refusal("cifr10") == f"no data set 'cifr10'; expected one of {WORDS}; type --dataset cifar10"
    assert refusal("foldr:x") == f"no data set 'foldr:x'; expected one of {WORDS}; type --dataset folder:PATH"
    assert refusal("zzz") == f"no data set 'zzz'; expected one of {WORDS}; type --dataset digits"


def test_a_path_without_its_word_is_recognised(tmp_path):
    (tmp_path / "t.csv").touch()
    assert refusal(str(tmp_path)).endswith(f"type --dataset folder:{tmp_path}")
    assert refusal(f"{tmp_path}/t.csv").endswith(f"type --dataset csv:{tmp_path}/t.csv")


@pytest.mark.parametrize("word", ["x" * 5000, "folder:" + "x" * 5000, "csv:~nobody-of-that-name/x", "npz:a\0b", ""])
def test_words_that_no_file_system_takes(word):
    assert refusal(word)


@pytest.mark.parametrize(
    ("kind", "what"), [("folder", "a folder or a .zip"), ("csv", "a .csv file"), ("npz", "a .npz file")]
)
def test_a_path_that_does_not_exist(kind, what):
    expected = f"--dataset {kind}:no/such does not exist; expected {what}; type --dataset {kind}:PATH"
    assert refusal(f"{kind}:no/such") == expected
    assert refusal(f"{kind}:") == f"--dataset {kind}: does not exist; expected {what}; type --dataset {kind}:PATH"


def test_options_of_other_data_sets_are_refused():
    assert refusal("digits", data=Path("x")) == (
        "--data x with --dataset digits: expected --data only with cifar10 or cifar100; leave --data out"
    )
    assert refusal("digits", target="four") == (
        "--target four with --dataset digits: expected --target only with elpv; leave --target out"
    )
    assert refusal("elpv", target="five") == "--target five: expected binary or four; type --target binary"


# ---- digits


def test_digits():
    dataset = load_dataset("digits")
    assert len(dataset.ids) == 1797
    assert (dataset.ids[0], dataset.ids[-1]) == ("train/00000", "train/01796")
    assert dataset.class_names == tuple("0123456789")
    assert dataset.labels.dtype == np.int64
    assert set(dataset.given_split) == {""}
    assert dataset.groups is None
    image = dataset.read(0)
    assert image.dtype == np.uint8
    assert image.shape == (8, 8, 3)
    np.testing.assert_array_equal(image[0, 2:6], np.repeat([[80], [207], [143], [16]], 3, axis=1))


def test_listing_imports_neither_tensorflow_nor_scikit_learn():
    code = (
        "import sys, features.datasets, features.images; "
        "print(sorted(name for name in sys.modules if name in ('sklearn', 'tensorflow', 'keras')))"
    )
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# ---- folder


def test_a_folder_of_classes(tmp_path):
    folder(tmp_path, *PLAIN, "cats/.hidden.png", ".git/x.png", "__MACOSX/cats/a.png", "cats/Thumbs.db")
    folder(tmp_path, "dogs/desktop.ini", "README.md")
    dataset = load_dataset(f"folder:{tmp_path}")
    assert dataset.word == f"folder:{tmp_path}"
    assert dataset.ids == PLAIN[:3] + PLAIN[3:]
    assert dataset.class_names == ("cats", "dogs")
    np.testing.assert_array_equal(dataset.labels, [0, 0, 1, 1])
    assert dataset.given_split == ("",) * 4
    assert dataset.read(1).shape == (2, 3, 3)
    assert dataset.content(0) == (tmp_path / "cats/a.png").read_bytes()


def test_a_folder_of_splits(tmp_path):
    dataset = load_dataset(f"folder:{folder(tmp_path, *SPLIT)}")
    assert dataset.ids == tuple(sorted(SPLIT))
    assert dataset.class_names == ("cats", "dogs", "emus")
    assert classes(dataset) == ["emus", "cats", "dogs", "cats", "dogs"]
    assert dataset.given_split == ("test", "train", "train", "validation", "validation")


@pytest.mark.parametrize("top", ["", "pictures/", "./"])
@pytest.mark.parametrize("names", [PLAIN, SPLIT])
def test_a_zip_is_the_same_as_its_folder(tmp_path, names, top):
    from_folder = load_dataset(f"folder:{folder(tmp_path / 'f', *names)}")
    junk = ["__MACOSX/x/._a.png", ".DS_Store", top + "cats/Thumbs.db"] if names is PLAIN else []
    path = zipped(tmp_path / "a.zip", *(top + name for name in names), *junk)
    from_zip = load_dataset(f"folder:{path}")
    assert from_zip.ids == from_folder.ids
    assert from_zip.class_names == from_folder.class_names
    assert from_zip.given_split == from_folder.given_split
    np.testing.assert_array_equal(from_zip.labels, from_folder.labels)
    for i in range(len(names)):
        np.testing.assert_array_equal(from_zip.read(i), from_folder.read(i))


def test_a_zip_of_one_split_keeps_it(tmp_path):
    dataset = load_dataset(f"folder:{zipped(tmp_path / 'a.zip', 'train/cats/a.png', 'train/dogs/a.png')}")
    assert dataset.class_names == ("cats", "dogs")
    assert dataset.given_split == ("train", "train")


def test_images_are_read_only_when_asked_for(tmp_path):
    folder(tmp_path, *PLAIN)
    (tmp_path / "cats/a.png").write_bytes(b"not an image")
    dataset = load_dataset(f"folder:{tmp_path}")
    with pytest.raises(InputError, match=r"^cats/a\.png is not an image that can be read"):
        dataset.read(0)
    assert dataset.read(1)[0, 0, 0] == 1
    (tmp_path / "cats/b.png").unlink()
    with pytest.raises(InputError, match=r"^cats/b\.png cannot be opened \(No such file or directory\)"):
        dataset.read(1)
    with pytest.raises(InputError) as error:
        dataset.content(1)
    assert str(error.value) == (
        "cats/b.png cannot be opened (No such file or directory); expected a readable file; "
        "put it back, or take it out of the data set"
    )


def test_max_pixels_reaches_the_images(tmp_path):
    folder(tmp_path / "f", *PLAIN)
    for path in (tmp_path / "f", zipped(tmp_path / "a.zip", *PLAIN)):
        with pytest.raises(InputError, match=r"^cats/a\.png has 6 pixels \(3 x 2\); expected at most 5; "):
            load_dataset(f"folder:{path}", max_pixels=5).read(0)


def test_many_threads_read_one_zip(tmp_path):
    names = [f"{kind}/{i:03d}.png" for kind in ("a", "b") for i in range(100)]
    dataset = load_dataset(f"folder:{zipped(tmp_path / 'a.zip', *names)}")
    with ThreadPoolExecutor(8) as pool:
        values = list(pool.map(lambda i: int(dataset.read(i)[0, 0, 0]), range(200)))
    assert values == list(range(200))


def test_an_empty_folder(tmp_path):
    assert refusal(f"folder:{tmp_path}") == (
        f"folder:{tmp_path} holds no images; expected two classes or more; add images"
    )


def test_images_without_class_folders(tmp_path):
    message = "has no images in class folders; expected PATH/<class>/* or PATH/train/<class>/*; "
    folder(tmp_path / "a", "a.png", "b.png")
    assert refusal(f"folder:{tmp_path}/a") == (
        f"folder:{tmp_path}/a {message}put the images of each class into a folder of its own"
    )
    folder(tmp_path / "b", "train/a.png", "test/b.png")
    assert message in refusal(f"folder:{tmp_path}/b")


def test_one_class_only(tmp_path):
    assert refusal(f"folder:{folder(tmp_path, 'cats/a.png')}") == (
        f"folder:{tmp_path} has one class only, 'cats'; expected two or more; add images of another class"
    )
    assert "has one class only, 'cats'" in refusal(f"folder:{zipped(tmp_path / 'a.zip', 'cats/a.png')}")


@pytest.mark.parametrize("names", [("cats/a.png", "dogs/a.png", "emus/"), (*SPLIT[:2], "test/emus/")])
def test_a_class_folder_without_images(tmp_path, names):
    message = "has no images in the class folder emus; expected one or more; add some, or remove the folder"
    for path in (folder(tmp_path / "f", *names), zipped(tmp_path / "a.zip", *names)):
        assert refusal(f"folder:{path}") == f"folder:{path} {message}"


def test_a_class_may_be_missing_from_a_split(tmp_path):
    folder(tmp_path, "train/cats/a.png", "train/dogs/a.png", "test/cats/a.png", "test/dogs/")
    assert load_dataset(f"folder:{tmp_path}").class_names == ("cats", "dogs")


def test_mixed_layouts(tmp_path):
    folder(tmp_path, "train/cats/a.png", "dogs/a.png")
    assert refusal(f"folder:{tmp_path}") == (
        f"folder:{tmp_path} mixes split folders (train) with others (dogs); "
        "expected classes only or splits only; move or rename one kind"
    )


@pytest.mark.parametrize("names", [("training/cats/a.png", "testing/cats/a.png"), ("train/a/a.png", "valid/a/a.png")])
def test_folders_that_look_like_splits(tmp_path, names):
    assert re.search(
        r" has a folder (testing|valid) that looks like a split; expected the names train, test, val or validation; "
        "rename it$",
        refusal(f"folder:{folder(tmp_path, *names)}"),
    )


def test_classes_named_valid_and_invalid(tmp_path):
    assert load_dataset(f"folder:{folder(tmp_path, 'valid/a.png', 'invalid/a.png')}").class_names == (
        "invalid",
        "valid",
    )


def test_only_a_test_split(tmp_path):
    folder(tmp_path, "test/cats/a.png", "test/dogs/a.png")
    assert refusal(f"folder:{tmp_path}") == (
        f"folder:{tmp_path} has no training images; expected train beside test; "
        "add them, or drop the split from all images to have one drawn"
    )


def test_links(tmp_path):
    root = folder(tmp_path / "root", *PLAIN)
    folder(tmp_path, "outside/a.png")
    (root / "cats/same.png").symlink_to(root / "cats/a.png")
    assert "cats/same.png" in load_dataset(f"folder:{root}").ids
    for goal in (tmp_path / "outside/a.png", tmp_path / "outside", root / "dogs", root / "nothing", root / "cats/link"):
        (root / "cats/link").symlink_to(goal)
        assert refusal(f"folder:{root}") == (
            f"cats/link in {root} is a link that leaves the folder or leads to no file; expected images, "
            "or links to files inside; put a copy in its place"
        )
        (root / "cats/link").unlink()
    (tmp_path / "alias").symlink_to(root)
    assert len(load_dataset(f"folder:{tmp_path}/alias").ids) == 5


def test_a_file_that_is_neither_folder_nor_zip(tmp_path):
    (tmp_path / "a.txt").write_text("hello")
    assert refusal(f"folder:{tmp_path}/a.txt") == (
        f"{tmp_path}/a.txt is neither a folder nor a zip archive; expected one with a folder per class; "
        "type --dataset folder:PATH"
    )


def test_a_name_that_is_not_utf8(tmp_path):
    folder(tmp_path, *PLAIN)
    (tmp_path / "cats" / "a\udcff.png").write_bytes(png(0))
    assert refusal(f"folder:{tmp_path}") == (
        f"folder:{tmp_path} holds the name cats/a\\udcff.png; expected UTF-8; rename it"
    )


# ---- zip


def test_a_damaged_zip(tmp_path):
    path = zipped(tmp_path / "a.zip", *PLAIN)
    path.write_bytes(path.read_bytes()[:-40])
    assert refusal(f"folder:{path}") == (
        f"{path} is not a whole zip archive (File is not a zip file); expected a .zip of image folders; "
        "make or download it again"
    )


def test_a_damaged_member(tmp_path):
    path = zipped(tmp_path / "a.zip", *PLAIN)
    data = bytearray(path.read_bytes())
    data[data.index(b"IDAT") + 6] ^= 0xFF
    path.write_bytes(data)
    dataset = load_dataset(f"folder:{path}")
    with pytest.raises(InputError) as error:
        dataset.read(0)
    assert str(error.value) == (
        f"cats/a.png is damaged in {path} (Bad CRC-32 for file 'cats/a.png'); expected a whole zip member; "
        "make the archive again, or go on without it by --skip-bad"
    )
    assert dataset.read(1).shape == (2, 3, 3)


@pytest.mark.parametrize("name", ["/cats/x.png", "../cats/x.png", "cats/../../x.png", "C:/x.png", "cats\\x.png"])
def test_unsafe_member_names(tmp_path, name):
    path = zipped(tmp_path / "a.zip", *PLAIN, name)
    assert refusal(f"folder:{path}") == (
        f"{path} holds a file named {name}; expected relative names without '..' and with '/'; make the archive again"
    )


def test_members_that_are_no_plain_files(tmp_path):
    path = zipped(tmp_path / "a.zip", *PLAIN)
    with zipfile.ZipFile(path, "a") as archive:
        link = zipfile.ZipInfo("cats/link.png")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    assert refusal(f"folder:{path}") == (
        f"cats/link.png in {path} is a link; expected plain files; make the archive without it"
    )
    path = zipped(tmp_path / "b.zip", *PLAIN)
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(data)
    assert refusal(f"folder:{path}").startswith(f"cats/a.png in {path} is encrypted; ")


def test_a_repeated_member(tmp_path):
    with pytest.warns(UserWarning, match="Duplicate name"):
        path = zipped(tmp_path / "a.zip", *PLAIN, "cats/a.png")
    assert refusal(f"folder:{path}") == (
        f"{path} holds cats/a.png twice; expected each name once; make the archive again"
    )


def test_a_member_that_unpacks_to_too_much(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("cats/a.png", b"\0" * 2_000_000)
        archive.writestr("dogs/a.png", png(0))
    dataset = load_dataset(f"folder:{path}", max_pixels=100)
    with pytest.raises(InputError) as error:
        dataset.read(0)
    assert str(error.value) == (
        "cats/a.png unpacks to 2000000 bytes; expected at most 1049376 for an image of 100 pixels; "
        "raise --max-pixels, or go on without it by --skip-bad"
    )


def test_cifar10_as_a_zip_of_jpeg(cifar10_zip):
    dataset = load_dataset(f"folder:{cifar10_zip}")
    assert len(dataset.ids) == 60_000
    assert dataset.class_names[0] == "airplane"
    assert collections.Counter(dataset.given_split) == {"train": 50_000, "test": 10_000}
    assert np.bincount(dataset.labels).tolist() == [6000] * 10
    assert dataset.read(59_999).shape == (32, 32, 3)
    assert re.fullmatch(r"[0-9a-f]{64}", dataset.digest())
    assert load_dataset("cifar10", data=cifar10_zip).digest() == dataset.digest()


# ---- digest


def test_the_digest_covers_all_that_it_should(tmp_path):
    folder(tmp_path / "f", *SPLIT)

    def digest() -> str:
        return load_dataset(f"folder:{tmp_path}/f").digest()

    seen = {digest()}
    assert digest() in seen
    for old, new in [
        ("train/cats/a.png", "train/cats/z.png"),
        ("train/dogs/a.png", "train/cats/a.png"),
        ("val/cats", "test/cats"),
        ("test/emus", "test/gnus"),
    ]:
        (tmp_path / "f" / old).rename(tmp_path / "f" / new)
        seen.add(digest())
    (tmp_path / "f/train/cats/a.png").write_bytes(png(200))
    seen.add(digest())
    assert len(seen) == 6


def test_the_digest_is_not_ambiguous():
    dataset = load_dataset("digits")
    one = dataclasses.replace(dataset, ids=("ab", "c"), labels=np.array([0, 1]), given_split=("", ""))
    two = dataclasses.replace(one, ids=("a", "bc"))
    grouped = dataclasses.replace(one, groups=("", ""))
    assert len({one.digest(), two.digest(), grouped.digest()}) == 3


def test_the_digest_of_a_zip_unpacks_nothing(tmp_path):
    path = zipped(tmp_path / "a.zip", *PLAIN)
    dataset = load_dataset(f"folder:{path}")
    info = zipfile.ZipFile(path).getinfo("cats/a.png")
    assert dataset.content(0) == struct.pack(">IQ", info.CRC, info.file_size)


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
        ("no.png,cat,,g", ": no.png is not a file; expected a path relative to the table; mend it"),
        ("cats,cat,,g", ": cats is not a file; expected a path relative to the table; mend it"),
        (
            "../x.png,cat,,g",
            ": ../x.png leaves the folder of the table; expected a path inside it; move the file there",
        ),
        ("/x.png,cat,,g", ": /x.png leaves the folder of the table; expected a path inside it; move the file there"),
        ("out.png,cat,,g", ": out.png leaves the folder of the table; expected a path inside it; move the file there"),
        ("cats/b.png,cat,dev,g", " has the split 'dev'; expected train, validation, val, test or nothing; mend it"),
        ("cats/b.png,,,g", " has no label; expected one on every line; fill it in"),
        ("cats/b.png,cat,,", " has no group; expected one on every line; fill it in"),
        ("cats/b.png,cat", " has too many or too few fields; expected one per column; mend the line"),
        ("cats/b.png,cat,,g,h", " has too many or too few fields; expected one per column; mend the line"),
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
        "and labels from 0 on that index them; mend either"
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


# ---- cifar


class Python2Pickler(pickle._Pickler):
    """Writes text and bytes as Python 2 wrote str, and NumPy's names of that time: so the originals were made."""

    dispatch: ClassVar[dict] = dict(pickle._Pickler.dispatch)

    def save_str(self, value):
        data = value if isinstance(value, bytes) else value.encode("latin-1")
        self.write(pickle.BINSTRING + struct.pack("<i", len(data)) + data)
        self.memoize(value)

    dispatch[bytes] = dispatch[str] = save_str

    def save_global(self, obj, name=None):
        module = "numpy.core.multiarray" if obj.__name__ == "_reconstruct" else obj.__module__
        self.write(pickle.GLOBAL + f"{module}\n{obj.__name__}\n".encode())
        self.memoize(obj)

    dispatch[type] = dispatch[types.FunctionType] = dispatch[types.BuiltinFunctionType] = save_global


def python2(value: object) -> bytes:
    stream = io.BytesIO()
    Python2Pickler(stream, 2).dump(value)
    return stream.getvalue()


def cifar_batch(num: int, labels_key: bytes, seed: int) -> dict[bytes, object]:
    data = np.random.default_rng(seed).integers(0, 256, (num, 3072), dtype=np.uint8)
    return {b"data": data, labels_key: [(seed + i) % 3 for i in range(num)], b"filenames": [b"x.png"] * num}


def cifar_archive(path: Path, word: str, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(f"{archives.CIFAR[word].folder}/{name}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def accept(monkeypatch, word: str, path: Path) -> None:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setitem(archives.CIFAR, word, dataclasses.replace(archives.CIFAR[word], sha256=digest))


def tiny(path: Path, word: str) -> Path:
    cifar = archives.CIFAR[word]
    files = {name: cifar_batch(2, cifar.labels_key, k) for k, name in enumerate((*cifar.train, cifar.test))}
    if word == "cifar100":
        for batch in files.values():
            batch[b"coarse_labels"] = [0, 0]
    files[cifar.meta] = {cifar.names_key: [b"ant", b"bee", b"cow"]}
    return cifar_archive(path, word, {name: python2(value) for name, value in files.items()})


@pytest.mark.parametrize(("word", "num_train"), [("cifar10", 10), ("cifar100", 2)])
def test_cifar_from_an_archive(tmp_path, monkeypatch, word, num_train):
    path = tiny(tmp_path / "c.tar.gz", word)
    accept(monkeypatch, word, path)
    dataset = load_dataset(word, data=path)
    assert dataset.word == word
    assert dataset.class_names == ("ant", "bee", "cow")
    assert dataset.given_split == ("train",) * num_train + ("test",) * 2
    assert dataset.ids[num_train] == "test/00000"
    assert dataset.ids[num_train - 1] == f"train/{num_train - 1:05d}"
    np.testing.assert_array_equal(dataset.labels[:2], [0, 1])
    first = cifar_batch(2, b"", 0)[b"data"][0]
    np.testing.assert_array_equal(dataset.read(0), first.reshape(3, 32, 32).transpose(1, 2, 0))


@pytest.mark.parametrize("word", ["cifar10", "cifar100"])
def test_cifar_from_the_keras_cache(tmp_path, monkeypatch, word):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    (tmp_path / "datasets").mkdir()
    names = archives.CIFAR[word].cached_as
    (tmp_path / "datasets" / names[0]).write_bytes(b"half a download")
    path = tiny(tmp_path / "datasets" / names[1], word)
    accept(monkeypatch, word, path)
    assert load_dataset(word).class_names == ("ant", "bee", "cow")


def fake_keras(monkeypatch, get_file) -> None:
    utils = types.ModuleType("keras.utils")
    utils.get_file = get_file
    keras = types.ModuleType("keras")
    keras.utils = utils
    monkeypatch.setitem(sys.modules, "keras", keras)
    monkeypatch.setitem(sys.modules, "keras.utils", utils)


def test_cifar_from_keras_download(tmp_path, monkeypatch):
    path = tiny(tmp_path / "c.tar.gz", "cifar10")
    accept(monkeypatch, "cifar10", path)
    asked = {}
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "empty"))
    fake_keras(monkeypatch, lambda **options: asked.update(options) or str(path))
    assert len(load_dataset("cifar10").ids) == 12
    assert asked == {
        "fname": "cifar-10-batches-py-target_archive",
        "origin": "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
        "file_hash": hashlib.sha256(path.read_bytes()).hexdigest(),
    }


def test_cifar_that_cannot_be_downloaded(tmp_path, monkeypatch):
    def get_file(**options):
        raise Exception("URL fetch failure on https://x: None -- no route")

    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    fake_keras(monkeypatch, get_file)
    assert refusal("cifar10") == (
        "cifar10 could not be downloaded (URL fetch failure on https://x: None -- no route); expected "
        "cifar-10-python.tar.gz in the Keras cache or by --data; type --data PATH with that archive, "
        "an image folder or a .zip (with make: DATA=cifar10-images.zip)"
    )


def test_cifar_from_an_image_folder(tmp_path):
    folder(tmp_path / "f", *SPLIT)
    dataset = load_dataset("cifar10", data=tmp_path / "f")
    assert dataset.word == "cifar10"
    assert dataset.ids == tuple(sorted(SPLIT))
    assert load_dataset("cifar100", data=zipped(tmp_path / "a.zip", *SPLIT)).ids == dataset.ids


def test_cifar_data_that_does_not_exist():
    assert refusal("cifar10", data=Path("no/such")) == (
        "--data no/such does not exist; expected the archive of cifar10, an image folder or a .zip; type --data PATH"
    )


class Boom:
    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return (eval, (f"open({str(self.path)!r}, 'w')",))


def test_an_archive_with_another_digest_is_not_unpickled(tmp_path):
    files = {"data_batch_1": pickle.dumps(Boom(tmp_path / "boom"))}
    path = cifar_archive(tmp_path / "c.tar.gz", "cifar10", files)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert refusal("cifar10", data=path) == (
        f"{path} has sha256 {digest}; expected 6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce of "
        "cifar-10-python.tar.gz; it was not unpacked: download it again, or give an image folder or .zip by "
        "--data PATH"
    )
    assert not (tmp_path / "boom").exists()


def test_a_malicious_pickle_executes_nothing_whatever_its_digest(tmp_path, monkeypatch):
    files = {"data_batch_1": pickle.dumps(Boom(tmp_path / "boom"))}
    path = cifar_archive(tmp_path / "c.tar.gz", "cifar10", files)
    accept(monkeypatch, "cifar10", path)
    assert refusal("cifar10", data=path) == (
        f"{path} cannot be read as a CIFAR archive (it asks for builtins.eval); expected cifar-10-python.tar.gz; "
        "download it again, or give an image folder or .zip by --data PATH"
    )
    assert not (tmp_path / "boom").exists()


@pytest.mark.parametrize("array", [np.array([None]), np.zeros(3), np.array(["a"])])
def test_arrays_of_anything_but_bytes_are_refused(tmp_path, monkeypatch, array):
    path = cifar_archive(tmp_path / "c.tar.gz", "cifar10", {"data_batch_1": python2(array)})
    accept(monkeypatch, "cifar10", path)
    assert "(it asks for an array of b'" in refusal("cifar10", data=path)


@pytest.mark.parametrize("files", [{}, {"data_batch_1": b"junk"}, {"data_batch_1": python2([1])}])
def test_an_archive_that_holds_something_else(tmp_path, monkeypatch, files):
    path = cifar_archive(tmp_path / "c.tar.gz", "cifar10", files)
    accept(monkeypatch, "cifar10", path)
    assert f"{path} cannot be read as a CIFAR archive (" in refusal("cifar10", data=path)
