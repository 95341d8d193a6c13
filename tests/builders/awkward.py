"""Awkward data as people have it, made by script: each with what is expected of it."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from thaw.features.datasets.options import ReadOptions

from tests.builders.images import folder, zipped

Make = Callable[[Path], str]
TWO = ("cat/a.png", "cat/b.png", "dog/a.png")
SPLITS = ("train/cat/a.png", "train/dog/a.png", "test/cat/a.png", "test/dog/a.png")


class Awkward(NamedTuple):
    """One input: `make(folder)` returns its word; `classes` are the images of each class, None if it is refused.

    `splits` are the images of each given split, and `said` is in the refusal or in one of the lines that are said; ""
    if nothing may be said.
    """

    name: str
    make: Make
    classes: dict[str, int] | None
    said: str = ""
    splits: dict[str, int] | None = None
    options: ReadOptions = ReadOptions()


def all_awkward() -> list[Awkward]:
    """Return every input."""
    return [*_folders(), *_layouts(), *_archives(), *_tables(), *_columns(), *_arrays(), *_exports()]


def on_disk(*names: str, then: Callable[[Path], Any] = lambda root: None, under: str = "") -> Make:
    """Return what writes an image at each name, and then does something with the folder."""

    def make(root: Path) -> str:
        (root / "data").mkdir()
        then(folder(root / "data", *names))
        return f"folder:{root / 'data' / under}"

    return make


def in_zip(*names: str, encoding: str | None = None) -> Make:
    """Return what writes a zip; with `encoding` the names are not marked as UTF-8."""

    def make(root: Path) -> str:
        path = root / "data.zip"
        places = (
            {name: f"p{k}".ljust(len(name.encode(encoding)), "x") for k, name in enumerate(names)} if encoding else {}
        )
        zipped(path, *(places.get(name, name) for name in names))
        content = path.read_bytes()
        for name, place in places.items():
            content = content.replace(place.encode(), name.encode(encoding or "utf-8"))
        path.write_bytes(content)
        return f"folder:{path}"

    return make


def table(text: str, encoding: str = "utf-8", name: str = "t.csv") -> Make:
    """Return what writes a table beside four images."""

    def make(root: Path) -> str:
        folder(root, "1.png", "2.png", "3.png", "sub/4.png")
        (root / name).write_bytes(text.replace("ROOT", str(root)).encode(encoding))
        return f"csv:{root / name}"

    return make


def npz(**arrays: Any) -> Make:
    """Return what writes an .npz."""

    def make(root: Path) -> str:
        np.savez(root / "a.npz", **arrays)
        return f"npz:{root / 'a.npz'}"

    return make


def _wrote(name: str, content: bytes) -> Callable[[Path], Any]:
    def write(root: Path) -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)

    return write


def _folders() -> Iterator[Awkward]:
    two = {"cat": 2, "dog": 1}
    hidden, alone = "hidden or system file(s) and folder(s)", "that are no images by their ending"
    yield Awkward("plain", on_disk(*TWO), two)
    yield Awkward(".DS_Store", on_disk(*TWO, then=_wrote("cat/.DS_Store", b"x")), two, hidden)
    yield Awkward("Thumbs.db", on_disk(*TWO, then=_wrote("cat/Thumbs.db", b"x")), two, hidden)
    yield Awkward("desktop.ini", on_disk(*TWO, then=_wrote("desktop.ini", b"x")), two, hidden)
    yield Awkward("@eaDir", on_disk(*TWO, "cat/@eaDir/a.png/t.jpg"), two, hidden)
    yield Awkward("lost+found", on_disk(*TWO, "lost+found/"), two, hidden)
    yield Awkward("recycle bin", on_disk(*TWO, "#recycle/x.png"), two, hidden)
    yield Awkward("checkpoints of a notebook", on_disk(*TWO, "cat/.ipynb_checkpoints/a.png"), two, hidden)
    yield Awkward("Icon and a carriage return", on_disk(*TWO, then=_wrote("cat/Icon\r", b"")), two, hidden)
    yield Awkward("a run", on_disk(*TWO, "runs/x/p.png", then=_wrote("runs/x/run.json", b"{}")), two, hidden)
    yield Awkward("text beside images", on_disk(*TWO, then=_wrote("cat/a.txt", b"0 0.5")), two, alone)
    yield Awkward("XML beside images", on_disk(*TWO, then=_wrote("dog/a.xml", b"<a/>")), two, alone)
    yield Awkward("a video", on_disk(*TWO, then=_wrote("dog/a.mp4", b"x")), two, alone)
    yield Awkward("README", on_disk(*TWO, then=_wrote("README.md", b"x")), two, alone)
    yield Awkward("capital endings", on_disk("cat/A.JPG", "cat/b.JpEg", "dog/c.PNG"), two)
    yield Awkward("no endings", on_disk("cat/0001", "cat/0002", "dog/0003"), two)
    yield Awkward("an empty class", on_disk(*TWO, "emu/"), two, "left alone: 1 folder(s) without images (emu)")
    yield Awkward("images beside the classes", on_disk(*TWO, "x.png"), two, "left out: 1 image(s) beside the folders")
    yield Awkward("deep classes", on_disk("cat/x/y/a.png", "cat/b.png", "dog/z/a.png"), two)
    yield Awkward("no classes", on_disk("a.png", "b.png"), None, "has no images in class folders")
    yield Awkward("one class", on_disk("cat/a.png"), None, "has one class only, 'cat'")
    yield Awkward("nothing", on_disk(), None, "holds no images")
    yield Awkward("a link out", on_disk(*TWO, then=lambda f: (f / "cat/l").symlink_to("/etc")), None, "--follow-links")
    yield Awkward("Cat and cat", on_disk("Cat/a.png", "cat/b.png", "dog/a.png"), None, "'Cat' (1) and 'cat' (1)")
    yield Awkward("1 and 01", on_disk("1/a.png", "01/a.png", "2/a.png"), None, "'01' (1) and '1' (1)")
    yield Awkward("a blank at the end", on_disk("cat /a.png", "cat/a.png", "dog/a.png"), None, "--merge-classes")
    forms = on_disk("caf\u00e9/a.png", "cafe\u0301/b.png", "dog/a.png")
    yield Awkward("two Unicode forms", forms, None, "differ in blanks, case, Unicode form")
    merged = ReadOptions(merge_classes=True)
    names = on_disk("Cat/a.png", "Cat/b.png", "cat/b.png", "dog/a.png")
    yield Awkward("merged", names, {"Cat": 3, "dog": 1}, "takes as one class each", None, merged)


def _layouts() -> Iterator[Awkward]:
    one, given = {"cat": 2, "dog": 2}, {"train": 2, "test": 2}
    for train, test in (
        ("train", "test"),
        ("Train", "TEST"),
        ("training", "testing"),
        ("training_set", "test_set"),
        ("train_data", "test_data"),
        ("train-images", "test-images"),
        ("seg_train/seg_train", "seg_test/seg_test"),
        ("chest_train", "chest_test"),
    ):
        names = [name.replace("train/", f"{train}/").replace("test/", f"{test}/") for name in SPLITS]
        yield Awkward(f"{train} and {test}", on_disk(*names), one, "", given)
    val = [name.replace("test/", "valid/") for name in SPLITS]
    yield Awkward("train and valid", on_disk(*val), one, "val is taken as the test split", given)
    three = {"train": 2, "validation": 2, "test": 2}
    yield Awkward("three splits", on_disk(*SPLITS, *val[2:]), {"cat": 3, "dog": 3}, "", three)
    flat = on_disk(*SPLITS[:2], "test/1.png", "test/2.png")
    yield Awkward("test without labels", flat, {"cat": 1, "dog": 1}, "2 image(s) in test/", {"train": 2})
    pred = on_disk(*SPLITS, "pred/1.png")
    yield Awkward("images to label", pred, one, "1 image(s) in pred/", given)
    sides = on_disk("cat/train/a.png", "cat/test/a.png", "dog/train/a.png", "dog/test/a.png")
    yield Awkward("splits in classes", sides, one, "hold the split folders test, train", given)
    parts = ("p1/cat/a.png", "p1/dog/a.png", "p2/cat/a.png", "p2/dog/a.png")
    yield Awkward("parts", on_disk(*parts), None, "all hold the same folders (cat, dog)")
    own = ReadOptions(no_splits=True)
    yield Awkward("parts as classes", on_disk(*parts), {"p1": 2, "p2": 2}, "", {"": 4}, own)
    yield Awkward(
        "classes called train and test", on_disk("train/1.png", "test/1.png"), None, "has no images in class folders"
    )
    bus = on_disk("train/1.png", "test/1.png", "bus/2.png")
    yield Awkward("train, test and bus", bus, None, "mixes split folders (test, train) with others (bus)")
    yield Awkward("the same, as classes", bus, {"train": 1, "test": 1, "bus": 1}, "", {"": 3}, own)
    yield Awkward("valid and invalid", on_disk("valid/1.png", "invalid/1.png"), {"valid": 1, "invalid": 1}, "", {"": 2})
    again = on_disk(*(f"PetImages/PetImages/{name}" for name in TWO))
    yield Awkward("a level twice", again, {"cat": 2, "dog": 1}, "PetImages/PetImages/ holds the classes")
    top = on_disk(*(f"data/{name}" for name in SPLITS), "README")
    yield Awkward("splits a level deeper", top, one, "data/ holds the classes", given)
    yield Awkward("test alone", on_disk("test/cat/a.png", "test/dog/a.png"), None, "has no training images")


def _archives() -> Iterator[Awkward]:
    two = {"cat": 2, "dog": 1}
    yield Awkward("zip", in_zip(*TWO), two)
    yield Awkward("zip of a Mac", in_zip(*TWO, "__MACOSX/cat/._a.png"), two, "hidden or system")
    yield Awkward("zip with a top folder", in_zip(*(f"top/{name}" for name in TWO)), two, "top/ holds the classes")
    beside = in_zip(*(f"top/{name}" for name in TWO), "README.txt")
    yield Awkward("zip with README beside it", beside, two, "top/ holds the classes")
    for encoding, names in (
        ("gbk", ("猫咪", "小狗")),
        ("shift_jis", ("ねこ", "いぬ")),
        ("cp866", ("кошка", "собака")),
        ("utf-8", ("猫咪", "小狗")),
        ("cp437", ("bébé", "forêt")),
    ):
        make = in_zip(*(f"{name}/1.png" for name in names), encoding=encoding)
        yield Awkward(f"zip in {encoding}", make, dict.fromkeys(names, 1), f"are read as {encoding}")
    boxes = in_zip("▓▒░/1.png", "╔═╗/1.png", encoding="cp437")
    yield Awkward("zip in no encoding", boxes, None, "--zip-encoding")
    yield Awkward("zip that climbs", in_zip(*TWO, "../x/1.png"), None, "expected relative names without '..'")


def _tables() -> Iterator[Awkward]:
    plain, both = "path,label\n1.png,cat\n2.png,dog\n", {"cat": 1, "dog": 1}
    yield Awkward("table", table(plain), both)
    for name, mark in (("semicolons", ";"), ("tabs", "\t"), ("bars", "|")):
        yield Awkward(f"table with {name}", table(plain.replace(",", mark)), both)
    yield Awkward("table with sep=", table("sep=;\n" + plain.replace(",", ";")), both)
    yield Awkward("table with a byte order mark", table(plain, "utf-8-sig"), both)
    yield Awkward("table in UTF-16", table(plain, "utf-16"), both)
    yield Awkward(
        "table in cp1252", table(plain.replace("cat", "Bär"), "cp1252"), {"Bär": 1, "dog": 1}, "read as cp1252"
    )
    yield Awkward("table with empty last lines", table(plain + ",\n,\n\n"), both)
    yield Awkward("table of Windows", table(plain.replace("\n", "\r\n").replace("1.png", "sub\\4.png")), both)
    yield Awkward("table with absolute paths", table(plain.replace("1.png", "ROOT/1.png")), both)
    yield Awkward("table without endings", table(plain.replace(".png", "")), both, "", None, ReadOptions(suffix=".png"))
    for text in ("nan", "NaN", "None", ""):
        lacking = table(f"{plain}3.png,{text}\n")
        yield Awkward(f"table with the label {text!r}", lacking, None, "t.csv line 4 has no label")
        skipped = ReadOptions(skip_bad=True)
        yield Awkward(f"the same, {text!r} skipped", lacking, both, "left out: 1 line(s) by --skip-bad", None, skipped)
    gone = table(f"{plain}9.png,cat\n")
    yield Awkward("table with a file that is gone", gone, None, "line 4: 9.png is not a file")
    yield Awkward(
        "table with a group nan", table("path,label,group\n1.png,a,x\n2.png,b,nan\n"), None, "has no group (nan)"
    )
    for first, second in (("cat ", "cat"), ("Cat", "cat"), ("0", "0.0"), ("01", "1")):
        same = table(f"path,label\n1.png,{first}\n2.png,{second}\n3.png,dog\n")
        yield Awkward(f"table with {first!r} and {second!r}", same, None, "--merge-classes")
    yield Awkward("table with a path that leaves", table(f"{plain}../x.png,cat\n"), None, "is not a file")
    words = table(
        "path,label,split\n1.png,cat,TRAIN\n2.png,dog,Training\n3.png,cat,Testing\nsub/4.png,dog,UNASSIGNED\n"
    )
    yield Awkward("table with splits in any case", words, {"cat": 2, "dog": 2}, "", {"train": 2, "test": 1, "": 1})


def _columns() -> Iterator[Awkward]:
    both = {"cat": 1, "dog": 1}
    for image, label in (("filename", "class"), ("image", "category"), ("id", "target"), ("File", "Label")):
        usual = table(f"{image},{label}\n1.png,cat\n2.png,dog\n")
        yield Awkward(f"columns {image} and {label}", usual, both, f"{image} as path, {label} as label")
    extra = table("path,label,width\n1.png,cat,3\n2.png,dog,3\n")
    yield Awkward("a further column", extra, both, "not used: width")
    named = ReadOptions(image_column="a", label_column="b")
    yield Awkward("columns that are named", table("b,a\ncat,1.png\ndog,2.png\n"), both, "a as path", None, named)
    yield Awkward("columns of nobody", table("a,b\n1.pn,cat\n"), None, "--image-column and --label-column")
    yield Awkward("a misspelt column", table("path,label,gruop\n1.png,a,x\n"), None, "rename gruop to group")
    yield Awkward("one-hot", table("image,cat,dog\n1.png,1,0\n2.png,0,1\n"), both, "are taken as classes")
    several = table("image,cat,dog\n1.png,1,1\n2.png,0,1\n")
    yield Awkward("several classes", several, None, "has 1 in 2 of the columns")


def _arrays() -> Iterator[Awkward]:
    x, y = np.arange(4 * 48, dtype=np.uint8).reshape(4, 4, 4, 3), np.array([0, 1, 1, 0])
    both = {"0": 2, "1": 2}
    yield Awkward("arrays", npz(x=x, y=y), both)
    yield Awkward(
        "arrays of Keras", npz(x_train=x, y_train=y, x_test=x, y_test=y), {"0": 4, "1": 4}, "", {"train": 4, "test": 4}
    )
    yield Awkward("arrays of X_train", npz(X_train=x, Y_train=y), both, "", {"": 4})
    mnist = {f"{split}_{what}": a for split in ("train", "val") for what, a in (("images", x), ("labels", y[:, None]))}
    yield Awkward("arrays of MedMNIST", npz(**mnist), {"0": 4, "1": 4}, "val is taken as the test split")
    yield Awkward("arrays of floats", npz(images=x / 255, labels=y), both, "1 becomes white")
    yield Awkward("arrays of large floats", npz(x=x.astype(np.float32), y=y), both, "255 becomes white")
    yield Awkward("arrays of int64", npz(x=x.astype(np.int64), y=y), both, "255 becomes white")
    yield Awkward("arrays of 12 bits", npz(x=x.astype(np.uint16) * 16, y=y), both, "4095 becomes white")
    yield Awkward("arrays with channels first", npz(x=x.transpose(0, 3, 1, 2)[..., :], y=y), both)
    yield Awkward("arrays of bool", npz(x=x > 9, y=y), both)
    yield Awkward("arrays with one-hot labels", npz(x=x, y=np.eye(2)[y]), both)
    yield Awkward("arrays with float labels", npz(x=x, y=y.astype(float)), both)
    yield Awkward("arrays with bytes as labels", npz(x=x, y=np.array([b"a", b"b", b"b", b"a"])), {"a": 2, "b": 2})
    yield Awkward("arrays with a further one", npz(x=x, y=y, ids=y), both, "not used of a.npz: ids")
    yield Awkward("arrays with NaN as a label", npz(x=x, y=np.array([0, 1, np.nan, 0])), None, "expected whole numbers")
    yield Awkward("arrays below zero", npz(x=x.astype(float) - 99, y=y), None, "holds images with values from -99")


def _exports() -> Iterator[Awkward]:
    both = {"cat": 1, "dog": 1}
    coco = {
        "images": [{"id": 1, "file_name": "1.png"}, {"id": 2, "file_name": "2.png"}],
        "annotations": [{"image_id": 1, "category_id": 5}, {"image_id": 2, "category_id": 6}],
        "categories": [{"id": 5, "name": "cat"}, {"id": 6, "name": "dog"}],
    }
    yield Awkward("COCO", table(json.dumps(coco), name="c.json"), both, "is read as COCO")
    yield Awkward("other JSON", table("{}", name="c.json"), None, "without the lists images, annotations, categories")
    google = table("TRAIN,1.png,cat\nTEST,2.png,dog\n")
    yield Awkward("Google's table", google, both, "has no header", {"train": 1, "test": 1})
    yield Awkward("a list with blanks", table("1.png cat\n2.png dog\n", name="l.txt"), both, "a list of path and label")
    huggingface = on_disk("1.png", "2.png", then=_wrote("metadata.csv", b"file_name,label\n1.png,cat\n2.png,dog\n"))
    yield Awkward("metadata.csv", huggingface, both, "the folder is read by metadata.csv")
    lines = b'{"file_name": "1.png", "label": "cat"}\n{"file_name": "2.png", "label": "dog"}\n'
    yield Awkward(
        "metadata.jsonl", on_disk("1.png", "2.png", then=_wrote("metadata.jsonl", lines)), both, "metadata.jsonl"
    )
    yield Awkward("Hugging Face on disk", on_disk(then=_wrote("train/x.arrow", b"A")), None, "Hugging Face's datasets")
    classes = b"filename, cat, dog\n1.png, 1, 0\n2.png, 0, 1\n"
    roboflow = on_disk("train/1.png", "train/2.png", then=_wrote("train/_classes.csv", classes))
    yield Awkward("Roboflow", roboflow, both, "the folder is read by train/_classes.csv", {"train": 2})
