"""What label tools export is read as it lies there, or refused with what is missing."""

import json

import pytest

from thaw.features.datasets.dataset import load_dataset
from thaw.features.datasets.options import ReadOptions

from tests.builders.images import classes, folder, refusal


def beside(root, name, text):
    folder(root, "a.png", "b.png", "sub dir/c.png")
    (root / name).write_text(text, encoding="utf-8")
    return f"csv:{root / name}"


def coco(annotations):
    return json.dumps(
        {
            "images": [{"id": 7, "file_name": "a.png"}, {"id": 8, "file_name": "b.png"}],
            "annotations": [{"image_id": image, "category_id": category} for image, category in annotations],
            "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        }
    )


def test_coco(tmp_path):
    dataset = load_dataset(beside(tmp_path, "a.json", coco([(7, 2), (8, 1), (8, 1)])))
    assert dataset.ids == ("a.png", "b.png")
    assert classes(dataset) == ["dog", "cat"]
    assert dataset.notes == ("a.json is read as COCO",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (coco([(7, 2), (8, 1), (8, 2)]), ": b.png has 2 categories; expected one for each image; leave it out, or cut"),
        (coco([(7, 2)]), ": b.png has 0 categories; expected one for each image"),
        (coco([(7, 3)]), " is a COCO file that lacks 3; export it again"),
        ("[1]", " is JSON without the lists images, annotations, categories; expected a COCO file"),
        ("{", " is no JSON ("),
        ("[" * 100_000, " is no JSON ("),
    ],
)
def test_json_that_is_something_else(tmp_path, text, said):
    assert refusal(beside(tmp_path, "a.json", text)).startswith(f"{tmp_path}/a.json{said}")


def test_google_s_table_without_a_header(tmp_path):
    text = "TRAIN,a.png,cat\nUNASSIGNED,b.png,dog\nTEST,sub dir/c.png,dog\n"
    dataset = load_dataset(beside(tmp_path, "a.csv", text))
    assert classes(dataset) == ["cat", "dog", "dog"]
    assert dataset.given_split == ("train", "", "test")
    assert dataset.notes == ("a.csv has no header; its columns are taken as split, path, label",)


def test_a_table_of_paths_and_labels_without_a_header(tmp_path):
    dataset = load_dataset(beside(tmp_path, "a.csv", "a.png,cat\nb.png,dog\n"))
    assert classes(dataset) == ["cat", "dog"]
    assert dataset.notes == ("a.csv has no header; its columns are taken as path, label",)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (None, ["0", "1", "1"]),
        ("cat\ndog\n", ["cat", "dog", "dog"]),
        ("0 tabby cat\n1 dog\n", ["tabby cat", "dog", "dog"]),
    ],
)
def test_lists_of_path_and_number(tmp_path, names, expected):
    word = beside(tmp_path, "train.txt", "a.png 0\nb.png 1\nsub dir/c.png  1\n")
    if names:
        (tmp_path / "synsets.txt").write_text(names)
    dataset = load_dataset(word)
    assert dataset.ids[2] == "sub dir/c.png"
    assert classes(dataset) == expected
    assert dataset.notes == ("train.txt is read as a list of path and label",)


def test_a_table_in_each_split_folder(tmp_path):
    folder(tmp_path, "train/a.jpg", "train/b.jpg", "valid/a.jpg", "test/a.jpg")
    for split, lines in (("train", "a.jpg,1,0\nb.jpg,0,1\n"), ("valid", "a.jpg,0,1\n"), ("test", "a.jpg,1,0\n")):
        (tmp_path / split / "_classes.csv").write_text(f"filename, cat, dog\n{lines}")
    dataset = load_dataset(f"folder:{tmp_path}")
    assert dict(zip(dataset.ids, classes(dataset), strict=True)) == {
        "test/a.jpg": "cat", "train/a.jpg": "cat", "train/b.jpg": "dog", "valid/a.jpg": "dog"
    }  # fmt: skip
    assert dataset.given_split == ("test", "train", "train", "validation")
    assert dataset.read(0)[0, 0, 0] == 3
    assert dataset.notes[0] == "the folder is read by test/_classes.csv, train/_classes.csv, valid/_classes.csv"


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl"])
def test_hugging_face_s_image_folder(tmp_path, name):
    folder(tmp_path, "a.png", "b.png", "deep/c.png")
    rows = [("a.png", "cat"), ("b.png", "dog"), ("deep/c.png", "dog")]
    lines = [json.dumps({"file_name": path, "label": label}) for path, label in rows]
    text = "\n".join(lines) if name.endswith("l") else "file_name,label\n" + "\n".join(map(",".join, rows))
    (tmp_path / name).write_text(text)
    dataset = load_dataset(f"folder:{tmp_path}")
    assert dataset.ids == ("a.png", "b.png", "deep/c.png")
    assert classes(dataset) == ["cat", "dog", "dog"]
    assert f"the folder is read by {name}" in dataset.notes


def test_hugging_face_s_arrow_files_are_named(tmp_path):
    folder(tmp_path, "train/x/")
    (tmp_path / "train/data-00000-of-00001.arrow").write_bytes(b"ARROW1")
    assert refusal(f"folder:{tmp_path}") == (
        f"folder:{tmp_path} is a dataset as Hugging Face's datasets saves it, with its images inside of .arrow files; "
        "expected image files: save them with metadata.csv, or as PATH/<class>/*"
    )


def test_label_studio_s_table(tmp_path):
    text = "image,id,choice,annotator\na.png,1,cat,2\nb.png,2,dog,2\n"
    assert classes(load_dataset(beside(tmp_path, "a.csv", text))) == ["cat", "dog"]
    text = text.replace("a.png", "/data/upload/1/a.png")
    assert "t line 2" in refusal(beside(tmp_path, "t.csv", text)).replace("t.csv", "t")
    assert ": /data/upload/1/a.png is not a file" in refusal(beside(tmp_path, "t.csv", text))


def test_a_url_of_the_web_says_what_it_needs(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert refusal("folder:https://example.org/a.zip") == (
        "https://example.org/a.zip needs the packages fsspec and aiohttp, which reads the web and is not installed; "
        "type pip "
        "install aiohttp, or download it and type --dataset folder:FILE"
    )


def test_parquet_needs_its_package(tmp_path, monkeypatch):
    word = beside(tmp_path, "a.parquet", "PAR1")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert refusal(word) == (
        f"{tmp_path}/a.parquet is a parquet file, which needs the package pyarrow; it is not installed: type make "
        "setup EXTRA=parquet, or pip install pyarrow; or save the table as CSV"
    )


def test_parquet(tmp_path):
    arrow = pytest.importorskip("pyarrow", reason="the extra parquet is not installed")
    parquet = pytest.importorskip("pyarrow.parquet", reason="the extra parquet is not installed")
    word = beside(tmp_path, "a.parquet", "")
    parquet.write_table(
        arrow.table({"image": ["a.png", "b.png"], "kind": [1, 2], "box": [[1], [2]]}), tmp_path / "a.parquet"
    )
    assert classes(load_dataset(word, options=ReadOptions(label_column="kind"))) == ["1", "2"]
