"""A labelled image set, by name or on disk -> Dataset: ids, labels, and images decoded when asked for."""

import csv
import difflib
import hashlib
import importlib.util
import os
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from features.archives import CIFAR, ZipImages, open_zip, read_cifar
from features.errors import InputError
from features.images import MAX_PIXELS, decode, shown

DATASET_WORDS = ("digits", "elpv", "cifar10", "cifar100", "folder:PATH", "csv:PATH", "npz:PATH")

SPLIT_WORDS = {"train": "train", "test": "test", "val": "validation", "validation": "validation"}

_SPLIT_LOOKALIKES = {"training", "testing", "valid", "dev"}
_ELPV_TARGETS = {
    "binary": ("functional", "defective"),
    "four": ("functional", "possibly_defective", "likely_defective", "defective"),
}

_NPZ_FAULTS = (  # what numpy.load raises on made-up bytes
    OSError,
    EOFError,
    ValueError,
    KeyError,
    MemoryError,
    RuntimeError,
    SyntaxError,
    zlib.error,
    zipfile.BadZipFile,
)


@dataclass(frozen=True, eq=False)
class Dataset:
    """N labelled images of K classes.

    `ids`: the path relative to the data's root with "/", or train/00000 and so on for arrays. `labels`: int64
    (N,), indices into `class_names`. `given_split`: train, validation, test or "" per image. `read(i)`:
    image i, decoded now in any thread, uint8 (H, W, 3); raises InputError naming the id. `content(i)`: bytes
    that identify image i.
    """

    word: str
    ids: tuple[str, ...]
    labels: np.ndarray
    class_names: tuple[str, ...]
    given_split: tuple[str, ...]
    groups: tuple[str, ...] | None
    read: Callable[[int], np.ndarray]
    content: Callable[[int], bytes]

    def digest(self) -> str:
        """Return a sha256 in hex over each image's id, class, given split, group and content."""
        total = hashlib.sha256(b"thaw dataset 1")
        for text in (str(len(self.ids)), str(len(self.class_names)), *self.class_names):
            total.update(_framed(text.encode()))
        for i, name in enumerate(self.ids):
            group = b"-" if self.groups is None else b"+" + self.groups[i].encode()
            texts = (
                name.encode(),
                self.class_names[self.labels[i]].encode(),
                self.given_split[i].encode(),
                group,
            )
            total.update(b"".join(map(_framed, (*texts, self.content(i)))))
        return total.hexdigest()


def load_dataset(
    word: str, data: Path | None = None, target: str | None = None, max_pixels: int = MAX_PIXELS
) -> Dataset:
    """List the data set that `word` (one of DATASET_WORDS) names; no image file is decoded yet.

    `data`: where CIFAR's archive, or the same images as a folder or a .zip, lies. `target`: for elpv, binary
    (or None) or four. `max_pixels`: what `read` accepts.

    Raises InputError: an unknown word, or data that is not there or not what the word says.
    """
    kind, colon, rest = word.partition(":")
    if data is not None and word not in CIFAR:
        raise InputError(
            f"--data {shown(data)} with --dataset {shown(word)}: expected --data only with cifar10 or "
            "cifar100; leave --data out"
        )
    if target is not None and word != "elpv":
        raise InputError(
            f"--target {shown(target)} with --dataset {shown(word)}: expected --target only with elpv; "
            "leave --target out"
        )
    if colon and kind in _BY_PATH:
        return _BY_PATH[kind](word, _existing(kind, rest), max_pixels)
    if word == "digits":
        return _digits(word)
    if word == "elpv":
        return _elpv(word, target or "binary", max_pixels)
    if word in CIFAR:
        return _cifar(word, data, max_pixels)
    raise InputError(_unknown(word))


class _Images(Protocol):
    def read(self, i: int) -> np.ndarray: ...

    def content(self, i: int) -> bytes: ...


@dataclass(frozen=True, eq=False)
class _Files:
    """Image files under one folder."""

    root: Path
    ids: tuple[str, ...]
    max_pixels: int

    def read(self, i: int) -> np.ndarray:
        return decode(self.root / self.ids[i], self.ids[i], self.max_pixels)

    def content(self, i: int) -> bytes:
        try:
            return (self.root / self.ids[i]).read_bytes()
        except OSError as error:
            raise InputError(
                f"{shown(self.ids[i])} cannot be opened ({error.strerror}); expected a readable file; "
                "put it back, or take it out of the data set"
            ) from error


