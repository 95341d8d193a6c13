import re
from pathlib import Path

import pytest

from thaw.features.datasets.dataset import load_dataset
from thaw.features.datasets.options import ReadOptions

from tests.builders.images import PLAIN, classes, folder, refusal


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


EXPECTED = "expected path,label[,split][,group]"


@pytest.mark.parametrize("header", ["place,kind", "path"])
def test_csv_with_other_columns(tmp_path, header):
    assert refusal(table(tmp_path, header + "\ncats/a.png,cat\n" if "," in header else header + "\ncats/a.png\n")) == (
        f"{tmp_path}/t.csv has the columns {header}; {EXPECTED}; put them in the first line, or name them by "
        "--image-column and --label-column"
    )


def test_a_misspelt_column_is_named(tmp_path):
    assert refusal(table(tmp_path, "path,label,spilt\ncats/a.png,cat,train\n")) == (
        f"{tmp_path}/t.csv has the columns path,label,spilt; {EXPECTED}; rename spilt to split, or to something less "
        "like "
        "it"
    )
    assert refusal(table(tmp_path, "path,label,label\ncats/a.png,cat,cat\n")) == (
        f"{tmp_path}/t.csv has the columns path,label,label; {EXPECTED}, each once; remove one label"
    )


NO_FILE = "is not a file; expected a path relative to the table; fix it, or leave it out by --skip-bad"
LEAVES = "leaves the folder of the table; expected a path inside it, or an absolute one; move the file there"
NONE = "expected one on every line; fix it, or leave it out by --skip-bad"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("no.png,cat,,g", f": no.png {NO_FILE}"),
        ("cats,cat,,g", f": cats {NO_FILE}"),
        ("../x.png,cat,,g", f": ../x.png {LEAVES}"),
        ("/x.png,cat,,g", f": /x.png {NO_FILE}"),
        ("/dev/zero,cat,,g", f": /dev/zero {NO_FILE}"),
        ("out.png,cat,,g", f": out.png {LEAVES}"),
        ("cats/b.png,cat,exam,g", " has the split 'exam'; expected train, validation, val, test or nothing; fix it"),
        ("cats/b.png,,,g", f" has no label; {NONE}"),
        ("cats/b.png,nan,,g", f" has no label (nan); {NONE}"),
        ("cats/b.png,NaN,,g", f" has no label (NaN); {NONE}"),
        ("cats/b.png,None,,g", f" has no label (None); {NONE}"),
        ("cats/b.png,cat,,", f" has no group; {NONE}"),
        ("cats/b.png,cat,,nan", f" has no group (nan); {NONE}"),
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


def test_lines_without_label_or_file_are_left_out_on_demand(tmp_path):
    text = "path,label,group\ncats/a.png,cat,a\nno.png,cat,b\ndogs/a.png,dog,c\ncats/b.png,NaN,d\n"
    dataset = load_dataset(table(tmp_path, text), options=ReadOptions(skip_bad=True))
    assert dataset.ids == ("cats/a.png", "dogs/a.png")
    assert dataset.notes == (
        f"left out: 2 line(s) by --skip-bad, such as {tmp_path}/t.csv line 3: no.png is not a file",
    )


def test_csv_that_is_no_text(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"path,label\n\x81\xfe,x\n")
    assert re.fullmatch(
        rf"{tmp_path}/t\.csv cannot be read as a table \(.*\); expected text with the columns "
        r"path,label\[,split\]\[,group\]; save it again as CSV, or name its encoding by --encoding",
        refusal(f"csv:{tmp_path}/t.csv"),
    )
    assert "Is a directory" in refusal(f"csv:{tmp_path}")


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
def test_any_usual_delimiter(tmp_path, mark):
    text = "path,label,split\ncats/a.png,cat,TRAIN\ndogs/a.png,dog,Valid\ncats/b.png,cat,UNASSIGNED\n".replace(
        ",", mark
    )
    dataset = load_dataset(table(tmp_path, text))
    assert classes(dataset) == ["cat", "dog", "cat"]
    assert dataset.given_split == ("train", "validation", "")
    assert dataset.notes == ()


def test_a_spreadsheet_s_own_first_line_and_its_empty_last_lines(tmp_path):
    text = "sep=;\r\npath;label;\r\ncats/a.png;cat;\r\ndogs/a.png;dog;\r\n;;\r\n;;\r\n\r\n"
    assert classes(load_dataset(table(tmp_path, text))) == ["cat", "dog"]
    assert "t.csv line 3 has no label" in refusal(table(tmp_path, "sep=;\npath;label\ncats/a.png;\n"))


