import collections
import re
import struct
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from thaw.features.datasets.dataset import load_dataset
from thaw.features.datasets.options import ReadOptions
from thaw.features.errors import InputError, shown

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


@pytest.mark.parametrize("names", [("cats/a.png", "dogs/a.png", "emus/"), (*SPLIT[:2], "train/emus/")])
def test_a_class_folder_without_images_is_left_alone(tmp_path, names):
    for path in (folder(tmp_path / "f", *names), zipped(tmp_path / "a.zip", *names)):
        dataset = load_dataset(f"folder:{path}")
        assert dataset.class_names == ("cats", "dogs")
        assert dataset.notes == (f"left alone: 1 folder(s) without images ({names[2].rstrip('/')})",)


def test_a_class_may_be_missing_from_a_split(tmp_path):
    folder(tmp_path, "train/cats/a.png", "train/dogs/a.png", "test/cats/a.png", "test/dogs/")
    assert load_dataset(f"folder:{tmp_path}").class_names == ("cats", "dogs")


def test_mixed_layouts(tmp_path):
    folder(tmp_path, "train/cats/a.png", "dogs/a.png")
    assert refusal(f"folder:{tmp_path}") == (
        f"folder:{tmp_path} mixes split folders (train) with others (dogs); expected classes only or splits only; "
        "move or "
        "rename one kind, or take all as classes by --no-splits"
    )
    assert load_dataset(f"folder:{tmp_path}", options=ReadOptions(no_splits=True)).class_names == ("dogs", "train")


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("Training", "Testing"),
        ("training_set", "test_set"),
        ("train_data", "test_data"),
        ("seg_train/seg_train", "seg_test/seg_test"),
        ("photos-train", "photos-valid"),
        ("trainset", "testset"),
    ],
)
def test_folders_whose_last_word_is_a_split(tmp_path, train, test):
    folder(tmp_path, f"{train}/cat/a.png", f"{train}/dog/a.png", f"{test}/cat/a.png", f"{test}/dog/a.png")
    dataset = load_dataset(f"folder:{tmp_path}")
    assert dataset.class_names == ("cat", "dog")
    given = dict(zip(dataset.ids, dataset.given_split, strict=True))
    assert given[f"{train}/dog/a.png"] == "train"
    assert given[f"{test}/dog/a.png"] == "test"
    assert collections.Counter(dataset.given_split) == {"train": 2, "test": 2}


def test_folders_that_hold_the_same_folders_are_refused(tmp_path):
    folder(tmp_path, "part1/cat/a.png", "part1/dog/a.png", "part2/cat/a.png", "part2/dog/a.png")
    assert refusal(f"folder:{tmp_path}") == (
        f"folder:{tmp_path}: the folders part1, part2 all hold the same folders (cat, dog); expected classes or "
        "splits at "
        "the top; name one of them (folder:PATH/part1), rename them to train and test, or take part1, part2 as the "
        "classes by --no-splits"
    )
    assert load_dataset(f"folder:{tmp_path}", options=ReadOptions(no_splits=True)).class_names == ("part1", "part2")


def test_test_images_without_a_class_are_said(tmp_path):
    folder(tmp_path, "train/cat/a.png", "train/dog/a.png", "test/1.jpg", "test/2.jpg")
    dataset = load_dataset(f"folder:{tmp_path}")
    assert dataset.given_split == ("train", "train")
    assert dataset.notes == (
        "left out: 2 image(s) in test/ that lie in no class folder and so have no label; the test split is drawn from "
        "the "
        "others",
    )


def test_unlabelled_images_beside_splits_are_left_out(tmp_path):
    folder(tmp_path, "seg_train/cat/a.png", "seg_train/dog/a.png", "seg_test/cat/a.png", "seg_pred/1.jpg")
    dataset = load_dataset(f"folder:{tmp_path}")
    assert dataset.given_split == ("test", "train", "train")
    assert dataset.notes == ("left out: 1 image(s) in seg_pred/ that lie in no class folder and so have no label",)


def test_splits_inside_of_classes_are_taken(tmp_path):
    folder(tmp_path, "cat/train/a.png", "cat/test/a.png", "dog/train/a.png", "dog/test/a.png")
    dataset = load_dataset(f"folder:{tmp_path}")
    assert classes(dataset) == ["cat", "cat", "dog", "dog"]
    assert dataset.given_split == ("test", "train", "test", "train")
    assert dataset.notes == ("the class folders hold the split folders test, train, which are taken as given",)


@pytest.mark.parametrize("top", ["PetImages", "a/b", "data"])
def test_one_superfluous_level_is_entered(tmp_path, top):
    names = (f"{top}/cat/a.png", f"{top}/dog/a.png")
    for path in (folder(tmp_path / "f", *names), zipped(tmp_path / "a.zip", *names)):
        dataset = load_dataset(f"folder:{path}")
        assert dataset.ids == ("cat/a.png", "dog/a.png")
        assert dataset.read(1)[0, 0, 0] == 1
        assert dataset.notes == (f"{top}/ holds the classes, and is entered",)