@dataclass(frozen=True, eq=False)
class _Arrays:
    """Images in memory, each uint8 (H, W), (H, W, 1) or (H, W, 3)."""

    images: Sequence[np.ndarray]

    def read(self, i: int) -> np.ndarray:
        height, width = self.images[i].shape[:2]
        return np.broadcast_to(self.images[i].reshape(height, width, -1), (height, width, 3)).copy()

    def content(self, i: int) -> bytes:
        return str(self.images[i].shape).encode() + self.images[i].tobytes()


def _dataset(
    word: str,
    images: _Images,
    ids: Sequence[str],
    names: Sequence[str],
    splits: Sequence[str],
    groups: Sequence[str] | None = None,
    order: Iterable[str] | None = None,
) -> Dataset:
    """Check what holds for every data set and number the classes: in `order` where given, else sorted."""
    used = set(names)
    class_names = tuple(sorted(used) if order is None else (name for name in order if name in used))
    _check_classes(word, class_names, len(ids))
    if ids and not {"train", ""} & set(splits):
        raise InputError(
            f"{shown(word)} has no training images; expected train beside {splits[0]}; "
            "add them, or drop the split from all images to have one drawn"
        )
    for text in (*ids, *class_names, *(groups or ())):
        if not _is_utf8(text):
            raise InputError(f"{shown(word)} holds the name {shown(text)}; expected UTF-8; rename it")
    number = {name: label for label, name in enumerate(class_names)}
    labels = np.array([number[name] for name in names], dtype=np.int64)
    groups = None if groups is None else tuple(groups)
    return Dataset(word, tuple(ids), labels, class_names, tuple(splits), groups, images.read, images.content)


def _check_classes(word: str, class_names: Sequence[str], num_images: int) -> None:
    if not num_images:
        raise InputError(f"{shown(word)} holds no images; expected two classes or more; add images")
    if len(class_names) < 2:
        raise InputError(
            f"{shown(word)} has one class only, {shown(class_names[0])!r}; expected two or more; "
            "add images of another class"
        )


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _framed(data: bytes) -> bytes:
    return len(data).to_bytes(8, "big") + data


def _unknown(word: str) -> str:
    kinds = [known.partition(":")[0] for known in DATASET_WORDS]
    close = difflib.get_close_matches(word.partition(":")[0].lower(), kinds, n=1)
    path = _path(word)
    if path:
        by_suffix = {".csv": "csv", ".npz": "npz"}
        hint = f"{by_suffix.get(path.suffix.lower(), 'folder')}:{word}"
    else:
        hint = DATASET_WORDS[kinds.index(close[0])] if close else "digits"
    expected = ", ".join(DATASET_WORDS)
    return f"no data set {shown(word)!r}; expected one of {expected}; type --dataset {shown(hint)}"


def _existing(kind: str, rest: str) -> Path:
    path = _path(rest)
    if path is None:
        what = "a folder or a .zip" if kind == "folder" else f"a .{kind} file"
        raise InputError(f"--dataset {kind}:{shown(rest)} does not exist; expected {what}; type --dataset {kind}:PATH")
    return path


def _path(text: str) -> Path | None:
    """Return the path that `text` names if it exists, `~` understood."""
    try:
        path = Path(text).expanduser()
        path.stat()
    except (OSError, RuntimeError, ValueError):  # no such user, a name too long, a NUL
        return None
    return path if text else None


def _array_ids(num_train: int, num_test: int = 0) -> tuple[list[str], list[str]]:
    """Return the ids and splits of images in arrays: train/00000 and on, then test/00000 and on."""
    counts = {"train": num_train, "test": num_test}
    ids = [f"{split}/{i:0{max(5, len(str(num - 1)))}d}" for split, num in counts.items() for i in range(num)]
    splits = [split if num_test else "" for split, num in counts.items() for _ in range(num)]
    return ids, splits


def _digits(word: str) -> Dataset:
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    ids, splits = _array_ids(len(images))
    return _dataset(word, _Arrays(images), ids, [str(label) for label in digits.target], splits)


def _cifar(word: str, data: Path | None, max_pixels: int) -> Dataset:
    if data is not None and not data.exists():
        raise InputError(
            f"--data {shown(data)} does not exist; expected the archive of {word}, an image folder or "
            "a .zip; type --data PATH"
        )
    if data is not None and (data.is_dir() or data.suffix.lower() == ".zip"):
        return _folder(word, data, max_pixels)
    cifar = read_cifar(word, data)
    ids, splits = _array_ids(cifar.num_train, len(cifar.images) - cifar.num_train)
    return _dataset(word, _Arrays(cifar.images), ids, cifar.names, splits, order=cifar.class_names)


