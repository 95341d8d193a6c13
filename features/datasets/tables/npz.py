"""List the images of an .npz archive, whatever its arrays are called and whichever numbers they hold."""

import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from thaw.features.datasets.listing import ImageArrays, Listing, array_ids
from thaw.features.datasets.options import DEFAULT, ReadOptions
from thaw.features.errors import FILE_ERRORS, InputError, shown
from thaw.features.images.decode import on_paper
from thaw.features.images.value_range import white_of

# An .npz array may unpack to so many bytes in any case, else to so many times its packed size: images pack a few times.
ALWAYS_UNPACKED, MOST_PACKED = 2**28, 200

_IMAGES = ("x", "images", "image", "data", "imgs")
_LABELS = ("y", "labels", "label", "targets", "target")
_CLASSES = "class_names"
_SPLITS = {"train": ("train",), "validation": ("val", "valid", "validation"), "test": ("test",)}
_EXPECTED = "expected x_train, y_train, x_test, y_test or x, y (or images and labels), and class_names if you like"


def list_npz(path: Path, options: ReadOptions = DEFAULT) -> Listing:
    """List the images of an .npz: x_train, y_train, x_test, y_test, or x, y, and names like these; class_names too."""
    pairs, arrays, notes = _load(path)
    x = {split: arrays[names[0]] for split, names in pairs.items()}
    for split, (x_name, y_name) in pairs.items():
        x[split] = _in_order(path, x_name, x[split], notes)
        _check_counts(path, y_name, arrays[y_name], len(x[split]))
    scale = _scale(path, x, options.white, notes)
    images = [image for array in x.values() for image in _pixels(array, scale)]
    labels = _joined_labels(path, {y_name: arrays[y_name] for _, y_name in pairs.values()})
    counts = {split: len(array) for split, array in x.items()}
    ids, splits = array_ids(counts.get("train", counts.get("", 0)), counts.get("test", 0), counts.get("validation", 0))
    named = arrays.get(_CLASSES)
    order = _classes(path, labels, named)
    names = [order[int(label)] if named is not None else str(label) for label in labels]
    return Listing(ImageArrays(images), ids, names, splits, order=order, notes=notes)


def _load(path: Path) -> tuple[dict[str, tuple[str, str]], dict[str, np.ndarray], list[str]]:
    """Return the names of images and labels by split ("" if there is one alone), the arrays, and lines about others."""
    if not zipfile.is_zipfile(path):
        raise InputError(f"{shown(path)} is not an .npz archive; expected what numpy.savez writes; save it so")
    try:
        # NumPy itself would leave a file open whose list of members it cannot read.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            pairs = _pairs(path, archive.files)
            wanted = [*(name for pair in pairs.values() for name in pair), *({_CLASSES} & set(archive.files))]
            _check_packing(path, wanted)
            arrays = {name: _checked_text(np.asarray(archive[name])) for name in wanted}
            others = sorted(set(archive.files) - set(wanted))
    except InputError:
        raise
    except FILE_ERRORS as error:
        reason = "it holds pickled objects" if "allow_pickle" in str(error) else shown(error)
        raise InputError(
            f"{shown(path)} cannot be read ({reason}); expected images and labels of numbers or strings; save them "
            "with numpy.savez"
        ) from error
    return pairs, arrays, [f"not used of {shown(path.name)}: {shown(', '.join(others))}"] if others else []


