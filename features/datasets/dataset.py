"""A dataset, by name or by where it lies on disk: ids, labels, and images that are decoded when they are read."""

import difflib
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from thaw.features.datasets.cifar import CIFAR, read_cifar
from thaw.features.datasets.class_names import merged_names
from thaw.features.datasets.folders import list_folder, list_url
from thaw.features.datasets.listing import ImageArrays, Images, Listing, array_ids
from thaw.features.datasets.options import DEFAULT, ReadOptions
from thaw.features.datasets.remote import is_url
from thaw.features.datasets.tables.csv_file import list_csv
from thaw.features.datasets.tables.elpv import list_elpv
from thaw.features.datasets.tables.npz import list_npz
from thaw.features.errors import InputError, shown
from thaw.features.images.decode import MAX_PIXELS, LeastSide

DATASETS = ("digits", "elpv", "cifar10", "cifar100", "folder:PATH", "csv:PATH", "npz:PATH")


@dataclass(frozen=True, eq=False)
class Dataset:
    """N labelled images of K classes.

    Attributes:
        name: the dataset as the user typed it, one of DATASETS.
        ids: of each image, the path relative to the data's root with "/", or train/00000 and so on for arrays.
        labels: int64 (N,), indices into `class_names`.
        class_names: the K classes.
        given_split: train, validation, test or "" of each image.
        groups: of each image, or None if the data has no groups.
        images: what reads the images.
        notes: lines that say what was guessed, ignored or left out.
        skipped: the images that were left out because they cannot be read, id and reason.
    """

    name: str
    ids: tuple[str, ...]
    labels: np.ndarray
    class_names: tuple[str, ...]
    given_split: tuple[str, ...]
    groups: tuple[str, ...] | None
    images: Images
    notes: tuple[str, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()

    @cached_property
    def row_of(self) -> dict[str, int]:
        """The index of each image by its id."""
        return {name: row for row, name in enumerate(self.ids)}

    def read(self, i: int, least_side: LeastSide | None = None) -> np.ndarray:
        """Return image `i` as uint8 (H, W, 3); raises InputError that names its id."""
        return self.images.read(i, least_side)

    def content(self, i: int) -> bytes:
        """Return bytes that identify image `i`."""
        return self.images.content(i)

    def subset(self, ids: Sequence[str]) -> "Dataset":
        """Return the dataset of the images `ids`, in that order, with all classes."""
        return self.take([self.row_of[name] for name in ids])

    def take(self, rows: Sequence[int]) -> "Dataset":
        """Return the dataset of the images at `rows`, in that order, with all classes; it pickles without others."""
        return replace(
            self,
            ids=tuple(self.ids[row] for row in rows),
            labels=self.labels[list(rows)],
            given_split=tuple(self.given_split[row] for row in rows),
            groups=None if self.groups is None else tuple(self.groups[row] for row in rows),
            images=self.images.take(rows),
        )

    def without(self, reasons: Mapping[str, str]) -> "Dataset":
        """Return the dataset without the images that `reasons` names, and without classes that then have none.

        Raises InputError if less than two classes are left.
        """
        kept = self.take([row for row, name in enumerate(self.ids) if name not in reasons])
        used = np.unique(kept.labels)
        gone = [name for label, name in enumerate(self.class_names) if label not in used]
        left = tuple(self.class_names[label] for label in used)
        if len(left) < 2:
            raise InputError(
                f"{shown(self.name)}: without the {len(reasons)} image(s) that cannot be read {len(left)} class(es) "
                f"have images left; expected two or more; the first: {next(iter(reasons.values()), '')}"
            )
        notes = [f"without images that can be read, and left out: {shown(', '.join(gone))}"] if gone else []
        labels = np.searchsorted(used, kept.labels)
        skipped = tuple(sorted(reasons.items()))
        return replace(kept, labels=labels, class_names=left, notes=(*self.notes, *notes), skipped=skipped)

    def digest(self) -> str:
        """Return a sha256 in hex over each image's id, class, given split, group and content; computed once."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        total = hashlib.sha256(b"thaw dataset 1")
        for text in (str(len(self.ids)), str(len(self.class_names)), *self.class_names):
            total.update(_framed(text.encode()))
        for i, name in enumerate(self.ids):
            texts = (name, self.class_names[self.labels[i]], self.given_split[i])
            group = "-" if self.groups is None else "+" + self.groups[i]
            total.update(b"".join(_framed(text.encode()) for text in (*texts, group)) + _framed(self.content(i)))
        return total.hexdigest()


def _framed(data: bytes) -> bytes:
    return len(data).to_bytes(8, "big") + data


def load_dataset(
    name: str,
    data: Path | None = None,
    target: str | None = None,
    max_pixels: int = MAX_PIXELS,
    options: ReadOptions = DEFAULT,
) -> Dataset:
    """Return the dataset `name` with its images listed; no image file is decoded yet.

    Args:
        name: one of DATASETS.
        data: CIFAR's archive, or the same images as a folder or a .zip.
        target: for elpv, binary (or None) or four.
        max_pixels: the most pixels of an image that `read` accepts.
        options: how it is to be read, if its files do not say it.

    Raises:
        InputError: another name, or data that is missing or not what the name says.
    """
    if data is not None and name not in CIFAR:
        raise InputError(
            f"--data {shown(data)} with --dataset {shown(name)}: expected --data only with cifar10 or "
            "cifar100; leave --data out"
        )
    if target is not None and name != "elpv":
        raise InputError(
            f"--target {shown(target)} with --dataset {shown(name)}: expected --target only with elpv; "
            "leave --target out"
        )
    return _checked(name, _listed(name, data, target, max_pixels, options), options.merge_classes)


def _listed(name: str, data: Path | None, target: str | None, max_pixels: int, options: ReadOptions) -> Listing:
    match name.partition(":"):
        case "folder", ":", url if is_url(url):
            return list_url(name, url, max_pixels, options)
        case "folder", ":", rest:
            return list_folder(name, _existing("folder", rest), max_pixels, options)
        case "csv", ":", rest:
            return list_csv(_existing("csv", rest), max_pixels, options)
        case "npz", ":", rest:
            return list_npz(_existing("npz", rest), options)
    if name == "digits":
        return _digits()
    if name == "elpv":
        return list_elpv(target or "binary", max_pixels, options.white)
    if name in CIFAR:
        return _cifar(name, data, max_pixels, options)
    raise InputError(_unknown(name))


def _digits() -> Listing:
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    ids, splits = array_ids(len(images))
    return Listing(ImageArrays(images), ids, [str(label) for label in digits.target], splits)


def _cifar(name: str, data: Path | None, max_pixels: int, options: ReadOptions) -> Listing:
    if data is not None and not data.exists():
        raise InputError(
            f"--data {shown(data)} does not exist; expected the archive of {name}, an image folder or "
            "a .zip; type --data PATH"
        )
    if data is not None and (data.is_dir() or data.suffix.lower() == ".zip"):
        return list_folder(name, data, max_pixels, options)
    return read_cifar(name, data)


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


def _unknown(name: str) -> str:
    kinds = [known.partition(":")[0] for known in DATASETS]
    close = difflib.get_close_matches(name.partition(":")[0].lower(), kinds, n=1)
    hint = DATASETS[kinds.index(close[0])] if close else "digits"
    if path := _path(name):
        kind = path.suffix.lower().removeprefix(".")
        hint = f"{kind if kind in ('csv', 'npz') else 'folder'}:{name}"
    return f"no data set {shown(name)!r}; expected one of {', '.join(DATASETS)}; type --dataset {shown(hint)}"


def _checked(name: str, listing: Listing, merge_classes: bool) -> Dataset:
    """Check what holds for every dataset and number the classes: in the listing's order if it has one, else sorted."""
    ids, groups, notes = listing.ids, listing.groups, list(listing.notes)
    splits = _with_test(listing.splits, notes)
    if not ids:
        raise InputError(f"{shown(name)} holds no images; expected two classes or more; add images")
    spelling, said = merged_names(name, listing.names, merge_classes)
    names = [spelling.get(known, known) for known in listing.names] if spelling else listing.names
    used = set(names)
    class_names = tuple(sorted(used) if listing.order is None else (known for known in listing.order if known in used))
    if len(class_names) < 2:
        raise InputError(
            f"{shown(name)} has one class only, {shown(class_names[0])!r}; expected two or more; "
            "add images of another class"
        )
    if not {"train", ""} & set(splits):
        raise InputError(
            f"{shown(name)} has no training images; expected train beside {splits[0]}; "
            "add them, or drop the split from all images to have one drawn"
        )
    _check_utf8(name, (*ids, *class_names, *(groups or ())))
    number = {known: label for label, known in enumerate(class_names)}
    labels = np.array([number[known] for known in names], dtype=np.int64)
    groups = None if groups is None else tuple(groups)
    return Dataset(name, tuple(ids), labels, class_names, tuple(splits), groups, listing.images, (*notes, *said))


def _with_test(splits: Sequence[str], notes: list[str]) -> Sequence[str]:
    """Return the splits; those of train and validation alone become train and test, and a line says so."""
    if set(splits) != {"train", "validation"}:
        return splits
    notes.append(
        "the data has train and val and no test: val is taken as the test split, and validation is drawn from train"
    )
    return ["test" if split == "validation" else split for split in splits]


def _check_utf8(name: str, texts: Sequence[str]) -> None:
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError:
            raise InputError(f"{shown(name)} holds the name {shown(text)}; expected UTF-8; rename it") from None