def _elpv(word: str, target: str, max_pixels: int) -> Dataset:
    if target not in _ELPV_TARGETS:
        raise InputError(f"--target {shown(target)}: expected binary or four; type --target binary")
    spec = importlib.util.find_spec("elpv_dataset")  # found, not imported: only its files are wanted
    places = spec.submodule_search_locations if spec else None
    table = Path(places[0], "data", "labels.csv") if places else None
    if table is None or not table.is_file():
        raise InputError(
            "the package elpv_dataset is not installed; expected it for --dataset elpv (its images are "
            "CC BY-NC-SA 4.0); type make setup EXTRA=elpv, or pip install elpv-dataset"
        )
    rows = [line.split() for line in table.read_text(encoding="utf-8").splitlines() if line.strip()]
    ids = tuple(row[0] for row in rows)
    defective = [float(row[1]) for row in rows]  # 0, 1/3, 2/3 or 1
    order = _ELPV_TARGETS[target]
    names = [order[p > 0.5] if target == "binary" else order[round(3 * p)] for p in defective]
    return _dataset(word, _Files(table.parent, ids, max_pixels), ids, names, [""] * len(ids), order=order)


def _folder(word: str, path: Path, max_pixels: int) -> Dataset:
    """List PATH/<class>/* or PATH/{train,test,val,validation}/<class>/*, or a .zip of either.

    Whatever file lies in a class folder, however deep, is an image of the class, unless it is hidden. Files
    beside the class folders are left alone. A class folder without a file is an error.
    """
    if path.is_dir():
        rows = _layout(word, _walk(path))
        ids = tuple(row[0] for row in rows)
        images: _Images = _Files(path, ids, max_pixels)
    elif path.suffix.lower() == ".zip" or zipfile.is_zipfile(path):
        archive, members = open_zip(path)
        top = _common_top(name for name in members if not _is_hidden(name))
        members = {name.removeprefix(top): member for name, member in members.items() if name != top}
        rows = _layout(word, (name for name in members if not _is_hidden(name)))
        ids = tuple(row[0] for row in rows)
        images = ZipImages(archive, tuple(members[name] for name in ids), ids, max_pixels)
    else:
        raise InputError(
            f"{shown(path)} is neither a folder nor a zip archive; expected one with a folder per class; "
            "type --dataset folder:PATH"
        )
    return _dataset(word, images, ids, [row[1] for row in rows], [row[2] for row in rows])


def _is_hidden(name: str) -> bool:
    parts = name.rstrip("/").split("/")
    junk = {"__macosx", "thumbs.db", "desktop.ini"}
    return any(part.startswith(".") or part.lower() in junk for part in parts)


def _walk(root: Path) -> Iterator[str]:
    """Yield what lies under `root`, hidden things left out: files by name, folders with a "/" at the end.

    A link to a file inside `root` counts as that file. Any other link is refused.
    """
    folders = [""]
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(root / folder) as found:
                entries = list(found)
        except OSError as error:
            raise InputError(
                f"{shown(root / folder)} cannot be listed ({error.strerror}); expected a readable folder; "
                "change its permissions"
            ) from error
        for entry in entries:
            name = folder + entry.name
            if _is_hidden(entry.name):
                continue
            if entry.is_symlink():
                _check_link(root, name)
            if entry.is_dir(follow_symlinks=False):
                folders.append(name + "/")
                yield name + "/"
            elif entry.is_file():
                yield name


def _check_link(root: Path, name: str) -> None:
    if not _leads_inside(root, name) or not (root / name).is_file():
        raise InputError(
            f"{shown(name)} in {shown(root)} is a link that leaves the folder or leads to no file; expected "
            "images, or links to files inside; put a copy in its place"
        )


def _leads_inside(root: Path, name: str | Path) -> bool:
    try:
        return (root / name).resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError, ValueError):  # a loop of links, a NUL in the name
        return False


def _common_top(names: Iterable[str]) -> str:
    """Return "top/" where all files lie in one top folder that is neither a class nor a split, else ""."""
    depth_of_files = {(name.partition("/")[0], name.count("/") > 1) for name in names if not name.endswith("/")}
    tops = {top for top, _ in depth_of_files}
    top = min(tops, default="")
    nested = len(tops) == 1 and (top, True) in depth_of_files
    return top + "/" if nested and top.lower() not in SPLIT_WORDS else ""


