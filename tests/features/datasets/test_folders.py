import collections
import re
import struct
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from thaw.features.datasets.dataset import load_dataset
from thaw.features.errors import InputError

from tests.builders.images import PLAIN, SPLIT, classes, folder, png, refusal, zipped

# ---- folder


def test_a_folder_of_classes(tmp_path):
    folder(tmp_path, *PLAIN, "cats/.hidden.png", ".git/x.png", "__MACOSX/cats/a.png", "cats/Thumbs.db")
    folder(tmp_path, "dogs/desktop.ini", "README.md")
    dataset = load_dataset(f"folder:{tmp_path}")
    assert dataset.name == f"folder:{tmp_path}"
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
    assert dataset.content(1) == b"cannot be opened: 2"  # the digest is of use still, and reading stops or is skipped


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
    message = (
        "has no images in the class folder emus; expected one or more; add some, or name the folder that holds the "
        "classes"
    )
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
        "make the archive again, or leave it out by --skip-bad"
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
        "raise --max-pixels, or leave it out by --skip-bad"
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


def test_the_digest_of_a_zip_unpacks_nothing(tmp_path):
    path = zipped(tmp_path / "a.zip", *PLAIN)
    dataset = load_dataset(f"folder:{path}")
    info = zipfile.ZipFile(path).getinfo("cats/a.png")
    assert dataset.content(0) == struct.pack(">IQ", info.CRC, info.file_size)


def test_a_zip_may_list_its_own_root(tmp_path):
    path = zipped(tmp_path / "a.zip", *PLAIN)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("./", b"")
    assert load_dataset(f"folder:{path}").ids == PLAIN