def _pairs(path: Path, names: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Return the names of the arrays of images and labels by split, in the order train, validation, test."""
    known = {name.lower(): name for name in names}

    def find(words: Sequence[str], split: str = "") -> str | None:
        ends = [f"{word}_{split}" for word in words] + [f"{split}_{word}" for word in words] if split else list(words)
        return next((known[name] for name in ends if name in known), None)

    pairs = {}
    for split, words in (*_SPLITS.items(), ("", ("",))):
        for word in words:
            x, y = find(_IMAGES, word), find(_LABELS, word)
            if x and y:
                pairs[split] = (x, y)
                break
    if "train" in pairs:
        pairs.pop("", None)
    elif "" in pairs:
        pairs = {"": pairs[""]}
    else:
        raise InputError(
            f"{shown(path)} holds the arrays {shown(', '.join(sorted(names)))}; {_EXPECTED}; save it with these names"
        )
    return pairs


def _checked_text(array: np.ndarray) -> np.ndarray:
    """Return an array as it is; raises ValueError if its text holds a number that is no character: NumPy allows it."""
    if array.dtype.kind == "U" and array.dtype.itemsize and array.size:
        codes = np.ascontiguousarray(array).reshape(-1).view(np.uint32)
        highest = int((codes if array.dtype.isnative else codes.byteswap()).max())
        if highest > sys.maxunicode:
            raise ValueError(f"its text holds the character {highest}")
    return array


def _check_packing(path: Path, wanted: Sequence[str]) -> None:
    """Check in the archive's directory that no array unpacks to far more than images do; no more is ever unpacked."""
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            used = member.filename.removesuffix(".npy") in wanted
            if used and member.file_size > max(ALWAYS_UNPACKED, MOST_PACKED * member.compress_size):
                raise InputError(
                    f"{shown(path)}: {shown(member.filename)} unpacks from {member.compress_size} to "
                    f"{member.file_size} bytes; expected at most {MOST_PACKED} times as many; save it with "
                    "numpy.savez, which packs nothing"
                )


def _in_order(path: Path, name: str, x: np.ndarray, notes: list[str]) -> np.ndarray:
    """Return images as (N, H, W) or (N, H, W, C) of 1, 3 or 4 channels; raises InputError for others."""
    channels = (1, 3, 4)
    fits = x.ndim == 3 or (x.ndim == 4 and (x.shape[3] in channels or x.shape[1] in channels))
    if x.dtype.kind not in "buif" or not fits or 0 in x.shape[1:]:
        raise InputError(
            f"{shown(path)}: {name} is {x.dtype} of shape {x.shape}; expected numbers of shape (N, H, W), (N, H, W, C) "
            "or (N, C, H, W) with 1, 3 or 4 channels; convert it"
        )
    if x.ndim == 4 and x.shape[3] not in channels:
        notes.append(f"{name} has its channels first, shape {x.shape}")
        return x.transpose(0, 2, 3, 1)
    return x


def _scale(path: Path, x: Mapping[str, np.ndarray], white: float | None, notes: list[str]) -> float:
    """Return the number that becomes 255 in all arrays; raises InputError if some are negative or not finite."""
    arrays = [array for array in x.values() if array.size]
    if all(array.dtype in (np.uint8, np.bool_) for array in arrays):
        return 1 if arrays and all(array.dtype == np.bool_ for array in arrays) else 255
    low, high = min(float(array.min()) for array in arrays), max(float(array.max()) for array in arrays)
    if not (low >= 0 and np.isfinite(high)):  # so written that NaN does not pass
        raise InputError(
            f"{shown(path)} holds images with values from {low:g} to {high:g}; expected 0 to 1 or 0 to 255; convert "
            "them"
        )
    whole = all(array.dtype.kind in "bui" for array in arrays)
    scale = white or (255 if high <= 255 and (whole or high > 1) else white_of(high, whole) or 65535 if high > 1 else 1)
    notes.append(f"the images hold values from {low:g} to {high:g}; {scale:g} becomes white")
    return scale


def _pixels(x: np.ndarray, scale: float) -> np.ndarray:
    """Return images (N, H, W) or (N, H, W, C) as uint8, transparent ones laid on paper, C 1 or 3."""
    if x.dtype != np.uint8 or scale != 255:
        exact = x.astype(np.float32 if x.dtype.itemsize < 4 else np.float64)
        x = np.rint(np.clip(np.multiply(exact, 255 / scale), 0, 255)).astype(np.uint8)
    if x.ndim == 4 and x.shape[3] == 4:
        return np.stack([on_paper(image) for image in x]) if len(x) else x[..., :3]
    return x


def _check_counts(path: Path, name: str, y: np.ndarray, count: int) -> None:
    one_hot = y.ndim == 2 and y.shape[1] > 1 and y.dtype.kind in "buif" and _is_one_hot(y)
    whole = y.dtype.kind in "buiUS" or (
        y.dtype.kind == "f" and bool(np.isfinite(y).all()) and bool((y == np.rint(y)).all())
    )
    if len(y.shape) == 0 or len(y) != count or not (one_hot or (whole and y.shape in ((count,), (count, 1)))):
        raise InputError(
            f"{shown(path)}: {name} is {y.dtype} of shape {y.shape}; expected whole numbers or strings of shape "
            f"({count},), one per image, or one 1 in each row of (N, K); convert it"
        )


def _is_one_hot(y: np.ndarray) -> bool:
    return bool(((y == 0) | (y == 1)).all() and (y.sum(axis=1) == 1).all())


def _plain_labels(y: np.ndarray) -> np.ndarray:
    """Return labels (N,) as str or integers."""
    if y.ndim == 2 and y.shape[1] > 1:
        return y.argmax(axis=1)
    y = y.reshape(-1)
    if y.dtype.kind == "S":
        return np.array([text.decode() for text in y.tolist()], np.str_)
    if y.dtype.kind in "bf":
        return y.astype(np.int64)
    return y


def _joined_labels(path: Path, labels: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the labels (N,) of all splits as str or int64; raises InputError if one has texts and one integers."""
    kinds = {array.dtype.kind in "US" for array in labels.values()}
    if len(kinds) > 1:
        received = " and ".join(f"{name} is {array.dtype}" for name, array in labels.items())
        raise InputError(f"{shown(path)}: {received}; expected integers in both or strings in both; convert one")
    dtype = np.str_ if kinds == {True} else np.int64  # NumPy itself would make floats of uint64 beside int64
    try:
        plain = [_plain_labels(array) for array in labels.values()]
    except UnicodeDecodeError as error:
        raise InputError(
            f"{shown(path)}: its labels are bytes and not UTF-8 ({error}); save them as strings"
        ) from error
    return np.concatenate(plain, dtype=dtype, casting="same_kind")


def _classes(path: Path, labels: np.ndarray, class_names: np.ndarray | None) -> list[str]:
    """Return the classes in order: `class_names` if there are some, else the sorted labels as text."""
    if class_names is None:
        return [str(label) for label in np.unique(labels)]
    names = [
        name.decode(errors="replace") if isinstance(name, bytes) else str(name)
        for name in class_names.reshape(-1).tolist()
    ]
    fits = labels.dtype.kind in "iu" and len(set(names)) == len(names)
    if not fits or (labels.size and not 0 <= labels.min() <= labels.max() < len(names)):
        raise InputError(
            f"{shown(path)}: class_names has {len(names)} entries that do not fit the labels; expected "
            "distinct names and labels from 0 on that index them; fix either"
        )
    return names