def _layout(word: str, names: Iterable[str]) -> list[tuple[str, str, str]]:
    """Return (id, class, split) of each image, sorted by id; raises InputError where folders do not fit."""
    listed = [(name, name.rstrip("/").split("/"), name.endswith("/")) for name in sorted(names)]
    tops = {parts[0] for _, parts, is_folder in listed if is_folder or len(parts) > 1}
    depth = _class_depth(word, tops)
    rows = [
        (name, parts[depth], SPLIT_WORDS[parts[0].lower()] if depth else "")
        for name, parts, is_folder in listed
        if not is_folder and len(parts) > depth + 1
    ]
    if listed and not rows:
        raise InputError(
            f"{shown(word)} has no images in class folders; expected PATH/<class>/* or PATH/train/<class>/*; "
            "put the images of each class into a folder of its own"
        )
    folders = {parts[depth] for _, parts, is_folder in listed if is_folder and len(parts) > depth}
    empty = sorted(folders - {row[1] for row in rows})
    if empty:
        raise InputError(
            f"{shown(word)} has no images in the class folder {shown(empty[0])}; expected one or more; "
            "add some, or remove the folder"
        )
    return rows


def _class_depth(word: str, tops: set[str]) -> int:
    """Return which part of a path is the class: 0, or 1 below split folders."""
    splits = {top for top in tops if top.lower() in SPLIT_WORDS}
    others = sorted(tops - splits)
    if others and {top.lower() for top in tops} <= SPLIT_WORDS.keys() | _SPLIT_LOOKALIKES:
        raise InputError(
            f"{shown(word)} has a folder {shown(others[0])} that looks like a split; expected the names "
            "train, test, val or validation; rename it"
        )
    if splits and others:
        raise InputError(
            f"{shown(word)} mixes split folders ({shown(', '.join(sorted(splits)))}) with others "
            f"({shown(', '.join(others[:3]))}); expected classes only or splits only; move or rename one kind"
        )
    return 1 if splits else 0


def _csv(word: str, path: Path, max_pixels: int) -> Dataset:
    """List the files that a table with the columns path,label[,split][,group] names."""
    rows: dict[str, dict[str, str]] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            columns = _check_columns(path, reader.fieldnames)
            for row in reader:
                where = f"{shown(path)} line {reader.line_num}"
                name = _check_row(where, row, path.parent)
                if name in rows:
                    raise InputError(f"{where}: {shown(name)} a second time; expected each path once; remove it")
                rows[name] = row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"{shown(path)} cannot be read as a table ({shown(error)}); expected UTF-8 text with the columns "
            "path,label[,split][,group]; save it again as CSV"
        ) from error
    ids = tuple(rows)
    splits = [SPLIT_WORDS.get(row.get("split", ""), "") for row in rows.values()]
    groups = [row["group"] for row in rows.values()] if "group" in columns else None
    names = [row["label"] for row in rows.values()]
    return _dataset(word, _Files(path.parent, ids, max_pixels), ids, names, splits, groups)


def _check_columns(path: Path, columns: Sequence[str] | None) -> Sequence[str]:
    """Refuse missing columns, and unknown ones: a misspelt `group` would let a group straddle the split."""
    columns = columns or []
    known = {"path", "label", "split", "group"}
    if not {"path", "label"} <= set(columns) <= known or len(set(columns)) < len(columns):
        raise InputError(
            f"{shown(path)} has the columns {shown(','.join(columns))}; expected path,label[,split][,group]; "
            "put them in the first line"
        )
    return columns


def _check_row(where: str, row: dict[str, str], root: Path) -> str:
    """Return the row's id; raises InputError with the line's number."""
    if None in row or None in row.values():
        raise InputError(f"{where} has too many or too few fields; expected one per column; mend the line")
    for column in ("label", "group"):
        if row.get(column) == "":
            raise InputError(f"{where} has no {column}; expected one on every line; fill it in")
    if row.get("split", "") not in ("", *SPLIT_WORDS):
        raise InputError(
            f"{where} has the split {shown(row['split'])!r}; expected train, validation, val, test or nothing; mend it"
        )
    name = Path(row["path"])
    inside = not name.is_absolute() and ".." not in name.parts
    if not inside or not _leads_inside(root, name):
        raise InputError(
            f"{where}: {shown(name)} leaves the folder of the table; expected a path inside it; move the file there"
        )
    if not (root / name).is_file():
        raise InputError(f"{where}: {shown(row['path'])} is not a file; expected a path relative to the table; mend it")
    return name.as_posix()