@pytest.mark.parametrize(("encoding", "notes"), [("utf-16", 0), ("utf-8-sig", 0), ("cp1252", 1)])
def test_encodings_are_found(tmp_path, encoding, notes):
    word = table(tmp_path, "")
    (tmp_path / "t.csv").write_bytes("path,label\ncats/a.png,Bär\ndogs/a.png,Hund\n".encode(encoding))
    dataset = load_dataset(word)
    assert dataset.class_names == ("Bär", "Hund")
    assert len(dataset.notes) == notes
    assert all("is read as cp1252" in note for note in dataset.notes)


def test_an_encoding_that_is_given(tmp_path):
    word = table(tmp_path, "")
    (tmp_path / "t.csv").write_bytes("path,label\ncats/a.png,猫\ndogs/a.png,狗\n".encode("gbk"))
    assert load_dataset(word, options=ReadOptions(encoding="gbk")).class_names == ("狗", "猫")


@pytest.mark.parametrize("header", ["filename,class", "Image,Category", "id,target", "File,LABEL", "image_path,label"])
def test_usual_names_of_columns_are_taken_and_said(tmp_path, header):
    dataset = load_dataset(table(tmp_path, f"{header},width\ncats/a.png,cat,3\ndogs/a.png,dog,3\n"))
    assert classes(dataset) == ["cat", "dog"]
    image, label = header.split(",")
    assert dataset.notes == (
        f"columns of t.csv: {image} as path, {label} as label; not used: width (--image-column, --label-column and so "
        "on "
        "name others)",
    )


def test_columns_that_are_named(tmp_path):
    text = "label,where,kind,fold,patient\nx,cats/a.png,cat,train,1\nx,dogs/a.png,dog,test,2\n"
    options = ReadOptions(image_column="where", label_column="kind", split_column="fold", group_column="patient")
    dataset = load_dataset(table(tmp_path, text), options=options)
    assert classes(dataset) == ["cat", "dog"]
    assert dataset.given_split == ("train", "test")
    assert dataset.groups == ("1", "2")
    assert refusal(table(tmp_path, text), options=ReadOptions(label_column="knd")) == (
        f"--label-column knd: {tmp_path}/t.csv has it not among its columns label,where,kind,fold,patient; name one of "
        "them"
    )


def test_a_suffix_absolute_paths_and_backslashes(tmp_path):
    text = f"id,label\ncats\\a,cat\n{tmp_path}/dogs/a,dog\n{tmp_path}/other/z,dog\n"
    word = table(tmp_path / "data", text)
    folder(tmp_path, "dogs/a.png", "other/z.png")
    dataset = load_dataset(word, options=ReadOptions(suffix=".png"))
    assert dataset.ids == ("cats/a.png", f"{tmp_path}/dogs/a.png", f"{tmp_path}/other/z.png")
    assert dataset.read(2)[0, 0, 0] == 1
    inside = load_dataset(table(tmp_path / "data", f"path,label\n{tmp_path}/data/dogs/a.png,dog\ncats/a.png,cat\n"))
    assert inside.ids == ("dogs/a.png", "cats/a.png")


def test_one_column_a_class(tmp_path):
    dataset = load_dataset(table(tmp_path, "image,MEL,NV,BCC\ncats/a.png,1.0,0.0,0.0\ndogs/a.png,0,0,1\n"))
    assert classes(dataset) == ["MEL", "BCC"]
    assert dataset.class_names == ("BCC", "MEL")
    assert "the columns MEL,NV,BCC are taken as classes, 1 for the image's own" in dataset.notes
    assert refusal(table(tmp_path, "image,MEL,NV\ncats/a.png,1,1\ndogs/a.png,0,1\n")) == (
        f"{tmp_path}/t.csv line 2 has 1 in 2 of the columns of classes (MEL,NV); expected one; fix it, or name the "
        "column "
        "of the class by --label-column"
    )


def test_train_and_val_alone_are_train_and_test(tmp_path):
    dataset = load_dataset(table(tmp_path, "path,label,split\ncats/a.png,cat,train\ndogs/a.png,dog,val\n"))
    assert dataset.given_split == ("train", "test")
    assert dataset.notes == (
        "the data has train and val and no test: val is taken as the test split, and validation is drawn from train",
    )


def test_csv_with_a_nul_in_a_path(tmp_path):
    assert "a.png is not a file" in refusal(table(tmp_path, "path,label\ncats/\0a.png,cat\n"))


def test_csv_without_rows(tmp_path):
    word = table(tmp_path, "path,label\n")
    assert refusal(word) == f"{word} holds no images; expected two classes or more; add images"
