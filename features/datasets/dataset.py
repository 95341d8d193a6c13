"""A labelled image set, by name or on disk -> Dataset: ids, labels, and images decoded when asked for."""

import difflib
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from thaw.features.datasets.cifar import CIFAR, read_cifar
from thaw.features.datasets.folders import list_folder, list_url
from thaw.features.datasets.listing import ImageArrays, Listing, Read, array_ids
from thaw.features.datasets.remote import is_url
from thaw.features.datasets.tables import list_csv, list_elpv, list_npz
from thaw.features.errors import InputError
from thaw.features.images.decode import MAX_PIXELS, shown

DATASET_WORDS = ("digits", "elpv", "cifar10", "cifar100", "folder:PATH", "csv:PATH", "npz:PATH")


@dataclass(frozen=True, eq=False)
class Dataset:
    """N labelled images of K classes.

    `ids`: the path relative to the data's root with "/", or train/00000 and so on for arrays. `labels`: int64
    (N,), indices into `class_names`. `given_split`: train, validation, test or "" per image. `read(i)`:
    image i, decoded now in any thread, uint8 (H, W, 3); raises InputError naming the id; `read(i, least_side)`
    may decode a JPEG at a reduced size. `content(i)`: bytes that identify image i.
    """

    word: str
    ids: tuple[str, ...]
    labels: np.ndarray
    class_names: tuple[str, ...]
    given_split: tuple[str, ...]
    groups: tuple[str, ...] | None
    read: Read
    content: Callable[[int], bytes]

    def subset(self, ids: Sequence[str]) -> "Dataset":
        """Return the data set of the images `ids`, in that order, with all classes."""
        places = {name: i for i, name in enumerate(self.ids)}
        return self.take([places[name] for name in ids])

    def take(self, rows: Sequence[int]) -> "Dataset":
        """Return the data set of the images at `rows`, in that order, with all classes; it pickles without others."""
        images: Any = getattr(self.read, "__self__", None)  # what reads them; None where a function stands in for it
        taken = images.take(rows) if hasattr(images, "take") else None
        return replace(
            self,
            ids=tuple(self.ids[row] for row in rows),
            labels=self.labels[list(rows)],
            given_split=tuple(self.given_split[row] for row in rows),
            groups=None if self.groups is None else tuple(self.groups[row] for row in rows),
            read=taken.read if taken else lambda i, least_side=None: self.read(rows[i], least_side),
            content=taken.content if taken else lambda i: self.content(rows[i]),
        )

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
    return _numbered(word, _listed(word, data, target, max_pixels))


def _listed(word: str, data: Path | None, target: str | None, max_pixels: int) -> Listing:
    match word.partition(":"):
        case "folder", ":", url if is_url(url):
            return list_url(word, url, max_pixels)
        case "folder", ":", rest:
            return list_folder(word, _existing("folder", rest), max_pixels)
        case "csv", ":", rest:
            return list_csv(_existing("csv", rest), max_pixels)
        case "npz", ":", rest:
            return list_npz(_existing("npz", rest))
    if word == "digits":
        return _digits()
    if word == "elpv":
        return list_elpv(target or "binary", max_pixels)
    if word in CIFAR:
        return _cifar(word, data, max_pixels)
    raise InputError(_unknown(word))


def _digits() -> Listing:
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    ids, splits = array_ids(len(images))
    return Listing(ImageArrays(images), ids, [str(label) for label in digits.target], splits)


def _cifar(word: str, data: Path | None, max_pixels: int) -> Listing:
    if data is not None and not data.exists():
        raise InputError(
            f"--data {shown(data)} does not exist; expected the archive of {word}, an image folder or "
            "a .zip; type --data PATH"
        )
    if data is not None and (data.is_dir() or data.suffix.lower() == ".zip"):
        return list_folder(word, data, max_pixels)
    return read_cifar(word, data)


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


def _numbered(word: str, listing: Listing) -> Dataset:
    """Check what holds for every data set and number the classes: in the listing's order where given, else sorted."""
    ids, splits, groups, order = listing.ids, listing.splits, listing.groups, listing.order
    used = set(listing.names)
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
    labels = np.array([number[name] for name in listing.names], dtype=np.int64)
    return Dataset(
        word,
        tuple(ids),
        labels,
        class_names,
        tuple(splits),
        None if groups is None else tuple(groups),
        listing.images.read,
        listing.images.content,
    )


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