def _npz(word: str, path: Path, max_pixels: int) -> Dataset:
    """List the images of an .npz: x_train, y_train, x_test, y_test, or x, y; class_names too."""
    arrays = _load_npz(path)
    pairs = [("x_train", "y_train"), ("x_test", "y_test")] if "x_train" in arrays else [("x", "y")]
    images: list[np.ndarray] = []
    for x, y in pairs:
        _check_arrays(path, x, arrays[x], y, arrays[y])
        images.extend(arrays[x])
    _check_one_kind(path, [(y, arrays[y].dtype) for _, y in pairs])
    labels: np.ndarray = np.concatenate(
        [arrays[y].reshape(-1) for _, y in pairs], dtype=_label_type(arrays[pairs[0][1]]), casting="same_kind"
    )
    ids, splits = _array_ids(*(len(arrays[x]) for x, _ in pairs))
    order = _npz_classes(path, labels, arrays.get("class_names"))
    names = [order[int(label)] if "class_names" in arrays else str(label) for label in labels]
    return _dataset(word, _Arrays(images), ids, names, splits, order=order)


def _load_npz(path: Path) -> dict[str, np.ndarray]:
    if not zipfile.is_zipfile(path):
        raise InputError(f"{shown(path)} is not an .npz archive; expected what numpy.savez writes; save it so")
    try:
        with np.load(path, allow_pickle=False) as archive:
            names = set(archive.files)
            if names - {"class_names"} not in ({"x", "y"}, {"x_train", "y_train", "x_test", "y_test"}):
                raise InputError(
                    f"{shown(path)} holds the arrays {shown(', '.join(sorted(names)))}; expected x_train, "
                    "y_train, x_test, y_test or x, y, and class_names if you like; save it with these names"
                )
            return {name: np.asarray(archive[name]) for name in archive.files}
    except InputError:
        raise
    except _NPZ_FAULTS as error:
        reason = "it holds pickled objects" if "allow_pickle" in str(error) else shown(error)
        raise InputError(
            f"{shown(path)} cannot be read ({reason}); expected uint8 images and labels of integers or "
            "strings; save them with numpy.savez"
        ) from error


def _check_arrays(path: Path, x_name: str, x: np.ndarray, y_name: str, y: np.ndarray) -> None:
    channels_fit = x.ndim == 3 or (x.ndim == 4 and x.shape[3] in (1, 3))
    if x.dtype != np.uint8 or not channels_fit or 0 in x.shape[1:]:
        raise InputError(
            f"{shown(path)}: {x_name} is {x.dtype} of shape {x.shape}; expected uint8 of shape (N, H, W), "
            "(N, H, W, 1) or (N, H, W, 3); convert it"
        )
    if y.dtype.kind not in "iuU" or y.shape not in ((len(x),), (len(x), 1)):
        raise InputError(
            f"{shown(path)}: {y_name} is {y.dtype} of shape {y.shape}; expected integers or strings of shape "
            f"({len(x)},), one per image; convert it"
        )


def _label_type(labels: np.ndarray) -> type:
    return np.str_ if labels.dtype.kind == "U" else np.int64  # else uint64 beside int64 would make floats


def _check_one_kind(path: Path, types: list[tuple[str, np.dtype]]) -> None:
    if len({dtype.kind == "U" for _, dtype in types}) > 1:
        received = " and ".join(f"{name} is {dtype}" for name, dtype in types)
        raise InputError(f"{shown(path)}: {received}; expected integers in both or strings in both; convert one")


def _npz_classes(path: Path, labels: np.ndarray, class_names: np.ndarray | None) -> list[str]:
    """Return the classes in order: as `class_names` says, else the sorted labels as text."""
    if class_names is None:
        return [str(label) for label in np.unique(labels)]
    names = [str(name) for name in class_names.reshape(-1)]
    fits = labels.dtype.kind in "iu" and len(set(names)) == len(names)
    if not fits or (labels.size and not 0 <= labels.min() <= labels.max() < len(names)):
        raise InputError(
            f"{shown(path)}: class_names has {len(names)} entries that do not fit the labels; expected "
            "distinct names and labels from 0 on that index them; mend either"
        )
    return names


_BY_PATH: dict[str, Callable[[str, Path, int], Dataset]] = {"folder": _folder, "csv": _csv, "npz": _npz}
