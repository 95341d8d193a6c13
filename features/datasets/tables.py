"""List the images that a file names or holds: a .csv, an .npz, or the table of the elpv package."""

import csv
import importlib.util
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from thaw.features.datasets.listing import SPLIT_WORDS, ImageArrays, ImageFiles, Listing, array_ids, leads_inside
from thaw.features.errors import FILE_ERRORS, InputError, shown

_ELPV_TARGETS = {
    "binary": ("functional", "defective"),
    "four": ("functional", "possibly_defective", "likely_defective", "defective"),
}

# An .npz array may unpack to so many bytes in any case, else to so many times its packed size: images pack a few times.
ALWAYS_UNPACKED, MOST_PACKED = 2**28, 200


def list_csv(path: Path, max_pixels: int) -> Listing:
    """List the files that a table with the columns path,label[,split][,group] names."""
    rows: dict[str, dict[str, str]] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            columns = _check_columns(path, reader.fieldnames)
            for row in reader:
                line = f"{shown(path)} line {reader.line_num}"
                name = _check_row(line, row, path.parent)
                if name in rows:
                    raise InputError(f"{line}: {shown(name)} a second time; expected each path once; remove it")
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
    return Listing(ImageFiles(ids, max_pixels, path.parent), ids, names, splits, groups)


def _check_columns(path: Path, columns: Sequence[str] | None) -> Sequence[str]:
    """Return the columns; raises InputError if one is missing or unknown: a misspelt `group` would do nothing."""
    columns = columns or []
    known = {"path", "label", "split", "group"}
    if not {"path", "label"} <= set(columns) <= known or len(set(columns)) < len(columns):
        raise InputError(
            f"{shown(path)} has the columns {shown(','.join(columns))}; expected path,label[,split][,group]; "
            "put them in the first line"
        )
    return columns


def _check_row(line: str, row: dict[str, str], root: Path) -> str:
    """Return the row's id; raises InputError that begins with `line`, the table's name and the number of the line."""
    if None in row or None in row.values():
        raise InputError(f"{line} has too many or too few fields; expected one per column; fix the line")
    for column in ("label", "group"):
        if row.get(column) == "":
            raise InputError(f"{line} has no {column}; expected one on every line; fill it in")
    if row.get("split", "") not in ("", *SPLIT_WORDS):
        raise InputError(
            f"{line} has the split {shown(row['split'])!r}; expected train, validation, val, test or nothing; fix it"
        )
    name = Path(row["path"])
    inside = not name.is_absolute() and ".." not in name.parts
    if not inside or not leads_inside(root, name):
        raise InputError(
            f"{line}: {shown(name)} leaves the folder of the table; expected a path inside it; move the file there"
        )
    if not (root / name).is_file():
        raise InputError(f"{line}: {shown(row['path'])} is not a file; expected a path relative to the table; fix it")
    return name.as_posix()


def list_elpv(target: str, max_pixels: int) -> Listing:
    """List the images of the package elpv_dataset, in two classes (`target` binary) or four."""
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
    return Listing(ImageFiles(ids, max_pixels, table.parent), ids, names, [""] * len(ids), order=order)


def list_npz(path: Path) -> Listing:
    """List the images of an .npz: x_train, y_train, x_test, y_test, or x, y; class_names too."""
    arrays = _load_npz(path)
    pairs = [("x_train", "y_train"), ("x_test", "y_test")] if "x_train" in arrays else [("x", "y")]
    images: list[np.ndarray] = []
    for x, y in pairs:
        _check_arrays(path, x, arrays[x], y, arrays[y])
        images.extend(arrays[x])
    labels = _joined_labels(path, {y: arrays[y] for _, y in pairs})
    ids, splits = array_ids(*(len(arrays[x]) for x, _ in pairs))
    order = _npz_classes(path, labels, arrays.get("class_names"))
    names = [order[int(label)] if "class_names" in arrays else str(label) for label in labels]
    return Listing(ImageArrays(images), ids, names, splits, order=order)


def _load_npz(path: Path) -> dict[str, np.ndarray]:
    if not zipfile.is_zipfile(path):
        raise InputError(f"{shown(path)} is not an .npz archive; expected what numpy.savez writes; save it so")
    try:
        _check_packing(path)
        # NumPy itself would leave a file open whose list of members it cannot read.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            names = set(archive.files)
            if names - {"class_names"} not in ({"x", "y"}, {"x_train", "y_train", "x_test", "y_test"}):
                raise InputError(
                    f"{shown(path)} holds the arrays {shown(', '.join(sorted(names)))}; expected x_train, "
                    "y_train, x_test, y_test or x, y, and class_names if you like; save it with these names"
                )
            return {name: _checked_text(np.asarray(archive[name])) for name in archive.files}
    except InputError:
        raise
    except FILE_ERRORS as error:
        reason = "it holds pickled objects" if "allow_pickle" in str(error) else shown(error)
        raise InputError(
            f"{shown(path)} cannot be read ({reason}); expected uint8 images and labels of integers or "
            "strings; save them with numpy.savez"
        ) from error


def _checked_text(array: np.ndarray) -> np.ndarray:
    """Return an array as it is; raises ValueError if its text holds a number that is no character: NumPy allows it."""
    if array.dtype.kind == "U" and array.dtype.itemsize and array.size:
        codes = np.ascontiguousarray(array).reshape(-1).view(np.uint32)
        highest = int((codes if array.dtype.isnative else codes.byteswap()).max())
        if highest > sys.maxunicode:
            raise ValueError(f"its text holds the character {highest}")
    return array


def _check_packing(path: Path) -> None:
    """Check in the archive's directory that no array unpacks to far more than images do; no more is ever unpacked."""
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if member.file_size > max(ALWAYS_UNPACKED, MOST_PACKED * member.compress_size):
                raise InputError(
                    f"{shown(path)}: {shown(member.filename)} unpacks from {member.compress_size} to "
                    f"{member.file_size} bytes; expected at most {MOST_PACKED} times as many; save it with "
                    "numpy.savez, which packs nothing"
                )


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


def _joined_labels(path: Path, labels: dict[str, np.ndarray]) -> np.ndarray:
    """Return the labels (N,) of all splits as str or int64; raises InputError if one has texts and one integers."""
    kinds = {array.dtype.kind == "U" for array in labels.values()}
    if len(kinds) > 1:
        received = " and ".join(f"{name} is {array.dtype}" for name, array in labels.items())
        raise InputError(f"{shown(path)}: {received}; expected integers in both or strings in both; convert one")
    dtype = np.str_ if kinds == {True} else np.int64  # NumPy itself would make floats of uint64 beside int64
    return np.concatenate([array.reshape(-1) for array in labels.values()], dtype=dtype, casting="same_kind")


def _npz_classes(path: Path, labels: np.ndarray, class_names: np.ndarray | None) -> list[str]:
    """Return the classes in order: `class_names` if there are some, else the sorted labels as text."""
    if class_names is None:
        return [str(label) for label in np.unique(labels)]
    names = [str(name) for name in class_names.reshape(-1)]
    fits = labels.dtype.kind in "iu" and len(set(names)) == len(names)
    if not fits or (labels.size and not 0 <= labels.min() <= labels.max() < len(names)):
        raise InputError(
            f"{shown(path)}: class_names has {len(names)} entries that do not fit the labels; expected "
            "distinct names and labels from 0 on that index them; fix either"
        )
    return names