def test_a_zip_with_a_readme_beside_its_top_folder(tmp_path):
    path = zipped(tmp_path / "a.zip", "flowers/rose/a.png", "flowers/daisy/a.png", "README.md", "sample.png")
    dataset = load_dataset(f"folder:{path}")
    assert dataset.class_names == ("daisy", "rose")
    assert dataset.notes == (
        "left alone: 1 file(s) that are no images by their ending, such as README.md",
        "flowers/ holds the classes, and is entered; 1 image(s) beside it are left out",
    )


SPELLINGS = [("Cat/a.png", "cat/b.png"), ("caf\u00e9/a.png", "cafe\u0301/b.png"), ("01/a.png", "1/b.png")]


@pytest.mark.parametrize("names", SPELLINGS)
def test_equal_classes_are_refused_or_merged(tmp_path, names):
    path = zipped(tmp_path / "a.zip", *names, names[1].replace("b.png", "c.png"), "dog/a.png")
    counts = {names[0].partition("/")[0]: 1, names[1].partition("/")[0]: 2}
    first, second = sorted(counts)
    assert refusal(f"folder:{path}") == (
        f"folder:{path} has classes whose names differ in blanks, case, Unicode form or zeros alone: {shown(first)!r} "
        f"({counts[first]}) and {shown(second)!r} ({counts[second]}); expected one spelling of each class: rename "
        "them, or take "
        "them as one by --merge-classes"
    )
    merged = load_dataset(f"folder:{path}", options=ReadOptions(merge_classes=True))
    assert merged.class_names == tuple(sorted(["dog", names[1].partition("/")[0]]))
    assert len(merged.ids) == 4


def test_folders_of_the_system_and_runs_are_left_alone(tmp_path):
    folder(tmp_path, *PLAIN, "cats/@eaDir/a.png/thumb.jpg", "lost+found/", "$RECYCLE.BIN/x.png", "cats/Icon\r")
    folder(tmp_path, "runs/photos/learning_curve.png", "runs/photos/activations/x.png")
    (tmp_path / "runs/photos/run.json").write_text("{}")
    dataset = load_dataset(f"folder:{tmp_path}")
    assert dataset.ids == PLAIN
    said, empty = dataset.notes
    assert said.startswith("left alone: 5 hidden or system file(s) and folder(s), such as ")
    assert empty == "left alone: 1 folder(s) without images (runs)"


def test_files_that_are_no_images_by_their_ending_are_left_alone(tmp_path):
    folder(tmp_path, *PLAIN, "cats/notes.txt", "dogs/boxes.XML", "dogs/b.JPG", "dogs/without")
    dataset = load_dataset(f"folder:{tmp_path}")
    assert dataset.ids == tuple(sorted((*PLAIN, "dogs/b.JPG", "dogs/without")))
    assert dataset.notes == ("left alone: 2 file(s) that are no images by their ending, such as cats/notes.txt",)


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
            "or links to files inside; put a copy in its place, or follow links by --follow-links"
        )
        (root / "cats/link").unlink()
    (tmp_path / "alias").symlink_to(root)
    assert len(load_dataset(f"folder:{tmp_path}/alias").ids) == 5


def test_links_are_followed_on_demand(tmp_path):
    root = folder(tmp_path / "root", *PLAIN)
    folder(tmp_path, "outside/x/a.png", "single/b.png")
    (root / "emus").symlink_to(tmp_path / "outside")
    (root / "cats/link.png").symlink_to(tmp_path / "single/b.png")
    options = ReadOptions(follow_links=True)
    dataset = load_dataset(f"folder:{root}", options=options)
    assert set(dataset.ids) == {*PLAIN, "emus/x/a.png", "cats/link.png"}
    assert dataset.read(dataset.row_of["cats/link.png"])[0, 0, 0] == 1
    (tmp_path / "outside/loop").symlink_to(root)
    assert refusal(f"folder:{root}", options=options) == (
        f"emus/loop/ in {root} leads to {root}, which is reached in another way too; expected each folder once; remove "
        "the link"
    )
    (tmp_path / "outside/loop").unlink()
    (root / "cats/gone").symlink_to(tmp_path / "nothing")
    said = refusal(f"folder:{root}", options=options)
    assert said.startswith(f"cats/gone in {root} is a link that leads nowhere (")


def test_links_to_what_belongs_to_others_are_refused(tmp_path, monkeypatch):
    root = folder(tmp_path / "root", *PLAIN)
    (root / "cats/link.png").symlink_to(root / "cats/a.png")
    monkeypatch.setattr("thaw.features.datasets.folders.os.getuid", lambda: 12345)
    assert refusal(f"folder:{root}", options=ReadOptions(follow_links=True)) == (
        f"cats/link.png in {root} is a link to {root}/cats/a.png, which belongs to somebody else; expected links to "
        "your "
        "own files; put a copy in its place"
    )


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
